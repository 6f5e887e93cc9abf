"""A clock that moves only when a test moves it."""

from __future__ import annotations


class FakeClock:
    """Satisfies `crashfree._ground.clock.Clock`."""

    def __init__(self, wall: float = 1_790_000_000.0) -> None:
        self.wall = wall
        self.mono = 1_000.0
        self.boot = 5_000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def boottime(self) -> float:
        return self.boot

    def advance(self, seconds: float) -> None:
        """Let time pass while the machine is awake."""
        self.wall += seconds
        self.mono += seconds
        self.boot += seconds

    def suspend(self, seconds: float) -> None:
        """Let time pass while the machine sleeps."""
        self.wall += seconds
        self.boot += seconds

    def set_wall(self, wall: float) -> None:
        """Let somebody set the clock on the wall."""
        self.wall = wall
