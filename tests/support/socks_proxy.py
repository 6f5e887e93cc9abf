"""A SOCKS5 proxy: it knows CONNECT, a name and a password, and whom it was asked for."""

from __future__ import annotations

import socket
import struct
import threading

_NO_PASSWORD, _PASSWORD, _NONE_OF_THESE = 0, 2, 0xFF
_IPV4, _NAME = 1, 3
_REFUSED = 5


class SocksProxy:
    """Serves until the block is left. Whatever host is asked for, it connects to `target`."""

    def __init__(self, target: int, *, user: str | None = None, refuse: bool = False) -> None:
        self.asked: list[tuple[str, int]] = []
        """Hosts and ports, names unresolved where the client left that to the proxy."""
        self.users: list[str] = []
        self._target = target
        self._user = user
        self._refuse = refuse
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> SocksProxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(5.0)
        for end in self._ends:
            end.close()

    def _start(self, job: object, *arguments: object) -> None:
        thread = threading.Thread(target=job, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(near)
            self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        try:
            if self._greet(near):
                self._connect(near)
        except (OSError, EOFError):
            near.close()

    def _greet(self, near: socket.socket) -> bool:
        _, count = _read(near, 2)
        offered = _read(near, count)
        wanted = _NO_PASSWORD if self._user is None else _PASSWORD
        if wanted not in offered:
            near.sendall(bytes((5, _NONE_OF_THESE)))
            return False
        near.sendall(bytes((5, wanted)))
        if wanted == _PASSWORD:
            _, length = _read(near, 2)
            user = _read(near, length).decode()
            password = _read(near, _read(near, 1)[0]).decode()
            self.users.append(f"{user}:{password}")
            near.sendall(bytes((1, 0 if self.users[-1] == self._user else 1)))
            return self.users[-1] == self._user
        return True

    def _connect(self, near: socket.socket) -> None:
        kind = _read(near, 4)[3]
        if kind == _NAME:
            host = _read(near, _read(near, 1)[0]).decode()
        else:
            host = socket.inet_ntoa(_read(near, 4))
        (port,) = struct.unpack("!H", _read(near, 2))
        self.asked.append((host, port))
        if self._refuse:
            near.sendall(bytes((5, _REFUSED, 0, _IPV4, 0, 0, 0, 0, 0, 0)))
            near.close()
            return
        far = socket.create_connection(("127.0.0.1", self._target))
        self._ends.append(far)
        near.sendall(bytes((5, 0, 0, _IPV4, 0, 0, 0, 0, 0, 0)))
        self._start(_pipe, near, far)
        self._start(_pipe, far, near)


def _read(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _pipe(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
