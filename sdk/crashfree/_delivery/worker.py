"""The worker: one background thread per client, with a queue of jobs and a list of timers.

Invariants: jobs run one at a time in the order of submission; nobody who submits is ever blocked;
no job is lost silently (`submit` returns False); `flush` returns by its deadline. The thread is a
daemon, started by the first job, and can be absent: where none can be started (shutdown of
CPython 3.12, subinterpreters, WebAssembly) whoever calls `flush` or `close` runs the jobs, with
the same code.

`submit`, `at`, `every` may be entered from signal handlers and finalizers at any bytecode of
themselves: what crosses threads is one deque and one lock used as a bell, both C. `flush` waits
on an object of its own, so that a flush inside a flush works. `threading` is asked for its
primitives when the thread starts, not before: gevent and eventlet may patch late.

Source: wire.md sections 13 to 15.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from crashfree._ground import log
from crashfree._ground.clock import Clock
from crashfree._ground.tally import snapshot
from crashfree._ground.typed import TypeAlias

Job: TypeAlias = Callable[[], object]

THREAD_NAME = "crashfree-worker"
SENDER_NAME = "crashfree-sender"

_MAX_JOBS = 10_000
_RETRY_THREAD_AFTER = 30.0
_DEATHS = 3
_DEATHS_WITHIN = 60.0
_SHORTEST_INTERVAL = 0.001
_LONGEST_WAIT = 3600.0
_GATE_MISSES = 100
_JOIN = 1.0


class Timer:
    """A job with a time; made by `Worker.at` and `Worker.every`."""

    __slots__ = ("_cancelled", "deadline", "interval", "job")
    deadline: float
    """When it is due, on the monotonic clock."""
    interval: float | None
    """Seconds between two runs; None when it runs once."""
    job: Job
    _cancelled: bool

    def __init__(self, deadline: float, job: Job, interval: float | None = None) -> None:
        self.deadline = deadline
        self.job = job
        self.interval = interval
        self._cancelled = False

    def cancel(self) -> None:
        """Never run (again); a run under way goes on. Threads: any."""
        self._cancelled = True

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled


class Worker:
    """Runs jobs in the background, or in `flush` where there is no background.

    `on_error` is handed every `Exception` that a job raises, on the worker; it must not raise.
    """

    __slots__ = (
        "_busy",
        "_clock",
        "_closed",
        "_consumer",
        "_deaths",
        "_fresh_timers",
        "_gate",
        "_gate_misses",
        "_ident",
        "_inline_deadline",
        "_jobs",
        "_on_error",
        "_pid",
        "_retiring",
        "_retry_at",
        "_stopping",
        "_thread",
        "_timers",
        "_wake",
    )
    _clock: Clock
    _on_error: Callable[[BaseException], None]
    _jobs: deque[Job]
    _fresh_timers: deque[Timer]
    _timers: list[Timer]
    """In order of their time. A few: no heap, and `heapq` would be one more module to load."""
    _thread: threading.Thread | None
    _consumer: threading.Lock
    _gate: threading.Lock
    _gate_misses: int
    _wake: threading.Lock
    _ident: int | None
    _inline_deadline: float | None
    _pid: int
    _retry_at: float
    _deaths: list[float]
    _busy: bool
    _retiring: bool
    _closed: bool
    _stopping: bool

    def __init__(
        self, *, clock: Clock, on_error: Callable[[BaseException], None] | None = None
    ) -> None:
        self._clock = clock
        self._on_error = _warn if on_error is None else on_error
        self._closed = False
        self._reset()

    def submit(self, job: Job) -> bool:
        """Queue `job`; return False when the queue is full or the worker closed. Never blocks."""
        if os.getpid() != self._pid:
            self.forget()
        if self._closed or len(self._jobs) >= _MAX_JOBS:
            return False
        self._jobs.append(job)
        self._rouse()
        return True

    def at(self, deadline: float, job: Job) -> Timer:
        """Run `job` when the monotonic clock shows `deadline`, or soon after."""
        return self._schedule(Timer(deadline, job))

    def every(self, interval: float, job: Job) -> Timer:
        """Run `job` each `interval` seconds, first after one interval; runs never overlap."""
        interval = max(_SHORTEST_INTERVAL, interval)
        return self._schedule(Timer(self._clock.monotonic() + interval, job, interval))

    def flush(self, timeout: float) -> bool:
        """Wait until every job submitted before this call has run; False at the deadline.

        On the worker itself it does not wait (the answer is then False unless nothing is left).
        Timers are not waited for, but those that are due are run.
        """
        if os.getpid() != self._pid:
            self.forget()
        if self.is_current():
            return not self._jobs
        if not self._jobs and not self._busy and not self._timer_due():
            return True
        done = threading.Event()
        self._jobs.append(done.set)
        self._rouse()
        if not self.alive and self._run_inline(timeout, done):
            return done.is_set()
        return done.is_set() or (timeout > 0 and done.wait(timeout))

    def close(self, timeout: float) -> bool:
        """Flush, then end the thread; whatever is submitted later is refused. Idempotent."""
        if self._closed:
            return not self._jobs
        self._closed = True
        drained = self.flush(timeout)
        self._stopping = True
        self._ring()
        thread = self._thread
        if drained and thread is not None and not self.is_current() and thread.is_alive():
            thread.join(min(max(timeout, 0.05), _JOIN))
        self._timers = []
        return drained

    def retire(self, timeout: float) -> None:
        """Let the thread end if nothing waits, neither job nor timer; the next job starts another.

        For a process that turns out to be the master of forking workers: it should have one
        thread. Waits at most `timeout` seconds for it.
        """
        thread = self._thread
        if thread is None or not thread.is_alive() or self.is_current():
            return
        self._retiring = True
        self._ring()
        thread.join(timeout)

    def forget(self) -> None:
        """Start anew without thread, jobs and timers: for a forked child, which owns none."""
        self._reset()

    def hire(self, job: Job) -> bool:
        """Run `job` on a short-lived thread of its own; False when none can be had.

        Threads: the worker, so that no application thread pays for the start.
        """

        def run() -> None:
            mark = log.working.set(True)
            try:
                self._guarded(job)
            finally:
                log.working.reset(mark)

        try:
            thread = threading.Thread(target=run, name=SENDER_NAME, daemon=True)
            thread.start()
        except RuntimeError:
            return False
        return True

    def run_due(self) -> int:
        """Run what is queued and due now in the calling thread; return the number of jobs.

        For a process without threads, and for tests with a clock of their own. 0 while the
        thread runs: then it is not ours to do.
        """
        count = 0
        if not self._consumer.acquire(blocking=False):
            return 0
        previous, self._ident = self._ident, threading.get_ident()
        try:
            while self._step():
                count += 1
        finally:
            self._ident = previous
            self._consumer.release()
        return count

    def is_current(self) -> bool:
        """Return whether the calling thread is running this worker's jobs."""
        return self._ident == threading.get_ident()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def deadline(self) -> float | None:
        """When the job that runs must be done, on the monotonic clock.

        None in the thread; a deadline where the caller of `flush` lends its own.
        """
        return self._inline_deadline

    # -- any thread

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._jobs = deque()
        self._fresh_timers = deque()
        self._timers = []
        self._thread = None
        self._consumer = threading.Lock()
        self._gate = threading.Lock()
        self._gate_misses = 0
        self._wake = threading.Lock()
        self._ident = None
        self._inline_deadline = None
        self._retry_at = 0.0
        self._deaths = []
        self._busy = False
        self._retiring = False
        self._stopping = False

    def _schedule(self, timer: Timer) -> Timer:
        if os.getpid() != self._pid:
            self.forget()
        if self._closed:
            timer.cancel()
            return timer
        self._fresh_timers.append(timer)
        self._rouse()
        return timer

    def _rouse(self) -> None:
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._start()
        self._ring()

    def _ring(self) -> None:
        # A lock as a bell: held means silent. Releasing it twice is an error that says "rung
        # already"; unlike Event.set this can be interrupted by itself anywhere.
        try:
            self._wake.release()
        except RuntimeError:
            pass

    def _start(self) -> None:
        if not self._gate.acquire(blocking=False):
            # Somebody else is starting it. Found so very often, the gate was abandoned: an
            # exception of a signal handler struck right behind `acquire`.
            self._gate_misses += 1
            if self._gate_misses > _GATE_MISSES:
                self._gate_misses = 0
                self._gate = threading.Lock()
            return
        try:
            self._gate_misses = 0
            if not self.alive and self._may_start():
                self._start_thread()
        finally:
            self._gate.release()

    def _may_start(self) -> bool:
        now = self._clock.monotonic()
        if now < self._retry_at:
            return False
        self._deaths = [when for when in self._deaths if now - when < _DEATHS_WITHIN]
        if len(self._deaths) >= _DEATHS:
            self._retry_at = now + _DEATHS_WITHIN
            log.warning(f"{THREAD_NAME} died {_DEATHS} times in a minute; sending only in flush()")
            return False
        return True

    def _start_thread(self) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        try:
            # Isolated subinterpreters refuse a daemon when it is made, the others when it starts.
            thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            thread.start()
        except RuntimeError as error:
            # Shutdown, subinterpreters, no threads at all, or too many. flush() runs the jobs.
            self._retry_at = self._clock.monotonic() + _RETRY_THREAD_AFTER
            log.debug(f"no background thread ({error}); jobs wait for flush() or close()")
            return
        self._thread = thread

    def _timer_due(self) -> bool:
        now = self._clock.monotonic()
        fresh = snapshot(self._fresh_timers)
        timers = self._timers.copy()
        return any(timer.deadline <= now for timer in fresh) or (
            bool(timers) and timers[0].deadline <= now
        )

    def _run_inline(self, timeout: float, done: threading.Event) -> bool:
        """Run jobs until `done` is set or time is up; False when another thread is at it."""
        if not self._consumer.acquire(blocking=False):
            return False
        deadline = self._clock.monotonic() + max(0.0, timeout)
        self._ident = threading.get_ident()
        self._inline_deadline = deadline
        mark = log.working.set(True)
        try:
            while not done.is_set() and self._step():
                if self._clock.monotonic() >= deadline:
                    break
        finally:
            log.working.reset(mark)
            self._inline_deadline = None
            self._ident = None
            self._consumer.release()
        return True

    # -- the consumer: the thread, or whoever holds `_consumer`

    def _run(self) -> None:
        # Invariant: one consumer. Should two threads ever have been started, one leaves here.
        if not self._consumer.acquire(blocking=False):
            return
        consumer = self._consumer
        self._thread = threading.current_thread()
        self._ident = threading.get_ident()
        mark = log.working.set(True)
        orderly = False
        try:
            while True:
                if self._step():
                    continue
                if self._stopping or (self._retiring and self._idle()):
                    break
                self._wait()
            orderly = True
        finally:
            if not orderly:
                self._deaths.append(self._clock.monotonic())
            self._retiring = False
            self._thread = None
            self._ident = None
            # Greenlets share what is local to a thread, and their numbers are given out again.
            log.working.reset(mark)
            consumer.release()
            if not self._stopping and not self._idle():
                # It came when this thread had stopped looking, and saw it still alive.
                self._rouse()

    def _idle(self) -> bool:
        timers = (*snapshot(self._fresh_timers), *self._timers.copy())
        return not self._jobs and all(timer.cancelled for timer in timers)

    def _step(self) -> bool:
        """Run one thing that is due; return False when there is none."""
        timers = self._timers
        while self._fresh_timers:
            self._enqueue(self._fresh_timers.popleft())
        if timers and timers[0].deadline <= self._clock.monotonic():
            self._run_timer(timers.pop(0))
            return True
        # Busy before it is taken: flush() looks at the queue first and at this flag second.
        self._busy = True
        try:
            job = self._jobs.popleft()
        except IndexError:
            self._busy = False
            return False
        try:
            self._guarded(job)
        finally:
            self._busy = False
        return True

    def _enqueue(self, timer: Timer) -> None:
        # Never sorted: while a list is, others find it empty.
        timers = self._timers
        place = len(timers)
        while place and timer.deadline < timers[place - 1].deadline:
            place -= 1
        timers.insert(place, timer)

    def _run_timer(self, timer: Timer) -> None:
        if timer.cancelled:
            return
        self._busy = True
        try:
            self._guarded(timer.job)
        finally:
            self._busy = False
        if timer.interval is not None and not timer.cancelled:
            # A run that was late (a suspended machine) does not make the next ones a burst.
            now = self._clock.monotonic()
            following = timer.deadline + timer.interval
            timer.deadline = following if following > now else now + timer.interval
            self._enqueue(timer)

    def _guarded(self, job: Job) -> None:
        try:
            job()
        except (Exception, SystemExit) as error:
            self._on_error(error)

    def _wait(self) -> None:
        if self._jobs or self._fresh_timers:
            return
        timers = self._timers
        while timers and timers[0].cancelled:
            timers.pop(0)
        if not timers:
            self._wake.acquire()
            return
        pause = timers[0].deadline - self._clock.monotonic()
        if pause > 0:
            self._wake.acquire(timeout=min(pause, _LONGEST_WAIT))


def _warn(error: BaseException) -> None:
    log.warning(f"a background job failed: {type(error).__name__}: {error}", key="worker")
