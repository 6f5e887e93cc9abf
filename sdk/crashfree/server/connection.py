"""One HTTP connection: the direct way of usual requests, limits on the head, and a way to reset it.

uvicorn reads requests, with httptools where that is installed, else with h11. What neither limits
is limited here: how long the head of a request may take, and how long it may be. Before either sees
a byte, the usual ingest requests (`usual`) are taken out and answered without them.

Threads: the event loop's. Source: ingest.md section 2.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
import struct
from collections.abc import Callable, Iterable, MutableMapping
from importlib import import_module
from typing import Any, Final, cast

from crashfree.server import answers, usual
from crashfree.server.answers import Refusal

Take = Callable[[usual.Head, bytes, "str | None", Callable[[int, bytes], None]], bool]
"""Head, body, the client's address, what to do with status and answer; False: not taken."""

HEAD_TIME: Final = 5.0
HEAD_BYTES: Final = 40 * 1024
_SOON: Final = 0.1
"""How long the rest of a usual request is waited for here."""
_MOST_HELD: Final = 64 * 1024
_LATE: Final = Refusal(408, "timeout: the request did not arrive")
_LONG: Final = Refusal(431, "the head of the request is too large")
_BROKEN: Final = Refusal(400, "bad request body, or head: this is not HTTP")


def _parser() -> tuple[str, type[asyncio.Protocol]]:
    """Return the faster parser that is installed, and uvicorn's protocol on top of it."""
    try:
        import_module("httptools")
    except ImportError:
        module = import_module("uvicorn.protocols.http.h11_impl")
        return "h11", cast("type[asyncio.Protocol]", module.H11Protocol)
    module = import_module("uvicorn.protocols.http.httptools_impl")
    return "httptools", cast("type[asyncio.Protocol]", module.HttpToolsProtocol)


HTTP, _PROTOCOL = _parser()


class Connections:
    """The open connections of one server, found by the client's address."""

    __slots__ = ("_open",)
    _open: dict[tuple[str, int], asyncio.Transport]

    def __init__(self) -> None:
        self._open = {}

    def add(self, transport: asyncio.Transport) -> None:
        """Note a new connection."""
        peer = transport.get_extra_info("peername")
        if peer:
            self._open[peer[0], peer[1]] = transport

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget a connection that was closed."""
        peer = transport.get_extra_info("peername")
        if peer and self._open.get((peer[0], peer[1])) is transport:
            del self._open[peer[0], peer[1]]

    def reset(self, scope: MutableMapping[str, Any]) -> None:
        """Break off the connection of a request, so that the client sees a reset."""
        client = scope.get("client")
        transport = self._open.get((client[0], client[1])) if client else None
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                # No lingering: close() then sends RST instead of FIN.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class _Tops:
    """Status lines, with the headers that uvicorn gives every answer: the date, once a second."""

    __slots__ = ("_headers", "_known")
    _headers: object
    _known: dict[int, bytes]

    def __init__(self) -> None:
        self._headers = None
        self._known = {}

    def top(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the status line and `headers`, of which uvicorn makes a new list each time."""
        if self._headers is not headers:
            self._headers = headers
            self._known = {}
        known = self._known.get(status)
        if known is None:
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            phrase = http.HTTPStatus(status).phrase.encode("ascii")
            known = self._known[status] = b"HTTP/1.1 %d %s\r\n%s" % (status, phrase, lines)
        return known


