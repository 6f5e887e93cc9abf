"""What the ingest calls while it stores: events meet their issues, new releases their waiters.

Threads: the store's writer, inside its transaction.
"""

from __future__ import annotations

import sqlite3

from crashfree.server import issues, resolutions
from crashfree.server.recording import StoredEvent


def event_stored(db: sqlite3.Connection, event: StoredEvent) -> None:
    """Add an event to its issue."""
    issues.record_event(db, event)


def release_created(db: sqlite3.Connection, release_id: int, project_id: int, at: float) -> None:
    """Note that a release has met a project for the first time."""
    resolutions.settle_next_release(db, release_id, project_id)
