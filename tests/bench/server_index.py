"""The release index over millions of sessions; see `server.py`."""

from __future__ import annotations

import json
import os
import random
import statistics
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from crashfree.server import LocalServer
from crashfree.server.context import Settings
from crashfree.server.facts import Facts, SessionFact
from crashfree.server.running import open_store
from crashfree.server.upkeep import Upkeep

_DAY = 86_400
_DAYS = 90
_BATCH = 2000


class _At:
    """The clock of the past: as far as the feeding has come."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now


def _sessions(count: int, users: int, start: float) -> Iterator[tuple[float, SessionFact]]:
    """Yield sessions in the order of time; a release every three days, a tenth crashes."""
    dice = random.Random(90)
    for number in range(count):
        at = start + number / count * _DAYS * _DAY
        newest = int((at - start) // (3 * _DAY))
        # The newest releases have most of the traffic; eight are alive at any time.
        release = max(0, newest - min(int(dice.expovariate(0.6)), 7))
        started_us = int(at * 1e6)
        crashed = dice.random() < 0.02
        errored = not crashed and dice.random() < 0.05
        yield (
            at,
            SessionFact(
                sid=dice.getrandbits(128).to_bytes(16, "big"),
                release=f"shop@1.{release}.0",
                environment="production" if dice.random() < 0.95 else "staging",
                did=f"user-{dice.randrange(users)}",
                started_us=started_us,
                changed_us=started_us + 60_000_000,
                rank=1,
                init=True,
                status="crashed" if crashed else "exited",
                errors=int(crashed or errored),
                duration_us=None if crashed else int(dice.expovariate(1 / 60) * 1e6),
                mechanism=None,
            ),
        )


def _feed(path: Path, count: int, users: int) -> float:
    """Write the history through the store's own write path; return its end."""
    store = open_store(str(path))
    end = time.time() - 60
    start = end - _DAYS * _DAY
    clock = _At()
    upkeep = Upkeep(store, clock, Settings(retention_days=3650))
    with store.write() as db:
        if not store.projects(db):
            store.add_project(db, "app", at=start)
    begun = time.perf_counter()
    batch: list[SessionFact] = []
    fed = 0
    for at, fact in _sessions(count, users, start):
        batch.append(fact)
        if len(batch) == _BATCH or fed + len(batch) == count:
            clock.now = at + 60
            store.record(Facts(1, clock.now, None, None, tuple(batch), (), (), (), {}))
            fed += len(batch)
            batch = []
            if fed // _BATCH % 10 == 0:
                upkeep.turn()
            if fed % 500_000 == 0:
                rate = fed / (time.perf_counter() - begun)
                print(f"  fed {fed:,} sessions, {rate:,.0f}/s", flush=True)
    upkeep.turn()
    store.set_meta("bench_end", str(end))
    store.close()
    return end


def _timed(server: LocalServer, path: str, **query: Any) -> tuple[float, Any]:
    """Return the median of five requests in milliseconds, and the answer."""
    url = f"{server.url}/api/0/organizations/{server.organization}/{path}?"
    request = urllib.request.Request(
        url + urlencode(query, doseq=True), headers={"Authorization": f"Bearer {server.token}"}
    )
    times: list[float] = []
    answer: Any = None
    for _ in range(5):
        begun = time.perf_counter()
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times), answer


def _memory() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def index(directory: Path, count: int, users: int) -> bool:
    """Time the release index over 90 days."""
    path = directory / f"index-{count}-{users}.db"
    if not path.exists():
        print(f"feeding {count:,} sessions of {users:,} users over {_DAYS} days")
        pid = os.fork()
        if not pid:
            # In a process of its own, so that its memory is not counted below.
            _feed(path, count, users)
            os._exit(0)
        os.waitpid(pid, 0)
    good = True
    with LocalServer(database=path) as server:
        end = float(server.store.meta("bench_end"))
        # What the upkeep of a server that had run all the time would have done long ago.
        server.store.fold_users(at_least=1, step=20_000)
        server.store.seal_durations(before_day=int(time.time() // _DAY))
        span = {
            "start": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(end - _DAYS * _DAY)),
            "end": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(end + 60)),
            "interval": "1d",
        }
        print(f"{'':44}{'ms':>8}{'ceiling':>9}")
        for name, ceiling, target, query in (
            (
                "release index: sessions, crash-free sessions",
                20,
                "sessions/",
                {
                    **span,
                    "field": ["sum(session)", "crash_free_rate(session)"],
                    "groupBy": "release",
                    "includeSeries": "0",
                },
            ),
            (
                "the same with distinct and crash-free users",
                500,
                "sessions/",
                {
                    **span,
                    "field": ["count_unique(user)", "crash_free_rate(user)"],
                    "groupBy": "release",
                    "includeSeries": "0",
                },
            ),
            (
                "distinct users of everything",
                500,
                "sessions/",
                {**span, "field": ["count_unique(user)"], "includeSeries": "0"},
            ),
            (
                "release list with health",
                500,
                "releases/",
                {"health": "1", "summaryStatsPeriod": "90d"},
            ),
        ):
            took, answer = _timed(server, target, **query)
            fine = took <= ceiling
            good = good and fine
            print(f"{name:44}{took:8.1f}{ceiling:9}{'' if fine else '  <- too slow'}")
            if name.startswith("distinct"):
                print(f"  {answer['groups'][0]['totals']}")
    memory = _memory()
    print(f"memory {memory:.0f} MB (ceiling 250)")
    return good and not memory > 250
