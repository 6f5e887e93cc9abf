"""Timers that ring when a test lets time pass."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.clock import FakeClock


class ManualTimer:
    def __init__(self, deadline: float, job: Callable[[], object], interval: float | None) -> None:
        self.deadline = deadline
        self.job = job
        self.interval = interval
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualTimers:
    """Satisfies `crashfree._sessions.application.Timers`; `advance` moves the clock and rings."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.waiting: list[ManualTimer] = []

    def at(self, deadline: float, job: Callable[[], object]) -> ManualTimer:
        return self._add(ManualTimer(deadline, job, None))

    def every(self, interval: float, job: Callable[[], object]) -> ManualTimer:
        return self._add(ManualTimer(self.clock.monotonic() + interval, job, interval))

    def advance(self, seconds: float) -> None:
        """Let time pass while the machine is awake; timers ring at their time."""
        end = self.clock.mono + seconds
        while True:
            due = [one for one in self.waiting if not one.cancelled and one.deadline <= end]
            if not due:
                break
            first = min(due, key=lambda one: one.deadline)
            self.clock.advance(max(0.0, first.deadline - self.clock.mono))
            self._ring(first)
        self.clock.advance(max(0.0, end - self.clock.mono))

    def ring_due(self) -> None:
        """Ring what is due now, as a worker does that was held up."""
        self.advance(0.0)

    @property
    def armed(self) -> int:
        """Timers that wait for their time."""
        return sum(not one.cancelled for one in self.waiting)

    def _add(self, timer: ManualTimer) -> ManualTimer:
        self.waiting.append(timer)
        return timer

    def _ring(self, timer: ManualTimer) -> None:
        if timer.interval is None:
            self.waiting.remove(timer)
        else:
            timer.deadline += timer.interval
        timer.job()
