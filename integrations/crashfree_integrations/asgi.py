"""ASGI: one unit of work for each request and each websocket connection.

    app = AsgiMiddleware(app)

A request ends with the last message of its answer; what fails after that (a background task) is an
event and no crash of the request. One exception: after an answer of 500 or above the unit stays
open until the application returns, since frameworks answer first and raise then. A websocket ends
when the application returns. A client that goes away is no crash, however the application hears
of it: its task is cancelled, or its framework raises an exception that says so.

An answer of 500 or above that is sent while an exception is being handled is a crash: the exception
was turned into it.

When the server shuts down (lifespan), what is counted is sent before it is told to go on.

Hook used: the ASGI specification, version 3. Threads: the event loop's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias, cast

import crashfree
from crashfree.integration import AnyUnit, Unit, asgi_request, serve_unit, unit

Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Started: TypeAlias = Callable[[Unit, Message], None]

MECHANISM = "asgi"
SERVED: Final = frozenset(("http", "websocket"))
GONE: Final = frozenset(
    (
        "starlette.requests.ClientDisconnect",
        "starlette.websockets.WebSocketDisconnect",
        "django.core.exceptions.RequestAborted",
        "uvicorn.protocols.utils.ClientDisconnected",
    )
)
"""Exceptions by which an application learns that its client has gone away."""

_LIFESPAN_MARK: Final = "crashfree.lifespan"
_REFUSED: Final = "crashfree.refused"
_KEEPS_CONTEXTS: Final = "uvicorn.protocols.http"
"""The server whose timers are set while it takes the last message."""
_MODULES: Final = sys.modules
_BODY: Final = "http.response.body"
_TRAILERS: Final = "http.response.trailers"
_REFUSING: Final = "2.4"
"""From this version of the specification on, `send` raises OSError when the client has gone."""


class AsgiMiddleware:
    """Wraps an ASGI application.

    `sessions=False` collects events and request data without counting sessions;
    `websockets=False` leaves websocket connections alone. Put around an application, it says that
    this process serves requests: see `session_mode` of `init`.
    """

    __slots__ = ("_app", "_sessions", "_websockets")
    _app: Application
    _sessions: bool
    _websockets: bool

    def __init__(self, app: Application, *, sessions: bool = True, websockets: bool = True) -> None:
        self._app = app
        self._sessions = sessions
        self._websockets = websockets
        if sessions:
            crashfree.get_client().serves_units()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and not (kind == "websocket" and self._websockets):
            await live(self._app, scope, receive, send)
            return
        begun = serve_unit(None, MECHANISM, asgi_request, (scope,), self._sessions)
        if begun is None:
            await self._app(scope, receive, send)
            return
        # `serve`, written out: a coroutine and a call less for each request.
        send = opened(begun, scope, send, None)
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            failed(begun, scope, error)
            raise
        finally:
            if begun.session.live:
                begun.end()
            begun.leave()


async def serve(
    begun: Unit,
    app: Application,
    scope: Message,
    receive: Receive,
    send: Send,
    started: Started | None = None,
) -> None:
    """Let `app` serve a connection as the work of `begun`, entered by now, which ends with it.

    `started`: called once the application starts its answer, or is done with a websocket.
    """
    send = opened(begun, scope, send, started)
    try:
        await app(scope, receive, send)
    except BaseException as error:
        failed(begun, scope, error)
        raise
    finally:
        closed(begun, scope, started)


# `serve` in three parts, for integrations that save its coroutine.


def opened(begun: Unit, scope: Message, send: Send, started: Started | None) -> Send:
    """Return the `send` that the application is to use."""
    asgi: Mapping[str, str] | None = scope.get("asgi")
    if asgi is not None and asgi.get("spec_version", "") >= _REFUSING:
        send = _remembering(scope, send)
    if scope["type"] != "http":
        return send
    answer = _Answer()
    answer.unit = begun
    answer.scope = scope
    answer.send = send
    answer.started = started
    answer.last = _BODY
    return answer.pass_on


class _Answer:
    """The answer to a request, on its way to the server. An object costs less than a closure."""

    __slots__ = ("last", "scope", "send", "started", "unit")
    unit: Unit
    scope: Message
    send: Send
    started: Started | None
    last: str | None
    """With what kind of message it will be over; None: when the application returns."""

    # Not a coroutine: the server's own is handed on, which saves one for every message.
    def pass_on(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == self.last:
            if not message.get("more_body" if kind == _BODY else "more_trailers"):
                unit = self.unit
                unit.end()
                if _KEEPS_CONTEXTS in _MODULES:
                    # uvicorn now sets its timer for the connection, which keeps the context it was
                    # set in, also when it is cancelled: hundreds of finished units, for the
                    # collector to look at time and again. That costs ten times what this does;
                    # servers without such timers are spared both.
                    return unit.outside(self.send, message)
        elif kind == "http.response.start":
            if (
                message["status"] >= 500
                or "trailers" in message
                or self.started is not None
                or self.unit.client.crashed_statuses
            ):
                self._judge(message)
        elif kind == "http.response.pathsend" and self.last is _BODY:
            # The server reads the file by itself; nothing of the program runs any more.
            self.unit.end()
        return self.send(message)

    def _judge(self, message: Message) -> None:
        status = message["status"]
        if status >= 500:
            self.last = None
            turned(self.unit)
        elif message.get("trailers"):
            self.last = _TRAILERS
        if self.unit.client.crashed_statuses:
            self.unit.answered(status)
        if self.started is not None:
            self.started(self.unit, self.scope)


def failed(begun: Unit, scope: Message, error: BaseException) -> None:
    """Count what left the application."""
    if not client_is_gone(error, scope):
        begun.crash(alone(error))


def closed(begun: Unit, scope: Message, started: Started | None) -> None:
    """End the unit, if its answer has not, and stop working for it."""
    if started is not None and scope["type"] != "http":
        started(begun, scope)
    if begun.session.live:
        begun.end()
    begun.leave()


async def live(app: Application, scope: Message, receive: Receive, send: Send) -> None:
    """Let `app` see what is no connection: the life of the server, which flushes at its end."""
    if scope["type"] != "lifespan" or scope.get(_LIFESPAN_MARK):
        await app(scope, receive, send)
        return
    scope[_LIFESPAN_MARK] = True
    spoken = False

    async def flushing(message: Message) -> None:
        nonlocal spoken
        spoken = True
        if message["type"] != "lifespan.startup.complete":
            # After this the server may end the process by a signal, and nobody asks us again.
            await _flushed()
        await send(message)

    try:
        await app(scope, receive, flushing)
    except BaseException as error:
        # One that has not said a word does not know what a lifespan is; servers expect that.
        if spoken:
            unit(mechanism=MECHANISM, session=False).crash(error)
            await _flushed()
        raise


def turned(begun: AnyUnit) -> None:
    """Count an answer of 500 or above as a crash when it is what an exception was turned into."""
    error = sys.exc_info()[1]
    if error is not None and not client_is_gone(error):
        begun.crash(alone(error))


def alone(error: BaseException) -> BaseException:
    """Return what a group of one holds: task groups wrap, and middleware unwraps, as it likes."""
    parts = getattr(error, "exceptions", None)
    while isinstance(parts, tuple) and len(cast("tuple[object, ...]", parts)) == 1:
        (part,) = cast("tuple[object]", parts)
        if not isinstance(part, BaseException):
            break
        error = part
        parts = getattr(error, "exceptions", None)
    return error


def client_is_gone(error: BaseException, scope: Message | None = None) -> bool:
    """Return whether this only says that there is nobody to answer any more."""
    parts = getattr(error, "exceptions", None)
    if isinstance(parts, tuple) and parts:
        grouped = cast("tuple[object, ...]", parts)
        return all(
            isinstance(part, BaseException) and client_is_gone(part, scope) for part in grouped
        )
    if scope is not None and error in scope.get(_REFUSED, ()):
        return True
    return any(f"{kind.__module__}.{kind.__qualname__}" in GONE for kind in type(error).__mro__)


def _remembering(scope: Message, send: Send) -> Send:
    """Return `send`, with what the server answers when the client has gone kept in `scope`."""
    refused: list[OSError] = []
    scope[_REFUSED] = refused

    async def remembering(message: Message) -> None:
        try:
            await send(message)
        except OSError as error:
            refused.append(error)
            raise

    return remembering


async def _flushed() -> None:
    try:
        await asyncio.get_running_loop().run_in_executor(None, crashfree.flush)
    except RuntimeError:
        # Another event loop than asyncio's, or one whose threads are gone: it has nothing better
        # to do at this moment than to wait for us.
        crashfree.flush()
