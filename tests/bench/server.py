"""How fast the local server takes data and answers, beside a bare Starlette endpoint.

    python tests/bench/server.py             ingest, index and users, memory
    python tests/bench/server.py ingest      requests per second, ratio to the bare endpoint
    python tests/bench/server.py index       10 million sessions over 90 days (takes some minutes)

The peer reads the body of a request and answers `{}`; it runs under the same uvicorn, in the same
run, in turns with ours. Both run on what is installed: with the extra `fast` on uvloop and
httptools, and ours decodes by msgspec; without it on asyncio and h11. Ceilings: single updates and
60-bucket aggregates at least half of the peer's requests per second, gzipped events a quarter; the
release index within 20 ms and exact distinct users among a million within 500 ms; memory under
250 MB throughout.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from crashfree._protocol.timestamps import rfc3339

_CONNECTIONS = 32
_REQUESTS = 4000
_ROUNDS = 9

_BARE = """
import sys, uvicorn, socket
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.requests import Request

async def take(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({})

sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
sock.bind(("127.0.0.1", 0))
sock.listen(2048)
print(sock.getsockname()[1], flush=True)
app = Starlette(routes=[Route("/api/{project}/envelope/", take, methods=["POST"])])
config = uvicorn.Config(app, http="HTTP", ws="none", lifespan="off", log_config=None,
                        access_log=False, server_header=False, proxy_headers=False)
uvicorn.Server(config).run(sockets=[sock])
"""


@contextmanager
def bare() -> Generator[tuple[int, str, int], None, None]:
    """Run the peer; give port, key and process id."""
    code = _BARE.replace("HTTP", _http())
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), "a" * 32, process.pid
    finally:
        process.kill()
        process.wait()


def _loop() -> str:
    names = "uvloop" if find_spec("uvloop") else "asyncio's loop"
    return names + (", ours with msgspec" if find_spec("msgspec") else "")


def _http() -> str:
    from crashfree.server.connection import HTTP

    return HTTP


@contextmanager
def ours(database: Path, ready: Path) -> Generator[tuple[int, str, int], None, None]:
    """Run the local server as a process; give port, key and process id."""
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "crashfree", "serve", "--port", "0", "--quiet"]
    process = subprocess.Popen([*command, "--db", str(database), "--ready-file", str(ready)])
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.02)
        dsn = urlsplit(json.loads(ready.read_text())["dsn"])
        yield dsn.port or 0, dsn.username or "", process.pid
    finally:
        process.terminate()
        process.wait()


def session_bodies(count: int) -> list[bytes]:
    """Return envelopes of one session update each."""
    now = time.time()
    bodies: list[bytes] = []
    for number in range(count):
        update = {
            "sid": str(uuid.uuid4()),
            "did": f"user-{number % 1000}",
            "init": True,
            "started": rfc3339(now - number % 600),
            "timestamp": rfc3339(now),
            "status": "exited",
            "errors": 0,
            "duration": 12.5,
            "attrs": {"release": f"shop@1.{number % 5}.0", "environment": "production"},
        }
        payload = json.dumps(update).encode()
        head = json.dumps({"sent_at": rfc3339(now)}).encode()
        bodies.append(b'%s\n{"type":"session","length":%d}\n%s\n' % (head, len(payload), payload))
    return bodies


def _aggregate_bodies(count: int) -> list[bytes]:
    now = time.time() // 60 * 60
    bodies: list[bytes] = []
    for number in range(count):
        payload = json.dumps(
            {
                "attrs": {"release": f"shop@1.{number % 5}.0", "environment": "production"},
                "aggregates": [
                    {"started": rfc3339(now - 60 * minute), "exited": 50 + number % 7, "errored": 2}
                    for minute in range(60)
                ],
            }
        ).encode()
        head = json.dumps({"sent_at": rfc3339(time.time())}).encode()
        bodies.append(b'%s\n{"type":"sessions","length":%d}\n%s\n' % (head, len(payload), payload))
    return bodies


def _event_bodies(count: int) -> list[bytes]:
    recorded = Path(__file__).parent.parent / "vectors" / "envelopes"
    body = (recorded / "py-event-chained-unhandled.envelope").read_bytes()
    header_line, item_line, payload = body.split(b"\n")[:3]
    header, event = json.loads(header_line), json.loads(payload)
    bodies: list[bytes] = []
    for _ in range(count):
        header["event_id"] = event["event_id"] = uuid.uuid4().hex
        header.pop("dsn", None)
        event["timestamp"] = rfc3339(time.time())
        data = json.dumps(event).encode()
        bodies.append(
            gzip.compress(
                json.dumps(header).encode()
                + b'\n{"type":"event","length":%d}\n' % len(data)
                + data
                + b"\n",
                6,
            )
        )
    del item_line
    return bodies


def load(port: int, requests: Sequence[bytes]) -> float:
    """Send all requests over a few connections, each as soon as it is answered; return the rate.

    Sockets and a selector, without a loop's tasks and futures: the client must not be what is
    measured.
    """
    left = iter(requests)
    selector = selectors.DefaultSelector()
    sockets = [
        socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(_CONNECTIONS)
    ]
    for sock in sockets:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ, sock)
    begun = time.perf_counter()
    for sock in sockets:
        sock.sendall(next(left))
    waiting = len(sockets)
    while waiting:
        ready = selector.select(30)
        if not ready:
            raise SystemExit(f"no answer on port {port} for 30 seconds")
        for key, _ in ready:
            sock = key.data
            answer = sock.recv(65536)
            while not _whole(answer):
                more = sock.recv(65536)
                if not more:
                    raise SystemExit(f"closed after {answer!r}")
                answer += more
            request = next(left, None)
            if request is None:
                waiting -= 1
            else:
                sock.sendall(request)
    rate = len(requests) / (time.perf_counter() - begun)
    for sock in sockets:
        sock.close()
    selector.close()
    return rate


def _whole(answer: bytes) -> bool:
    """Return whether an answer of 200 is complete; ends the run at any other."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"not taken: {answer!r}")
    head = answer[:end].lower()
    at = head.find(b"content-length:") + 15
    if at < 15:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) >= end + 4 + int(head[at:].split(b"\r", 1)[0])


