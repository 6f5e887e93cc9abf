"""Questions to the tables: sessions, users and durations of any range, by any group.

A range is cut into whole days, whole hours and, at its ends, the rows themselves, so that an
answer is both quick and exact to the microsecond. All queries of one answer must run in one read
transaction.

Threads: any, each with its own connection. Source: sessions.md sections 5.3 to 5.7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from crashfree.server import durations as sealed
from crashfree.server import users
from crashfree.server.engine import ALL_KINDS, Cell, GroupKey, Intervals
from crashfree.server.engine import Selection as Selection
from crashfree.server.health import Counts, Durations, UserCounts
from crashfree.server.sessions import COLUMNS, KINDS, SessionRow, bucket_flags

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
_SUMS: Final = ", ".join(f"sum({column})" for column in COLUMNS)
_COLUMN_OF_ROW: Final = (
    "CASE status WHEN 'crashed' THEN 2 WHEN 'abnormal' THEN 3 WHEN 'unhandled' THEN 4"
    " WHEN 'ok' THEN errors > 0 WHEN 'exited' THEN errors > 0 ELSE 1 END"
)


class SqliteCounts:
    """`engine.CountReader` over one connection, inside its read transaction."""

    __slots__ = ("_db",)
    _db: sqlite3.Connection

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def session_counts(
        self, selection: Selection, intervals: Intervals, group: Sequence[str] = ()
    ) -> Mapping[Cell, Counts]:
        return session_counts(self._db, selection, intervals, group)

    def user_counts(
        self,
        selection: Selection,
        intervals: Intervals,
        group: Sequence[str] = (),
        *,
        kinds: int = ALL_KINDS,
    ) -> Mapping[Cell, UserCounts]:
        return user_counts(self._db, selection, intervals, group, kinds=kinds)

    def durations(
        self, selection: Selection, intervals: Intervals, group: Sequence[str] = ()
    ) -> Mapping[Cell, Durations]:
        return durations(self._db, selection, intervals, group)

    def have_sessions(self, pairs: Sequence[tuple[int, int | None]]) -> Sequence[bool]:
        return have_sessions(self._db, pairs)


class _Piece(NamedTuple):
    table: str
    unit_us: int
    start_us: int
    end_us: int


def _pieces(intervals: Intervals) -> Iterator[_Piece]:
    units = [
        (table, unit)
        for table, unit in (("counts_day", DAY_US), ("counts_hour", HOUR_US))
        if intervals.aligned(unit)
    ]
    yield from _cut(intervals.start_us, intervals.end_us, units)


def _cut(start: int, end: int, units: Sequence[tuple[str, int]]) -> Iterator[_Piece]:
    if start >= end:
        return
    if not units:
        yield _Piece("", 1, start, end)
        return
    (table, unit), smaller = units[0], units[1:]
    first, last = -(-start // unit) * unit, end // unit * unit
    if first >= last:
        yield from _cut(start, end, smaller)
        return
    yield from _cut(start, first, smaller)
    yield _Piece(table, unit, first, last)
    yield from _cut(last, end, smaller)


def session_counts(
    db: sqlite3.Connection, selection: Selection, intervals: Intervals, group: Sequence[str] = ()
) -> dict[Cell, Counts]:
    """Return the counts of every group and interval that has any."""
    sums: dict[Cell, list[int]] = {}
    for piece in _pieces(intervals):
        rows = (
            _slot_rows(db, selection, intervals, group, piece)
            if piece.table
            else _raw_rows(db, selection, intervals, group, piece)
        )
        width = len(group)
        for row in rows:
            cell = (tuple(row[:width]), row[width])
            total = sums.get(cell)
            if total is None:
                sums[cell] = list(row[width + 1 :])
            else:
                for column, count in enumerate(row[width + 1 :]):
                    total[column] += count
    return {cell: Counts(*total) for cell, total in sums.items() if any(total)}


def _slot_rows(
    db: sqlite3.Connection,
    selection: Selection,
    intervals: Intervals,
    group: Sequence[str],
    piece: _Piece,
) -> Iterator[tuple[int, ...]]:
    where, values = where_of(selection)
    columns = "".join(f"{name}, " for name in group)
    bucket = f"(slot * {piece.unit_us} - {intervals.origin_us}) / {intervals.step_us}"
    return db.execute(
        f"SELECT {columns}{bucket} AS bucket, {_SUMS} FROM {piece.table} WHERE {where}"
        f" AND slot >= ? AND slot < ? GROUP BY {columns}bucket",
        (*values, piece.start_us // piece.unit_us, piece.end_us // piece.unit_us),
    )


def _raw_rows(
    db: sqlite3.Connection,
    selection: Selection,
    intervals: Intervals,
    group: Sequence[str],
    piece: _Piece,
) -> Iterator[tuple[int, ...]]:
    where, values = where_of(selection)
    columns = "".join(f"{name}, " for name in group)
    bucket = f"(started_us - {intervals.origin_us}) / {intervals.step_us}"
    span = (*values, piece.start_us, piece.end_us)
    for *key, column, count in db.execute(
        f"SELECT {columns}{bucket} AS bucket, {_COLUMN_OF_ROW} AS col, count(*) FROM sessions"
        f" WHERE {where} AND started_us >= ? AND started_us < ? GROUP BY {columns}bucket, col",
        span,
    ):
        counts = [0, 0, 0, 0, 0]
        counts[column] = count
        yield (*key, *counts)
    yield from db.execute(
        f"SELECT {columns}{bucket} AS bucket, sum(exited), sum(errored), sum(crashed),"
        f" sum(abnormal), sum(unhandled) FROM aggregates WHERE {where} AND started_us >= ?"
        f" AND started_us < ? GROUP BY {columns}bucket",
        span,
    )


def user_counts(
    db: sqlite3.Connection,
    selection: Selection,
    intervals: Intervals,
    group: Sequence[str] = (),
    *,
    kinds: int = ALL_KINDS,
) -> dict[Cell, UserCounts]:
    """Return how many different users every group and interval has, of the `kinds` asked for."""
    counts: dict[Cell, UserCounts] = {}
    for number, (start, end) in enumerate(intervals.bounds):
        united: dict[GroupKey, dict[int, users.UserSet]] = {}
        first_hour, end_hour = -(-start // HOUR_US), end // HOUR_US
        if first_hour < end_hour:
            _add_stored(db, selection, group, (first_hour, end_hour), kinds, united)
            _add_recent(db, selection, group, (first_hour, end_hour), kinds, united)
            _add_rows(db, selection, group, (start, first_hour * HOUR_US), kinds, united)
            _add_rows(db, selection, group, (end_hour * HOUR_US, end), kinds, united)
        else:
            _add_rows(db, selection, group, (start, end), kinds, united)
        for key, sets in united.items():
            counts[key, number] = UserCounts(
                *(len(sets[kind]) if kind in sets else 0 for kind in KINDS)
            )
    return counts


_United = dict[GroupKey, dict[int, users.UserSet]]


def _set(united: _United, key: GroupKey, kind: int) -> users.UserSet:
    sets = united.setdefault(key, {})
    found = sets.get(kind)
    if found is None:
        found = sets[kind] = users.UserSet()
    return found


def _add_stored(
    db: sqlite3.Connection,
    selection: Selection,
    group: Sequence[str],
    hours: tuple[int, int],
    kinds: int,
    united: _United,
) -> None:
    where, values = where_of(selection)
    wanted = [kind for kind in KINDS if kinds & kind]
    columns = "".join(f", {name}" for name in group)
    for piece in users.cover(*hours):
        for members, kind, *key in db.execute(
            f"SELECT members, kind{columns} FROM user_sets WHERE {where} AND level = ?"
            f" AND slot BETWEEN ? AND ? AND kind IN ({_marks(wanted)})",
            (*values, piece.level, piece.first, piece.last, *wanted),
        ):
            _set(united, tuple(key), kind).add_stored(members)


def _add_recent(
    db: sqlite3.Connection,
    selection: Selection,
    group: Sequence[str],
    hours: tuple[int, int],
    kinds: int,
    united: _United,
) -> None:
    where, values = where_of(selection)
    columns = "".join(f", {name}" for name in group)
    rows = db.execute(
        f"SELECT user_id, flags{columns} FROM user_recent WHERE {where} AND slot >= ? AND slot < ?",
        (*values, *hours),
    )
    _add_users(rows, kinds, united)


def _add_rows(
    db: sqlite3.Connection,
    selection: Selection,
    group: Sequence[str],
    span: tuple[int, int],
    kinds: int,
    united: _United,
) -> None:
    if span[0] >= span[1]:
        return
    where, values = where_of(selection)
    columns = "".join(f", {name}" for name in group)
    rows = db.execute(
        f"SELECT user_id, status, errors, mechanism{columns} FROM sessions WHERE {where}"
        " AND started_us >= ? AND started_us < ? AND user_id > 0",
        (*values, *span),
    )
    _add_users(
        (
            (user, SessionRow(0, 0, user, status, errors, True, 0, 0, None, mechanism).flags, *key)
            for user, status, errors, mechanism, *key in rows
        ),
        kinds,
        united,
    )
    rows = db.execute(
        f"SELECT user_id, exited, errored, crashed, abnormal, unhandled{columns} FROM aggregates"
        f" WHERE {where} AND started_us >= ? AND started_us < ? AND user_id > 0",
        (*values, *span),
    )
    _add_users(
        ((user, bucket_flags(*counts[:5]), *counts[5:]) for user, *counts in rows), kinds, united
    )


def _add_users(rows: Iterator[tuple[int, ...]], kinds: int, united: _United) -> None:
    numbers: dict[tuple[GroupKey, int], list[int]] = {}
    for user, flags, *rest in rows:
        key = tuple(rest)
        wanted = flags & kinds
        while wanted:
            kind = wanted & -wanted
            wanted ^= kind
            numbers.setdefault((key, kind), []).append(user)
    for (key, kind), found in numbers.items():
        _set(united, key, kind).add(found)


def durations(
    db: sqlite3.Connection,
    selection: Selection,
    intervals: Intervals,
    group: Sequence[str] = (),
) -> dict[Cell, Durations]:
    """Return the durations of the sessions that ended well and told one."""
    found: dict[Cell, Durations] = {}
    for project in selection.projects:
        mine = selection._replace(projects=(project,))
        for number, (start, end) in enumerate(intervals.bounds):
            first, last = -(-start // DAY_US), end // DAY_US - 1
            if first > last:
                _add_durations(db, mine, group, (start, end), number, found)
                continue
            stale = sealed.stale_days(db, project, first, last)
            _add_durations(db, mine, group, (start, first * DAY_US), number, found)
            _add_durations(db, mine, group, ((last + 1) * DAY_US, end), number, found)
            for day in stale:
                span = (day * DAY_US, (day + 1) * DAY_US)
                _add_durations(db, mine, group, span, number, found)
            _add_sealed(db, mine, group, (first, last), number, found, set(stale))
    return found


def _add_durations(
    db: sqlite3.Connection,
    selection: Selection,
    group: Sequence[str],
    span: tuple[int, int],
    number: int,
    found: dict[Cell, Durations],
) -> None:
    if span[0] >= span[1]:
        return
    where, values = where_of(selection)
    columns = "".join(f", {name}" for name in group)
    numbers: dict[GroupKey, list[int]] = {}
    for duration_us, *key in db.execute(
        f"SELECT duration_us{columns} FROM sessions WHERE {where}"
        " AND started_us >= ? AND started_us < ? AND duration_us IS NOT NULL",
        (*values, *span),
    ):
        numbers.setdefault(tuple(key), []).append(duration_us)
    for group_key, mine in numbers.items():
        found.setdefault((group_key, number), Durations()).add(sorted(mine))


def _add_sealed(
    db: sqlite3.Connection,
    selection: Selection,
    group: Sequence[str],
    days: tuple[int, int],
    number: int,
    found: dict[Cell, Durations],
    stale: set[int],
) -> None:
    where, values = where_of(selection)
    columns = "".join(f", {name}" for name in group)
    for members, day, *key in db.execute(
        f"SELECT members, slot{columns} FROM duration_days WHERE {where} AND slot BETWEEN ? AND ?",
        (*values, *days),
    ):
        if day not in stale:
            cell = (tuple(key), number)
            found.setdefault(cell, Durations()).add(sealed.unpacked(members))


def have_sessions(db: sqlite3.Connection, pairs: Sequence[tuple[int, int | None]]) -> list[bool]:
    """Return whether there is any session of each project and release (None: any release)."""
    found: list[bool] = []
    for project, release in pairs:
        if release is None:
            row = db.execute("SELECT 1 FROM counts_day WHERE project_id = ? LIMIT 1", (project,))
        else:
            row = db.execute(
                "SELECT 1 FROM counts_day WHERE release_id = ? AND project_id = ? LIMIT 1",
                (release, project),
            )
        found.append(row.fetchone() is not None)
    return found


def where_of(selection: Selection) -> tuple[str, list[int]]:
    """Return the condition of a selection and its values."""
    parts = [f"project_id IN ({_marks(selection.projects)})"]
    values = list(selection.projects)
    for column, chosen in (
        ("release_id", selection.releases),
        ("environment_id", selection.environments),
    ):
        if chosen is not None:
            parts.append(f"{column} IN ({_marks(chosen)})")
            values += chosen
    return " AND ".join(parts), values


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
