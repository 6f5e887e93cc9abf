"""Celery's workers as real processes: what is reported equals what was done, to the unit.

Source: sessions.md sections 3.6 and 7.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.celery_app import CeleryWorker
from tests.support.lives import Lives
from tests.support.redis_server import RedisServer, reason_without
from tests.support.stub import Stub
from tests.support.waiting import wait_until

pytest.importorskip("celery")
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals and forks as on POSIX"),
    pytest.mark.slow,
]

POOLS = {
    "prefork": ("--pool", "prefork", "--concurrency", "2"),
    "prefork-recycled": ("--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "5"),
    "threads": ("--pool", "threads", "--concurrency", "4"),
    "solo": ("--pool", "solo"),
    "gevent": ("--pool", "gevent", "--concurrency", "10"),
}


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    with Stub() as stub:
        yield Lives(stub, tmp_path / "spool")


@pytest.fixture
def broker() -> Iterator[str]:
    """One that Celery reads without threads, as it does in production."""
    reason = reason_without()
    if reason is not None:
        pytest.skip(reason)
    with RedisServer() as server:
        yield server.url


def kinds(lives: Lives) -> list[str]:
    # Celery also logs some of what happens, at level error and without an exception.
    return sorted(
        event["exception"]["values"][-1]["type"] for event in lives.events if "exception" in event
    )


@pytest.mark.parametrize("pool", POOLS)
def test_every_task_is_counted_once(lives: Lives, tmp_path: Path, broker: str, pool: str) -> None:
    if pool == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    with CeleryWorker(lives, tmp_path, *POOLS[pool], BROKER=broker) as worker:
        worker.send(ok=10, error=4, handled=3, expected=2, ignored=2, rejected=1, retried=2,
                    given_up=1, eager=1, sender=2)  # fmt: skip
        worker.wait_for(ok=12, error=4, handled=3, expected=2, ignored=2, rejected=1, retried=6,
                        given_up=2, eager=1, failing=1, sender=2)  # fmt: skip
        assert worker.stop() == 0, worker.output
        done = worker.truths
    before = lives.counts
    lives.adopt()
    expected = {
        "exited": done["ok"] + done["expected"] + done["ignored"] + done["rejected"]
        + done["retried"] + done["sender"] + 1,
        "errored": done["handled"] + done["eager"],
        "crashed": done["error"] + 1,
    }  # fmt: skip
    assert lives.counts == expected, worker.output
    assert before == expected, "a graceful stop needs no restart"
    assert lives.ups == [], "a worker is no session of its own"
    assert lives.leftovers() == []
    assert kinds(lives) == sorted(
        ["ValueError"] * 4 + ["ZeroDivisionError"] * 3 + ["ValueError"] + ["OSError"]
    )
    names = {event["transaction"] for event in lives.events}
    assert names == {"tasks.error", "tasks.handled", "tasks.given_up", "tasks.eager"}


@pytest.mark.parametrize(
    ("death", "fate"), [("killed", "abnormal"), ("left", "abnormal"), ("segfault", "crashed")]
)
def test_a_lost_process_of_the_pool_is_counted_once(
    lives: Lives, tmp_path: Path, broker: str, death: str, fate: str
) -> None:
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        worker.send(ok=6)
        worker.wait_for(ok=6)
        worker.send(**{death: 2})
        worker.wait_for(**{death: 2})
        worker.send(ok=6)
        worker.wait_for(ok=12)
        worker.stop()
    lives.adopt()
    lives.adopt()
    assert worker.truths == {"ok": 12, death: 2}
    assert lives.counts == {"exited": 12, fate: 2}, worker.output
    assert lives.ups == []
    assert lives.leftovers() == []
    assert kinds(lives).count("WorkerLostError") == 2
    assert kinds(lives).count("SIGSEGV") == (2 if death == "segfault" else 0)


def test_a_process_of_the_pool_that_ends_itself_has_crashed(
    lives: Lives, tmp_path: Path, broker: str
) -> None:
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        worker.send(ok=3, exits=1)
        worker.wait_for(ok=3, exits=1)
        worker.stop()
    lives.adopt()
    assert lives.counts == {"exited": 3, "crashed": 1}, worker.output


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_worker_that_is_lost_as_a_whole_is_told_by_the_next_start(
    lives: Lives, tmp_path: Path, pool: str
) -> None:
    with CeleryWorker(lives, tmp_path, *POOLS[pool]) as worker:
        worker.send(ok=6, error=2)
        worker.wait_for(ok=6, error=2)
        worker.send(killed=1)
        worker.wait_for(killed=1)
        worker.process.wait(30)
    lives.adopt()
    lives.adopt()
    assert lives.counts == {"exited": 6, "crashed": 2, "abnormal": 1}, worker.output
    assert lives.leftovers() == []


def test_everything_is_killed_at_once(lives: Lives, tmp_path: Path, broker: str) -> None:
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        worker.send(ok=6, error=2)
        worker.wait_for(ok=6, error=2)
        worker.send(sleeping=2)
        worker.wait_for(sleeping=2)
    lives.adopt()
    lives.adopt()
    assert lives.counts == {"exited": 6, "crashed": 2, "abnormal": 2}, worker.output


def test_time_limits(lives: Lives, tmp_path: Path, broker: str) -> None:
    """Soft: an error like another. Hard: the process is killed, and the task has crashed."""
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        worker.send(soft_limit=1, soft_limit_met=1, hard_limit=1, ok=2)
        worker.wait_for(soft_limit=1, soft_limit_met=1, hard_limit=1, ok=2)
        wait_until(lambda: "Hard time limit" in worker.output, 30)
        worker.send(ok=2)
        worker.wait_for(ok=4)
        worker.stop()
    lives.adopt()
    assert lives.counts == {"exited": 5, "crashed": 2}, worker.output
    assert kinds(lives) == ["SoftTimeLimitExceeded", "TimeLimitExceeded"]
    assert lives.leftovers() == []


def test_a_time_limit_of_a_green_pool(lives: Lives, tmp_path: Path, broker: str) -> None:
    if importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    with CeleryWorker(lives, tmp_path, *POOLS["gevent"], BROKER=broker) as worker:
        worker.send(hard_limit=1, ok=2)
        worker.wait_for(hard_limit=1, ok=2)
        wait_until(lambda: "Hard time limit" in worker.output, 30)
        worker.stop()
    lives.adopt()
    assert lives.counts == {"exited": 2, "crashed": 1}, worker.output
    assert kinds(lives) == ["TimeLimitExceeded"]


def test_a_revoked_task_has_not_crashed(lives: Lives, tmp_path: Path, broker: str) -> None:
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        worker.send(sleeping=1)
        worker.wait_for(sleeping=1)
        os.kill(worker.process_of("sleeping"), signal.SIGTERM)
        worker.send(ok=4)
        worker.wait_for(ok=4)
        worker.stop()
    lives.adopt()
    counts = lives.counts
    assert counts["crashed"] == 0, worker.output
    assert counts["exited"] + counts["abnormal"] == 5, worker.output


def test_a_cold_shutdown_loses_no_task(lives: Lives, tmp_path: Path, broker: str) -> None:
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        worker.send(ok=4)
        worker.wait_for(ok=4)
        worker.send(sleeping=2)
        worker.wait_for(sleeping=2)
        worker.stop(signal.SIGQUIT)
    lives.adopt()
    lives.adopt()
    counts = lives.counts
    assert counts["crashed"] == 0, worker.output
    assert counts["exited"] + counts["abnormal"] == 6, worker.output


def test_a_program_that_sends_tasks_stays_one_session(
    lives: Lives, tmp_path: Path, broker: str
) -> None:
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        done = subprocess.run(
            [sys.executable, "-c", "import tasks; tasks.ok.delay(); tasks.eager.apply()"],
            cwd=tmp_path, env=worker.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        worker.wait_for(ok=1)
        worker.stop()
    lives.adopt()
    assert [(up["status"], up["errors"]) for up in lives.ups] == [("exited", 1)]
    assert lives.counts == {"exited": 1}


def test_beat_is_a_program_of_its_own(lives: Lives, tmp_path: Path, broker: str) -> None:
    with CeleryWorker(lives, tmp_path, BROKER=broker) as worker:
        beat = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "beat", "-l", "debug"],
            cwd=tmp_path, env=worker.env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert beat.stderr is not None
        for line in beat.stderr:
            # Before that it is still opening its schedule, and SIGTERM would be an error in it.
            if "Waking up" in line:
                break
        beat.send_signal(signal.SIGTERM)
        beat.communicate(timeout=30)
        worker.stop()
    lives.adopt()
    assert [up["status"] for up in lives.ups] == ["exited"], [
        (event.get("logger"), event.get("message"), event.get("exception"))
        for event in lives.events
    ]
    assert lives.counts == {}


def test_a_worker_with_beat_inside_is_no_session(lives: Lives, tmp_path: Path, broker: str) -> None:
    with CeleryWorker(lives, tmp_path, *POOLS["prefork"], "--beat", BROKER=broker) as worker:
        worker.send(ok=3)
        worker.wait_for(ok=3)
        assert worker.stop() == 0
    lives.adopt()
    assert lives.counts == {"exited": 3}
    assert lives.ups == []
    assert lives.leftovers() == []


@pytest.mark.parametrize(
    "signal_name", ["celeryd_init", "worker_init", "worker_process_init"]
)  # fmt: skip
def test_init_may_come_in_a_signal_of_celery(
    lives: Lives, tmp_path: Path, broker: str, signal_name: str
) -> None:
    init = f"""
from celery import signals
@signals.{signal_name}.connect
def start(**_):
    import crashfree
    crashfree.init(release="app@1.0")
"""
    with CeleryWorker(lives, tmp_path, INIT=init, BROKER=broker) as worker:
        worker.send(ok=6, error=2)
        worker.wait_for(ok=6, error=2)
        assert worker.stop() == 0, worker.output
    lives.adopt()
    assert lives.counts == {"exited": 6, "crashed": 2}, worker.output
    assert lives.ups == []


def test_a_worker_that_has_never_heard_of_crashfree(lives: Lives, tmp_path: Path) -> None:
    """Under the launcher."""
    with CeleryWorker(
        lives,
        tmp_path,
        INIT="",
        PREFIX=f"-m crashfree run --release app@1.0 -- {sys.executable} -m",
    ) as worker:
        worker.send(ok=6, error=2)
        worker.wait_for(ok=6, error=2)
        worker.send(killed=1)
        worker.wait_for(killed=1)
        worker.send(ok=6)
        worker.wait_for(ok=12)
        assert worker.stop() == 0, worker.output
    lives.adopt()
    assert lives.counts == {"exited": 12, "crashed": 2, "abnormal": 1}, worker.output
    assert lives.ups == []
    assert lives.leftovers() == []
