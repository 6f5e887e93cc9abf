"""Starlette: a unit of work for each request and each websocket connection.

    import crashfree
    crashfree.init(...)         # attaches itself, before or after the application is made
    app = starlette.applications.Starlette(routes=[...])

What crashes a request: an exception that leaves the application, and one that Starlette or a
registered exception handler turned into an answer of 500 or above, `HTTPException(503)` too. A
background task that fails after the answer is an event only. Events name the route
(`/users/{user}`); with `send_default_pii` they carry the body that was read, and the user of
`AuthenticationMiddleware`, who also counts in crash-free users.

Hooks: `Kit.wrap` of `Starlette.__call__` (its official place for middleware is an attribute of each
application, and those made before `init` would be missed), of `BaseHTTPMiddleware.__call__` (it
hands the answer to another task, after the exception that it was made of) and, once a program is
seen to use that one, of `ExceptionMiddleware.__call__` (inside of which every exception handler
answers). Tested with
Starlette 0.37 and 1.10.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from types import MethodType
from typing import Any, Final

from crashfree.integration import Kit, Service, Unit, asgi_request
from crashfree.types import Request, SessionMode
from crashfree_integrations import body
from crashfree_integrations.asgi import (
    SERVED,
    AsgiUnit,
    Message,
    Receive,
    Send,
    alone,
    client_is_gone,
    live,
    turned,
)
from crashfree_integrations.framework import framework

OLDEST: Final = "0.37"
MECHANISM: Final = "starlette"

_KEPT: Final = "crashfree.body"
_RELAYED: Final = "crashfree.relayed"
_SERVER: Final = "crashfree.server.running"


class StarletteIntegration:
    """Attaches to every Starlette application of the process."""

    name: str = "starlette"
    mode: SessionMode | None

    def __init__(self) -> None:
        # The local server is a Starlette application too: it makes no server of its program.
        self.mode = None if _SERVER in sys.modules else "request"

    def install(self, kit: Kit) -> None:
        framework("starlette", OLDEST)
        attach(kit)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def attach(kit: Kit) -> None:
    """Make units of what Starlette serves, and FastAPI, which is one. Once for all integrations."""
    application: Any = _part("applications").Starlette
    exceptions: Any = _part("middleware.exceptions").ExceptionMiddleware
    relay: Any = _part("middleware.base").BaseHTTPMiddleware
    if hasattr(application.__call__, "__crashfree__"):
        return
    kit.wrap(application, "__call__", Serving(kit).wrapped)
    kit.wrap(relay, "__call__", _Relay(kit, relay, exceptions).wrapped)


def _part(name: str) -> Any:
    return framework(f"starlette.{name}", OLDEST, distribution="starlette")


class Serving:
    """Makes units of requests and of websocket connections."""

    __slots__ = ("_kit", "_personal")
    _kit: Kit
    _personal: bool

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._personal = kit.client.options.send_default_pii

    def wrapped(self, original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        kit = self._kit
        started = self._started if self._personal else None
        personal = self._personal
        describe = self._request
        starlette: type = _part("applications").Starlette
        # All that every request asks for, found once.
        services = _Services(kit, describe)
        begin = AsgiUnit.serving

        @wraps(original)
        async def serving(app: Any, scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] not in SERVED:
                await live(MethodType(original, app), scope, receive, send)
                return
            service = services[app.__class__]
            begun = begin(service, (app, scope))
            if begun is None:
                # Not for an application mounted in another one, which knows the whole path.
                if not isinstance(scope.get("app"), starlette):
                    kit.unit(mechanism=service.mechanism).set_request(describe, app, scope)
                    if personal:
                        receive = _keeping(scope, receive)
                await original(app, scope, receive, send)
                return
            send = begun.opened(scope, send, started)
            if personal:
                receive = _keeping(scope, receive)
            try:
                await original(app, scope, receive, send)
            except BaseException as error:
                begun.failed(error, scope)
                raise
            finally:
                if begun.live:
                    begun.closed(scope)
                begun.leave()

        serving.__crashfree__ = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
        return serving

    def _started(self, begun: Unit, scope: Message) -> None:
        if begun.peek_scope().user is None:
            user = _user(scope)
            if user is not None:
                begun.set_user({"id": user})

    def _request(self, app: Any, scope: Message) -> Request:
        told = asgi_request(scope)
        unit = self._kit.unit(mechanism=MECHANISM, session=False)
        if unit.scope.transaction is None:
            # What is mounted has made the path of its own a part of it.
            root = scope.get("app_root_path", scope.get("root_path", ""))
            template = route_template(app.routes, {**scope, "root_path": root})
            if template is not None:
                unit.scope.set_transaction(template, "route")
        if self._personal:
            kept = scope.get(_KEPT)
            if kept:
                told["data"] = body.shown(b"".join(kept), _content_type(scope))
            if unit.scope.user is None:
                user = _user(scope)
                if user is not None:
                    unit.set_user({"id": user})
        return told


def route_template(routes: Any, scope: Message) -> str | None:
    """Return the template of the route that serves `scope`, with those it is mounted below."""
    for route in routes:
        match, child = route.matches(scope)
        if match.name != "FULL":
            continue
        # FastAPI: routers that were included stay whole, and know their routes with the prefix.
        included = getattr(route, "effective_route_contexts", None)
        if included is not None:
            return route_template(included(), scope)
        route = getattr(route, "starlette_route", None) or route
        inner = getattr(route, "routes", None)
        path: str = getattr(route, "path", "")
        if not inner:
            return path or None
        below = route_template(inner, {**scope, **child})
        return None if below is None else f"{path}{below}"
    return None


class _Services(dict[type, Service]):
    """By class of application: an error tells by the name of which framework it was caught."""

    __slots__ = ("_describe", "_kit")
    _kit: Kit
    _describe: Callable[..., Request]

    def __init__(self, kit: Kit, describe: Callable[..., Request]) -> None:
        super().__init__()
        self._kit = kit
        self._describe = describe

    def __missing__(self, kind: type) -> Service:
        fastapi = any(base.__module__.partition(".")[0] == "fastapi" for base in kind.__mro__)
        service = self._kit.service("fastapi" if fastapi else MECHANISM, self._describe)
        self[kind] = service
        return service


class _Relay:
    """Watches middleware that hands answers over to another task, once there is any of it.

    Most programs have none: what is needed below it is put in place by the first request.
    """

    __slots__ = ("_exceptions", "_kit", "_owner", "_watched")
    _kit: Kit
    _owner: type
    _exceptions: type
    _watched: bool

    def __init__(self, kit: Kit, owner: type, exceptions: type) -> None:
        self._kit = kit
        self._owner = owner
        self._exceptions = exceptions
        self._watched = False

    def wrapped(self, original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @wraps(original)
        async def relaying(app: Any, scope: Message, receive: Receive, send: Send) -> None:
            if not self._watched:
                self._watched = True
                self._kit.wrap(self._exceptions, "__call__", _telling_of_answers(self._kit))
                if vars(self._owner).get("__call__") is not relaying:
                    # The integration is being removed, and may have been through by now.
                    self._kit.undo()
            scope[_RELAYED] = True
            await original(app, scope, receive, send)

        return relaying


def _telling_of_answers(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Watch the answer where it is made, when middleware hands it over to another task."""

    def wrapped(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def watching(app: Any, scope: Message, receive: Receive, send: Send) -> None:
            finished = False

            def noting(message: Message) -> Awaitable[None]:
                nonlocal finished
                kind = message["type"]
                if kind == "http.response.start":
                    if message["status"] >= 500:
                        turned(kit.unit(mechanism=MECHANISM, session=False))
                elif kind != "http.response.body" or not message.get("more_body"):
                    finished = True
                return send(message)

            try:
                await original(app, scope, receive, noting)
            except BaseException as error:
                # Middleware of the program ends the answer before it lets the error go on.
                if not finished and not client_is_gone(error, scope):
                    kit.unit(mechanism=MECHANISM, session=False).crash(alone(error))
                raise

        # No coroutine of its own: most programs have no such middleware.
        @wraps(original)
        def answering(app: Any, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
            if _RELAYED in scope and scope["type"] == "http":
                return watching(app, scope, receive, send)
            return original(app, scope, receive, send)

        return answering

    return wrapped


def _keeping(scope: Message, receive: Receive) -> Receive:
    """Return `receive`, with what it brings kept in `scope` as long as it is short."""
    kept: list[bytes] = []
    scope[_KEPT] = kept

    async def keeping() -> Message:
        message = await receive()
        part = message.get("body")
        if part and sum(map(len, kept)) <= body.MOST:
            kept.append(bytes(part[: body.MOST + 1]))
        return message

    return keeping


def _content_type(scope: Message) -> str | None:
    for name, value in scope.get("headers") or ():
        if name == b"content-type":
            return bytes(value).decode("latin-1")
    return None


def _user(scope: Message) -> str | None:
    """Return who was authenticated by `AuthenticationMiddleware`."""
    user = scope.get("user")
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    try:
        # Not every kind of user has an identity; the base class raises.
        return str(user.identity)
    except NotImplementedError:
        return str(user.display_name)
