"""A site under a real server, and the numbers that the local server has of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from crashfree.server import LocalServer
from tests.support.program import environment
from tests.support.waiting import wait_until


class Site:
    """One server process; `PORT` in `command` stands for its port."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, server: LocalServer, spool: Path
    ) -> None:
        self._command = command
        self._cwd = cwd
        self._env = {"CRASHFREE_DSN": server.dsn, "CRASHFREE_SPOOL_DIR": str(spool)}
        self.port = free_port()

    def __enter__(self) -> Site:
        self._process = subprocess.Popen(
            [part.replace("PORT", str(self.port)) for part in self._command],
            cwd=self._cwd,
            env=environment(self._env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_until(self._answers, 30, "the site answers")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.communicate()

    def get(self, path: str, *, user: str | None = None) -> int:
        """Request a page; returns the status, once the server has done all that it has to do."""
        who = "" if user is None else f"X-User: {user}\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{who}Connection: close\r\n\r\n".encode()
            )
            # To the very end: an answer is there before the program has closed its body.
            with connection.makefile("rb") as answer:
                return int(answer.read().split(b" ", 2)[1])

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it the way its supervisor, or a terminal, would; returns what it said on stderr."""
        if number == signal.SIGINT:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        try:
            return self._process.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the site ended: {self._process.communicate()[1]}")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def health(server: LocalServer) -> dict[str, Any]:
    """Return the sessions by status, and the users, of all releases."""
    base = f"{server.url}/api/0/organizations/{server.organization}/sessions/"
    window = "statsPeriod=24h&interval=1h"
    by_status = _ask(
        server, f"{base}?field=sum(session)&groupBy=session.status&groupBy=release&{window}"
    )
    totals = _ask(
        server, f"{base}?field=count_unique(user)&field=crash_free_rate(session)&{window}"
    )
    found: dict[str, Any] = {
        group["by"]["session.status"]: group["totals"]["sum(session)"]
        for group in by_status["groups"]
        if group["totals"]["sum(session)"]
    }
    found["releases"] = sorted({group["by"]["release"] for group in by_status["groups"]})
    for group in totals["groups"]:
        found["users"] = group["totals"]["count_unique(user)"]
        found["crash-free"] = group["totals"]["crash_free_rate(session)"]
    return found


def _ask(server: LocalServer, url: str) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
