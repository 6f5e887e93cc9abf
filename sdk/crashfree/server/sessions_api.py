"""`GET …/sessions/`: release health over time, in Sentry's form.

    ?field=sum(session)&field=crash_free_rate(user)&groupBy=release&interval=1d&statsPeriod=14d

Every number is exact for the range that was asked for; a rate without data is null.

Threads: handlers run on any thread. Source: sessions.md sections 5.3 to 5.7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from crashfree.server import ranges
from crashfree.server.endpoint import Call, Problem, answer, api, cursor_of, iso
from crashfree.server.engine import Cell, CountReader, GroupKey, Intervals, Selection
from crashfree.server.health import STATUSES, Counts, Durations, UserCounts
from crashfree.server.releases_search import release_term
from crashfree.server.selection import parse_terms, select
from crashfree.server.sessions import (
    ABNORM,
    CRASH,
    FOREGROUND_HANG,
    HANG,
    HURT,
    KINDS,
    SEEN,
    UNHANDLE,
)

MICRO: Final = 1_000_000
_COLUMNS: Final = {
    "project": "project_id",
    "release": "release_id",
    "environment": "environment_id",
}
_STATUS: Final = "session.status"


class _Numbers(NamedTuple):
    """Everything that is known of one group in one interval."""

    counts: Counts
    users: UserCounts
    durations: Durations


_NOTHING: Final = _Numbers(Counts(), UserCounts(), Durations())


class _Field(NamedTuple):
    """One field: what it needs and how it is read off."""

    needs: str
    """`counts`, `users` or `durations`."""
    kinds: int
    """Which user sets."""
    value: Callable[[_Numbers], float | None]
    by_status: Callable[[_Numbers, str], float | None]
    """Its value when grouped by status."""


def _never(numbers: _Numbers, status: str) -> float | None:
    return None


def _healthy_only(
    value: Callable[[_Numbers], float | None],
) -> Callable[[_Numbers, str], float | None]:
    return lambda numbers, status: value(numbers) if status == "healthy" else None


def _sessions(numbers: _Numbers) -> float | None:
    return numbers.counts.total


def _sessions_by_status(numbers: _Numbers, status: str) -> float | None:
    found: int = getattr(numbers.counts, status)
    return found


def _users(numbers: _Numbers) -> float | None:
    return numbers.users.seen


def _users_by_status(numbers: _Numbers, status: str) -> float | None:
    found: int = getattr(numbers.users, status)
    return found


def _rate(needs: str, name: str, kinds: int = 0) -> _Field:
    def value(numbers: _Numbers) -> float | None:
        found: float | None = getattr(getattr(numbers, needs), name)
        return found

    return _Field(needs, kinds, value, _never)


def _quantile(share: float) -> _Field:
    def value(numbers: _Numbers) -> float | None:
        return numbers.durations.quantile(share)

    return _Field("durations", 0, value, _healthy_only(value))


def _duration(name: str) -> _Field:
    def value(numbers: _Numbers) -> float | None:
        found: float | None = getattr(numbers.durations, name)
        return found

    return _Field("durations", 0, value, _healthy_only(value))


FIELDS: Final[Mapping[str, _Field]] = {
    "sum(session)": _Field("counts", 0, _sessions, _sessions_by_status),
    "count_unique(user)": _Field("users", SEEN, _users, _users_by_status),
    "crash_free_rate(session)": _rate("counts", "crash_free_rate"),
    "crash_free_rate(user)": _rate("users", "crash_free_rate", SEEN | CRASH),
    "crash_rate(session)": _rate("counts", "crash_rate"),
    "crash_rate(user)": _rate("users", "crash_rate", SEEN | CRASH),
    "unhandled_rate(session)": _rate("counts", "unhandled_rate"),
    "unhandled_rate(user)": _rate("users", "unhandled_rate", SEEN | CRASH | UNHANDLE),
    "errored_rate(session)": _rate("counts", "errored_rate"),
    "errored_rate(user)": _rate("users", "errored_rate", SEEN | HURT),
    "abnormal_rate(session)": _rate("counts", "abnormal_rate"),
    "abnormal_rate(user)": _rate("users", "abnormal_rate", SEEN | ABNORM),
    "anr_rate()": _rate("users", "anr_rate", SEEN | HANG),
    "foreground_anr_rate()": _rate("users", "foreground_anr_rate", SEEN | FOREGROUND_HANG),
    "avg(session.duration)": _duration("average"),
    "max(session.duration)": _duration("maximum"),
    "p50(session.duration)": _quantile(0.50),
    "p75(session.duration)": _quantile(0.75),
    "p90(session.duration)": _quantile(0.90),
    "p95(session.duration)": _quantile(0.95),
    "p99(session.duration)": _quantile(0.99),
}


def get_sessions(call: Call) -> Response:
    """Return session and user counts, rates and durations by group and interval."""
    fields = _fields(call)
    groups = _groups(call)
    span = ranges.parse_range(call.query, call.now)
    step = ranges.parse_interval(call.query.get("interval"), span)
    intervals = Intervals.every(span.start_us, span.end_us, step)
    text = call.query.get("query", "")
    call.store.settle_users()
    with call.store.read() as db:
        selection = select(db, call.query, call.store.projects(db), parse_terms(text), release_term)
        table = Table(db, call.store.counts(db), selection, fields, groups)
        rows = table.rows(
            intervals,
            totals=call.query.get("includeTotals") != "0",
            series=call.query.get("includeSeries") != "0",
        )
    rows = _ordered(rows, call, fields)
    return answer(
        {
            "start": iso(span.start_us / MICRO),
            "end": iso(span.end_us / MICRO),
            "query": text,
            "intervals": [iso(start / MICRO) for start in intervals.starts],
            "groups": rows,
        }
    )


class Table:
    """The groups of an answer; the page's plots are made of them, too."""

    def __init__(
        self,
        db: sqlite3.Connection,
        counts: CountReader,
        selection: Selection,
        fields: Sequence[str],
        groups: Sequence[str],
    ) -> None:
        self._db = db
        self._counts = counts
        self._selection = selection
        self._fields = fields
        self._names = [name for name in groups if name != _STATUS]
        self._columns = [_COLUMNS[name] for name in self._names]
        self._by_status = _STATUS in groups
        self._needs = {FIELDS[field].needs for field in fields}
        self._kinds = sum(KINDS) if self._by_status else _united(fields)

    def rows(self, intervals: Intervals, *, totals: bool, series: bool) -> list[dict[str, Any]]:
        """Return one row a group, and a status where they are grouped by it."""
        whole = self._numbers(Intervals.whole(intervals.start_us, intervals.end_us))
        cells = self._numbers(intervals) if series else {}
        keys = sorted({key for key, _ in whole})
        if not keys and not self._columns:
            keys = [()]
        labels = self._labels(keys)
        rows: list[dict[str, Any]] = []
        points = len(intervals.starts)
        for key in keys:
            by = {name: labels[name][part] for name, part in zip(self._names, key, strict=True)}
            for status in STATUSES if self._by_status else (None,):
                row: dict[str, Any] = {
                    "by": by if status is None else {**by, _STATUS: status},
                }
                if totals:
                    row["totals"] = {
                        field: _value(field, whole.get((key, 0), _NOTHING), status)
                        for field in self._fields
                    }
                if series:
                    row["series"] = {
                        field: [
                            _value(field, cells.get((key, point), _NOTHING), status)
                            for point in range(points)
                        ]
                        for field in self._fields
                    }
                rows.append(row)
        return rows

    def _numbers(self, intervals: Intervals) -> dict[Cell, _Numbers]:
        reader, selection, columns = self._counts, self._selection, self._columns
        if not selection.projects:
            return {}
        # Sessions always: they say which groups exist.
        counts = reader.session_counts(selection, intervals, columns)
        users: Mapping[Cell, UserCounts] = {}
        if "users" in self._needs:
            users = reader.user_counts(selection, intervals, columns, kinds=self._kinds)
        durations: Mapping[Cell, Durations] = {}
        if "durations" in self._needs:
            durations = reader.durations(selection, intervals, columns)
        return {
            cell: _Numbers(found, users.get(cell, UserCounts()), durations.get(cell, Durations()))
            for cell, found in counts.items()
        }

    def _labels(self, keys: Sequence[GroupKey]) -> dict[str, dict[int, Any]]:
        labels: dict[str, dict[int, Any]] = {}
        for place, name in enumerate(self._names):
            ids = sorted({key[place] for key in keys})
            if name == "project":
                labels[name] = {number: number for number in ids}
                continue
            table, column = (
                ("releases", "version") if name == "release" else ("environments", "name")
            )
            labels[name] = names_of(self._db, table, column, ids)
        return labels


