"""Make the pictures of the page that the README shows: two weeks of a small shop, then Chromium.

    pip install 'crashfree[server]' playwright
    python examples/screenshots.py              # pictures in examples/screenshots/
    python examples/screenshots.py --serve      # the same data, to look around in a browser

The history is told to a local server whose clock is set back and moved along with it, by the
envelopes that a client would have sent; releases, commits and deploys come by the release API.
Chromium is /usr/bin/chromium unless the variable CHROMIUM names another.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from crashfree.server import LocalServer

FOLDER = Path(__file__).parent / "screenshots"
HOUR = 3600.0
DAY = 24 * HOUR
DAYS = 15
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# Quiet, and without the requests that a browser makes for itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Then:
    """A clock that stands where the story is."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now


class Version(NamedTuple):
    """A release of the story."""

    name: str
    project: str
    day: float
    """When it was deployed, in days since the beginning."""
    crashes: float
    """How many of its sessions crash."""
    errors: float


STORY = (
    Version("shop@2.3.8+1180", "shop", -9.0, 0.0012, 0.02),
    Version("shop@2.3.9+1194", "shop", 1.4, 0.0009, 0.02),
    Version("shop@2.4.0+1207", "shop", 6.3, 0.021, 0.05),
    Version("shop@2.4.1+1213", "shop", 8.2, 0.0010, 0.025),
    Version("shop@2.5.0-rc.1+1230", "shop", 12.6, 0.006, 0.04),
    Version("web@5.11.0", "web", -5.0, 0.0004, 0.03),
    Version("web@5.12.0", "web", 4.5, 0.0008, 0.03),
    Version("3f1d2c7be0a94d0c8c1f4a52d1c5f0e7a6b98d31", "worker", 3.0, 0.0, 0.01),
)
PEOPLE = (
    ("Ana Ferreira", "ana@example.com"),
    ("Jonas Weber", "jonas@example.com"),
    ("Mei Tanaka", "mei@example.com"),
    ("Tom Okafor", "tom@example.com"),
    ("Priya Nair", "priya@example.com"),
)
WORK = (
    ("Round prices once, at the end", ("shop/cart.py", "tests/test_cart.py")),
    ("Retry a payment that timed out", ("shop/payment.py", "shop/http.py")),
    ("Show the voucher in the summary", ("shop/views/checkout.py", "templates/summary.html")),
    ("Drop the old tax table", ("shop/tax.py", "shop/tax_2019.csv")),
    ("Keep the basket of a guest", ("shop/session.py", "shop/cart.py")),
    ("Faster search by prefix", ("shop/search.py", "shop/index.py", "tests/test_search.py")),
    ("Fixes SHOP-1: an empty basket has no total", ("shop/cart.py",)),
)
TROUBLES = (
    ("ZeroDivisionError", "division by zero", "shop/cart.py", "discount_share", False),
    ("KeyError", "'voucher'", "shop/views/checkout.py", "summary", False),
    ("PaymentTimeout", "no answer from the bank within 10 s", "shop/payment.py", "charge", True),
    ("UnicodeDecodeError", "'utf-8' codec can't decode byte 0xe9", "shop/search.py", "load", True),
    ("ConnectionResetError", "[Errno 104] Connection reset by peer", "shop/http.py", "get", True),
)


