"""Real servers under load, ended in every way: what is reported equals what was served.

The application writes down every request that it begins to handle; the sum of what is told about
sessions has to be that, to the unit, after a restart where one is needed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import SERVERS, Fleet, Server, missing
from tests.support.lives import Lives
from tests.support.stub import Stub

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
    pytest.mark.slow,
]

OK, HANDLED, ERROR, STREAM = 120, 8, 10, 5


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    with Stub() as stub:
        yield Lives(stub, tmp_path / "spool")


@pytest.fixture(params=SERVERS, ids=lambda server: server.name)
def fleet(request: pytest.FixtureRequest, lives: Lives, tmp_path: Path) -> Iterator[Fleet]:
    server: Server = request.param
    module = missing(server)
    if module is not None:
        pytest.skip(f"{module} is not installed")
    with Fleet(server, tmp_path, lives.env) as running:
        yield running


def served(fleet: Fleet) -> dict[str, int]:
    """What has to be reported of the requests that went through."""
    truths = fleet.truths
    return {
        "exited": truths.count("/ok"),
        "errored": truths.count("/handled"),
        "crashed": truths.count("/error") + truths.count("/stream"),
    }


def load(fleet: Fleet) -> None:
    fleet.load(ok=OK, handled=HANDLED, error=ERROR, stream=STREAM)


def settle(fleet: Fleet, lives: Lives, number: int = signal.SIGTERM) -> None:
    """End the server, then start once more, as its supervisor would."""
    fleet.stop(number)
    lives.adopt()


def test_a_graceful_stop(fleet: Fleet, lives: Lives) -> None:
    load(fleet)
    if fleet.server.cuts_off:
        fleet.settle()
    fleet.stop()
    before = lives.counts
    lives.adopt()
    assert lives.counts == served(fleet), fleet.output
    assert lives.leftovers() == []
    assert before == lives.counts, "a graceful stop needs no restart"
    assert len(lives.events) == HANDLED + ERROR + STREAM


def test_ctrl_c(fleet: Fleet, lives: Lives) -> None:
    load(fleet)
    settle(fleet, lives, signal.SIGINT)
    assert lives.counts == served(fleet), fleet.output


def test_a_kill_of_everything_in_the_middle(fleet: Fleet, lives: Lives) -> None:
    load(fleet)
    fleet.hang(fleet.server.slow)
    os.killpg(fleet.process.pid, signal.SIGKILL)
    fleet.process.wait()
    lives.adopt()
    lives.adopt()
    assert lives.counts == {**served(fleet), "abnormal": fleet.server.slow}, fleet.output
    assert lives.leftovers() == []


def test_a_kill_of_one_worker_in_the_middle(fleet: Fleet, lives: Lives) -> None:
    if fleet.server.workers == 1:
        pytest.skip("the server has no workers beside itself")
    load(fleet)
    fleet.hang(1)
    os.kill(fleet.worker(), signal.SIGKILL)
    if fleet.recover():
        load(fleet)
        fleet.stop()
    lives.adopt()
    counts = lives.counts
    # The slow request was in the worker that was killed, or in the other one, which is stopped
    # gracefully: then the server decides whether it is cut off.
    slow = {key: n - served(fleet).get(key, 0) for key, n in counts.items()}
    assert sum(slow.values()) == 1, (counts, served(fleet), fleet.output)
    assert {key for key, n in slow.items() if n} <= {"abnormal", "exited", "crashed"}


def test_a_segmentation_fault_in_the_middle(fleet: Fleet, lives: Lives) -> None:
    load(fleet)
    fleet.get("/segv")
    if fleet.recover():
        load(fleet)
        fleet.stop()
    lives.adopt()
    expected = served(fleet)
    expected["crashed"] += 1
    assert lives.counts == expected, fleet.output
    crashes = [event for event in lives.events if event.get("level") == "fatal"]
    assert [event["exception"]["values"][0]["type"] for event in crashes] == ["SIGSEGV"]
    assert lives.leftovers() == []
