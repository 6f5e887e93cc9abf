"""From counts to rates. Every rate is None without data and never outside 0 to 1.

Pure; threads: any. Source: sessions.md sections 5.3 to 5.7, releases.md section 6.6.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, Literal, NamedTuple

STATUSES: Final = ("healthy", "errored", "crashed", "abnormal", "unhandled")
Status = Literal["healthy", "errored", "crashed", "abnormal", "unhandled"]
Stage = Literal["low_adoption", "adopted", "replaced"]
ADOPTED_SHARE: Final = 0.1
_MERGED: Final = 20_000


def share(part: int, whole: int) -> float | None:
    """Return `part` of `whole`; None when there is no whole."""
    return None if whole <= 0 else min(1.0, max(0.0, part / whole))


def rest(part: int, whole: int) -> float | None:
    """Return what is left when `part` is gone; None when there is no whole."""
    return None if whole <= 0 else min(1.0, max(0.0, (whole - part) / whole))


class Counts(NamedTuple):
    """Sessions; each is in exactly one column."""

    healthy: int = 0
    errored: int = 0
    crashed: int = 0
    abnormal: int = 0
    unhandled: int = 0

    @property
    def total(self) -> int:
        """All sessions."""
        return sum(self)

    def plus(self, other: Counts) -> Counts:
        """Return the sum; the two must not count the same sessions."""
        return Counts(*(mine + its for mine, its in zip(self, other, strict=True)))

    @property
    def crash_free_rate(self) -> float | None:
        return rest(self.crashed, self.total)

    @property
    def crash_rate(self) -> float | None:
        return share(self.crashed, self.total)

    @property
    def unhandled_rate(self) -> float | None:
        """The share that ended by an error nobody handled, crashes included."""
        return share(self.unhandled + self.crashed, self.total)

    @property
    def errored_rate(self) -> float | None:
        """The share that is not healthy."""
        return share(self.total - self.healthy, self.total)

    @property
    def abnormal_rate(self) -> float | None:
        return share(self.abnormal, self.total)


class UserCounts(NamedTuple):
    """Different users; one may be in several of these."""

    seen: int = 0
    hurt: int = 0
    """With at least one session that is not healthy."""
    crashed: int = 0
    abnormal: int = 0
    unhandled: int = 0
    hang: int = 0
    foreground_hang: int = 0

    @property
    def healthy(self) -> int:
        return max(0, self.seen - self.hurt)

    @property
    def errored(self) -> int:
        """Hurt, and nothing worse."""
        return max(0, self.hurt - self.crashed - self.abnormal - self.unhandled)

    @property
    def crash_free_rate(self) -> float | None:
        return rest(self.crashed, self.seen)

    @property
    def crash_rate(self) -> float | None:
        return share(self.crashed, self.seen)

    @property
    def unhandled_rate(self) -> float | None:
        return share(self.unhandled + self.crashed, self.seen)

    @property
    def errored_rate(self) -> float | None:
        return share(self.hurt, self.seen)

    @property
    def abnormal_rate(self) -> float | None:
        return share(self.abnormal, self.seen)

    @property
    def anr_rate(self) -> float | None:
        """The share that met a hang."""
        return share(self.hang, self.seen)

    @property
    def foreground_anr_rate(self) -> float | None:
        return share(self.foreground_hang, self.seen)


class Durations:
    """Durations in microseconds, in parts that are sorted each; all answers in milliseconds.

    Parts come as they are stored. Few numbers are merged; among many, the one of a given rank is
    found by halving the range of values and counting in each part what lies below.
    """

    __slots__ = ("_parts", "count")
    _parts: list[Sequence[int]]
    count: int

    def __init__(self) -> None:
        self._parts = []
        self.count = 0

    @classmethod
    def of(cls, durations_us: Iterable[int]) -> Durations:
        """Take durations in any order."""
        made = cls()
        made.add(sorted(durations_us))
        return made

    def add(self, sorted_us: Sequence[int]) -> None:
        """Add durations that are sorted."""
        if sorted_us:
            self._parts.append(sorted_us)
            self.count += len(sorted_us)

    def quantile(self, share_below: float) -> float | None:
        """Return a quantile, between two neighbours by linear interpolation; None without any."""
        if not self.count:
            return None
        position = (self.count - 1) * share_below
        rank = int(position)
        below = self._at(rank)
        above = self._at(min(rank + 1, self.count - 1)) if position > rank else below
        return (below + (above - below) * (position - rank)) / 1000

    @property
    def average(self) -> float | None:
        """The mean."""
        if not self.count:
            return None
        return sum(sum(part) for part in self._parts) / self.count / 1000

    @property
    def maximum(self) -> float | None:
        """The longest."""
        return max(part[-1] for part in self._parts) / 1000 if self.count else None

    def _at(self, rank: int) -> int:
        """Return the duration that `rank` others stand before."""
        if len(self._parts) > 1 and self.count <= _MERGED:
            self._parts = [sorted(chain.from_iterable(self._parts))]
        if len(self._parts) == 1:
            return self._parts[0][rank]
        low = min(part[0] for part in self._parts)
        high = max(part[-1] for part in self._parts)
        while low < high:
            middle = (low + high) // 2
            if sum(bisect_right(part, middle) for part in self._parts) > rank:
                high = middle
            else:
                low = middle + 1
        return low


def adoption(part: int, whole: int) -> float | None:
    """Return a release's share in percent; None when either side is 0."""
    if part <= 0 or whole <= 0:
        return None
    return min(100.0, part / whole * 100)


def percent(rate: float | None) -> float | None:
    """Return a rate in percent."""
    return None if rate is None else rate * 100


def stage_after(
    previous: Stage | None, *, environment: str, release_sessions: int, total_sessions: int
) -> Stage:
    """Return the stage of adoption after another hour, given the sessions of the last six.

    Only a named environment with sessions has adopted releases.
    """
    over = (
        bool(environment)
        and total_sessions > 0
        and release_sessions >= ADOPTED_SHARE * total_sessions
        and release_sessions > 0
    )
    if over:
        return "adopted"
    return "replaced" if previous in ("adopted", "replaced") else "low_adoption"
