"""What a database needs now and then: folding, adoption, retention, checkpoints.

Every job is a series of short transactions, so that ingest never waits long.

Threads: `crashfree-server-upkeep`; jobs may also be called by the command line.
Source: ingest.md section 6 (retention), sessions.md sections 5.3 and 5.6.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from crashfree._ground.clock import Clock
from crashfree.server import catalog_hooks
from crashfree.server.context import Settings
from crashfree.server.engine import Busy
from crashfree.server.release_health import refresh_stages
from crashfree.server.store import Store
from crashfree.server.trouble import Troubles

_EVERY: Final = 2.0
_HOUR: Final = 3600
_DAY: Final = 86_400
_FOLD_FROM: Final = 20_000
KEYS_KEPT_DAYS: Final = 6
"""A session takes updates for five days; its key is kept a day longer."""
_STEP: Final = 500
_HOUR_US: Final = 3_600_000_000


class Upkeep:
    """The upkeep of one running server."""

    __slots__ = ("_clock", "_due", "_hour", "_settings", "_stop", "_store", "_thread", "_troubles")
    _store: Store
    _clock: Clock
    _settings: Settings
    _stop: threading.Event
    _thread: threading.Thread | None
    _hour: int
    _due: list[Callable[[float], object]]
    """The hourly jobs that are still to be done, the first one first."""
    _troubles: Troubles

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._stop = threading.Event()
        self._thread = None
        self._hour = 0
        self._due = []
        self._troubles = Troubles()

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._run, name="crashfree-server-upkeep", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for the transaction it is in."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self.turn()
            except (Busy, sqlite3.OperationalError):
                continue  # somebody else holds the database; the next turn tries again
            except Exception as error:  # noqa: BLE001 -- a bug in one job must not end the upkeep
                self._troubles.note(error, "upkeep")

    def turn(self) -> None:
        """Do what is due now."""
        self._store.checkpoint()
        self._store.merge()
        self._store.fold_users(at_least=_FOLD_FROM)
        now = self._clock.time()
        hour = int(now // _HOUR)
        if hour != self._hour:
            self._hour = hour
            self._due = [self._judge, self._seal, self._forget, self._prune, self._tidy]
        while self._due:
            try:
                self._due[0](now)
            except (Busy, sqlite3.OperationalError):
                raise  # the next turn goes on with this one
            except Exception as error:  # noqa: BLE001 -- nor may it keep the others from theirs
                self._troubles.note(error, "upkeep")
            del self._due[0]

    # Once an hour.

    def _judge(self, now: float) -> None:
        with self._store.write() as db:
            refresh_stages(db, self._store.counts(db), now=now)

    def _seal(self, now: float) -> None:
        self._store.seal_durations(before_day=int(now // _DAY))

    def _forget(self, now: float) -> None:
        forget_keys(self._store, before=now - KEYS_KEPT_DAYS * _DAY)

    def _prune(self, now: float) -> None:
        prune(self._store, before=self._oldest(now), max_events=self._settings.max_events)

    def _tidy(self, now: float) -> None:
        catalog_hooks.tidy(self._store, now=now, before=self._oldest(now))

    def _oldest(self, now: float) -> float:
        return now - self._settings.retention_days * _DAY


def forget_keys(store: Store, *, before: float) -> int:
    """Forget the keys of sessions that take no updates any more; return how many."""
    end = int(before * 1_000_000)
    forgotten = 0
    with store.read() as db:
        row = db.execute("SELECT value FROM meta WHERE name = 'keys_forgotten_us'").fetchone()
        projects = [each[0] for each in db.execute("SELECT id FROM projects")]
    start = int(row[0]) if row is not None else 0
    for project in projects:
        position = (start, b"")
        while True:
            with store.write() as db:
                rows = db.execute(
                    "SELECT started_us, sid FROM sessions WHERE project_id = ?"
                    " AND (started_us, sid) > (?, ?) AND started_us < ?"
                    " ORDER BY started_us, sid LIMIT ?",
                    (project, *position, end, _STEP),
                ).fetchall()
                db.executemany(
                    "DELETE FROM session_keys WHERE sid = ? AND project_id = ?",
                    [(each[1], project) for each in rows],
                )
            forgotten += len(rows)
            if len(rows) < _STEP:
                break
            position = (rows[-1][0], rows[-1][1])
    with store.write() as db:
        db.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES ('keys_forgotten_us', ?)", (end,)
        )
    return forgotten


def prune(store: Store, *, before: float, max_events: int | None = None) -> dict[str, int]:
    """Delete what is older than `before`, by whole hours, and surplus events; return how many.

    Releases, projects and settings stay.
    """
    hour = int(before // _HOUR)
    edge_us = hour * _HOUR_US
    gone: dict[str, int] = {}
    with store.read() as db:
        projects = [each[0] for each in db.execute("SELECT id FROM projects")]
    for project in projects:
        for table, column, limit in (
            ("sessions", "started_us", edge_us),
            ("session_keys", "started_us", edge_us),
            ("aggregates", "started_us", edge_us),
            ("counts_hour", "slot", hour),
            ("counts_day", "slot", hour // 24),
            ("duration_days", "slot", hour // 24),
            ("duration_stale", "slot", hour // 24),
            ("user_recent", "slot", hour),
            ("user_stale", "slot", hour),
            ("events", "timestamp", before),
            ("attachments", "received", before),
            ("feedback", "received", before),
            ("check_ins", "received", before),
            ("tallies", "day", before // _DAY),
        ):
            gone[table] = gone.get(table, 0) + _delete(store, project, table, column, limit)
        gone["user_sets"] = gone.get("user_sets", 0) + _delete_sets(store, project, hour)
        if max_events is not None:
            gone["events"] += _delete_surplus(store, project, max_events)
    return gone


_KEYS: Final = {
    "sessions": "project_id, started_us, sid",
    "session_keys": "sid, project_id",
    "aggregates": "project_id, started_us, release_id, environment_id, user_id",
    "counts_hour": "project_id, slot, release_id, environment_id",
    "counts_day": "project_id, slot, release_id, environment_id",
    "duration_stale": "project_id, slot",
    "user_recent": "project_id, slot, release_id, environment_id, user_id",
    "user_stale": "project_id, slot, release_id, environment_id",
    "tallies": "project_id, day, what, category, reason",
}


def _delete(store: Store, project: int, table: str, column: str, limit: float) -> int:
    key = _KEYS.get(table, "id")
    deleted = 0
    while True:
        with store.write() as db:
            count = db.execute(
                f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table}"
                f" WHERE project_id = ? AND {column} < ? LIMIT ?)",
                (project, limit, _STEP),
            ).rowcount
        deleted += count
        if count < _STEP:
            return deleted


def _delete_sets(store: Store, project: int, hour: int) -> int:
    # A day or block that reaches into the kept time stays whole: it still counts users who were
    # deleted elsewhere, so ranges that begin before the edge are not exact any more, as they
    # cannot be.
    with store.write() as db:
        return db.execute(
            "DELETE FROM user_sets WHERE project_id = ? AND (level = 0 AND slot < ?"
            " OR level = 1 AND slot < ? OR level = 2 AND slot < ?)",
            (project, hour, hour // 24, hour // 384),
        ).rowcount


def _delete_surplus(store: Store, project: int, max_events: int) -> int:
    deleted = 0
    while True:
        with store.write() as db:
            count = db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE project_id = ?"
                " AND id <= (SELECT id FROM events WHERE project_id = ?"
                " ORDER BY id DESC LIMIT 1 OFFSET ?) ORDER BY id LIMIT ?)",
                (project, project, max_events, _STEP),
            ).rowcount
        deleted += count
        if count < _STEP:
            return deleted
