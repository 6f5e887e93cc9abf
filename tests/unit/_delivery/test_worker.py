"""Jobs in order, timers by the clock, flush by its deadline, with and without a thread."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from crashfree._delivery.worker import THREAD_NAME, Worker
from crashfree._ground.clock import SYSTEM_CLOCK
from tests.support.alarm import Alarm
from tests.support.clock import FakeClock
from tests.support.waiting import wait_until


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(clock=SYSTEM_CLOCK)
    yield worker
    worker.close(5.0)


@pytest.fixture(params=["shutdown", "subinterpreter"])
def no_threads(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Refused when it starts, or when it is made."""

    def refuse(self: threading.Thread, *ignored: object, **ignored_too: object) -> None:
        raise RuntimeError("no threads here")

    name = "start" if request.param == "shutdown" else "__init__"
    monkeypatch.setattr(threading.Thread, name, refuse)


def test_making_a_worker_starts_no_thread() -> None:
    before = threading.enumerate()
    Worker(clock=SYSTEM_CLOCK)
    assert threading.enumerate() == before


def test_the_first_job_starts_one_daemon_thread_and_jobs_run_in_order(worker: Worker) -> None:
    done: list[int] = []
    # A client of an earlier test may not have been collected yet.
    before = set(threading.enumerate())
    for number in range(1000):
        assert worker.submit(lambda number=number: done.append(number))
    assert worker.flush(5.0)
    assert done == list(range(1000))
    started = set(threading.enumerate()) - before
    threads = [thread for thread in started if thread.name == THREAD_NAME]
    assert len(threads) == 1
    assert threads[0].daemon


def test_a_failing_job_is_reported_and_the_next_one_runs() -> None:
    errors: list[BaseException] = []
    worker = Worker(clock=SYSTEM_CLOCK, on_error=errors.append)
    done: list[str] = []

    def fail() -> None:
        raise ValueError("no")

    def leave() -> None:
        raise SystemExit(3)

    worker.submit(fail)
    worker.submit(leave)
    worker.submit(lambda: done.append("after"))
    assert worker.flush(5.0)
    assert [type(error) for error in errors] == [ValueError, SystemExit]
    assert done == ["after"]
    worker.close(1.0)


def test_a_full_queue_refuses_instead_of_losing_silently(worker: Worker) -> None:
    started, go = threading.Event(), threading.Event()
    worker.submit(lambda: (started.set(), go.wait(10))[0])
    assert started.wait(5)
    accepted = sum(worker.submit(lambda: None) for _ in range(10_500))
    assert accepted == 10_000
    go.set()
    assert worker.flush(5.0)


def test_flush_returns_at_its_deadline_while_a_job_hangs(worker: Worker) -> None:
    go = threading.Event()
    worker.submit(lambda: go.wait(30) and None)
    began = time.monotonic()
    assert not worker.flush(0.2)
    assert 0.15 < time.monotonic() - began < 1.0
    go.set()


def test_flush_does_not_wait_for_jobs_that_come_later(worker: Worker) -> None:
    stop = threading.Event()

    def again() -> None:
        if not stop.is_set():
            worker.submit(again)

    worker.submit(again)
    assert worker.flush(5.0)
    stop.set()


def test_a_flush_with_nothing_queued_is_quick(worker: Worker) -> None:
    worker.submit(lambda: None)
    worker.flush(5.0)
    began = time.perf_counter()
    assert worker.flush(5.0)
    assert time.perf_counter() - began < 0.02


def test_a_flush_on_the_worker_itself_does_not_wait_for_itself(worker: Worker) -> None:
    answers: list[bool] = []

    def job() -> None:
        worker.submit(lambda: None)
        answers.append(worker.flush(10.0))

    began = time.monotonic()
    worker.submit(job)
    assert worker.flush(5.0)
    assert answers == [False]
    assert time.monotonic() - began < 2.0


