"""What the server asked us to hold back, and until when.

Invariants: of two limits of a category the later deadline counts; time is the monotonic clock's;
client reports have no limit of their own but fall under one on everything.

The mapping is replaced whole, so reading needs no lock. Threads: reading any; `update` those that
send. Fork: kept, the server's wish still holds. Source: wire.md sections 11.2 to 11.4.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from crashfree._ground.clock import Clock
from crashfree._protocol.ratelimits import LimitedCategory
from crashfree.types import DataCategory

_RELEVANT: tuple[LimitedCategory, ...] = ("*", "error", "session")


class Limiter:
    """Deadlines by category; `*` is all of them."""

    __slots__ = ("_clock", "_deadlines", "_lock")
    _clock: Clock
    _deadlines: Mapping[LimitedCategory, float]
    _lock: threading.Lock

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._deadlines = {}
        self._lock = threading.Lock()

    def update(self, limits: Mapping[LimitedCategory, float]) -> list[LimitedCategory]:
        """Take the limits (in seconds from now) of one response; return those that are new.

        New is what was not limited before: worth a line in the log, unlike the same answer on
        every request.
        """
        if not limits:
            return []
        now = self._clock.monotonic()
        with self._lock:
            live: dict[LimitedCategory, float] = {}
            for name, end in self._deadlines.items():
                if end > now:
                    live[name] = end
            fresh: list[LimitedCategory] = []
            for name, left in limits.items():
                if left > 0 and name not in live:
                    fresh.append(name)
            for name, left in limits.items():
                if left > 0:
                    live[name] = max(now + left, live.get(name, 0.0))
            self._deadlines = live
        return fresh

    def limited(self, category: DataCategory) -> bool:
        """Return whether items of `category` must not be sent now."""
        deadlines = self._deadlines
        if not deadlines:
            return False
        now = self._clock.monotonic()
        return deadlines.get("*", 0.0) > now or deadlines.get(category, 0.0) > now

    def everything_limited(self) -> bool:
        """Return whether nothing at all may be sent now."""
        return self._deadlines.get("*", 0.0) > self._clock.monotonic()

    def until(self, category: DataCategory) -> float:
        """Return when `category` may be sent again, on the monotonic clock; 0 when it may now."""
        deadlines = self._deadlines
        end = max(deadlines.get("*", 0.0), deadlines.get(category, 0.0))
        return end if end > self._clock.monotonic() else 0.0

    def remaining(self) -> dict[str, float]:
        """Return the seconds that each limit still lasts."""
        now = self._clock.monotonic()
        return {name: end - now for name, end in self._deadlines.items() if end > now}

    def healthy(self) -> bool:
        """Return whether nothing that this SDK sends is limited; others' limits do not count."""
        now = self._clock.monotonic()
        return all(self._deadlines.get(name, 0.0) <= now for name in _RELEVANT)

    def forget(self) -> None:
        """Make a new lock, in a forked child; the limits stay."""
        self._lock = threading.Lock()
