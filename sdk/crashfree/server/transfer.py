"""A database's facts as lines of text, and back.

JSON lines hold everything that counts: projects, releases, sessions, aggregates, events. The first
line names the export, so that one is not taken in twice: session updates and events would be
recognized, but aggregates have no identity and would add up. CSV is for spreadsheets and one way.
Users leave as what is stored, a keyed hash; taken in elsewhere, the same user stays the same.

Commits, deploys, issues and settings are not in an export; a backup has them.

Threads: any; exporting reads one snapshot, importing takes the write lock a batch at a time.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TextIO, cast

from crashfree._ground import ids, json
from crashfree._protocol.timestamps import parse_rfc3339, rfc3339
from crashfree.server.facts import (
    AggregatesFact,
    EventFact,
    Facts,
    SessionFact,
    packed,
)
from crashfree.server.store import Store, make_private

FORMAT: Final = 1
KINDS: Final = ("project", "release", "session", "aggregate", "event")
_MICRO: Final = 1_000_000
_BATCH: Final = 500
_COLUMNS: Final = ("exited", "errored", "crashed", "abnormal", "unhandled")


class BadExport(ValueError):
    """A file that is no export, or one line of it that cannot be used."""


class AlreadyTaken(Exception):
    """An export that this database has taken in before."""


def export_lines(
    db: sqlite3.Connection,
    *,
    at: float,
    kinds: Iterable[str] = KINDS,
    projects: Mapping[int, str] | None = None,
    since: float = 0.0,
    until: float = float("inf"),
) -> Iterator[dict[str, Any]]:
    """Yield an export, line by line, beginning with the one that names it.

    `projects` maps the ids that are wanted to their slugs; None: all.
    """
    slugs = projects
    if slugs is None:
        slugs = {row[0]: row[1] for row in db.execute("SELECT id, slug FROM projects")}
    yield {"type": "export", "format": FORMAT, "id": ids.event_id(), "at": rfc3339(at)}
    wanted = frozenset(kinds)
    for kind, rows in (
        ("project", _projects),
        ("release", _releases),
        ("session", _sessions),
        ("aggregate", _aggregates),
        ("event", _events),
    ):
        if kind in wanted:
            for row in rows(db, slugs, since, until):
                yield {"type": kind, **row}


def write_csv(lines: Iterable[Mapping[str, Any]], kind: str, out: TextIO) -> int:
    """Write the lines of one kind as CSV; return how many there were."""
    table: Any = None
    count = 0
    for line in lines:
        if line["type"] != kind:
            continue
        row = {key: _cell(value) for key, value in line.items() if key not in ("type", "payload")}
        if table is None:
            table = csv.DictWriter(out, list(row), lineterminator="\n")
            table.writeheader()
        table.writerow(row)
        count += 1
    return count


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    # A text that a spreadsheet would run as a formula.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _projects(
    db: sqlite3.Connection, slugs: Mapping[int, str], since: float, until: float
) -> Iterator[dict[str, Any]]:
    for row in db.execute("SELECT id, slug, name, platform, date_created FROM projects"):
        if row[0] in slugs:
            yield {
                "slug": row[1],
                "name": row[2],
                "platform": row[3],
                "created": rfc3339(row[4]),
            }


def _releases(
    db: sqlite3.Connection, slugs: Mapping[int, str], since: float, until: float
) -> Iterator[dict[str, Any]]:
    joined: dict[int, list[str]] = {}
    for release, project in db.execute("SELECT release_id, project_id FROM release_projects"):
        if project in slugs:
            joined.setdefault(release, []).append(slugs[project])
    for row in db.execute(
        "SELECT id, version, date_created, date_released, ref, url, status FROM releases"
    ):
        if row[0] in joined:
            yield {
                "version": row[1],
                "projects": sorted(joined[row[0]]),
                "created": rfc3339(row[2]),
                "released": None if row[3] is None else rfc3339(row[3]),
                "ref": row[4],
                "url": row[5],
                "status": row[6],
            }


def _us(seconds: float) -> int:
    return int(min(max(seconds * _MICRO, -(2.0**62)), 2.0**62))


_NAMED: Final = (
    " JOIN releases ON releases.id = release_id"
    " JOIN environments ON environments.id = environment_id"
    " LEFT JOIN users ON users.id = user_id"
    " WHERE project_id = ? AND started_us >= ? AND started_us < ? ORDER BY started_us"
)


def _sessions(
    db: sqlite3.Connection, slugs: Mapping[int, str], since: float, until: float
) -> Iterator[dict[str, Any]]:
    for project, slug in slugs.items():
        for row in db.execute(
            "SELECT sid, started_us, version, environments.name, users.hash, sessions.status,"
            " errors, announced, rank, changed_us, duration_us, mechanism FROM sessions" + _NAMED,
            (project, _us(since), _us(until)),
        ):
            yield {
                "project": slug,
                "sid": row[0].hex(),
                "started": rfc3339(row[1] / _MICRO),
                "release": row[2],
                "environment": row[3],
                "user": None if row[4] is None else row[4].hex(),
                "status": row[5],
                "errors": row[6],
                "init": bool(row[7]),
                "rank": row[8],
                "changed": rfc3339(row[9] / _MICRO),
                "duration": None if row[10] is None else row[10] / _MICRO,
                "mechanism": row[11],
            }


def _aggregates(
    db: sqlite3.Connection, slugs: Mapping[int, str], since: float, until: float
) -> Iterator[dict[str, Any]]:
    for project, slug in slugs.items():
        for row in db.execute(
            "SELECT started_us, version, environments.name, users.hash, exited, errored, crashed,"
            " abnormal, unhandled FROM aggregates" + _NAMED,
            (project, _us(since), _us(until)),
        ):
            yield {
                "project": slug,
                "started": rfc3339(row[0] / _MICRO),
                "release": row[1],
                "environment": row[2],
                "user": None if row[3] is None else row[3].hex(),
                **dict(zip(_COLUMNS, row[4:], strict=True)),
            }


def _events(
    db: sqlite3.Connection, slugs: Mapping[int, str], since: float, until: float
) -> Iterator[dict[str, Any]]:
    for project, slug in slugs.items():
        for row in db.execute(
            "SELECT event_id, received, timestamp, version, environments.name, dist, level,"
            " platform, payload FROM events LEFT JOIN releases ON releases.id = release_id"
            " JOIN environments ON environments.id = environment_id"
            " WHERE project_id = ? AND timestamp >= ? AND timestamp < ? ORDER BY events.id",
            (project, since, until),
        ):
            yield {
                "project": slug,
                "event_id": row[0],
                "received": rfc3339(row[1]),
                "timestamp": rfc3339(row[2]),
                "release": row[3],
                "environment": row[4],
                "dist": row[5],
                "level": row[6],
                "platform": row[7],
                "payload": json.decode(row[8]),
            }


# Taking in.


def import_lines(
    store: Store, lines: Iterable[bytes], *, at: float, again: bool = False
) -> dict[str, int]:
    """Take in an export; return how many lines of each kind.

    Sessions are merged with what is known of them, events that are there already are left alone.
    Raises BadExport, or AlreadyTaken unless `again`; batches before a bad line stay.
    """
    numbered = enumerate(lines, 1)
    first = next(numbered, None)
    head = {} if first is None else _object(*first)
    if head.get("type") != "export" or head.get("format") != FORMAT:
        raise BadExport(f"line 1: not the head of an export of format {FORMAT}")
    mark = f"imported:{head.get('id')}"
    if store.meta(mark) is not None and not again:
        raise AlreadyTaken(str(head.get("id")))
    taking = _Taking(store, at)
    for number, line in numbered:
        if line.strip():
            try:
                taking.take(_object(number, line))
            except (KeyError, TypeError, ValueError) as error:
                raise BadExport(f"line {number}: {error!r}") from None
    taking.flush()
    store.set_meta(mark, rfc3339(at))
    return taking.counts


def _object(number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.decode(line)
    except ValueError as error:
        raise BadExport(f"line {number}: {error}") from None
    if not isinstance(value, dict):
        raise BadExport(f"line {number}: no JSON object")
    return cast("dict[str, Any]", value)


class _Taking:
    """An import under way."""

    def __init__(self, store: Store, at: float) -> None:
        self._store = store
        self._at = at
        self._waiting: list[Facts] = []
        self.counts: dict[str, int] = {}
        with store.read() as db:
            self._projects = {project.slug: project.id for project in store.projects(db)}

    def take(self, line: Mapping[str, Any]) -> None:
        kind = line["type"]
        if kind == "project":
            self._project(line)
        elif kind == "release":
            self._release(line)
        elif kind == "session":
            self._add(line, sessions=(_session_fact(line),))
        elif kind == "aggregate":
            self._add(line, aggregates=(_aggregates_fact(line),))
        elif kind == "event":
            self._add(line, event=_event_fact(line))
        else:
            raise ValueError(f"unknown type {kind!r}")
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._store.record(*self._waiting)
            self._waiting = []

    def _project(self, line: Mapping[str, Any]) -> None:
        if line["slug"] not in self._projects:
            with self._store.write() as db:
                made = self._store.add_project(
                    db,
                    str(line["slug"]),
                    at=parse_rfc3339(line["created"]),
                    name=line["name"],
                    platform=line["platform"],
                )
            self._projects[made.slug] = made.id

    def _project_id(self, slug: str) -> int:
        if slug not in self._projects:
            self._project(
                {"slug": slug, "name": slug, "platform": None, "created": rfc3339(self._at)}
            )
        return self._projects[slug]

    def _release(self, line: Mapping[str, Any]) -> None:
        projects = [self._project_id(slug) for slug in line["projects"]]
        created = parse_rfc3339(line["created"])
        released = None if line["released"] is None else parse_rfc3339(line["released"])
        with self._store.write() as db:
            for project in projects:
                release = self._store.release_id(db, line["version"], project, created, seen=False)
                db.execute(
                    "UPDATE releases SET date_released = coalesce(date_released, ?),"
                    " ref = coalesce(ref, ?), url = coalesce(url, ?),"
                    " date_created = min(date_created, ?) WHERE id = ?",
                    (released, line["ref"], line["url"], created, release),
                )

    def _add(
        self,
        line: Mapping[str, Any],
        *,
        event: EventFact | None = None,
        sessions: tuple[SessionFact, ...] = (),
        aggregates: tuple[AggregatesFact, ...] = (),
    ) -> None:
        project = self._project_id(line["project"])
        received = parse_rfc3339(line.get("received") or line.get("changed") or line["started"])
        self._waiting.append(
            Facts(project, received, None, event, sessions, aggregates, (), (), {})
        )
        if len(self._waiting) >= _BATCH:
            self.flush()


def _session_fact(line: Mapping[str, Any]) -> SessionFact:
    duration = line["duration"]
    return SessionFact(
        sid=bytes.fromhex(line["sid"]),
        release=str(line["release"]),
        environment=str(line["environment"]),
        did=line["user"],
        started_us=round(parse_rfc3339(line["started"]) * _MICRO),
        changed_us=round(parse_rfc3339(line["changed"]) * _MICRO),
        rank=int(line["rank"]),
        init=bool(line["init"]),
        status=str(line["status"]),
        errors=int(line["errors"]),
        duration_us=None if duration is None else round(duration * _MICRO),
        mechanism=line["mechanism"],
    )


def _aggregates_fact(line: Mapping[str, Any]) -> AggregatesFact:
    started_us = round(parse_rfc3339(line["started"]) * _MICRO)
    row = (started_us, line["user"], packed(*(int(line[name]) for name in _COLUMNS)))
    return AggregatesFact(str(line["release"]), str(line["environment"]), (row,))


def _event_fact(line: Mapping[str, Any]) -> EventFact:
    payload = line["payload"]
    if not isinstance(payload, dict):
        raise ValueError("an event's payload is no object")
    payload = cast("dict[str, Any]", payload)
    return EventFact(
        event_id=str(line["event_id"]),
        timestamp=parse_rfc3339(line["timestamp"]),
        release=line["release"],
        environment=str(line["environment"]),
        dist=line["dist"],
        level=str(line["level"]),
        platform=str(line["platform"]),
        raw=json.encode(payload),
        payload=payload,
    )


def backup(store: Store, destination: str) -> None:
    """Copy the database, while it is in use, to a new file."""
    make_private(destination)
    target = sqlite3.connect(destination)
    try:
        with store.read() as db:
            db.execute("ROLLBACK")  # the copy takes its own snapshot, page by page
            db.backup(target, pages=1000)
            db.execute("BEGIN")
    finally:
        target.close()
