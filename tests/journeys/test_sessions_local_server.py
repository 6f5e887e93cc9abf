"""From a death to a number: what the local server shows of programs that were killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crashfree.server import LocalServer
from tests.support.lives import Lives
from tests.support.serving import totals
from tests.support.stub import Stub
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

APPLICATION = """
import ctypes, os, signal, time
import crashfree
crashfree.init(release="app@1.0")
crashfree.set_user({"id": os.environ["WHO"]})
"""
SERVICE = """
import os, signal
import crashfree
from crashfree.integration import unit
crashfree.init(release="app@1.0", session_mode="request")
def serve(who, error=None):
    try:
        with unit(mechanism="test") as work:
            work.set_user({"id": who})
            if error:
                raise error
    except Exception:
        pass
"""
FIELDS = (
    "sum(session)",
    "count_unique(user)",
    "crash_free_rate(session)",
    "crash_free_rate(user)",
    "abnormal_rate(session)",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    with LocalServer(database=str(tmp_path / "health.db")) as running:
        yield running


@pytest.fixture
def lives(server: LocalServer, tmp_path: Path) -> Lives:
    lives = Lives(Stub(), tmp_path / "spool")
    lives.stub.stop()
    lives.env["SENTRY_DSN"] = server.dsn
    return lives


def numbers(server: LocalServer) -> list[object]:
    found = totals(server, *FIELDS)
    return [
        round(value, 6) if isinstance(value, float) else value
        for value in (found[field] for field in FIELDS)
    ]


def test_programs_that_die_in_different_ways(server: LocalServer, lives: Lives) -> None:
    """Four users, one session each: well, an exception, a segmentation fault, a kill."""
    for who, death in (
        ("ann", ""),
        ("bob", "1 / 0"),
        ("cid", "ctypes.string_at(8)"),
        ("dan", "os.kill(os.getpid(), signal.SIGKILL)"),
    ):
        lives.run(APPLICATION + death, WHO=who)
        lives.adopt()
    # Each adopting start of the other release served nothing, and had no session.
    wait_until(lambda: numbers(server)[0] == 4, 10, str(numbers(server)))
    assert numbers(server) == [4, 4, 0.5, 0.5, 0.25]


def test_a_service_that_is_killed_with_units_in_flight(server: LocalServer, lives: Lives) -> None:
    source = """
for number in range(90): serve(number % 9)
for number in range(8): serve(9, ValueError())
held = unit(mechanism="test"); other = unit(mechanism="test")
os.kill(os.getpid(), signal.SIGKILL)
"""
    lives.run(SERVICE + source)
    lives.adopt()
    lives.adopt()
    wait_until(lambda: numbers(server)[0] == 100, 10, str(numbers(server)))
    assert numbers(server) == [100, 10, 0.92, 0.9, 0.02]
