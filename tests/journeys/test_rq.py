"""RQ's workers as real processes: what is reported equals what was done, to the unit.

Source: sessions.md section 3.6; complaints-transport.md row 8.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lives import Lives
from tests.support.program import environment
from tests.support.redis_server import RedisServer, reason_without
from tests.support.stub import Stub
from tests.support.waiting import wait_until

rq = pytest.importorskip("rq")
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals and forks as on POSIX"),
    pytest.mark.slow,
]

JOBS = """
import ctypes, os, signal, time
{init}
TRUTH = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(word):
    os.write(TRUTH, b"%s %d\\n" % (word.encode(), os.getpid()))

def ok():
    note("ok")

def error():
    note("error")
    raise ValueError("leaves the job")

def handled():
    note("handled")
    import crashfree
    try:
        1 / 0
    except ZeroDivisionError as error:
        crashfree.capture_exception(error)

def limit():
    note("limit")
    time.sleep(30)

def sleeping():
    note("sleeping")
    time.sleep(60)

def killed():
    note("killed")
    os.kill(os.getpid(), signal.SIGKILL)

def left():
    note("left")
    os._exit(7)

def segfault():
    note("segfault")
    ctypes.string_at(8)
"""
INIT = 'import crashfree\ncrashfree.init(release="app@1.0")'
WORKERS = ("rq.Worker", "rq.SimpleWorker", "rq.worker.SpawnWorker")
SETTINGS = "settings"


class RqWorker:
    """One worker; a context manager that leaves no process behind.

    `init`: "jobs", where the module of the jobs calls `crashfree.init`; "settings", where that of
    the worker does; "launcher", where nobody does.
    """

    def __init__(
        self, lives: Lives, folder: Path, url: str, worker: str = "rq.Worker", init: str = SETTINGS
    ) -> None:
        self.log = folder / "log"
        self.truth = folder / "truth"
        self.truth.touch()
        (folder / "jobs.py").write_text(JOBS.format(init=INIT if init == "jobs" else ""))
        (folder / "settings.py").write_text(INIT if init == SETTINGS else "")
        (folder / "worker.py").write_text(WORKER)
        self._folder = folder
        launcher = ["-m", "crashfree", "run", "--release", "app@1.0", "--", sys.executable]
        self._command = [
            sys.executable,
            *(launcher if init == "launcher" else []),
            "worker.py",
            worker,
        ]
        self.env = environment(
            {**lives.env, "URL": url, "TRUTH": str(self.truth), "PYTHONPATH": str(folder)}
        )
        from redis import Redis

        self.queue: Any = rq.Queue(connection=Redis.from_url(url))

    def __enter__(self) -> RqWorker:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._folder, env=self.env, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self._listens, 60, "no worker")
        return self

    def __exit__(self, *exc: object) -> None:
        for line in self.truth.read_text().splitlines():
            self._kill(int(line.split()[1]))
        self._kill(self.process.pid)
        self.process.wait()

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker has ended: {self.output}")
        return "istening on" in self.output

    @property
    def _waits(self) -> bool:
        """Whether Redis holds a client back until there is a job."""
        return any("b" in client["flags"] for client in self.queue.connection.client_list())

    def _kill(self, pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def truths(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self.truth.read_text().splitlines())

    def send(self, **jobs: int) -> None:
        for name, times in jobs.items():
            for _ in range(times):
                self.queue.enqueue(f"jobs.{name}")

    def wait_for(self, **begun: int) -> None:
        wait_until(
            lambda: all(self.truths[name] >= times for name, times in begun.items()),
            30,
            f"{begun} not in {self.truths}: {self.output}",
        )

    def finish(self) -> None:
        """Let it do what is queued, then end it as its operator does.

        Only once it waits for more: between two jobs a signal leaves RQ with half an answer of
        Redis, and then it fails with an error of its own, which is told as it should be.
        """
        wait_until(lambda: self.queue.count == 0 and self._waits, 60, "jobs are left")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


WORKER = """
import os, sys
from importlib import import_module
import settings
from redis import Redis
import rq
import rq.worker
module, _, name = sys.argv[1].rpartition(".")
connection = Redis.from_url(os.environ["URL"])
queue = rq.Queue(connection=connection)
getattr(import_module(module), name)([queue], connection=connection).work()
"""


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    with Stub() as stub:
        yield Lives(stub, tmp_path / "spool")


@pytest.fixture
def url() -> Iterator[str]:
    reason = reason_without(real=True)
    if reason is not None:
        pytest.skip(reason)
    with RedisServer() as server:
        yield server.url


def kinds(lives: Lives) -> list[str]:
    return sorted(event["exception"]["values"][-1]["type"] for event in lives.events)


@pytest.mark.parametrize("init", ["settings", "jobs", "launcher"])
@pytest.mark.parametrize("worker", WORKERS)
def test_every_job_is_counted_once(
    lives: Lives, tmp_path: Path, url: str, worker: str, init: str
) -> None:
    if not hasattr(rq.worker, worker.rpartition(".")[2]):
        pytest.skip("this version of RQ has no such worker")
    if "Spawn" in worker and init == SETTINGS:
        pytest.skip("its horses are new programs and do not read the settings of the worker")
    with RqWorker(lives, tmp_path, url, worker, init) as running:
        running.send(ok=5, error=3, handled=2)
        running.queue.enqueue("jobs.error", retry=rq.Retry(max=2))
        running.queue.enqueue("jobs.limit", job_timeout=1)
        running.wait_for(ok=5, error=6, handled=2, limit=1)
        running.finish()
    before = lives.counts
    lives.adopt()
    expected = {"exited": 5 + 2, "errored": 2, "crashed": 3 + 1 + 1}
    assert lives.counts == expected, running.output
    assert before == expected, "a graceful stop needs no restart"
    assert lives.ups == [], "a worker is no session of its own"
    assert lives.leftovers() == []
    expected_kinds = ["JobTimeoutException"] + ["ValueError"] * 4 + ["ZeroDivisionError"] * 2
    assert kinds(lives) == expected_kinds, (running.output, lives.events)
    assert {event["transaction"] for event in lives.events} == {
        "jobs.error", "jobs.handled", "jobs.limit",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("death", "fate", "told"),
    [
        ("killed", "abnormal", "was killed by SIGKILL"),
        ("left", "abnormal", "left with status 7"),
        ("segfault", "crashed", "was killed by SIGSEGV"),
    ],
)
@pytest.mark.parametrize("init", ["settings", "jobs"])
def test_a_work_horse_that_is_lost_is_counted_once(
    lives: Lives, tmp_path: Path, url: str, init: str, death: str, fate: str, told: str
) -> None:
    with RqWorker(lives, tmp_path, url, init=init) as running:
        running.send(ok=2)
        running.send(**{death: 2})
        running.send(ok=2)
        running.wait_for(ok=4)
        running.finish()
    told_by_a_sibling = lives.counts
    lives.adopt()
    lives.adopt()
    assert lives.counts == {"exited": 4, fate: 2}, running.output
    assert told_by_a_sibling == lives.counts
    assert lives.ups == []
    assert lives.leftovers() == []
    if init == "jobs":
        # The worker itself has never heard of us; its horses tell what faulthandler saw.
        assert kinds(lives) == (["SIGSEGV"] * 2 if death == "segfault" else [])
        return
    lost = [event for event in lives.events if "rq" in event.get("contexts", {})]
    assert [event["transaction"] for event in lost] == [f"jobs.{death}"] * 2
    values = [event["exception"]["values"][-1] for event in lost]
    assert {value["type"] for value in values} == {"WorkHorseLost"}
    assert {value["value"] for value in values} == {f"the work horse {told}"}
    assert {value["mechanism"]["handled"] for value in values} == {False}
    assert kinds(lives).count("SIGSEGV") == (2 if death == "segfault" else 0)


def test_a_job_that_cannot_be_read_fails_as_it_does_without_us(
    lives: Lives, tmp_path: Path, url: str
) -> None:
    with RqWorker(lives, tmp_path, url) as running:
        job = rq.job.Job.create("jobs.ok", connection=running.queue.connection)
        job.data = b"not a pickle"
        running.queue.enqueue_job(job)
        running.send(ok=1)
        running.wait_for(ok=1)
        running.finish()
    lives.adopt()
    assert job.get_status() == "failed"
    assert lives.counts == {"exited": 1, "crashed": 1}, running.output
    assert kinds(lives) == ["DeserializationError"]


def test_a_job_that_somebody_stops_is_no_crash(lives: Lives, tmp_path: Path, url: str) -> None:
    from redis import Redis
    from rq.command import send_stop_job_command

    with RqWorker(lives, tmp_path, url) as running:
        job = running.queue.enqueue("jobs.sleeping")
        running.wait_for(sleeping=1)
        send_stop_job_command(Redis.from_url(url), job.id)
        running.send(ok=1)
        running.wait_for(ok=1)
        running.finish()
    lives.adopt()
    assert lives.events == [], running.output


def test_a_worker_that_is_lost_with_its_horse_is_told_by_the_next_start(
    lives: Lives, tmp_path: Path, url: str
) -> None:
    with RqWorker(lives, tmp_path, url) as running:
        running.send(ok=2)
        running.send(sleeping=1)
        running.wait_for(ok=2, sleeping=1)
    lives.adopt()
    lives.adopt()
    assert lives.counts == {"exited": 2, "abnormal": 1}, running.output


def test_a_program_that_queues_jobs_stays_one_session(
    lives: Lives, tmp_path: Path, url: str
) -> None:
    (tmp_path / "producer.py").write_text(
        f"{INIT}\nimport os, redis, rq\n"
        "rq.Queue(connection=redis.Redis.from_url(os.environ['URL'])).enqueue('jobs.ok')\n"
    )
    done = subprocess.run(
        [sys.executable, "producer.py"], cwd=tmp_path, env=environment({**lives.env, "URL": url}),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [up["status"] for up in lives.ups] == ["exited"]
    assert lives.counts == {}
