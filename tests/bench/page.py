"""How long the views take with 1,000 releases, beside the API's answer behind them.

    python tests/bench/page.py [--sessions 200000]

The index is wanted in 200 ms. Chromium, where it is installed, says when a view has been drawn.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import quote

from crashfree.server import LocalServer
from crashfree.server.context import Settings
from crashfree.server.facts import Facts, SessionFact
from crashfree.server.running import open_store
from crashfree.server.upkeep import Upkeep

_RELEASES = 1000
_DAYS = 30
_DAY = 86_400
_BATCH = 2000
_WANTED = 200.0
_TIMES = 9
_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
    const [paint] = list.getEntriesByName("first-contentful-paint");
    if (paint) done(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""


class _At:
    """The clock of the past: as far as the feeding has come."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now


def _name(number: int) -> str:
    return f"shop@{number // 100}.{number // 10 % 10}.{number % 10}"


def _feed(path: Path, count: int) -> None:
    """Write a history through the store's own write path: releases come and go all the time."""
    store = open_store(str(path))
    start = time.time() - 60 - _DAYS * _DAY
    clock = _At(start)
    upkeep = Upkeep(store, clock, Settings())
    with store.write() as db:
        projects = [store.add_project(db, slug, at=start) for slug in ("shop", "web")]
    dice = random.Random(7)
    batch: list[SessionFact] = []
    for number in range(count):
        at = start + number / count * _DAYS * _DAY
        newest = number * _RELEASES // count
        release = max(0, newest - int(dice.expovariate(0.05)))
        crashed = dice.random() < 0.01
        batch.append(
            SessionFact(
                sid=dice.getrandbits(128).to_bytes(16, "big"),
                release=_name(release),
                environment="production" if dice.random() < 0.9 else "staging",
                did=f"user-{dice.randrange(20_000)}",
                started_us=int(at * 1e6),
                changed_us=int(at * 1e6) + 60_000_000,
                rank=1,
                init=True,
                status="crashed" if crashed else "exited",
                errors=int(crashed),
                duration_us=None if crashed else int(dice.expovariate(1 / 60) * 1e6),
                mechanism=None,
            )
        )
        if len(batch) == _BATCH or number == count - 1:
            clock.now = at + 60
            project = projects[number // _BATCH % 2].id
            store.record(Facts(project, clock.now, None, None, tuple(batch), (), (), (), {}))
            batch = []
            upkeep.turn()
    store.close()


def _median(server: LocalServer, path: str) -> tuple[float, int]:
    """Return the median time of a request in milliseconds, and the size of its answer."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    opener.open(server.page).close()
    times: list[float] = []
    size = 0
    for _ in range(_TIMES):
        begun = time.perf_counter()
        with opener.open(server.url + path) as answer:
            size = len(answer.read())
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times), size


def _drawn(server: LocalServer, path: str) -> float | None:
    """Return how long Chromium takes until a view stands there, in milliseconds."""
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if not os.path.exists(chromium):
        return None
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        page.goto(server.page)
        times: list[float] = []
        for _ in range(_TIMES):
            page.goto(server.url + path)
            times.append(page.evaluate(_PAINT))
        browser.close()
    return statistics.median(times)


def main() -> None:
    """Feed, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200_000)
    count = parser.parse_args().sessions
    api = "/api/0/organizations/crashfree/releases/"
    one = quote(_name(_RELEASES - 20), safe="")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        _feed(path, count)
        with LocalServer(database=path, projects=("shop", "web")) as server:
            health = "flatten=1&health=1&adoptionStages=1&summaryStatsPeriod=14d&per_page=25"
            base, _ = _median(server, f"{api}?{health}")
            print(f"{_RELEASES:,} releases, {count:,} sessions in {_DAYS} days")
            print(f"{'view':44}{'ms':>8}{'kB':>8}{'x API':>8}{'painted':>10}")
            print(f"{'API: 25 releases with health, 14 days':44}{base:8.1f}")
            worst = 0.0
            for view in (
                "/releases",
                "/releases?statsPeriod=24h",
                "/releases?sort=crash_free_users",
                "/releases?query=release.version:%3E5",
                f"/releases/{one}",
                f"/releases/{one}/counts",
            ):
                took, size = _median(server, view)
                painted = _drawn(server, view)
                shown = "-" if painted is None else f"{painted:.0f} ms"
                print(f"{view:44}{took:8.1f}{size / 1000:8.1f}{took / base:8.2f}{shown:>10}")
                worst = max(worst, took)
            print(f"slowest {worst:.0f} ms; wanted {_WANTED:.0f} ms")


if __name__ == "__main__":
    main()
