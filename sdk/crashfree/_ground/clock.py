"""The clocks. Only this module calls `time.*`; everything else is handed a `Clock`.

Calls go through the `time` module at each call, so that freezegun works through the public door.

Threads: any.
"""

from __future__ import annotations

import time

from crashfree._ground.typed import NamedTuple, Protocol


class Clock(Protocol):
    """Three clocks that do not agree, each right for one purpose."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC; may jump. For what goes on the wire."""
        ...

    def monotonic(self) -> float:
        """Return seconds of an arbitrary origin; stands still while the machine sleeps."""
        ...

    def boottime(self) -> float:
        """Return seconds of an arbitrary origin that go on while the machine sleeps."""
        ...


# CLOCK_BOOTTIME (Linux) counts suspended time. CLOCK_MONOTONIC does so on macOS, where
# time.monotonic() does not; on Windows time.monotonic() itself does.
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class SystemClock:
    """The clocks of this machine."""

    __slots__ = ()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        if _BOOT_CLOCK is None:
            return time.monotonic()
        return time.clock_gettime(_BOOT_CLOCK)


SYSTEM_CLOCK = SystemClock()


class Ticking(Protocol):
    """Says the time of day."""

    def time(self) -> float:
        """See `Clock.time`."""
        ...


def ticking(clock: Clock) -> Ticking:
    """Return what to ask for the time of day where each call counts: it saves one.

    Behind the clock of the machine that is the module `time`, as freezegun has it at that moment.
    """
    return time if isinstance(clock, SystemClock) else clock


class Mark(NamedTuple):
    """One instant on all three clocks."""

    wall: float
    mono: float
    boot: float

    @classmethod
    def of(cls, clock: Clock) -> Mark:
        """Read the clocks."""
        return cls(clock.time(), clock.monotonic(), clock.boottime())

    def elapsed(self, now: Mark) -> float:
        """Return the seconds worked between this mark and `now`; never negative."""
        return max(0.0, now.mono - self.mono)

    def idle(self, now: Mark) -> float:
        """Return the seconds that passed between this mark and `now`, a suspend included.

        The larger of two differences: one clock may stand still (a suspended machine, a frozen
        clock in a test), and neither of these two ever jumps ahead as the wall clock may.
        """
        return max(0.0, now.mono - self.mono, now.boot - self.boot)
