"""Delivery beside sentry-sdk, in the same run: `python tests/bench/delivery.py [captures]`.

Each program runs in a process of its own against a server in a third one, twice in turns, and the
better of its two results counts. Measured: messages captured in one burst against a server with
50 ms latency (how many arrive, how fast, requests made, bytes of a request, peak memory of the
process); a steady stream that one connection cannot carry; the time a process takes to exit with a
server that hangs, one that answers in 100 ms, and one that is not there; aggregated sessions that
survive an outage.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

LATENCY = 0.05
ROUNDS = 2
STREAM = 300
STREAM_PAUSE = 0.01

PROGRAMS = {
    "crashfree": """
import crashfree as sdk
def start(dsn):
    sdk.init(dsn, release="bench@1.0", session_mode="request", auto_integrations=False,
             error_storm_limit=1_000_000, **MORE)
def close(seconds): return sdk.close(seconds)
def unit():
    from crashfree._client import current
    session = current.client().sessions.requests.begin()
    session.end()
""",
    "sentry_sdk": """
import sentry_sdk as sdk
from sentry_sdk.sessions import track_session
def start(dsn):
    sdk.init(dsn, release="bench@1.0", auto_enabling_integrations=False)
def close(seconds):
    client = sdk.get_client()
    client.flush(timeout=seconds)
    return True
def unit():
    with sdk.isolation_scope() as scope:
        with track_session(scope, session_mode="request"):
            pass
""",
}

BURST = """
import resource, time
start(DSN)
begin = time.perf_counter()
for number in range(COUNT):
    sdk.capture_message("message %d" % number)