class Teller:
    """Tells the story to a server."""

    def __init__(self, server: LocalServer, clock: Then, dice: random.Random) -> None:
        self.server = server
        self.clock = clock
        self.dice = dice

    def post(self, project: str, items: list[tuple[str, Any]]) -> None:
        """Send an envelope, as a client of that project would."""
        dsn = urlsplit(self.server.project_dsns[project])
        lines = [json.dumps({"sent_at": stamp(self.clock.now)})]
        for kind, payload in items:
            lines += [json.dumps({"type": kind}), json.dumps(payload)]
        request = urllib.request.Request(
            f"http://{dsn.hostname}:{dsn.port}/api{dsn.path}/envelope/",
            "\n".join(lines).encode(),
            {"X-Sentry-Auth": f"Sentry sentry_version=7, sentry_key={dsn.username}"},
        )
        urllib.request.urlopen(request).close()

    def manage(self, method: str, path: str, body: Any) -> None:
        """Call the release API."""
        request = urllib.request.Request(
            f"{self.server.url}/api/0/organizations/{self.server.organization}/{path}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.server.token}"},
            method=method,
        )
        urllib.request.urlopen(request).close()

    def release(self, version: Version, previous: int) -> None:
        """Create a release with its commits, finalize it and deploy it."""
        commits = []
        for place in range(3 + previous % 4):
            name, email = PEOPLE[(previous * 2 + place * 3) % len(PEOPLE)]
            message, files = WORK[(previous + place) % len(WORK)]
            commits.append(
                {
                    "id": f"{self.dice.getrandbits(160):040x}",
                    "repository": f"acme/{version.project}",
                    "author_name": name,
                    "author_email": email,
                    "message": message,
                    "timestamp": stamp(self.clock.now - (place + 1) * 5 * HOUR),
                    "patch_set": [{"path": file, "type": "M" if place else "A"} for file in files],
                }
            )
        body = {"version": version.name, "projects": [version.project], "commits": commits}
        if version.name == "web@5.12.0":
            body["projects"] = ["web", "worker"]
        if "rc" not in version.name:
            body["dateReleased"] = stamp(self.clock.now)
        self.manage("POST", "releases/", body)
        self.deploy(version, "staging")

    def deploy(self, version: Version, environment: str) -> None:
        """Say that a release is somewhere now."""
        self.manage(
            "POST",
            f"releases/{quote(version.name, safe='')}/deploys/",
            {"environment": environment, "dateFinished": stamp(self.clock.now)},
        )

    def hour(self, shares: dict[Version, float], volume: float) -> None:
        """Send the sessions and errors of one hour."""
        for version, share in shares.items():
            items: list[tuple[str, Any]] = []
            for _ in range(round(volume * share * self.dice.uniform(0.85, 1.15))):
                items.append(("session", self.session(version)))
                if len(items) == 100:
                    self.post(version.project, items)
                    items = []
            if items:
                self.post(version.project, items)
            if version.project == "shop":
                self.trouble(version)

    def session(self, version: Version) -> dict[str, Any]:
        """Return one session, from its first to its last moment."""
        began = self.clock.now - self.dice.uniform(0, 0.9 * HOUR)
        luck = self.dice.random()
        status, errors = "exited", 0
        if luck < version.crashes:
            status, errors = "crashed", 1
        elif luck < version.crashes + 0.0006:
            status = "abnormal"
        elif luck < version.crashes + version.errors:
            errors = 1
        return {
            "sid": str(uuid.UUID(int=self.dice.getrandbits(128), version=4)),
            "did": f"user-{int(self.dice.paretovariate(0.6)) % 900}",
            "init": True,
            "started": stamp(began),
            "timestamp": stamp(began + 60),
            "duration": round(self.dice.lognormvariate(3.6, 0.8), 3),
            "status": status,
            "errors": errors,
            "attrs": {
                "release": version.name,
                "environment": "production" if self.dice.random() < 0.94 else "staging",
            },
        }

    def trouble(self, version: Version) -> None:
        """Send now and then an error."""
        for kind, value, file, function, handled in TROUBLES:
            first = {"ZeroDivisionError": "2.4.0", "KeyError": "2.5.0"}.get(kind, "2.3")
            if first not in version.name and first != "2.3":
                continue
            if self.dice.random() > (0.5 if first != "2.3" else 0.06):
                continue
            self.post(
                version.project,
                [("event", self.event(version, kind, value, file, function, handled))],
            )

    def event(
        self, version: Version, kind: str, value: str, file: str, function: str, handled: bool
    ) -> dict[str, Any]:
        """Return an error as a client reports it."""
        lines = ["    total = sum(line.price for line in basket.lines)", "    if voucher:"]
        frames = [
            {
                "filename": "flask/app.py",
                "function": "dispatch_request",
                "lineno": 902,
                "module": "flask.app",
                "in_app": False,
                "context_line": "    return view(**args)",
            },
            {
                "filename": file,
                "function": function,
                "lineno": 41,
                "in_app": True,
                "module": file.removesuffix(".py").replace("/", "."),
                "pre_context": lines,
                "context_line": "        return voucher.amount / total",
                "post_context": ["    return 0", ""],
                "vars": {"total": "0", "voucher": "<SPRING>"},
            },
        ]
        return {
            "event_id": f"{self.dice.getrandbits(128):032x}",
            "timestamp": stamp(self.clock.now - self.dice.uniform(0, HOUR)),
            "platform": "python",
            "level": "error" if handled else "fatal",
            "release": version.name,
            "environment": "production",
            "user": {"id": f"user-{self.dice.randrange(900)}"},
            "tags": {"region": self.dice.choice(["eu", "us", "asia"])},
            "request": {"method": "POST", "url": "https://shop.example.com/checkout"},
            "breadcrumbs": {
                "values": [
                    {
                        "category": "http",
                        "message": "GET /basket",
                        "level": "info",
                        "timestamp": stamp(self.clock.now - 30),
                    },
                    {
                        "category": "db",
                        "message": "SELECT * FROM vouchers",
                        "level": "info",
                        "timestamp": stamp(self.clock.now - 12),
                    },
                ]
            },
            "exception": {
                "values": [
                    {
                        "type": kind,
                        "value": value,
                        "module": "shop",
                        "mechanism": {"type": "excepthook", "handled": handled},
                        "stacktrace": {"frames": frames},
                    }
                ]
            },
        }


