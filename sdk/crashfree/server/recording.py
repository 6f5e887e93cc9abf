"""Facts into tables, inside a transaction that somebody else opens and ends.

Everything that several envelopes of one batch add to the same row is added up first and written
once. The caches map names to ids; after a rollback they are dropped, because an id may have gone.

Threads: whoever holds the store's write lock.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from crashfree.errors import InvalidRelease
from crashfree.release import Release
from crashfree.server import pending
from crashfree.server.engine import PlacedBuckets, PlacedSession
from crashfree.server.facts import (
    AggregatesFact,
    EventFact,
    Facts,
    SessionFact,
    TallyKey,
    unpacked,
)
from crashfree.server.sessions import (
    COLUMNS,
    SessionRow,
    anomaly,
    begun,
    bucket_flags,
    merged,
)

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 86_400_000_000
DAY: Final = 86_400
_MOST_CACHED_USERS: Final = 50_000
_MOST_CACHED_NAMES: Final = 4096
_SEEN_EVERY: Final = 60.0

CountKey = tuple[int, int, int, int]
"""Project, slot, release, environment."""


class MetEvent(NamedTuple):
    """A new event that is about to be written."""

    project_id: int
    event_id: str
    timestamp: float
    release_id: int | None
    environment_id: int
    payload: Mapping[str, Any]


class Hooks(NamedTuple):
    """Who else wants to know, inside the same transaction."""

    issue_of: Callable[[sqlite3.Connection, MetEvent], int | None] | None = None
    """Counts a new event to its issue, and says which one that is."""
    release_created: Callable[[sqlite3.Connection, int, int, float], None] | None = None
    """Release, project, time: a release has met a project for the first time."""


class _Batch:
    """What one transaction will write into rows that several envelopes may touch."""

    __slots__ = (
        "aggregates",
        "counts",
        "flags",
        "new_keys",
        "rows",
        "seen",
        "stale",
        "tallies",
        "unsealed",
    )
    rows: dict[tuple[int, bytes], tuple[int, SessionRow]]
    """(project, sid) -> start and state; what was read or changed in this batch."""
    new_keys: list[tuple[bytes, int, int]]
    counts: dict[CountKey, list[int]]
    flags: dict[tuple[int, int, int, int, int], int]
    stale: set[CountKey]
    unsealed: set[tuple[int, int]]
    """(project, day) whose durations have changed."""
    aggregates: dict[tuple[int, int, int], tuple[dict[int, int], dict[tuple[int, int], int]]]
    """(project, release, environment) -> packed counts by start, and by start and user."""
    tallies: dict[tuple[int, int, str, str, str], int]
    seen: dict[tuple[int, int, int], float]

    def __init__(self) -> None:
        self.rows = {}
        self.new_keys = []
        self.counts = {}
        self.flags = {}
        self.stale = set()
        self.unsealed = set()
        self.aggregates = {}
        self.tallies = {}
        self.seen = {}


class Recorder:
    """Writes facts."""

    __slots__ = (
        "_environments",
        "_hooks",
        "_last_seen",
        "_releases",
        "_secret",
        "_unsealed",
        "_users",
    )
    _secret: bytes
    _hooks: Hooks
    _releases: dict[tuple[int, str], int]
    _environments: dict[str, int]
    _users: dict[bytes, int]
    _last_seen: dict[tuple[int, int, int], float]
    _unsealed: set[tuple[int, int]]
    """Days that are known to be marked as stale."""

    def __init__(self, secret: bytes, hooks: Hooks) -> None:
        self._secret = secret
        self._hooks = hooks
        self._releases = {}
        self._environments = {}
        self._users = {}
        self._last_seen = {}
        self._unsealed = set()

    def sealed(self, project_id: int, day: int) -> None:
        """Take note that the durations of a day were packed: the next change must unseal it."""
        self._unsealed.discard((project_id, day))

    def forget(self) -> None:
        """Drop the caches: after a rollback, or when rows were deleted."""
        self._releases.clear()
        self._environments.clear()
        self._users.clear()
        self._last_seen.clear()
        self._unsealed.clear()

    def record(self, db: sqlite3.Connection, envelopes: Iterable[Facts]) -> None:
        """Write a batch; the caller commits, or rolls back and calls `forget`."""
        batch = _Batch()
        for facts in envelopes:
            self._envelope(db, batch, facts)
        self._flush(db, batch)

    def place(
        self, db: sqlite3.Connection, envelopes: Iterable[Facts]
    ) -> tuple[list[PlacedSession], list[PlacedBuckets]]:
        """Give the names and users of sessions their numbers; for an engine, which writes them."""
        batch = _Batch()
        sessions: list[PlacedSession] = []
        buckets: list[PlacedBuckets] = []
        for facts in envelopes:
            for fact in facts.sessions:
                place = self._place(db, batch, facts, fact.release, fact.environment)
                user = self.user_id(db, fact.did)
                sessions.append(PlacedSession(*place, user, fact._replace(did=None)))
            for item in facts.aggregates:
                place = self._place(db, batch, facts, item.release, item.environment)
                rows = tuple(
                    (started_us, self.user_id(db, did), counts)
                    for started_us, did, counts in item.rows
                )
                buckets.append(PlacedBuckets(*place, rows))
        self._flush(db, batch)
        return sessions, buckets

    def _place(
        self, db: sqlite3.Connection, batch: _Batch, facts: Facts, version: str, name: str
    ) -> tuple[int, int, int]:
        project = facts.project_id
        release = self.release_id(db, version, project, facts.received)
        environment = self.environment_id(db, name)
        self._environment_seen(batch, release, project, environment, facts.received)
        return project, release, environment

    # Names.

    def environment_id(self, db: sqlite3.Connection, name: str) -> int:
        """Return the id of an environment, made when new; `""` is the one without a name."""
        known = self._environments.get(name)
        if known is not None:
            return known
        row = db.execute("SELECT id FROM environments WHERE name = ?", (name,)).fetchone()
        if row is None:
            cursor = db.execute("INSERT INTO environments (name) VALUES (?)", (name,))
            found = int(cursor.lastrowid or 0)
        else:
            found = int(row[0])
        if len(self._environments) >= _MOST_CACHED_NAMES:
            self._environments.clear()
        self._environments[name] = found
        return found

    def release_id(
        self,
        db: sqlite3.Connection,
        version: str,
        project_id: int,
        at: float,
        *,
        seen: bool = True,
    ) -> int:
        """Return the id of a release, made (and joined to the project) when new.

        `seen`: data of it has arrived, in contrast to being created by hand.
        """
        known = self._releases.get((project_id, version))
        if known is not None:
            return known
        row = db.execute("SELECT id FROM releases WHERE version = ?", (version,)).fetchone()
        found = insert_release(db, version, at) if row is None else int(row[0])
        joined = db.execute(
            "SELECT first_seen FROM release_projects WHERE release_id = ? AND project_id = ?",
            (found, project_id),
        ).fetchone()
        if joined is None:
            db.execute(
                "INSERT INTO release_projects (release_id, project_id, first_seen, last_seen)"
                " VALUES (?, ?, ?, ?)",
                (found, project_id, at if seen else None, at if seen else None),
            )
            if self._hooks.release_created is not None:
                self._hooks.release_created(db, found, project_id, at)
        elif joined[0] is None and seen:
            db.execute(
                "UPDATE release_projects SET first_seen = ?"
                " WHERE release_id = ? AND project_id = ?",
                (at, found, project_id),
            )
        if seen:
            # Only then: a release made by hand still has to be told when it is first seen.
            if len(self._releases) >= _MOST_CACHED_NAMES:
                self._releases.clear()
            self._releases[project_id, version] = found
        return found

    def user_id(self, db: sqlite3.Connection, did: str | None) -> int:
        """Return the number of a user, made when new; 0 for nobody. Only a keyed hash is kept."""
        if not did:
            return 0
        hashed = hashlib.blake2b(
            did.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=16
        ).digest()
        known = self._users.get(hashed)
        if known is not None:
            return known
        row = db.execute("SELECT id FROM users WHERE hash = ?", (hashed,)).fetchone()
        if row is None:
            found = int(db.execute("INSERT INTO users (hash) VALUES (?)", (hashed,)).lastrowid or 0)
        else:
            found = int(row[0])
        if len(self._users) >= _MOST_CACHED_USERS:
            self._users.clear()
        self._users[hashed] = found
        return found

    # One envelope.

    def _envelope(self, db: sqlite3.Connection, batch: _Batch, facts: Facts) -> None:
        day = int(facts.received // DAY)
        for (what, category, reason), quantity in facts.tallies.items():
            _tally(batch, facts.project_id, day, (what, category, reason), quantity)
        for fact in facts.sessions:
            self._session(db, batch, facts, fact, day)
        for aggregates in facts.aggregates:
            self._aggregates(db, batch, facts, aggregates)
        if facts.event is not None:
            self._event(db, batch, facts, facts.event, day)
        if facts.forwarded is not None:
            db.execute(
                "INSERT INTO forwarding (project_id, received, body) VALUES (?, ?, ?)",
                (facts.project_id, facts.received, facts.forwarded),
            )
        for file in facts.attachments:
            db.execute(
                "INSERT INTO attachments (project_id, event_id, name, content_type,"
                " attachment_type, size, received, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    facts.project_id,
                    file.event_id,
                    file.name,
                    file.content_type,
                    file.attachment_type,
                    file.size,
                    facts.received,
                    file.data,
                ),
            )
        for document in facts.documents:
            if document.kind == "check_in":
                db.execute(
                    "INSERT INTO check_ins (project_id, received, payload) VALUES (?, ?, ?)",
                    (facts.project_id, facts.received, document.raw),
                )
            else:
                db.execute(
                    "INSERT INTO feedback (project_id, event_id, received, payload)"
                    " VALUES (?, ?, ?, ?)",
                    (facts.project_id, document.event_id, facts.received, document.raw),
                )

    def _session(
        self, db: sqlite3.Connection, batch: _Batch, facts: Facts, fact: SessionFact, day: int
    ) -> None:
        project = facts.project_id
        key = (project, fact.sid)
        user = self.user_id(db, fact.did)
        known = batch.rows.get(key) or _read_session(db, project, fact.sid)
        if known is None:
            _, release, environment = self._place(db, batch, facts, fact.release, fact.environment)
            row = begun(fact, release, environment, user)
            batch.rows[key] = (fact.started_us, row)
            batch.new_keys.append((fact.sid, project, fact.started_us))
            if not fact.init:
                _tally(batch, project, day, ("sessions", "session", "missing_init"), 1)
            if row.duration_us is not None:
                batch.unsealed.add((project, fact.started_us // DAY_US))
            place = (project, fact.started_us // HOUR_US, release, environment)
            _count(batch, place, row.column, 1)
            _flag(batch, place, user, row.flags)
            return
        started_us, before = known
        self._environment_seen(
            batch, before.release_id, project, before.environment_id, facts.received
        )
        row = merged(before, fact, user)
        odd = anomaly(before, fact, row)
        if odd is not None:
            _tally(batch, project, day, ("sessions", "session", odd), 1)
        if row == before:
            return
        if row.announced and not before.announced:
            _tally(batch, project, day, ("sessions", "session", "missing_init"), -1)
        batch.rows[key] = (started_us, row)
        if row.duration_us != before.duration_us:
            batch.unsealed.add((project, started_us // DAY_US))
        place = (project, started_us // HOUR_US, row.release_id, row.environment_id)
        if row.column != before.column:
            _count(batch, place, before.column, -1)
            _count(batch, place, row.column, 1)
        if before.flags & ~row.flags:
            # Sets only grow; when a user may have to leave one, the hour is counted anew.
            batch.stale.add(place)
        _flag(batch, place, row.user_id, row.flags)

    def _aggregates(
        self, db: sqlite3.Connection, batch: _Batch, facts: Facts, fact: AggregatesFact
    ) -> None:
        project, release, environment = self._place(
            db, batch, facts, fact.release, fact.environment
        )
        nobodys, users = batch.aggregates.setdefault((project, release, environment), ({}, {}))
        # The innermost loop of the server.
        for started_us, did, counts in fact.rows:
            if did is None:
                nobodys[started_us] = nobodys.get(started_us, 0) + counts
                continue
            user = self.user_id(db, did)
            key = (started_us, user)
            users[key] = users.get(key, 0) + counts
            place = (project, started_us // HOUR_US, release, environment)
            _flag(batch, place, user, bucket_flags(*unpacked(counts)))

    def _event(
        self, db: sqlite3.Connection, batch: _Batch, facts: Facts, event: EventFact, day: int
    ) -> None:
        project = facts.project_id
        release = (
            self.release_id(db, event.release, project, facts.received)
            if event.release is not None
            else None
        )
        environment = self.environment_id(db, event.environment)
        if release is not None:
            self._environment_seen(batch, release, project, environment, facts.received)
        if db.execute(
            "SELECT 1 FROM events WHERE project_id = ? AND event_id = ?", (project, event.event_id)
        ).fetchone():
            _tally(batch, project, day, ("refused", "error", "duplicate"), 1)
            return
        issue = None
        if self._hooks.issue_of is not None:
            # Before it is written: to write the issue into its row later would write all of it
            # once more.
            issue = self._hooks.issue_of(
                db,
                MetEvent(
                    project,
                    event.event_id,
                    event.timestamp,
                    release,
                    environment,
                    event.payload,
                ),
            )
        db.execute(
            "INSERT INTO events (project_id, event_id, received, timestamp, release_id,"
            " environment_id, dist, level, platform, issue_id, payload)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                project,
                event.event_id,
                facts.received,
                event.timestamp,
                release,
                environment,
                event.dist,
                event.level,
                event.platform,
                issue,
                event.raw,
            ),
        )
        _tally(batch, project, day, ("stored", "error", event.level), 1)

    def _environment_seen(
        self, batch: _Batch, release: int, project: int, environment: int, at: float
    ) -> None:
        key = (release, project, environment)
        if at - self._last_seen.get(key, 0.0) >= _SEEN_EVERY:
            batch.seen[key] = at

    # The end of a batch.

    def _flush(self, db: sqlite3.Connection, batch: _Batch) -> None:
        if batch.new_keys:
            db.executemany(
                "INSERT OR REPLACE INTO session_keys (sid, project_id, started_us)"
                " VALUES (?, ?, ?)",
                batch.new_keys,
            )
        if batch.rows:
            db.executemany(
                "INSERT OR REPLACE INTO sessions (project_id, started_us, sid, release_id,"
                " environment_id, user_id, status, errors, announced, rank, changed_us,"
                " duration_us, mechanism) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (project, started_us, sid, *row)
                    for (project, sid), (started_us, row) in batch.rows.items()
                ],
            )
        if batch.aggregates:
            self._flush_aggregates(db, batch)
        if batch.counts:
            self._flush_counts(db, batch.counts)
        if batch.flags:
            db.executemany(
                "INSERT INTO user_recent (project_id, slot, release_id, environment_id, user_id,"
                " flags) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (project_id, slot, release_id, environment_id, user_id)"
                " DO UPDATE SET flags = flags | excluded.flags",
                [(*key, flags) for key, flags in batch.flags.items()],
            )
        if batch.stale:
            db.executemany("INSERT OR IGNORE INTO user_stale VALUES (?, ?, ?, ?)", batch.stale)
        fresh = batch.unsealed - self._unsealed
        if fresh:
            db.executemany("INSERT OR IGNORE INTO duration_stale VALUES (?, ?)", fresh)
            self._unsealed |= fresh
        if batch.seen:
            self._flush_seen(db, batch.seen)
        if batch.tallies:
            db.executemany(
                "INSERT INTO tallies (project_id, day, what, category, reason, quantity)"
                " VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (project_id, day, what, category, reason)"
                " DO UPDATE SET quantity = quantity + excluded.quantity",
                [(*key, quantity) for key, quantity in batch.tallies.items()],
            )

    @staticmethod
    def _flush_aggregates(db: sqlite3.Connection, batch: _Batch) -> None:
        for place, (nobodys, users) in batch.aggregates.items():
            project, release, environment = place
            hours: dict[int, int] = {}
            for started_us, counts in nobodys.items():
                hour = started_us // HOUR_US
                hours[hour] = hours.get(hour, 0) + counts
            for (started_us, _), counts in users.items():
                hour = started_us // HOUR_US
                hours[hour] = hours.get(hour, 0) + counts
            for hour, counts in hours.items():
                _add(batch.counts, (project, hour, release, environment), unpacked(counts))
            pending.put(db, place, nobodys, users)

    @staticmethod
    def _flush_counts(db: sqlite3.Connection, counts: Mapping[CountKey, Sequence[int]]) -> None:
        days: dict[CountKey, list[int]] = {}
        for (project, hour, release, environment), sums in counts.items():
            key = (project, hour // 24, release, environment)
            _add(days, key, sums)
        for table, rows in (("counts_hour", counts), ("counts_day", days)):
            db.executemany(
                _adding(table, COLUMNS),
                [(*key, *sums) for key, sums in rows.items() if any(sums)],
            )

    def _flush_seen(
        self, db: sqlite3.Connection, seen: Mapping[tuple[int, int, int], float]
    ) -> None:
        db.executemany(
            "INSERT INTO release_environments (release_id, project_id, environment_id, first_seen,"
            " last_seen) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (release_id, project_id, environment_id) DO UPDATE SET"
            " first_seen = coalesce(first_seen, excluded.first_seen),"
            " last_seen = excluded.last_seen",
            [(*key, at, at) for key, at in seen.items()],
        )
        db.executemany(
            "UPDATE release_projects SET last_seen = ? WHERE release_id = ? AND project_id = ?",
            [(at, release, project) for (release, project, _), at in seen.items()],
        )
        if len(self._last_seen) >= _MOST_CACHED_NAMES:
            self._last_seen.clear()
        self._last_seen.update(seen)


def insert_release(db: sqlite3.Connection, version: str, at: float) -> int:
    """Make the row of a release that is not there yet, its version taken apart; inside `write`."""
    try:
        parts = Release.parse(version)
    except InvalidRelease:
        parts = None
    parsed = parts.parsed if parts is not None and parts.is_semver else None
    build = parsed.build if parsed is not None else None
    number = (
        int(build) if build and build.isascii() and build.isdigit() and len(build) < 19 else None
    )
    cursor = db.execute(
        "INSERT INTO releases (version, date_created, package, major, minor, patch, revision,"
        " prerelease, build_code, build_number) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            version,
            at,
            parts.package if parts is not None else None,
            *(parsed.quad if parsed is not None else (None,) * 4),
            (parsed.pre or "") if parsed is not None else None,
            build,
            number,
        ),
    )
    return int(cursor.lastrowid or 0)


def _read_session(
    db: sqlite3.Connection, project: int, sid: bytes
) -> tuple[int, SessionRow] | None:
    found = db.execute(
        "SELECT started_us FROM session_keys WHERE sid = ? AND project_id = ?", (sid, project)
    ).fetchone()
    if found is None:
        return None
    row = db.execute(
        "SELECT release_id, environment_id, user_id, status, errors, announced, rank, changed_us,"
        " duration_us, mechanism FROM sessions WHERE project_id = ? AND started_us = ? AND sid = ?",
        (project, found[0], sid),
    ).fetchone()
    if row is None:
        return None
    release, environment, user, status, errors, announced, rank, changed, duration, mechanism = row
    return int(found[0]), SessionRow(
        release,
        environment,
        user,
        status,
        errors,
        bool(announced),
        rank,
        changed,
        duration,
        mechanism,
    )


def _add(sums: dict[CountKey, list[int]], key: CountKey, columns: Sequence[int]) -> None:
    found = sums.get(key)
    if found is None:
        sums[key] = list(columns)
        return
    for column, count in enumerate(columns):
        found[column] += count


def _count(batch: _Batch, place: CountKey, column: int, n: int) -> None:
    sums = batch.counts.get(place)
    if sums is None:
        sums = batch.counts[place] = [0, 0, 0, 0, 0]
    sums[column] += n


def _flag(batch: _Batch, place: CountKey, user: int, flags: int) -> None:
    if user and flags:
        key = (*place, user)
        batch.flags[key] = batch.flags.get(key, 0) | flags


def _tally(batch: _Batch, project: int, day: int, key: TallyKey, n: int) -> None:
    row = (project, day, *key)
    batch.tallies[row] = batch.tallies.get(row, 0) + n


def _adding(table: str, columns: Sequence[str]) -> str:
    key = ("project_id", "slot", "release_id", "environment_id")
    names = [*key, *columns]
    marks = ", ".join("?" * len(names))
    sums = ", ".join(f"{column} = {column} + excluded.{column}" for column in columns)
    # Every name here is one of ours.
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sums}"
    )
