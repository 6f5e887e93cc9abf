"""One HTTP connection: limits on the head of a request, and a way to reset it.

uvicorn reads requests; what it does not limit is limited here: how long the head of a request may
take and how long it may be.

Threads: the event loop's. Source: ingest.md section 2.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import MutableMapping
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HTTP: Final = "h11"
"""The parser below, as uvicorn names it."""
HEAD_TIME: Final = 5.0
HEAD_BYTES: Final = 40 * 1024
_TIMED_OUT: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
    b"content-length: 48\r\nconnection: close\r\n\r\n"
    b'{"detail":"timeout: the request did not arrive"}'
)


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


def protocol_class(connections: Connections) -> type[H11Protocol]:
    """Return the protocol that a server's connections speak."""

    class Guarded(H11Protocol):
        """HTTP/1.1 with limits on the head."""

        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections.add(transport)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_done()
            connections.remove(self.transport)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._head_done()
            elif self._head_timer is None and not self.transport.is_closing():
                self._await_head()

        def _await_head(self) -> None:
            self._head_timer = self.loop.call_later(HEAD_TIME, self._head_late)

        def _head_done(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _head_late(self) -> None:
            self._head_timer = None
            if not self.transport.is_closing():
                self.transport.write(_TIMED_OUT)
                self.transport.close()

    return Guarded
