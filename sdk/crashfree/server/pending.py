"""Aggregates that are written, but not yet added up.

Servers tell of the same minutes again and again. To add each bucket to its row with every commit
would cost more than all the rest of it; so a commit appends its sums as one blob for each release
and environment, and `merge` adds many of them up at once: now and then, and before anybody reads.

Invariants: a blob and its row in `aggregates` never count both, since a merge is one transaction;
whoever reads sees no blob, see `Store.read`.

Threads: writing under the write lock. Source: sessions.md section 2.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from crashfree.server.facts import unpacked

Place = tuple[int, int, int]
"""Project, release, environment."""
Bucket = tuple[int, int]
"""Start in microseconds, user."""

_PUT = (
    "INSERT INTO aggregates_new (project_id, release_id, environment_id, buckets)"
    " VALUES (?, ?, ?, ?)"
)
_MERGED = (
    "INSERT INTO aggregates (project_id, started_us, release_id, environment_id, user_id,"
    " exited, errored, crashed, abnormal, unhandled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (project_id, started_us, release_id, environment_id, user_id) DO UPDATE SET"
    " exited = exited + excluded.exited, errored = errored + excluded.errored,"
    " crashed = crashed + excluded.crashed, abnormal = abnormal + excluded.abnormal,"
    " unhandled = unhandled + excluded.unhandled"
)


def put(
    db: sqlite3.Connection, place: Place, nobodys: Mapping[int, int], users: Mapping[Bucket, int]
) -> None:
    """Append packed counts, by start and by start and user; the caller holds a transaction."""
    # Columns of numbers, which are encoded without a step of Python for each.
    text = json.dumps(
        [
            list(nobodys),
            list(nobodys.values()),
            [start for start, _ in users],
            [user for _, user in users],
            list(users.values()),
        ]
    )
    db.execute(_PUT, (*place, text.encode("ascii")))


def waiting(db: sqlite3.Connection) -> bool:
    """Return whether there is anything to merge."""
    return db.execute("SELECT 1 FROM aggregates_new LIMIT 1").fetchone() is not None


def merge(db: sqlite3.Connection) -> int:
    """Add up what waits; return how many blobs. The caller holds the write transaction."""
    sums: dict[Place, dict[Bucket, int]] = {}
    blobs = 0
    for project, release, environment, text in db.execute(
        "SELECT project_id, release_id, environment_id, buckets FROM aggregates_new"
    ):
        blobs += 1
        found = sums.setdefault((project, release, environment), {})
        starts, counts, owned, users, owned_counts = json.loads(text)
        for start, count in zip(starts, counts, strict=True):
            found[start, 0] = found.get((start, 0), 0) + count
        for start, user, count in zip(owned, users, owned_counts, strict=True):
            found[start, user] = found.get((start, user), 0) + count
    for (project, release, environment), buckets in sums.items():
        db.executemany(
            _MERGED,
            [
                (project, start, release, environment, user, *unpacked(count))
                for (start, user), count in buckets.items()
            ],
        )
    if blobs:
        db.execute("DELETE FROM aggregates_new")
    return blobs