def stamp(at: float) -> str:
    """Return an instant as the wire writes it."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{whole}.{int(at % 1 * 1e6):06d}Z"


def tell(server: LocalServer, clock: Then, end: float, *, volume: float) -> None:
    """Tell fifteen days, hour by hour."""
    teller = Teller(server, clock, random.Random(2024))
    begin = end - DAYS * DAY
    known: list[Version] = []
    live: list[Version] = []
    clock.now = begin
    while clock.now + HOUR <= end:
        day = (clock.now - begin) / DAY
        for version in STORY:
            if version not in known and version.day <= day + 0.2:
                teller.release(version, len(known))
                known.append(version)
            if version in known and version not in live and version.day <= day:
                if "rc" not in version.name:
                    teller.deploy(version, "production")
                live.append(version)
        shares: dict[Version, float] = {}
        for version in live:
            younger = [
                each
                for each in live
                if each.project == version.project
                and each.day > version.day
                and "rc" not in each.name
            ]
            taken = 1 - math.exp(-(day - version.day) / 0.9)
            left = math.exp(-(day - younger[0].day) / 0.8) if younger else 1.0
            size = {"shop": 1.0, "web": 0.5, "worker": 0.12}[version.project]
            if "rc" in version.name:
                size = 0.05
            shares[version] = size * taken * left
        wave = 1 + 0.55 * math.sin((clock.now % DAY) / DAY * 2 * math.pi - 2.2)
        teller.hour(shares, volume * wave)
        clock.now += HOUR
        settle(server, clock)
    clock.now = end
    settle(server, clock)


def settle(server: LocalServer, clock: Then) -> None:
    """Judge adoption as the server does every hour; its own timer goes by the real one."""
    from crashfree.server.release_health import refresh_stages

    with server.store.write() as db:
        refresh_stages(db, now=clock.now)


def take(server: LocalServer, folder: Path) -> None:
    """Take the pictures."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("pictures need Playwright: pip install playwright")
    folder.mkdir(exist_ok=True)
    views = {
        "releases": ("/releases", 900),
        "release": (f"/releases/{quote(STORY[2].name, safe='')}?project=shop", 1160),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(locale="en-GB")
        page.goto(server.page)
        for name, (address, height) in views.items():
            page.set_viewport_size({"width": 1280, "height": height})
            page.goto(server.url + address)
            page.wait_for_selector(".plot:not([data-drawn])", state="detached")
            page.screenshot(path=str(folder / f"{name}.png"))
        browser.close()


def main() -> None:
    """Tell the story, then show it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve the data; take no pictures")
    parser.add_argument("--volume", type=float, default=150, help="sessions an hour (150)")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args()
    clock = Then(time.time() - DAYS * DAY)
    with LocalServer(projects=("shop", "web", "worker"), clock=clock) as server:
        tell(server, clock, time.time(), volume=args.volume)
        if args.serve:
            print(f"release health: {server.page}", flush=True)
            server.wait()
        else:
            take(server, args.folder)


if __name__ == "__main__":
    main()