def test_many_threads_may_flush_at_once(worker: Worker) -> None:
    results: list[bool] = []
    for _ in range(50):
        worker.submit(lambda: None)
    threads = [threading.Thread(target=lambda: results.append(worker.flush(5.0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


def test_close_ends_the_thread_and_refuses_what_comes_later() -> None:
    worker = Worker(clock=SYSTEM_CLOCK)
    done: list[int] = []
    worker.submit(lambda: done.append(1))
    assert worker.close(5.0)
    assert done == [1]
    assert not worker.alive
    assert not worker.submit(lambda: done.append(2))
    assert worker.at(0.0, lambda: None).cancelled
    assert worker.close(5.0)
    assert done == [1]


def test_closing_a_worker_that_never_ran_is_quick() -> None:
    worker = Worker(clock=SYSTEM_CLOCK)
    began = time.perf_counter()
    assert worker.close(5.0)
    assert time.perf_counter() - began < 0.02


def test_close_gives_up_on_a_hanging_job_at_its_deadline() -> None:
    worker = Worker(clock=SYSTEM_CLOCK)
    go = threading.Event()
    worker.submit(lambda: go.wait(30) and None)
    began = time.monotonic()
    assert not worker.close(0.2)
    assert time.monotonic() - began < 1.0
    go.set()
    wait_until(lambda: not worker.alive, 5.0, "the thread ends when its job does")


class TestTimers:
    def test_run_when_the_clock_says_so(self, clock: FakeClock) -> None:
        worker = Worker(clock=clock)
        fired: list[str] = []
        worker.at(clock.monotonic() + 30.0, lambda: fired.append("thirty"))
        worker.at(clock.monotonic() + 10.0, lambda: fired.append("ten"))
        worker.flush(5.0)
        assert fired == []
        clock.advance(29.999)
        worker.flush(5.0)
        assert fired == ["ten"]
        clock.advance(0.001)
        worker.flush(5.0)
        assert fired == ["ten", "thirty"]
        worker.close(5.0)

    def test_run_by_themselves_in_real_time(self, worker: Worker) -> None:
        fired = threading.Event()
        worker.at(time.monotonic() + 0.05, fired.set)
        assert fired.wait(5.0)

    def test_a_nearer_timer_wakes_the_worker_earlier(self, worker: Worker) -> None:
        fired = threading.Event()
        worker.at(time.monotonic() + 3600.0, lambda: None)
        worker.flush(1.0)
        worker.at(time.monotonic() + 0.05, fired.set)
        assert fired.wait(5.0)

    def test_a_cancelled_timer_never_runs(self, clock: FakeClock) -> None:
        worker = Worker(clock=clock)
        fired: list[int] = []
        timer = worker.at(clock.monotonic() + 1.0, lambda: fired.append(1))
        timer.cancel()
        clock.advance(2.0)
        worker.submit(lambda: None)
        worker.flush(5.0)
        assert fired == []
        worker.close(5.0)

    def test_repeat_and_skip_what_a_suspended_machine_missed(self, clock: FakeClock) -> None:
        worker = Worker(clock=clock)
        fired: list[float] = []
        timer = worker.every(60.0, lambda: fired.append(clock.monotonic()))
        start = clock.monotonic()
        clock.advance(60.0)
        worker.flush(5.0)
        clock.advance(600.0)
        worker.flush(5.0)
        assert [when - start for when in fired] == [60.0, 660.0]
        clock.advance(60.0)
        worker.flush(5.0)
        assert [when - start for when in fired] == [60.0, 660.0, 720.0]
        timer.cancel()
        clock.advance(60.0)
        worker.flush(5.0)
        assert len(fired) == 3
        worker.close(5.0)


@pytest.mark.usefixtures("no_threads")
class TestWithoutThreads:
    """3.12 at shutdown, subinterpreters, WebAssembly."""

    def test_flush_runs_the_jobs_in_the_caller(self) -> None:
        worker = Worker(clock=SYSTEM_CLOCK)
        ran_on: list[int] = []
        assert worker.submit(lambda: ran_on.append(threading.get_ident()))
        assert ran_on == []
        assert worker.flush(5.0)
        assert ran_on == [threading.get_ident()]

    def test_close_runs_the_jobs_in_the_caller(self) -> None:
        worker = Worker(clock=SYSTEM_CLOCK)
        done: list[int] = []
        worker.submit(lambda: done.append(1))
        assert worker.close(5.0)
        assert done == [1]

    def test_jobs_end_at_the_deadline_and_can_see_it(self, clock: FakeClock) -> None:
        worker = Worker(clock=clock)
        seen: list[float | None] = []

        def job() -> None:
            seen.append(worker.deadline)
            clock.advance(1.5)

        for _ in range(5):
            worker.submit(job)
        assert not worker.flush(2.0)
        assert len(seen) == 2
        assert seen[0] == 1_002.0
        assert worker.flush(10.0)
        assert len(seen) == 5

    def test_a_flush_inside_a_job_returns(self) -> None:
        worker = Worker(clock=SYSTEM_CLOCK)
        answers: list[bool] = []
        worker.submit(lambda: answers.append(worker.flush(5.0)))
        worker.submit(lambda: None)
        assert worker.flush(5.0)
        assert answers == [False]

    def test_due_timers_run_in_flush(self, clock: FakeClock) -> None:
        worker = Worker(clock=clock)
        fired: list[int] = []
        worker.at(clock.monotonic() + 1.0, lambda: fired.append(1))
        clock.advance(2.0)
        assert worker.flush(1.0)
        assert fired == [1]


def test_the_thread_is_tried_again_after_a_while(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process at its limit of threads gets one later."""
    worker = Worker(clock=clock)
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker.submit(lambda: None)
    monkeypatch.setattr(threading.Thread, "start", start)
    worker.submit(lambda: None)
    assert not worker.alive
    clock.advance(31.0)
    worker.submit(lambda: None)
    assert worker.alive
    worker.close(5.0)


def test_a_thread_that_dies_is_replaced_but_not_for_ever(clock: FakeClock) -> None:
    worker = Worker(clock=clock)

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    def quiet(args: threading.ExceptHookArgs) -> None:
        assert args.exc_type is Killed

    hook, threading.excepthook = threading.excepthook, quiet
    try:
        for _ in range(3):
            worker.submit(die)
            wait_until(lambda: not worker.alive, 5.0)
    finally:
        threading.excepthook = hook
    done: list[int] = []
    worker.submit(lambda: done.append(1))
    assert not worker.alive, "three deaths in a minute are enough"
    assert worker.flush(5.0)
    assert done == [1]
    clock.advance(61.0)
    worker.submit(lambda: done.append(2))
    assert worker.alive
    worker.close(5.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_an_empty_queue_and_its_own_thread(worker: Worker) -> None:
    started, go = threading.Event(), threading.Event()
    worker.submit(lambda: (started.set(), go.wait(10))[0])
    assert started.wait(5)
    leaked = []
    worker.submit(lambda: leaked.append(os.getpid()))
    pid = os.fork()
    if pid == 0:
        # Without any hook: the comparison of process ids alone must do.
        done: list[int] = []
        ok = worker.submit(lambda: done.append(1)) and worker.flush(5.0) and done == [1]
        os._exit(0 if ok and leaked == [] else 1)
    _, status = os.waitpid(pid, 0)
    go.set()
    assert status == 0
    assert worker.flush(5.0)
    assert leaked == [os.getpid()]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
class TestSignals:
    def test_a_flush_inside_a_flush_returns(self, worker: Worker) -> None:
        """complaints-transport row 12."""
        answers: list[bool] = []
        hold = threading.Event()
        worker.submit(lambda: hold.wait(0.3) and None)

        with Alarm(lambda: answers.append(worker.flush(5.0))) as alarm:
            alarm.strike(0.05)
            assert worker.flush(5.0)
        assert answers == [True]

    @pytest.mark.slow
    def test_four_thousand_signals_lose_no_job(self, worker: Worker) -> None:
        from_signals: list[int] = []
        from_main: list[int] = []
        entered = 0

        def handler() -> None:
            nonlocal entered
            if worker.submit(lambda: from_signals.append(1)):
                entered += 1

        submitted = 0
        with Alarm(handler) as alarm:
            alarm.strike(0.0002, every=0.0002)
            deadline = time.monotonic() + 30
            while entered < 4_000 and time.monotonic() < deadline:
                submitted += worker.submit(lambda: from_main.append(1))
        assert entered >= 4_000
        assert worker.flush(20.0)
        assert len(from_signals) == entered
        assert len(from_main) == submitted


@pytest.mark.slow
def test_a_million_finalizers_lose_no_job(worker: Worker) -> None:
    """The collector may run them inside `submit` itself; complaints-transport row 16."""
    done: list[int] = [0]
    # Appending is atomic; a finalizer may run in the middle of any `+=`.
    taken: list[None] = []

    def job() -> None:
        done[0] += 1

    class Captures:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if worker.submit(job):
                taken.append(None)

    import gc

    before = gc.get_threshold()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    gc.set_threshold(50)
    try:
        for _ in range(500_000):
            Captures()
            if worker.submit(job):
                taken.append(None)
            else:
                worker.flush(10.0)
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(interval)
    gc.collect()
    assert worker.flush(60.0)
    assert done[0] == len(taken) > 900_000


def test_an_idle_thread_retires_and_the_next_job_starts_another(clock: FakeClock) -> None:
    worker = Worker(clock=clock)
    ran: list[int] = []
    worker.submit(lambda: ran.append(1))
    assert worker.flush(5)
    worker.retire(5)
    assert not worker.alive
    worker.submit(lambda: ran.append(2))
    assert worker.flush(5)
    assert ran == [1, 2]
    worker.close(5)


def test_a_thread_with_a_timer_does_not_retire_until_that_is_cancelled(clock: FakeClock) -> None:
    worker = Worker(clock=clock)
    timer = worker.at(clock.monotonic() + 60, lambda: None)
    worker.submit(lambda: None)
    assert worker.flush(5)
    worker.retire(0)
    assert worker.alive
    timer.cancel()
    worker.retire(5)
    assert not worker.alive
    worker.close(5)


def test_nothing_in_delivery_has_a_destructor() -> None:
    """complaints-transport row 18: at exit it would run when modules are gone."""
    from pathlib import Path

    import crashfree._delivery
    import crashfree._ground

    for package in (crashfree._delivery, crashfree._ground):
        for path in package.__path__:
            for source in Path(path).glob("*.py"):
                assert "def __del__" not in source.read_text(), source
