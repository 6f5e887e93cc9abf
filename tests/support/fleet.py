"""Real servers of Python, one application, and a load whose outcome is known."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.program import environment
from tests.support.waiting import wait_until

APPLICATION = """
import ctypes, os, signal, time
import crashfree
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.wsgi import WsgiMiddleware

crashfree.init(release="app@1.0", session_mode="request")
TRUTH = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def handle(path):
    os.write(TRUTH, b"%s\\n" % path.encode())
    if path == "/error":
        raise ValueError("error")
    if path == "/handled":
        crashfree.capture_exception(KeyError("handled"))
    if path == "/segv":
        ctypes.string_at(8)
    return str(os.getpid()).encode()


def plain(environ, start_response):
    path = environ["PATH_INFO"]
    body = handle(path)
    if path == "/slow":
        time.sleep(60)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return stream(body)
    return [body]


def stream(body):
    yield body
    yield b"\\n"
    raise ValueError("while streaming")


async def asynchronous(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    body = handle(path)
    if path == "/slow":
        import asyncio
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain")]})
    if path == "/stream":
        await send({"type": "http.response.body", "body": body, "more_body": True})
        raise ValueError("while streaming")
    await send({"type": "http.response.body", "body": body})


wsgi = WsgiMiddleware(plain)
asgi = AsgiMiddleware(asynchronous)
"""

WAITRESS = (
    "import sys, waitress, application;"
    "waitress.serve(application.wsgi, host='127.0.0.1', port=int(sys.argv[1]), threads=8,"
    " clear_untrusted_proxy_headers=True)"
)


UWSGI = shutil.which("uwsgi", path=os.path.dirname(sys.executable))
STATISTICS = "statistics"
"""The socket where uWSGI tells of its workers."""


class Server(NamedTuple):
    """How to run one."""

    name: str
    modules: tuple[str, ...]
    command: Callable[[int], list[str]]
    workers: int = 1
    """Worker processes beside a master; 1: the process itself serves."""
    respawns: bool = True
    """Whether a worker that died is replaced; else the whole server ends with it."""
    slow: int = 2
    """How many slow requests it can serve at once."""
    cuts_off: bool = False
    """Whether a worker that is at work when the server stops may not even say good-bye."""


def _gunicorn(*options: str, application: str = "wsgi") -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        base = ["gunicorn", "-b", f"127.0.0.1:{port}", "--log-level", "warning"]
        rest = ["--graceful-timeout", "2", "--timeout", "120", *options]
        return [sys.executable, "-m", *base, *rest, f"application:{application}"]

    return command


def _python(*command: str, port: str = "--port") -> Callable[[int], list[str]]:
    return lambda number: [sys.executable, "-m", *command, port, str(number)]


def uwsgi(
    *options: str,
    prefix: Sequence[str] = (),
    application: Sequence[str] = ("--module", "application:wsgi"),
) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        return [
            *prefix, UWSGI or "uwsgi", "--http-socket", f"127.0.0.1:{port}", *application,
            "--master", "--processes", "2", "--die-on-term", "--worker-reload-mercy", "10",
            "--need-app", "--disable-logging", "--stats", STATISTICS, *options,
        ]  # fmt: skip

    return command


SERVERS = [
    Server("gunicorn-sync", ("gunicorn",), _gunicorn("-w", "2"), workers=2),
    Server(
        "gunicorn-gthread",
        ("gunicorn",),
        _gunicorn("-k", "gthread", "-w", "2", "--threads", "4"),
        workers=2,
    ),
    Server(
        "gunicorn-gevent",
        ("gunicorn", "gevent"),
        _gunicorn("-k", "gevent", "-w", "2"),
        workers=2,
    ),
    Server("gunicorn-preload", ("gunicorn",), _gunicorn("-w", "2", "--preload"), workers=2),
    Server(
        "gunicorn-uvicorn",
        ("gunicorn", "uvicorn_worker"),
        _gunicorn("-w", "2", "-k", "uvicorn_worker.UvicornWorker", application="asgi"),
        workers=2,
    ),
    Server(
        "uvicorn",
        ("uvicorn",),
        _python("uvicorn", "application:asgi", "--log-level", "warning",
                "--timeout-graceful-shutdown", "2"),
    ),
    Server(
        "uvicorn-2-workers",
        ("uvicorn",),
        _python("uvicorn", "application:asgi", "--log-level", "warning", "--workers", "2",
                "--timeout-graceful-shutdown", "2"),
        workers=2,
    ),
    Server(
        "hypercorn",
        ("hypercorn",),
        lambda port: [
            sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}",
            "--graceful-timeout", "2", "application:asgi",
        ],
        workers=2,
        respawns=False,
    ),
    Server(
        "waitress", ("waitress",), lambda port: [sys.executable, "-c", WAITRESS, str(port)]
    ),
    Server(
        "granian-asgi",
        ("granian",),
        _python("granian", "--interface", "asgi", "--workers", "2", "--log-level", "warning",
                "--respawn-failed-workers", "--workers-kill-timeout", "3", "application:asgi"),
        workers=2,
    ),
    Server(
        "granian-wsgi",
        ("granian",),
        _python("granian", "--interface", "wsgi", "--workers", "2", "--blocking-threads", "4",
                "--log-level", "warning", "--respawn-failed-workers",
                "--workers-kill-timeout", "3", "application:wsgi"),
        workers=2,
    ),
    Server("uwsgi", ("pyuwsgi",), uwsgi("--enable-threads"), workers=2, cuts_off=True),
    Server("uwsgi-no-threads", ("pyuwsgi",), uwsgi(), workers=2, cuts_off=True),
    Server("uwsgi-lazy", ("pyuwsgi",), uwsgi("--enable-threads", "--lazy-apps"), workers=2,
           cuts_off=True),
]  # fmt: skip


def missing(server: Server) -> str | None:
    """Return what is not installed."""
    for module in server.modules:
        if importlib.util.find_spec(module) is None:
            return module
    return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Fleet:
    """One running server; a context manager that leaves no process behind."""

    def __init__(self, server: Server, directory: Path, env: dict[str, str]) -> None:
        self.server = server
        self.directory = directory
        self.truth = directory / "truth"
        self.truth.touch()
        (directory / "application.py").write_text(APPLICATION)
        self.port = free_port()
        self.log = directory / "log"
        self._env = environment({**env, "TRUTH": str(self.truth), "PYTHONPATH": str(directory)})
        self._slow: list[threading.Thread] = []

    def __enter__(self) -> Fleet:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.server.command(self.port),
                cwd=self.directory,
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, 30, f"{self.server.name} does not answer: {self.output}")
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        for thread in self._slow:
            thread.join(10)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def truths(self) -> list[str]:
        """The paths of all requests that the application began to handle."""
        return self.truth.read_text().split()

    def get(self, path: str, timeout: float = 30.0) -> str | None:
        """Ask; returns the body, None for a failure of any kind."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
            return body if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def load(self, **requests: int) -> None:
        """Send so many requests of each path, eight at a time, and wait for all answers."""
        paths = [f"/{path}" for path, times in requests.items() for _ in range(times)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.get, paths))

    def hang(self, count: int) -> None:
        """Let so many requests be in flight."""
        before = self.truths.count("/slow")
        for _ in range(count):
            thread = threading.Thread(target=self.get, args=("/slow",), daemon=True)
            thread.start()
            self._slow.append(thread)
        wait_until(lambda: self.truths.count("/slow") == before + count, 20, "slow requests")

    def worker(self) -> int:
        """The process that answered just now."""
        body = self.get("/ok")
        assert body is not None, self.output
        return int(body)

    def settle(self, *, requests: int | None = None) -> None:
        """Wait until all workers of uWSGI are up, and none is at work: it cuts those off.

        `requests`: after how many it lets a worker go.
        """

        def at_rest() -> bool:
            workers = self._workers()
            return bool(workers) and all(
                worker["accepting"]
                and worker["status"] == "idle"
                and (requests is None or worker["delta_requests"] < requests)
                for worker in workers
            )

        wait_until(at_rest, 30, f"a worker is not at rest: {self.output}")

    def recover(self) -> bool:
        """Wait until a worker that died is replaced; False: the server ended with it."""
        if self.server.workers > 1 and self.server.respawns:
            wait_until(lambda: self.get("/ok", timeout=2.0), 30, "no worker is left")
            return True
        self.process.wait(30)
        return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the server to end, as its operator does."""
        self.process.send_signal(number)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.server.name} does not stop: {self.output}") from None

    def _workers(self) -> list[dict[str, Any]]:
        # A path in the directory of a test may be too long for an address.
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(f"/proc/self/fd/{directory}/{STATISTICS}")
                with asking.makefile("rb") as answer:
                    return list(json.load(answer)["workers"])
        except (FileNotFoundError, ConnectionRefusedError):
            # The workers may be quicker than the master.
            return []
        finally:
            os.close(directory)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.server.name} has ended: {self.output}")
        return self.get("/ok", timeout=2.0) is not None
