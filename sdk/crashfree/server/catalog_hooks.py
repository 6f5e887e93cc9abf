"""What the rest of the server calls: the ingest while it stores, the upkeep once an hour.

Threads: the store's writer, inside its transaction; `tidy` any.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from crashfree.server import artifacts, issues, outbox, resolutions
from crashfree.server.recording import MetEvent
from crashfree.server.store import Store

_SENDING_AT_MOST: Final = 3600.0


def issue_of(db: sqlite3.Connection, event: MetEvent) -> int:
    """Add a new event to its issue, and return that."""
    return issues.record_event(db, event)


def release_created(db: sqlite3.Connection, release_id: int, project_id: int, at: float) -> None:
    """Note that a release has met a project for the first time."""
    resolutions.settle_next_release(db, release_id, project_id)


def tidy(store: Store, *, now: float, before: float) -> None:
    """Delete what the catalog need not keep any longer: `before` is the edge of retention.

    Releases, commits, deploys, issues and uploaded files stay; old activity and letters go, and so
    do chunks that nobody assembled.
    """
    with store.write() as db:
        db.execute("DELETE FROM activities WHERE date < ? AND issue_id IS NOT NULL", (before,))
        outbox.tidy(db, before=before, interrupted=now - _SENDING_AT_MOST)
    with store.write() as db:
        artifacts.sweep(db, before=now - artifacts.UNUSED_FOR)
