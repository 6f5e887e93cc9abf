"""The list of releases: which of them, in which order.

Orders that the database knows (date, version, build) read one page; orders by health weigh all
releases of the selection and need `flatten=1`, because a release has one health per project.

Threads: handlers run on any thread. Source: releases.md sections 3.4 and 4.4, sessions.md 5.6.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from crashfree.errors import InvalidRelease
from crashfree.release import Release
from crashfree.server import ranges, releases
from crashfree.server.endpoint import Call, Problem, answer, cursor_of, link
from crashfree.server.engine import CountReader, Selection
from crashfree.server.ranges import Range
from crashfree.server.release_health import (
    Key,
    ReleaseHealth,
    adoption_stages,
    release_health,
)
from crashfree.server.release_json import Extras, release_json
from crashfree.server.release_requests import STATUS_NAMES
from crashfree.server.releases import DATE, SEMVER_ORDER, marks
from crashfree.server.releases_search import release_term
from crashfree.server.selection import parse_terms, select

_ORDERS: Final = {
    "date": "releases.date_created DESC, releases.id DESC",
    "released": f"{DATE} DESC, releases.id DESC",
    "semver": f"releases.major IS NULL, {SEMVER_ORDER}, {DATE} DESC, releases.id DESC",
    "build": (
        "releases.build_number IS NULL, releases.build_number DESC,"
        " releases.build_code IS NULL, releases.build_code DESC, releases.id DESC"
    ),
}


def _weigh(name: str) -> Callable[[ReleaseHealth], float | None]:
    weights: dict[str, Callable[[ReleaseHealth], float | None]] = {
        "adoption": lambda health: health.users_adoption,
        "sessions": lambda health: health.counts.total,
        "users": lambda health: health.users.seen,
        "sessions_24h": lambda health: health.counts_24h.total,
        "users_24h": lambda health: health.users_24h.seen,
        # The worst first: that is what one sorts by stability for.
        "crash_free_sessions": lambda health: _negative(health.counts.crash_free_rate),
        "crash_free_users": lambda health: _negative(health.users.crash_free_rate),
        "crash_free_sessions_24h": lambda health: _negative(health.counts_24h.crash_free_rate),
        "crash_free_users_24h": lambda health: _negative(health.users_24h.crash_free_rate),
    }
    return weights[name]


_HEALTH_SORTS: Final = (
    "adoption",
    "sessions",
    "users",
    "sessions_24h",
    "users_24h",
    "crash_free_sessions",
    "crash_free_users",
    "crash_free_sessions_24h",
    "crash_free_users_24h",
)
_USER_SORTS: Final = frozenset(
    ("adoption", "users", "users_24h", "crash_free_users", "crash_free_users_24h")
)
SORTS: Final = (*_ORDERS, *_HEALTH_SORTS)
_TERM: Final = re.compile(r"!?(?:release(?:\.[a-z]+)?|environment|project(?:\.name|_id)?):")


def _negative(rate: float | None) -> float | None:
    return None if rate is None else -rate


class _Question(NamedTuple):
    """What a request asks for."""

    selection: Selection
    all_projects: bool
    substring: str
    status: str | None
    sort: str
    flatten: bool
    within: Range | None
    period: Range | None
    health: bool
    stages: bool
    precedence: bool


def list_releases(call: Call) -> Response:
    """Return releases with their counts, and health when `health=1`."""
    if call.query.get("health") == "1" or call.query.get("sort", "") in _HEALTH_SORTS:
        call.store.settle_users()
    cursor = cursor_of(call)
    with call.store.read() as db:
        question = _question(db, call)
        if question.sort in _HEALTH_SORTS:
            pairs = _by_health(db, call.store.counts(db), question, now=call.now)
            chosen = pairs[cursor.offset : cursor.offset + cursor.per_page + 1]
        elif question.precedence:
            pairs = _by_precedence(db, question)
            chosen = pairs[cursor.offset : cursor.offset + cursor.per_page + 1]
        else:
            chosen = _pairs(db, question, limit=cursor.per_page + 1, offset=cursor.offset)
        shown = _shown(db, call, question, chosen[: cursor.per_page])
    more = len(chosen) > cursor.per_page
    return answer(shown, headers={"Link": link(call, cursor, more=more)})


def _question(db: sqlite3.Connection, call: Call) -> _Question:
    query = call.query
    sort = query.get("sort") or ("released" if call.project.id else "date")
    if sort not in SORTS:
        raise Problem(400, "invalid sort")
    flatten = query.get("flatten") == "1"
    if sort in _HEALTH_SORTS and not flatten:
        raise Problem(400, "sorting by crash statistics requires flattening (flatten=1)")
    status = query.get("status", "open") or None
    if status is not None and status not in STATUS_NAMES:
        raise Problem(400, "invalid value for status")
    terms, substring = _split_query(query.get("query", ""))
    projects = call.store.projects(db)
    selection = select(db, query, projects, parse_terms(terms), release_term)
    if call.project.id:
        selection = selection._replace(projects=(call.project.id,))
    limited = any(query.get(name) for name in ("statsPeriod", "start", "end"))
    return _Question(
        selection=selection,
        all_projects=len(selection.projects) == len(projects),
        substring=substring,
        status=status,
        sort=sort,
        flatten=flatten,
        within=ranges.parse_range(query, call.now) if limited else None,
        period=ranges.health_range(query, call.now),
        health=query.get("health") == "1",
        stages=query.get("adoptionStages") == "1",
        precedence=sort == "semver" and query.get("semverPrecedence") == "1",
    )


def _split_query(text: str) -> tuple[str, str]:
    """Take the words `release.version:...` apart from a part of a name that is looked for."""
    words = re.findall(r'(?:"[^"]*"|\[[^\]]*\]|\S)+', text)
    terms = [word for word in words if _TERM.match(word)]
    rest = [word for word in words if not _TERM.match(word)]
    return " ".join(terms), " ".join(rest).strip('"')


def _condition(question: _Question) -> tuple[str, list[object]]:
    parts: list[str] = ["1"]
    values: list[object] = []
    selection = question.selection
    if question.status is not None:
        parts.append("releases.status = ?")
        values.append(question.status)
    if question.substring:
        parts.append("instr(lower(releases.version), ?)")
        values.append(question.substring.lower())
    if selection.releases is not None:
        parts.append(f"releases.id IN ({marks(selection.releases)})")
        values += selection.releases
    if question.within is not None:
        parts.append(f"{DATE} BETWEEN ? AND ?")
        values += [question.within.start_us / 1e6, question.within.end_us / 1e6]
    if selection.environments is not None:
        parts.append(
            "EXISTS (SELECT 1 FROM release_environments AS seen WHERE"
            " seen.release_id = releases.id"
            f" AND seen.project_id IN ({marks(selection.projects)})"
            f" AND seen.environment_id IN ({marks(selection.environments)}))"
        )
        values += [*selection.projects, *selection.environments]
    if question.sort == "build":
        parts.append("releases.build_code IS NOT NULL")
    return " AND ".join(parts), values


Pair = tuple[int, "int | None"]
"""A release and, in a flattened list, one of its projects."""


def _pairs(
    db: sqlite3.Connection, question: _Question, *, limit: int = -1, offset: int = 0
) -> list[Pair]:
    condition, values = _condition(question)
    projects = question.selection.projects
    order = _ORDERS.get(question.sort, _ORDERS["date"])
    if question.flatten:
        rows = db.execute(
            "SELECT releases.id, project_id FROM releases"
            " JOIN release_projects ON release_id = releases.id"
            f" WHERE {condition} AND project_id IN ({marks(projects)})"
            f" ORDER BY {order}, project_id LIMIT ? OFFSET ?",
            (*values, *projects, limit, offset),
        )
        return [(int(row[0]), int(row[1])) for row in rows]
    if not question.all_projects:
        condition += (
            " AND EXISTS (SELECT 1 FROM release_projects WHERE release_id = releases.id"
            f" AND project_id IN ({marks(projects)}))"
        )
        values = [*values, *projects]
    rows = db.execute(
        f"SELECT releases.id FROM releases WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
        (*values, limit, offset),
    )
    return [(int(row[0]), None) for row in rows]


def _by_precedence(db: sqlite3.Connection, question: _Question) -> list[Pair]:
    """Sort as people read versions: rc.10 is newer than rc.9."""
    pairs = _pairs(db, question)
    versions = dict(db.execute("SELECT id, version FROM releases").fetchall())
    keys: dict[int, tuple[Any, ...]] = {}
    for release, _ in pairs:
        try:
            parsed = Release.parse(versions[release]).parsed
        except InvalidRelease:
            parsed = None
        keys[release] = (
            (False,) if parsed is None else (True, parsed.sort_key(semver_precedence=True))
        )
    return sorted(pairs, key=lambda pair: keys[pair[0]], reverse=True)


def _by_health(
    db: sqlite3.Connection, reader: CountReader, question: _Question, *, now: float
) -> list[Pair]:
    pairs = _pairs(db, question)
    # Only what the order goes by: there may be thousands of releases.
    health = release_health(
        reader,
        question.selection,
        now=now,
        period=question.period,
        with_users=question.sort in _USER_SORTS,
        with_durations=False,
    )
    weigh = _weigh(question.sort)

    def key(pair: Pair) -> tuple[bool, float]:
        found = health.get((pair[1] or 0, pair[0]))
        weight = None if found is None else weigh(found)
        return (weight is not None, weight or 0.0)

    return sorted(pairs, key=key, reverse=True)


def _shown(
    db: sqlite3.Connection, call: Call, question: _Question, pairs: list[Pair]
) -> list[dict[str, Any]]:
    ids = tuple(dict.fromkeys(release for release, _ in pairs))
    rows = releases.rows(db, ids)
    narrow = question.selection._replace(releases=ids)
    reader = call.store.counts(db)
    extras = Extras(
        health=_health(reader, question, narrow, now=call.now),
        stages=adoption_stages(db, narrow) if question.stages else None,
    )
    selection = None if question.all_projects else question.selection
    listed = release_json(db, reader, rows, extras, selection=selection)
    shown = {entry["id"]: entry for entry in listed}
    return [_flattened(shown[release], project) for release, project in pairs]


def _health(
    reader: CountReader, question: _Question, narrow: Selection, *, now: float
) -> Mapping[Key, ReleaseHealth] | None:
    if not question.health:
        return None
    return release_health(reader, narrow, now=now, period=question.period)


def _flattened(entry: dict[str, Any], project: int | None) -> dict[str, Any]:
    """Return an entry with one of its projects only."""
    if project is None:
        return entry
    mine = [shown for shown in entry["projects"] if shown["id"] == project]
    flat = entry | {"projects": mine, "newGroups": sum(shown["newGroups"] for shown in mine)}
    if "adoptionStages" in entry:
        slugs = {shown["slug"] for shown in mine}
        flat["adoptionStages"] = {
            slug: stage for slug, stage in entry["adoptionStages"].items() if slug in slugs
        }
    return flat