captured = time.perf_counter() - begin
close(WAIT)
print(captured, time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

STREAMING = """
import time
start(DSN)
for number in range(COUNT):
    sdk.capture_message("message %d" % number)
    time.sleep(PAUSE)
close(WAIT)
"""

EXITING = """
start(DSN)
sdk.capture_message("the last words")
"""

OUTAGE = """
import sys
start(DSN)
for line in sys.stdin:
    for number in range(100):
        unit()
    sdk.flush(1.0)
    print("ready", flush=True)
close(5.0)
"""


class Server:
    """Counts what it is sent. Speaks HTTP by hand, so that it is never the bottleneck."""

    def __init__(self, latency: float = 0.0, *, hang: bool = False, port: int = 0) -> None:
        self.latency = latency
        self.hang = hang
        self.requests = 0
        self.bytes = 0
        self.events: set[str] = set()
        self.sessions = 0
        self.last = 0.0
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.port}/1"

    def stop(self) -> None:
        """Be gone: refuse what comes, drop what is there."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections, self._open = self._open, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        try:
            while reader.readline():
                self._serve_one(connection, reader)
        except OSError:
            connection.close()

    def _serve_one(self, connection: socket.socket, reader: Any) -> None:
        headers: dict[bytes, bytes] = {}
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        body = reader.read(int(headers.get(b"content-length", b"0")))
        if self.hang:
            time.sleep(3600)
        if self.latency:
            time.sleep(self.latency)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        size = len(body)
        coding = headers.get(b"content-encoding")
        if coding == b"gzip":
            body = gzip.decompress(body)
        elif coding == b"br":
            # What sentry-sdk prefers where the module is installed.
            import brotli

            body = brotli.decompress(body)
        with self._lock:
            self.requests += 1
            self.bytes += size
            self.last = time.perf_counter()
            self._note(body)

    def _note(self, body: bytes) -> None:
        lines = body.split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(b'{"type":"event"'):
                self.events.add(json.loads(lines[number + 1])["event_id"])
            elif line.startswith(b'{"type":"sessions"'):
                for bucket in json.loads(lines[number + 1])["aggregates"]:
                    self.sessions += sum(n for n in bucket.values() if isinstance(n, int))


def source(program: str, script: str, **values: object) -> str:
    lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    more = f"dict(spool_dir={tempfile.mkdtemp()!r})" if program == "crashfree" else "{}"
    return f"{lines}\nMORE = {more}\n{PROGRAMS[program]}\n{script}"


def run(code: str, timeout: float = 600.0) -> tuple[str, float]:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout, time.perf_counter() - begin


def burst(program: str, count: int) -> dict[str, float]:
    server = Server(LATENCY)
    out, _ = run(source(program, BURST, DSN=server.dsn, COUNT=count, WAIT=count * LATENCY))
    captured, whole, peak = (float(word) for word in out.split())
    server.stop()
    delivered = len(server.events)
    return {
        "delivered": delivered,
        "delivered per second": delivered / whole,
        "requests per event": server.requests / max(1, delivered),
        "bytes per event": server.bytes / max(1, delivered),
        "caller: µs per capture": captured / count * 1e6,
        "peak memory MiB": peak / 1024,
    }


def stream(program: str) -> dict[str, float]:
    server = Server(LATENCY)
    run(source(program, STREAMING, DSN=server.dsn, COUNT=STREAM, PAUSE=STREAM_PAUSE, WAIT=30.0))
    server.stop()
    return {f"delivered of {STREAM} at 100/s": len(server.events)}


def exits(program: str) -> dict[str, float]:
    found: dict[str, float] = {}
    bare = min(run("pass")[1] for _ in range(3))
    hanging, slow = Server(hang=True), Server(0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://key@127.0.0.1:{listener.getsockname()[1]}/1"
    for name, dsn in (("hanging", hanging.dsn), ("100 ms", slow.dsn), ("absent", nobody)):
        _, took = run(source(program, EXITING, DSN=dsn))
        found[f"whole program s, server {name}"] = took - bare
    return found


def exits_without_waiting() -> float:
    hanging = Server(hang=True)
    code = source("crashfree", EXITING, DSN=hanging.dsn).replace(
        "**MORE", "shutdown_timeout=0, **MORE"
    )
    return run(code)[1] - run("pass")[1]


def outage(program: str) -> dict[str, float]:
    """Three rounds of 100 sessions: server there, away, back."""
    server = Server()
    port = server.port
    process = subprocess.Popen(
        [sys.executable, "-c", source(program, OUTAGE, DSN=server.dsn)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    total = 0
    for away in (False, True, False):
        if away:
            server.stop()
            total += server.sessions
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()
        if away:
            server = Server(port=port)
            time.sleep(1.5)
    process.stdin.close()
    process.wait(30)
    total += server.sessions
    server.stop()
    return {"sessions counted of 300, a third in an outage": total}


HIGHER_IS_BETTER = ("delivered", "sessions")


def better(name: str, values: list[float]) -> float:
    return max(values) if name.startswith(HIGHER_IS_BETTER) else min(values)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    results: dict[str, dict[str, list[float]]] = {name: {} for name in PROGRAMS}
    for _ in range(ROUNDS):
        for program in PROGRAMS:
            for measured in (
                burst(program, count),
                stream(program),
                exits(program),
                outage(program),
            ):
                for name, value in measured.items():
                    results[program].setdefault(name, []).append(value)
    print(f"{count} captures, {LATENCY * 1000:.0f} ms latency, {os.cpu_count()} processors\n")
    print(f"{'':<48}{'crashfree':>12}{'sentry_sdk':>12}{'ratio':>9}")
    for name in results["crashfree"]:
        ours, theirs = (better(name, results[program][name]) for program in PROGRAMS)
        ratio = ours / theirs if theirs else float("inf")
        print(f"{name:<48}{ours:>12.3f}{theirs:>12.3f}{ratio:>9.2f}")
    waits = exits_without_waiting()
    print(f"\nwhole program s, server hanging, shutdown_timeout=0 (crashfree): {waits:.3f}")


if __name__ == "__main__":
    main()
