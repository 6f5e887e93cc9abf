"""Waiting longer after each failure, with jitter so that many clients do not come back at once.

Threads: those that send; single assignments, the last one counts.
"""

from __future__ import annotations

from crashfree._ground import ids

_JITTER = 0.2


class Backoff:
    """Pauses of `first` × 2ⁿ seconds up to `longest`, ±20 %."""

    __slots__ = ("_failures", "_first", "_longest", "until")
    _first: float
    _longest: float
    _failures: int
    until: float
    """When the pause ends, on the monotonic clock; 0 without one."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.reset()

    def failed(self, now: float) -> float:
        """Begin a pause, longer than the last; return its length."""
        # The exponent is bounded: 2 ** 2000 is no float any more.
        pause = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        pause *= 1 - _JITTER + 2 * _JITTER * ids.roll()
        self._failures += 1
        self.until = now + pause
        return pause

    def reset(self) -> None:
        """Note a success."""
        self._failures = 0
        self.until = 0.0

    def paused(self, now: float) -> bool:
        """Return whether the pause still lasts."""
        return now < self.until

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures
