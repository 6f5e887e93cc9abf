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
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias, cast

import crashfree
from crashfree.integration import AnyUnit, Service, Unit, asgi_request, unit

Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Started: TypeAlias = "Callable[[AsgiUnit, Message], None]"

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
_START: Final = "http.response.start"
_BODY: Final = "http.response.body"
_FILE: Final = "http.response.pathsend"
_TRAILERS: Final = "http.response.trailers"
_REFUSING: Final = "2.4"
"""From this version of the specification on, `send` raises OSError when the client has gone."""


class AsgiMiddleware:
    """Wraps an ASGI application.

    `sessions=False` collects events and request data without counting sessions;
    `websockets=False` leaves websocket connections alone. Put around an application, it says that
    this process serves requests: see `session_mode` of `init`.
    """

    __slots__ = ("_app", "_service", "_websockets")
    _app: Application
    _service: Service
    _websockets: bool

    def __init__(self, app: Application, *, sessions: bool = True, websockets: bool = True) -> None:
        client = crashfree.get_client()
        self._app = app
        self._service = Service(client, MECHANISM, asgi_request, sessions=sessions)
        self._websockets = websockets
        if sessions:
            client.serves_units()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and not (kind == "websocket" and self._websockets):
            await live(self._app, scope, receive, send)
            return
        service = self._service
        client = crashfree.get_client()
        if service.client is not client:
            service = self._service = service.of(client)
        begun = AsgiUnit.serving(service, (scope,))
        if begun is None:
            await self._app(scope, receive, send)
            return
        # `serve`, written out: a coroutine less for each request.
        send = begun.opened(scope, send)
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            begun.failed(error, scope)
            raise
        finally:
            if begun.live:
                begun.closed(scope)
            begun.leave()


class AsgiUnit(Unit):
    """Serves one connection, and hands its answer to the server. An object less than with two."""

    __slots__ = ("_answered", "_connection", "_last", "_send", "_started")
    _send: Send
    # Not there before they are needed:
    _last: str | None
    """With what kind of message the answer will be over; None: when the application returns."""
    _connection: Message
    """What the server calls its scope."""
    _started: Started
    _answered: bool
    """Whether it goes on, with its answer complete."""

    @property
    def joinable(self) -> bool:
        """Whether it was not answered: the server may begin the next request before it returns."""
        return super().joinable and not hasattr(self, "_answered")

    def opened(self, scope: Message, send: Send, started: Started | None = None) -> Send:
        """Return the `send` that the application is to use. First of all.

        `started`: called once it starts its answer, or is done with a websocket.
        """
        try:
            if scope["asgi"]["spec_version"] >= _REFUSING:
                send = _remembering(scope, send)
        except (KeyError, TypeError):
            # Servers of the first version do not say, and scopes made by hand may be without.
            pass
        if started is not None:
            self._started = started
            self._connection = scope
        if scope["type"] != "http":
            return send
        self._send = send
        if started is not None or self.service.client.crashed_statuses:
            return self._judge_and_pass_on
        return self._pass_on

    def failed(self, error: BaseException, scope: Message) -> None:
        """Count what left the application."""
        if not client_is_gone(error, scope):
            self.crash(alone(error))

    def closed(self, scope: Message) -> None:
        """End the unit, whose answer has not."""
        if scope["type"] != "http" and hasattr(self, "_started"):
            self._started(self, scope)
        self.end()

    # Not a coroutine: the server's own is handed on, which saves one for every message.
    def _pass_on(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == _START:
            if message["status"] >= 500:
                self._last = None
                self.plain = False
                turned(self)
            elif message.get("trailers"):
                self._last = _TRAILERS
                self.plain = False
        elif kind == _BODY:
            if not message.get("more_body") and (self.plain or self._ends_with(kind)):
                self.end()
        elif (kind == _TRAILERS and not message.get("more_trailers") and self._ends_with(kind)) or (
            # The server reads the file by itself; nothing of the program runs any more.
            kind == _FILE and self._ends_with(_BODY)
        ):
            self.end()
        send = self._send
        return send(message)

    def _judge_and_pass_on(self, message: Message) -> Awaitable[None]:
        if message["type"] == _START:
            if hasattr(self, "_started"):
                self._started(self, self._connection)
            self.answered(message["status"])
        return self._pass_on(message)

    def _ends_with(self, kind: str) -> bool:
        last = getattr(self, "_last", _BODY)
        if last is None:
            self._answered = True
        return last == kind


async def serve(
    begun: AsgiUnit, app: Application, scope: Message, receive: Receive, send: Send
) -> None:
    """Let `app` serve a connection as the work of `begun`, entered by now, which ends with it."""
    send = begun.opened(scope, send)
    try:
        await app(scope, receive, send)
    except BaseException as error:
        begun.failed(error, scope)
        raise
    finally:
        if begun.live:
            begun.closed(scope)
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
