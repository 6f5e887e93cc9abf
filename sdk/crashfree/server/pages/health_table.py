"""The figures of a view over its range, from the table that answers `…/sessions/`.

    figures = Health(db, call, choice)
    figures.totals(release_id)["crash_free_rate(session)"]        a share, None without data
    figures.series(release_id, CRASH_FREE)                        one list a field

A range is always counted as a whole: a rate over seven days is no average of seven rates.

Threads: any, each with its own connection. Source: sessions.md sections 5.3 to 5.7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.datastructures import QueryParams

from crashfree.server.endpoint import Call
from crashfree.server.engine import CountReader, Intervals, Selection
from crashfree.server.pages.layout import MICRO, Chosen
from crashfree.server.ranges import Range
from crashfree.server.selection import select
from crashfree.server.sessions_api import Table

SESSIONS: Final = "sum(session)"
USERS: Final = "count_unique(user)"
CRASH_FREE_SESSIONS: Final = "crash_free_rate(session)"
CRASH_FREE_USERS: Final = "crash_free_rate(user)"
STATUS: Final = "session.status"
RATES: Final = (SESSIONS, USERS, CRASH_FREE_SESSIONS, CRASH_FREE_USERS)
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
# The longest range, in seconds, for each length of an interval.
_STEPS: Final = (
    (2 * _HOUR, 60),
    (12 * _HOUR, 600),
    (2 * _DAY, _HOUR),
    (8 * _DAY, 6 * _HOUR),
    (100 * _DAY, _DAY),
    (800 * _DAY, 7 * _DAY),
)
_LONG: Final = 30 * _DAY


def step_of(span: Range) -> int:
    """Return the length of an interval that cuts a range into as many as can be looked at."""
    length = (span.end_us - span.start_us) // MICRO
    for limit, step in _STEPS:
        if length <= limit:
            return step * MICRO
    return _LONG * MICRO


def selection_of(db: sqlite3.Connection, call: Call, where: Sequence[tuple[str, str]]) -> Selection:
    """Return the selection that `project` and `environment` describe."""
    return select(db, QueryParams([*where]), call.store.projects(db), ())


class Health:
    """Questions about one selection of projects and environments, over one range."""

    __slots__ = ("_db", "_reader", "intervals", "selection", "span")
    _db: sqlite3.Connection
    _reader: CountReader
    intervals: Intervals
    selection: Selection
    span: Range

    def __init__(self, db: sqlite3.Connection, call: Call, choice: Chosen) -> None:
        self._db = db
        self._reader = call.store.counts(db)
        self.selection = selection_of(db, call, choice.where)
        self.span = choice.span
        self.intervals = Intervals.every(self.span.start_us, self.span.end_us, step_of(self.span))

    def totals(self, release_id: int | None, fields: Sequence[str] = RATES) -> Mapping[str, Any]:
        """Return the fields of a release, or of all, over the whole range."""
        (row,) = self._rows(release_id, fields, (), totals=True)
        totals: dict[str, Any] = row["totals"]
        return totals

    def totals_by_status(self, release_id: int | None) -> Mapping[str, Mapping[str, Any]]:
        """Return sessions and users over the whole range, by status."""
        rows = self._rows(release_id, (SESSIONS, USERS), (STATUS,), totals=True)
        return {row["by"][STATUS]: row["totals"] for row in rows}

    def series(
        self, release_id: int | None, fields: Sequence[str]
    ) -> Mapping[str, Sequence[float | None]]:
        """Return the fields in every interval of the range."""
        (row,) = self._rows(release_id, fields, (), totals=False)
        series: dict[str, list[float | None]] = row["series"]
        return series

    def series_by_status(self, release_id: int | None) -> Mapping[str, Sequence[float | None]]:
        """Return the sessions in every interval, by status."""
        rows = self._rows(release_id, (SESSIONS,), (STATUS,), totals=False)
        return {row["by"][STATUS]: row["series"][SESSIONS] for row in rows}

    def _rows(
        self, release_id: int | None, fields: Sequence[str], groups: Sequence[str], *, totals: bool
    ) -> list[dict[str, Any]]:
        releases = None if release_id is None else (release_id,)
        selection = self.selection._replace(releases=releases)
        table = Table(self._db, self._reader, selection, fields, groups)
        return table.rows(self.intervals, totals=totals, series=not totals)

    def sessions_by_release(self, release_ids: Sequence[int], *, most: int) -> SparkData:
        """Return the sessions of releases in at most `most` intervals: (project, release)."""
        intervals = Intervals.every(self.span.start_us, self.span.end_us, self._coarse(most))
        cells = self._reader.session_counts(
            self.selection._replace(releases=tuple(release_ids)),
            intervals,
            ("project_id", "release_id"),
        )
        points = len(intervals.starts)
        found: dict[tuple[int, int], list[int]] = {}
        for (key, place), counts in cells.items():
            found.setdefault((key[0], key[1]), [0] * points)[place] = counts.total
        return found

    def _coarse(self, most: int) -> int:
        """Return a length of at most `most` intervals, a multiple of the usual one."""
        step = step_of(self.span)
        length = self.span.end_us - self.span.start_us
        times = -(-length // (step * max(1, most - 1)))
        return step * max(1, times)


SparkData = Mapping[tuple[int, int], Sequence[int]]
