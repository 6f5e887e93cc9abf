"""A second engine for sessions: facts in lists, every answer by looking at all of them.

No SQL, no sums kept, and its own rules of merging: what it shares with SQLite is the contract.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crashfree.server.engine import (
    ALL_KINDS,
    Cell,
    Intervals,
    PlacedBuckets,
    PlacedSession,
    Selection,
)
from crashfree.server.facts import unpacked
from crashfree.server.health import Counts, Durations, UserCounts

_RANKS = ("ok", "exited", "", "unhandled", "abnormal", "crashed")
_HANGS = ("anr_foreground", "anr_background")
_NAMES = ("project_id", "release_id", "environment_id")


class Ended(NamedTuple):
    """Sessions that ended alike: one of them, or those of a bucket."""

    place: tuple[int, int, int]
    started_us: int
    user: int
    column: str
    sessions: int
    duration_us: int | None = None
    mechanism: str | None = None


class MemoryEngine:
    """Satisfies `crashfree.server.engine.Engine`."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[int, bytes], list[PlacedSession]] = {}
        self.buckets: list[PlacedBuckets] = []
        self.failing: list[Exception] = []
        """What the next calls of `write` raise."""
        self._lock = threading.Lock()

    def write(self, sessions: Sequence[PlacedSession], buckets: Sequence[PlacedBuckets]) -> None:
        if self.failing:
            raise self.failing.pop(0)
        with self._lock:
            for update in sessions:
                key = (update.project_id, update.fact.sid)
                self.sessions.setdefault(key, []).append(update)
            self.buckets += buckets

    def counts(self) -> MemoryCounts:
        with self._lock:
            return MemoryCounts([*self._ended()])

    def _ended(self) -> Iterator[Ended]:
        for updates in self.sessions.values():
            yield _merged(updates)
        for bucket in self.buckets:
            place = (bucket.project_id, bucket.release_id, bucket.environment_id)
            for started_us, user, counts in bucket.rows:
                for column, count in zip(Counts._fields, unpacked(counts), strict=True):
                    if count:
                        yield Ended(place, started_us, user, column, count)


def _rank(update: PlacedSession) -> tuple[int, int, int]:
    fact = update.fact
    known = fact.status if fact.status in _RANKS else ""
    return _RANKS.index(known), fact.rank, fact.changed_us


def _merged(updates: Sequence[PlacedSession]) -> Ended:
    first = updates[0]
    last = max(updates, key=_rank)  # the first of equals
    status = last.fact.status
    if status not in ("crashed", "abnormal", "unhandled"):
        fine = status in ("ok", "exited") and not any(update.fact.errors for update in updates)
        column = "healthy" if fine else "errored"
    else:
        column = status
    return Ended(
        (first.project_id, first.release_id, first.environment_id),
        first.fact.started_us,
        next((update.user_id for update in updates if update.user_id), 0),
        column,
        1,
        last.fact.duration_us if status == "exited" else None,
        last.fact.mechanism,
    )


class MemoryCounts:
    """Satisfies `crashfree.server.engine.CountReader`."""

    def __init__(self, ended: Sequence[Ended]) -> None:
        self._ended = ended

    def _cells(
        self, selection: Selection, intervals: Intervals, group: Sequence[str]
    ) -> dict[Cell, list[Ended]]:
        allowed = (selection.projects, selection.releases, selection.environments)
        places = [_NAMES.index(name) for name in group]
        cells: dict[Cell, list[Ended]] = {}
        for each in self._ended:
            if not intervals.start_us <= each.started_us < intervals.end_us:
                continue
            if all(chosen is None or each.place[n] in chosen for n, chosen in enumerate(allowed)):
                key = tuple(each.place[n] for n in places)
                number = (each.started_us - intervals.origin_us) // intervals.step_us
                cells.setdefault((key, number), []).append(each)
        return cells

    def session_counts(
        self, selection: Selection, intervals: Intervals, group: Sequence[str] = ()
    ) -> dict[Cell, Counts]:
        return {
            cell: Counts(
                *(
                    sum(each.sessions for each in found if each.column == name)
                    for name in Counts._fields
                )
            )
            for cell, found in self._cells(selection, intervals, group).items()
        }

    def user_counts(
        self,
        selection: Selection,
        intervals: Intervals,
        group: Sequence[str] = (),
        *,
        kinds: int = ALL_KINDS,
    ) -> dict[Cell, UserCounts]:
        counts: dict[Cell, UserCounts] = {}
        for cell, found in self._cells(selection, intervals, group).items():
            known = [each for each in found if each.user]
            sets = (
                known,
                [each for each in known if each.column != "healthy"],
                [each for each in known if each.column == "crashed"],
                [each for each in known if each.column == "abnormal"],
                [each for each in known if each.column == "unhandled"],
                [each for each in known if each.mechanism in _HANGS],
                [each for each in known if each.mechanism == _HANGS[0]],
            )
            if known:
                counts[cell] = UserCounts(
                    *(
                        len({each.user for each in mine}) if kinds >> bit & 1 else 0
                        for bit, mine in enumerate(sets)
                    )
                )
        return counts

    def durations(
        self, selection: Selection, intervals: Intervals, group: Sequence[str] = ()
    ) -> dict[Cell, Durations]:
        found: dict[Cell, Durations] = {}
        for cell, mine in self._cells(selection, intervals, group).items():
            told = [each.duration_us for each in mine if each.duration_us is not None]
            if told:
                found[cell] = Durations.of(told)
        return found

    def have_sessions(self, pairs: Sequence[tuple[int, int | None]]) -> list[bool]:
        met = {(each.place[0], each.place[1]) for each in self._ended}
        met_projects = {project for project, _ in met}
        return [
            project in met_projects if release is None else (project, release) in met
            for project, release in pairs
        ]
