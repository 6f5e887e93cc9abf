"""The database: numbered migrations, run once each, in order.

A migration that has been released never changes; a new one is appended. The release catalog
(`catalog_schema`) keeps its own list, counted apart, so that the two grow independently.

Times are REAL seconds since the epoch, or INTEGER microseconds where the column ends in `_us`.
Environment 1 is the one without a name; user 0 is nobody.

Threads: the opener of a store. Source: releases.md section 6.7, sessions.md section 5.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

_CATALOG: Final = """
CREATE TABLE projects (
    id INTEGER PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    platform TEXT,
    disabled INTEGER NOT NULL DEFAULT 0,
    date_created REAL NOT NULL
);
CREATE TABLE project_keys (
    public_key TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL,
    label TEXT NOT NULL,
    active INTEGER NOT NULL DEFAULT 1,
    date_created REAL NOT NULL
);
CREATE INDEX project_keys_by_project ON project_keys (project_id);
CREATE TABLE project_options (
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (project_id, name)
) WITHOUT ROWID;
CREATE TABLE environments (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO environments (id, name) VALUES (1, '');
CREATE TABLE releases (
    id INTEGER PRIMARY KEY,
    version TEXT NOT NULL UNIQUE,
    date_created REAL NOT NULL,
    date_started REAL,
    date_released REAL,
    ref TEXT,
    url TEXT,
    status TEXT NOT NULL DEFAULT 'open',
    owner TEXT,
    user_agent TEXT,
    data TEXT,
    package TEXT,
    major INTEGER,
    minor INTEGER,
    patch INTEGER,
    revision INTEGER,
    prerelease TEXT,
    build_code TEXT,
    build_number INTEGER
);
CREATE TABLE release_projects (
    release_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    first_seen REAL,
    last_seen REAL,
    new_groups INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (release_id, project_id)
) WITHOUT ROWID;
CREATE INDEX release_projects_by_project ON release_projects (project_id, release_id);
CREATE TABLE release_environments (
    release_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    first_seen REAL,
    last_seen REAL,
    adopted REAL,
    unadopted REAL,
    PRIMARY KEY (release_id, project_id, environment_id)
) WITHOUT ROWID;
"""

_EVENTS: Final = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    received REAL NOT NULL,
    timestamp REAL NOT NULL,
    release_id INTEGER,
    environment_id INTEGER NOT NULL,
    dist TEXT,
    level TEXT,
    platform TEXT,
    issue_id INTEGER,
    payload BLOB NOT NULL,
    UNIQUE (project_id, event_id)
);
CREATE INDEX events_by_time ON events (project_id, timestamp);
CREATE INDEX events_by_issue ON events (issue_id, timestamp) WHERE issue_id IS NOT NULL;
CREATE TABLE attachments (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT,
    attachment_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    received REAL NOT NULL,
    data BLOB
);
CREATE INDEX attachments_by_event ON attachments (project_id, event_id);
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    event_id TEXT,
    received REAL NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE check_ins (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    received REAL NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE tallies (
    project_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    what TEXT NOT NULL,
    category TEXT NOT NULL,
    reason TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    PRIMARY KEY (project_id, day, what, category, reason)
) WITHOUT ROWID;
"""

_SESSIONS: Final = """
CREATE TABLE sessions (
    project_id INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    sid BLOB NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    status TEXT NOT NULL,
    errors INTEGER NOT NULL,
    announced INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    changed_us INTEGER NOT NULL,
    duration_us INTEGER,
    mechanism TEXT,
    PRIMARY KEY (project_id, started_us, sid)
) WITHOUT ROWID;
CREATE TABLE session_keys (
    sid BLOB NOT NULL,
    project_id INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    PRIMARY KEY (sid, project_id)
) WITHOUT ROWID;
CREATE TABLE aggregates (
    project_id INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    exited INTEGER NOT NULL,
    errored INTEGER NOT NULL,
    crashed INTEGER NOT NULL,
    abnormal INTEGER NOT NULL,
    unhandled INTEGER NOT NULL,
    PRIMARY KEY (project_id, started_us, release_id, environment_id, user_id)
) WITHOUT ROWID;
CREATE TABLE counts_hour (
    project_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    healthy INTEGER NOT NULL,
    errored INTEGER NOT NULL,
    crashed INTEGER NOT NULL,
    abnormal INTEGER NOT NULL,
    unhandled INTEGER NOT NULL,
    PRIMARY KEY (project_id, slot, release_id, environment_id)
) WITHOUT ROWID;
CREATE TABLE counts_day (
    project_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    healthy INTEGER NOT NULL,
    errored INTEGER NOT NULL,
    crashed INTEGER NOT NULL,
    abnormal INTEGER NOT NULL,
    unhandled INTEGER NOT NULL,
    PRIMARY KEY (project_id, slot, release_id, environment_id)
) WITHOUT ROWID;
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE
);
CREATE TABLE user_recent (
    project_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    PRIMARY KEY (project_id, slot, release_id, environment_id, user_id)
) WITHOUT ROWID;
CREATE TABLE user_stale (
    project_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    PRIMARY KEY (project_id, slot, release_id, environment_id)
) WITHOUT ROWID;
CREATE TABLE user_sets (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    level INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    members BLOB NOT NULL,
    UNIQUE (project_id, level, slot, release_id, environment_id, kind)
);
"""

_DURATIONS: Final = """
CREATE TABLE duration_days (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    members BLOB NOT NULL,
    UNIQUE (project_id, slot, release_id, environment_id)
);
CREATE TABLE duration_stale (
    project_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    PRIMARY KEY (project_id, slot)
) WITHOUT ROWID;
INSERT INTO duration_stale
    SELECT DISTINCT project_id, started_us / 86400000000 FROM sessions
    WHERE duration_us IS NOT NULL;
"""

_FORWARDING: Final = """
CREATE TABLE forwarding (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    received REAL NOT NULL,
    body BLOB NOT NULL
);
"""

_AGGREGATES: Final = """
CREATE TABLE aggregates_new (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    buckets BLOB NOT NULL
);
"""

MIGRATIONS: Final[tuple[str, ...]] = (
    _CATALOG + _EVENTS + _SESSIONS,
    _DURATIONS,
    _FORWARDING,
    _AGGREGATES,
)


def migrate(db: sqlite3.Connection, *, catalog: Sequence[str] = ()) -> None:
    """Bring a database to the newest schema; each migration is one transaction.

    Raises ValueError when the database was written by a newer version.
    """
    db.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
    _run(db, "schema_version", MIGRATIONS)
    _run(db, "catalog_version", catalog)


def _run(db: sqlite3.Connection, counter: str, migrations: Sequence[str]) -> None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (counter,)).fetchone()
    done = 0 if row is None else int(row[0])
    if done > len(migrations):
        raise ValueError(
            f"the database is at {counter} {done}, this program knows {len(migrations)}: "
            "it was written by a newer crashfree"
        )
    for number, script in enumerate(migrations[done:], done + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in script.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (counter, number))
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
