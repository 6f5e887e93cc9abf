"""A shop of two projects with sessions, errors, commits and deploys, and what is true of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from crashfree.server import LocalServer
from tests.support.catalog import Catalog
from tests.support.clock import FakeClock
from tests.support.reading import Reader
from tests.support.serving import envelope, send, session

DAY = 86_400.0


class Told(NamedTuple):
    """One session that was told, for counting by hand."""

    project: str
    release: str
    environment: str
    did: str
    started: float
    status: str


class Shop(NamedTuple):
    """The server, who visits it, and the truth."""

    server: LocalServer
    clock: FakeClock
    catalog: Catalog
    visitor: Reader
    told: list[Told]

    def rates(self, *told: Told) -> tuple[float | None, float | None]:
        """Count crash-free sessions and users by hand, in percent."""
        if not told:
            return None, None
        crashed = [each for each in told if each.status == "crashed"]
        users = {each.did for each in told}
        hurt = {each.did for each in crashed}
        return (
            (len(told) - len(crashed)) / len(told) * 100,
            (len(users) - len(hurt)) / len(users) * 100,
        )


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    clock = FakeClock()
    with LocalServer(clock=clock, projects=("web", "app")) as server:
        catalog = Catalog(server, clock)
        found = Shop(server, clock, catalog, Reader(server), [])
        _tell(found)
        yield found


def _tell(shop: Shop) -> None:
    commits = [
        _commit("a" * 40, "Ana", "ana@example.com", "Faster cart", ("M", "shop/cart.py")),
        _commit("b" * 40, "Ana", "ana@example.com", "Less tax", ("A", "shop/tax.py")),
        _commit("c" * 40, "Jo", "jo@example.com", "Search", ("D", "old.py"), ("M", "shop/cart.py")),
    ]
    shop.catalog.release("web@1.0.0", "web")
    shop.clock.advance(60)
    shop.catalog.release(
        "web@1.1.0", "web", "app", commits=commits, dateReleased="2026-09-21T15:00:00Z"
    )
    for day in range(8):
        for user in range(10):
            release = "web@1.1.0" if (user + day) % 3 else "web@1.0.0"
            crashed = (user * 7 + day * 3) % 11 == 0
            errors = (user + day) % 5 == 0
            told = Told(
                "web",
                release,
                "production" if user < 7 else "staging",
                f"user-{user}",
                shop.clock.time() - 1000 - user,
                "crashed" if crashed else "errored" if errors else "exited",
            )
            _send(shop, told, user + 1)
        if day == 5:
            deploy = {"environment": "production", "name": "blue"}
            shop.catalog.post(shop.catalog.of("web@1.1.0", "deploys/"), deploy)
            shop.catalog.event("web@1.1.0", kind="ValueError", value="bad <b>cart</b>")
        if day < 7:
            shop.clock.advance(DAY)


def _send(shop: Shop, told: Told, duration: int) -> None:
    fields: dict[str, object] = {
        "did": told.did,
        "init": True,
        "status": "exited" if told.status == "errored" else told.status,
        "errors": int(told.status != "exited"),
        "duration": duration,
    }
    item = session(told.started, release=told.release, environment=told.environment, **fields)
    assert send(shop.server, envelope(("session", item)), project=told.project).status == 200
    shop.told.append(told)


def _commit(
    key: str, name: str, email: str, message: str, *files: tuple[str, str]
) -> dict[str, object]:
    return {
        "id": key,
        "repository": "acme/web",
        "author_name": name,
        "author_email": email,
        "message": message,
        "timestamp": "2026-09-19T10:00:00Z",
        "patch_set": [{"type": kind, "path": path} for kind, path in files],
    }
