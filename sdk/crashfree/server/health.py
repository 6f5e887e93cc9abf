"""From counts to rates. Every rate is None without data and never outside 0 to 1.

Pure; threads: any. Source: sessions.md sections 5.3 to 5.7, releases.md section 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

STATUSES: Final = ("healthy", "errored", "crashed", "abnormal", "unhandled")
Status = Literal["healthy", "errored", "crashed", "abnormal", "unhandled"]
Stage = Literal["low_adoption", "adopted", "replaced"]
ADOPTED_SHARE: Final = 0.1


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


class Durations(NamedTuple):
    """Durations in microseconds, sorted."""

    sorted_us: tuple[int, ...]

    @classmethod
    def of(cls, durations_us: Sequence[int]) -> Durations:
        return cls(tuple(sorted(durations_us)))

    def quantile(self, share_below: float) -> float | None:
        """Return a quantile in milliseconds, between two neighbours by linear interpolation."""
        numbers = self.sorted_us
        if not numbers:
            return None
        position = (len(numbers) - 1) * share_below
        below = int(position)
        above = min(below + 1, len(numbers) - 1)
        return (numbers[below] + (numbers[above] - numbers[below]) * (position - below)) / 1000

    @property
    def average(self) -> float | None:
        """The mean in milliseconds."""
        numbers = self.sorted_us
        return sum(numbers) / len(numbers) / 1000 if numbers else None

    @property
    def maximum(self) -> float | None:
        """The longest, in milliseconds."""
        return self.sorted_us[-1] / 1000 if self.sorted_us else None


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
