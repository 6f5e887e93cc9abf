"""One HTTP connection: limits on the head of a request, and a way to reset it.

uvicorn reads requests, with httptools where that is installed, else with h11. What neither limits
is limited here: how long the head of a request may take, and how long it may be.

Threads: the event loop's. Source: ingest.md section 2.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import MutableMapping
from importlib import import_module
from typing import Any, Final, cast

HEAD_TIME: Final = 5.0
HEAD_BYTES: Final = 40 * 1024
_LATE: Final = b'{"detail":"timeout: the request did not arrive"}'
_LONG: Final = b'{"detail":"bad request: the head is too large"}'


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


class _Guard:
    """Limits on the head, in front of either of uvicorn's protocols."""

    open_connections: Connections
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    cycle: Any
    _timer: asyncio.TimerHandle | None = None
    _size: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self.open_connections.add(cast("asyncio.Transport", transport))
        self._timer = self.loop.call_later(HEAD_TIME, self._refuse, 408, _LATE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        self.open_connections.remove(self.transport)
        super().connection_lost(exc)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]
        if self.cycle is not None and not self.cycle.response_complete:
            self._head_complete()
            return
        self._size += len(data)
        if self._size > HEAD_BYTES:
            self._refuse(431, _LONG)
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIME, self._refuse, 408, _LATE)

    def _head_complete(self) -> None:
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, body: bytes) -> None:
        self._head_complete()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %d \r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%s" % (status, len(body), body)
            )
            self.transport.close()


def protocol_class(connections: Connections) -> type[asyncio.Protocol]:
    """Return the protocol that the connections of a server speak."""
    return type("GuardedProtocol", (_Guard, _PROTOCOL), {"open_connections": connections})
