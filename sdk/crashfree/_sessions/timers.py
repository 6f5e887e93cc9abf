"""What sessions ask of whoever runs things later; a worker thread fits it.

Threads: `at`, `every` and `cancel` may be called from any; jobs run on one thread, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from crashfree._ground.typed import Protocol, TypeAlias

Job: TypeAlias = "Callable[[], object]"


class Timer(Protocol):
    """A job that waits for its time."""

    def cancel(self) -> None:
        """Let it not run any more; one that is running finishes."""
        ...


class Timers(Protocol):
    """Runs jobs later."""

    def at(self, deadline: float, job: Job) -> Timer:
        """Run `job` once, when the monotonic clock shows `deadline` or soon after."""
        ...

    def every(self, interval: float, job: Job) -> Timer:
        """Run `job` every `interval` seconds, for the first time after one interval."""
        ...