class _Guard:
    """In front of either of uvicorn's protocols: limits on the head, and the way of usual requests.

    A connection begins on the direct way: each usual request is handed to the intake whole, and the
    answer written when it comes. With the first byte that is anything else it changes over to
    uvicorn's protocol, for good, and that sees everything from this request on.
    """

    open_connections: Connections
    take: Take
    tops: _Tops
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    cycle: Any
    flow: Any
    client: tuple[str, int] | None
    server_state: Any
    timeout_keep_alive: float
    timeout_keep_alive_task: asyncio.TimerHandle | None
    _timer: asyncio.TimerHandle | None = None
    """The head must be complete before this ends; or the body, of a usual request."""
    _size: int = 0
    _direct: bool = True
    _held: bytes = b""
    """A usual request whose body is not complete, or what came while another is in work."""
    _in_work: bool = False
    _last: bool = False
    """Whether the connection is closed after the answer."""
    _active: float = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self.open_connections.add(cast("asyncio.Transport", transport))
        self._timer = self.loop.call_later(HEAD_TIME, self._refuse, _LATE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        self.open_connections.remove(self.transport)
        super().connection_lost(exc)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        if self._direct:
            resumed = bool(self._held)
            if resumed:
                data = self._held + data
            if self._in_work:
                self._hold(data)
                return
            if self._begin(data, resumed=resumed):
                return
            self._held = b""
            self._direct = False
            self._head_complete()
        super().data_received(data)  # type: ignore[misc]
        if self.cycle is not None and not self.cycle.response_complete:
            self._head_complete()
            return
        self._size += len(data)
        if self._size > HEAD_BYTES:
            self._refuse(_LONG)
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIME, self._refuse, _LATE)

    def eof_received(self) -> bool | None:
        if self._direct and self._in_work:
            self._last = True
            return True  # the other half stays open for the answer
        return cast("bool | None", super().eof_received())  # type: ignore[misc]

    def shutdown(self) -> None:
        if self._direct and (self._in_work or self._held):
            self._last = True
        else:
            super().shutdown()  # type: ignore[misc]

    # The direct way.

    def _begin(self, data: bytes, *, resumed: bool) -> bool:
        """Take the usual request that `data` begins with; False when there is none."""
        found = usual.find(data)
        if found is None:
            return False
        head, begin, end = found
        if len(data) < end:
            self._held = data
            if not resumed:
                self._head_complete()
                self._timer = self.loop.call_later(_SOON, self._change_over)
            return True
        self._in_work = True
        self._held = data[end:]
        client = self.client
        if not self.take(head, data[begin:end], client[0] if client else None, self._answer):
            self._in_work = False
            return False
        if self._timer is not None:
            self._head_complete()
        return True

    def _hold(self, data: bytes) -> None:
        self._held = data
        if len(data) > _MOST_HELD:
            self.flow.pause_reading()

    def _change_over(self) -> None:
        """Let uvicorn's protocol wait for the rest of a body: it knows how long."""
        self._timer = None
        data, self._held = self._held, b""
        self._direct = False
        super().data_received(data)  # type: ignore[misc]
        if self._last:
            super().shutdown()  # type: ignore[misc]

    def _answer(self, status: int, rest: bytes) -> None:
        transport = self.transport
        if not transport.is_closing():
            transport.write(self.tops.top(status, self.server_state.default_headers) + rest)
        self.server_state.total_requests += 1
        if self._last:
            transport.close()
            return
        self._active = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._await_next(self.timeout_keep_alive)
        if self._held:
            self.loop.call_soon(self._go_on)
        else:
            self._in_work = False

    def _go_on(self) -> None:
        self._in_work = False
        data, self._held = self._held, b""
        if not self.transport.is_closing():
            if not self.flow.write_paused:
                self.flow.resume_reading()
            self.data_received(data)

    def _await_next(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self._idle)

    def _idle(self) -> None:
        # One timer a connection, which looks when it ends; one a request would be dear.
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or not self._direct:
            return
        left = self._active + self.timeout_keep_alive - self.loop.time()
        if self._in_work or self._held or left > 0:
            self._await_next(max(left, 1.0))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        if self._direct:
            self.flow.pause_reading()  # nobody reads our answers: no more requests

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        if self._direct:
            self.flow.resume_reading()

    # Limits.

    def _head_complete(self) -> None:
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer what uvicorn's parser cannot read; it has a page of text for that."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self._refuse(_BROKEN)
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what never becomes a request, as the ingest paths do: it may be one of theirs."""
        self._head_complete()
        if not self.transport.is_closing():
            top = self.tops.top(refusal.status, self.server_state.default_headers)
            self.transport.write(top + b"connection: close\r\n" + answers.refused(refusal))
            self.transport.close()


def protocol_class(connections: Connections, take: Take) -> type[asyncio.Protocol]:
    """Return the protocol that the connections of a server speak."""
    return type(
        "GuardedProtocol",
        (_Guard, _PROTOCOL),
        {"open_connections": connections, "take": staticmethod(take), "tops": _Tops()},
    )