def requests_of(bodies: Sequence[bytes], key: str, encoding: str | None) -> list[bytes]:
    """Return a request for each body."""
    extra = f"Content-Encoding: {encoding}\r\n" if encoding else ""
    head = (
        "POST /api/1/envelope/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Content-Type: application/x-sentry-envelope\r\nUser-Agent: bench/1.0\r\n"
        f"X-Sentry-Auth: Sentry sentry_key={key}, sentry_version=7, sentry_client=bench/1.0\r\n"
        f"{extra}Content-Length: "
    )
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def _memory(pid: int) -> float:
    """Return the largest resident size of a process so far, in MB; nan where /proc is not."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float("nan")


def _processor(pid: int) -> float:
    """Return the processor time of a process in seconds; nan where /proc is not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ingest(directory: Path) -> bool:
    """Compare requests per second with the peer's."""
    kinds: list[tuple[str, Callable[[int], list[bytes]], str | None, float, int]] = [
        ("session updates", session_bodies, None, 0.5, _REQUESTS),
        ("60-bucket aggregates", _aggregate_bodies, None, 0.5, _REQUESTS),
        ("gzipped events", _event_bodies, "gzip", 0.25, _REQUESTS // 2),
    ]
    good = True
    print(f"uvicorn with {_http()}, {_loop()}, {_CONNECTIONS} connections")
    print(
        f"ratio: median of {_ROUNDS} rounds, in each of which ours is compared with the bare"
        " endpoint just before it;"
    )
    print("CPU: processor time of the bare endpoint by that of ours, for the same requests")
    print(
        f"{'':22}{'bare/s':>9}{'ours/s':>9}{'ratio':>8}{'worst':>7}{'best':>7}{'floor':>7}"
        f"{'CPU':>7}{'peak MB':>9}"
    )
    with bare() as starlette, ours(directory / "ingest.db", directory / "ready.json") as local:
        for name, make, encoding, floor, count in kinds:
            rates: list[tuple[float, float]] = []
            used = [0.0, 0.0]
            for _ in range(_ROUNDS):
                bodies = make(count)
                pair: list[float] = []
                for which, (port, key, pid) in enumerate((starlette, local)):
                    requests = requests_of(bodies, key, encoding)
                    before = _processor(pid)
                    pair.append(load(port, requests))
                    used[which] += _processor(pid) - before
                rates.append((pair[0], pair[1]))
            ratios = sorted(mine / peer for peer, mine in rates)
            ratio = statistics.median(ratios)
            memory = _memory(local[2])
            fine = ratio >= floor and not memory > 250
            good = good and fine
            print(
                f"{name:22}{statistics.median(peer for peer, _ in rates):9.0f}"
                f"{statistics.median(mine for _, mine in rates):9.0f}{ratio:8.2f}"
                f"{ratios[0]:7.2f}{ratios[-1]:7.2f}{floor:7.2f}"
                f"{used[0] / used[1]:7.2f}{memory:9.0f}"
                f"{'' if fine else '  <- too slow or too large'}"
            )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("ingest", "index", "all"), default="all")
    parser.add_argument("--sessions", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--keep", metavar="DIR", help="keep (and use again) the databases here")
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(args.keep or temporary)
        directory.mkdir(exist_ok=True)
        directory = directory.absolute()
        if args.what in ("ingest", "all"):
            good = ingest(directory) and good
        if args.what in ("index", "all"):
            from tests.bench.server_index import index

            good = index(directory, args.sessions, args.users) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    sys.exit(main())
