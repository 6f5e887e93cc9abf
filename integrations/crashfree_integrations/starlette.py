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
application, and those made before `init` would be missed), and of `ExceptionMiddleware.__call__`
(the only place inside of which every exception handler answers; middleware of the program may hand
the answer to another task). Tested with Starlette 0.37 and 1.10.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

from crashfree.integration import JoinedUnit, Kit, Unit, asgi_request
from crashfree.types import Request, SessionMode
from crashfree_integrations import body
from crashfree_integrations.asgi import (
    SERVED,
    Message,
    Receive,
    Send,
    alone,
    client_is_gone,
    live,
    serve,
    turned,
)
from crashfree_integrations.framework import framework, require

OLDEST: Final = "0.37"
MECHANISM: Final = "starlette"

_SERVER: Final = "crashfree.server.running"
_SERVER_THREAD: Final = "crashfree-server"


class StarletteIntegration:
    """Attaches to every Starlette application of the process."""

    name: str = "starlette"
    mode: SessionMode | None

    def __init__(self) -> None:
        # The local server is a Starlette application too: it makes no server of its program.
        self.mode = None if _SERVER in sys.modules else "request"

    def install(self, kit: Kit) -> None:
        framework("starlette", OLDEST)
        applications = framework("starlette.applications", OLDEST, distribution="starlette")
        attach(kit, applications.Starlette, MECHANISM)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def attach(kit: Kit, application: type, mechanism: str) -> None:
    """Make units of what `application`, Starlette or a class that comes from it, serves."""
    exceptions = framework("starlette.middleware.exceptions", OLDEST, distribution="starlette")
    require(exceptions, "ExceptionMiddleware")
    kit.wrap(application, "__call__", Serving(kit, mechanism).wrapped)
    middleware: Any = exceptions.ExceptionMiddleware
    if not hasattr(middleware.__call__, "__crashfree__"):
        kit.wrap(middleware, "__call__", _telling_of_answers(kit))


class Serving:
    """Makes units of requests and of websocket connections."""

    __slots__ = ("_kit", "_mechanism", "_personal")
    _kit: Kit
    _mechanism: str
    _personal: bool

    def __init__(self, kit: Kit, mechanism: str) -> None:
        self._kit = kit
        self._mechanism = mechanism
        self._personal = kit.client.options.send_default_pii

    def wrapped(self, original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        kit = self._kit
        mechanism = self._mechanism
        started = self._started if self._personal else None

        @wraps(original)
        async def serving(app: Any, scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] not in SERVED:
                await live(original.__get__(app), scope, receive, send)
                return
            if _SERVER in sys.modules and threading.current_thread().name == _SERVER_THREAD:
                await original(app, scope, receive, send)
                return
            begun = kit.unit(mechanism=mechanism)
            kept: list[bytes] | None = None
            if self._personal:
                kept = []
                receive = _keeping(receive, kept)
            root = scope.get("root_path", "")
            if isinstance(begun, JoinedUnit):
                # Another framework's unit learns of the route; one of ours knows it from outside.
                if begun.mechanism in ("asgi", "wsgi"):
                    begun.set_request(lambda: self._request(app, scope, root, kept))
                await original(app, scope, receive, send)
                return
            begun.set_request(lambda: self._request(app, scope, root, kept))
            await serve(begun, original.__get__(app), scope, receive, send, started)

        return serving

    def _started(self, begun: Unit, scope: Message) -> None:
        if begun.peek_scope().user is None:
            user = _user(scope)
            if user is not None:
                begun.set_user({"id": user})

    def _request(self, app: Any, scope: Message, root: str, kept: list[bytes] | None) -> Request:
        told = asgi_request(scope)
        unit = self._kit.unit(mechanism=self._mechanism, session=False)
        if unit.scope.transaction is None:
            template = route_template(app.routes, {**scope, "root_path": root})
            if template is not None:
                unit.scope.set_transaction(template, "route")
        if self._personal:
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


def _telling_of_answers(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @wraps(original)
        async def answering(app: Any, scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await original(app, scope, receive, send)
                return

            finished = False

            def noting(message: Message) -> Awaitable[None]:
                nonlocal finished
                kind = message["type"]
                if kind == "http.response.start":
                    if message["status"] >= 500:
                        turned(kit.unit(mechanism=MECHANISM, session=False), message["status"])
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

        answering.__crashfree__ = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
        return answering

    return wrapped


def _keeping(receive: Receive, kept: list[bytes]) -> Receive:
    """Return `receive`, with what it brings kept as long as it is short."""

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