def _united(fields: Sequence[str]) -> int:
    kinds = 0
    for field in fields:
        kinds |= FIELDS[field].kinds
    return kinds


def names_of(db: sqlite3.Connection, table: str, column: str, ids: Sequence[int]) -> dict[int, str]:
    """Return the names behind ids."""
    names: dict[int, str] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        marks = ", ".join("?" * len(part))
        for row in db.execute(f"SELECT id, {column} FROM {table} WHERE id IN ({marks})", part):
            names[row[0]] = row[1]
    return names


def _value(field: str, numbers: _Numbers, status: str | None) -> float | None:
    if status is None:
        return FIELDS[field].value(numbers)
    return FIELDS[field].by_status(numbers, status)


def _fields(call: Call) -> list[str]:
    fields = [text for value in call.query.getlist("field") for text in _listed(value)]
    if not fields:
        raise Problem(400, 'Request is missing a "field"')
    for field in fields:
        if field not in FIELDS:
            raise Problem(400, f'Invalid field: "{field[:60]}"')
    return list(dict.fromkeys(fields))


def _groups(call: Call) -> list[str]:
    groups = [text for value in call.query.getlist("groupBy") for text in _listed(value)]
    for name in groups:
        if name not in _COLUMNS and name != _STATUS:
            raise Problem(400, f'Invalid groupBy: "{name[:60]}"')
    return list(dict.fromkeys(groups))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _ordered(rows: list[dict[str, Any]], call: Call, fields: Sequence[str]) -> list[dict[str, Any]]:
    order = call.query.get("orderBy")
    if order:
        field = order.removeprefix("-")
        if field not in fields:
            raise Problem(400, f'Invalid orderBy: "{order[:60]}" is not among the fields')
        if rows and "totals" not in rows[0]:
            raise Problem(400, "Cannot use orderBy without totals")
        known = [row for row in rows if row["totals"][field] is not None]
        unknown = [row for row in rows if row["totals"][field] is None]
        known.sort(key=lambda row: row["totals"][field], reverse=order.startswith("-"))
        rows = known + unknown
    if "per_page" in call.query:
        cursor = cursor_of(call)
        rows = rows[cursor.offset : cursor.offset + cursor.per_page]
    return rows


ROUTES: Final = [api("/api/0/organizations/{organization}/sessions/", GET=get_sessions)]
