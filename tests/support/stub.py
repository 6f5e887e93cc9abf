"""A server on loopback that takes envelopes and misbehaves as asked.

    with Stub() as stub:
        stub.answer(status=429, headers={"Retry-After": "7"})     # for every request from here on
        stub.script(Answer(status=500), Answer(reset=True))       # for the next ones, in order
        ...
        stub.requests          # what arrived whole

It speaks HTTP by hand over sockets, because no well-behaved library can be made to behave badly.
Bound to 127.0.0.1, port 0.
"""

from __future__ import annotations

import gzip
import importlib
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from crashfree._ground import json
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.envelope import Envelope


class Answer(NamedTuple):
    """How one request is treated."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b"{}"
    delay: float = 0.0
    """Seconds before the answer."""
    hang: bool = False
    """Read the request and never answer."""
    reset: bool = False
    """Read the request, then reset the connection."""
    reset_early: bool = False
    """Reset the connection in the middle of the request."""
    drip: float = 0.0
    """Seconds between two bytes of the answer."""
    cut: bool = False
    """Announce more body than there is, then close."""
    close: bool = False
    """Close the connection after the answer, without saying so."""
    polite_close: bool = False
    """Say `Connection: close` and do it."""
    garbage: bool = False
    """Answer with something that is no HTTP."""
    endless: bool = False
    """Answer with a body that never ends."""


class Request(NamedTuple):
    """A request that arrived whole."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Decompressed."""
    raw_size: int
    connection: int
    """Number of the connection it came on, from 0."""

    @property
    def envelope(self) -> Envelope:
        return decode_envelope(self.body)

    @property
    def items(self) -> list[tuple[str, Any]]:
        """Type and decoded payload of every item (bytes where it is no JSON)."""
        found: list[tuple[str, Any]] = []
        for item in self.envelope.items:
            try:
                found.append((item.type, json.decode(item.payload)))
            except ValueError:
                found.append((item.type, item.payload))
        return found


class Stub:
    """The server; a context manager."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, port: int = 0, backlog: int = 64
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._default = Answer()
        self._script: list[Answer] = []
        self._lock = threading.Lock()
        self._tls = tls
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=backlog)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="stub", daemon=True).start()

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        scheme = "https" if self._tls else "http"
        host = "localhost" if self._tls else "127.0.0.1"
        return f"{scheme}://key@{host}:{self.port}/42"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, **answer: Any) -> None:
        """Answer so from here on."""
        self._default = Answer(**answer)

    def script(self, *answers: Answer) -> None:
        """Answer the next requests so, in order."""
        with self._lock:
            self._script.extend(answers)

    def items(self, kind: str) -> list[Any]:
        """Decoded payloads of all items of one type that arrived, in order."""
        return [
            payload for request in self.requests for name, payload in request.items if name == kind
        ]

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        self._closing.set()
        try:
            # Closing alone leaves the port taken for as long as `accept` waits.
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _reset(connection)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                number = self.connections
                self.connections += 1
                self._open.add(connection)
            threading.Thread(
                target=self._serve, args=(connection, number), name="stub", daemon=True
            ).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        plain = connection
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            reader = connection.makefile("rb")
            while self._serve_one(connection, reader, number):
                pass
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(plain)
            connection.close()

    def _serve_one(self, connection: socket.socket, reader: Any, number: int) -> bool:
        line = reader.readline()
        if not line:
            return False
        method, path, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if not line:
            # The client died before it had said all of its head.
            return False
        with self._lock:
            answer = self._script.pop(0) if self._script else self._default
        length = int(headers.get("content-length", 0))
        if answer.reset_early:
            reader.read(length // 2)
            _reset(connection)
            return False
        body = reader.read(length)
        if len(body) < length:
            # The client died in the middle of it.
            return False
        self.requests.append(
            Request(method, path, headers, _decompressed(body, headers), len(body), number)
        )
        return self._answer(connection, answer)

    def _answer(self, connection: socket.socket, answer: Answer) -> bool:
        if answer.hang:
            self._closing.wait()
            return False
        if answer.delay:
            self._closing.wait(answer.delay)
        if answer.reset:
            _reset(connection)
            return False
        if answer.garbage:
            connection.sendall(b"220 mail.example.com ESMTP\r\n")
            return False
        length = len(answer.body) + (100 if answer.cut else 0)
        headers = {"Content-Length": str(length), **answer.headers}
        if answer.endless:
            del headers["Content-Length"]
        if answer.polite_close:
            headers["Connection"] = "close"
        head = f"HTTP/1.1 {answer.status} Said\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        data = head.encode("latin-1") + b"\r\n" + answer.body
        if answer.drip:
            for byte in data:
                connection.sendall(bytes((byte,)))
                if self._closing.wait(answer.drip):
                    return False
        else:
            connection.sendall(data)
        while answer.endless and not self._closing.is_set():
            connection.sendall(b"x" * 65536)
        return not (answer.cut or answer.close or answer.polite_close)


def _reset(connection: socket.socket) -> None:
    """Close with a RST instead of a FIN."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    connection.close()


def _decompressed(body: bytes, headers: Mapping[str, str]) -> bytes:
    encoding = headers.get("content-encoding")
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding in _MODULES:
        plain: bytes = importlib.import_module(_MODULES[encoding]).decompress(body)
        return plain
    return body


_MODULES = {"br": "brotli", "zstd": "zstandard"}


def dead_port() -> int:
    """Return a port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def elapsed(since: float) -> float:
    """Return the seconds since `time.monotonic()` said `since`."""
    return time.monotonic() - since
