"""What sessions cost, beside sentry-sdk in the same run: `python tests/bench/sessions.py`.

Units are whole requests through the middleware, bare application included; both programs take
turns in one process, and each line is the best of many rounds in CPU time of the calling thread.
Ceilings: a unit at most 1/25 of the incumbent's, a ledger update at most 1 microsecond.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crashfree
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._sessions.aggregator import SessionAggregator
from crashfree._sessions.application import ApplicationSessions
from crashfree._sessions.journal import Journal
from crashfree._sessions.ledger import Ledger
from crashfree._sessions.requests import RequestSessions
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.wsgi import WsgiMiddleware

try:
    import sentry_sdk
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
    from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware
    from sentry_sdk.transport import Transport
except ImportError:
    sys.exit("this comparison needs sentry-sdk: pip install sentry-sdk==2.75.0")

ROUNDS = 40
CALLS = 500
UNIT_SHARE = 25
UPDATE_CEILING = 1.0
NOBODY = "http://key@127.0.0.1:9/1"


class Nowhere(Transport):  # type: ignore[misc]
    def capture_envelope(self, envelope: Any) -> None:
        """Forget it."""


class NoTimer:
    def cancel(self) -> None:
        """Nothing waits."""


class NoTimers:
    def at(self, deadline: float, job: Callable[[], object]) -> NoTimer:
        return NoTimer()

    def every(self, interval: float, job: Callable[[], object]) -> NoTimer:
        return NoTimer()


def measured(*actions: Callable[[int], object]) -> list[float]:
    """Best CPU time of one call of each, in microseconds; the actions take turns."""
    best = [float("inf")] * len(actions)
    for _ in range(ROUNDS):
        for index, action in enumerate(actions):
            begin = time.thread_time_ns()
            action(CALLS)
            spent = (time.thread_time_ns() - begin) / 1000 / CALLS
            best[index] = min(best[index], spent)
    return best


def repeated(action: Callable[[], object]) -> Callable[[int], object]:
    def run(times: int) -> None:
        for _ in range(times):
            action()

    return run


ENVIRON = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/users/42",
    "QUERY_STRING": "page=2",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "localhost:8000",
    "HTTP_USER_AGENT": "bench",
    "HTTP_ACCEPT": "*/*",
    "wsgi.url_scheme": "http",
}


def plain(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


def streaming(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return iter((b"o", b"k"))


def started(*args: Any) -> Any:
    return None


def wsgi_call(app: Any) -> Callable[[], object]:
    def call() -> None:
        body = app(ENVIRON.copy(), started)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()

    return call


SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/users/42",
    "raw_path": b"/users/42",
    "query_string": b"page=2",
    "headers": [(b"host", b"localhost:8000"), (b"user-agent", b"bench"), (b"accept", b"*/*")],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8000),
}


async def asynchronous(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b""}


async def send(message: Any) -> None:
    """The server takes it."""


def asgi_calls(app: Any, loop: asyncio.AbstractEventLoop) -> Callable[[int], object]:
    async def calls(times: int) -> None:
        for _ in range(times):
            await app(SCOPE.copy(), receive, send)

    return lambda times: loop.run_until_complete(calls(times))


def units(directory: Path) -> bool:
    sentry_sdk.init(dsn=NOBODY, release="app@1.0", transport=Nowhere)
    # As in production: with a spool, so with a ledger on disk. Its first flush is a minute away.
    crashfree.init(
        dsn=NOBODY, release="app@1.0", spool_dir=directory / "spool", session_mode="request"
    )
    loop = asyncio.new_event_loop()
    kept = True
    print(f"{'unit of work, us':<28}{'bare':>8}{'ours':>8}{'theirs':>8}{'ratio':>8}")
    lines = (
        ("WSGI, list", *(wsgi_call(app) for app in
            (plain, WsgiMiddleware(plain), SentryWsgiMiddleware(plain)))),
        ("WSGI, streamed", *(wsgi_call(app) for app in
            (streaming, WsgiMiddleware(streaming), SentryWsgiMiddleware(streaming)))),
    )  # fmt: skip
    for name, *calls in lines:
        kept &= unit_line(name, measured(*(repeated(call) for call in calls)))
    apps = (asynchronous, AsgiMiddleware(asynchronous), SentryAsgiMiddleware(asynchronous))
    kept &= unit_line("ASGI", measured(*(asgi_calls(app, loop) for app in apps)))
    loop.close()
    crashfree.close(0)
    return kept


def unit_line(name: str, times: list[float]) -> bool:
    bare, ours, theirs = times
    ratio = (theirs - bare) / (ours - bare)
    print(f"{name:<28}{bare:>8.2f}{ours - bare:>8.2f}{theirs - bare:>8.2f}{ratio:>7.1f}x")
    return ratio >= UNIT_SHARE


def parts(directory: Path) -> bool:
    ledger = Ledger.create(str(directory / "ledger"), attributes={"release": "app@1.0"})
    assert ledger is not None
    opened = SessionAggregator({"release": "app@1.0"}, open_ledger=lambda: ledger)
    in_memory = SessionAggregator({"release": "app@1.0"})
    served = RequestSessions(opened, SYSTEM_CLOCK)
    served.begin().end()
    word = opened.minute.begun

    def update() -> None:
        try:
            ledger.write(word)
        except ValueError:
            ledger.full(word)

    remembered = RequestSessions(in_memory, SYSTEM_CLOCK)
    user = {"id": 42}
    times = measured(
        repeated(lambda: None),
        repeated(update),
        repeated(lambda: served.begin().end()),
        repeated(lambda: served.begin().end(user)),
        repeated(lambda: remembered.begin().end()),
    )
    print()
    names = ("one update", "begin + end", "begin + end with a user", "begin + end in memory")
    for name, spent in zip(names, times[1:], strict=True):
        print(f"{'ledger: ' + name:<36}{spent - times[0]:>8.2f} us")
    return times[1] - times[0] <= UPDATE_CEILING


def application(directory: Path) -> None:
    journal = Journal.create(str(directory / "session"))
    told: list[Any] = []

    def emit(update: Any) -> bool:
        told.append(update)
        return True

    sessions = ApplicationSessions(
        {"release": "app@1.0"},
        clock=SYSTEM_CLOCK,
        timers=NoTimers(),
        emit=emit,
        open_journal=lambda: journal,
    )

    def ours() -> None:
        sessions.start()
        sessions.end()
        # As the worker does behind the send.
        sessions.delivered(told.pop())

    def theirs() -> None:
        scope = sentry_sdk.get_isolation_scope()
        scope.start_session(session_mode="application")
        scope.end_session()

    mine, other = measured(repeated(ours), repeated(theirs))
    print()
    print(f"{'start_session + end_session':<36}{mine:>8.1f} us, journal on disk included")
    print(f"{'the same, sentry-sdk':<36}{other:>8.1f} us, nothing survives a kill")


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        kept = units(Path(name))
        kept = parts(Path(name)) and kept
        application(Path(name))
    print()
    print("ceilings kept" if kept else "over a ceiling")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
