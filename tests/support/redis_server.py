"""A Redis on loopback, played by fakeredis in this process."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any


class RedisServer:
    """Context manager; `url` says where it listens."""

    def __init__(self) -> None:
        from fakeredis import TcpFakeServer

        self._server: Any = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def __enter__(self) -> RedisServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
