"""ASGI: one unit of work for each request and each websocket connection.

    app = AsgiMiddleware(app)

A request ends with the last message of its body; what fails after that (a background task) is an
event and no crash of the request. One exception: after an answer of 500 or above the unit stays
open until the application returns, since frameworks answer first and raise then. A websocket ends
when the application returns. A client that goes away cancels the task: that is no crash.

When the server shuts down (lifespan), what is counted is sent before it is told to go on.

Hook used: the ASGI specification, version 3. Threads: the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from crashfree.integration import JoinedUnit, Unit, asgi_request, unit

Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

MECHANISM = "asgi"


class AsgiMiddleware:
    """Wraps an ASGI application.

    `sessions=False` collects events and request data without counting sessions;
    `websockets=False` leaves websocket connections alone.
    """

    __slots__ = ("_app", "_sessions", "_websockets")
    _app: Application
    _sessions: bool
    _websockets: bool

    def __init__(self, app: Application, *, sessions: bool = True, websockets: bool = True) -> None:
        self._app = app
        self._sessions = sessions
        self._websockets = websockets

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, _flushing(send))
            return
        if kind != "http" and not (kind == "websocket" and self._websockets):
            await self._app(scope, receive, send)
            return
        begun = unit(mechanism=MECHANISM, session=self._sessions)
        if isinstance(begun, JoinedUnit):
            await self._app(scope, receive, send)
            return
        begun.set_request(lambda: asgi_request(scope))
        begun.enter()
        try:
            await self._app(scope, receive, _noting(begun, send) if kind == "http" else send)
        except BaseException as error:
            begun.crash(error)
            raise
        finally:
            begun.leave()
            begun.end()


def _noting(begun: Unit, send: Send) -> Send:
    failing = False

    # Not a coroutine: the server's own is handed on, which saves one for every message.
    def noting(message: Message) -> Awaitable[None]:
        nonlocal failing
        kind = message["type"]
        if kind == "http.response.start":
            status = message["status"]
            failing = status >= 500
            begun.answered(status)
        elif kind == "http.response.body" and not failing and not message.get("more_body"):
            begun.end()
        return send(message)

    return noting


def _flushing(send: Send) -> Send:
    async def flushing(message: Message) -> None:
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            # After this the server may end the process by a signal, and nobody asks us again.
            client = unit(mechanism=MECHANISM, session=False).client
            await asyncio.get_running_loop().run_in_executor(None, client.flush)
        await send(message)

    return flushing
