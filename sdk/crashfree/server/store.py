"""The database: one writer, many readers, all of SQLite.

Invariants: a write is one transaction and all or nothing; after `write_facts` has returned, the
data survives the death of the process (write-ahead log, `synchronous=NORMAL`: written to the
kernel at commit, to the disk at a checkpoint); a failed write leaves no trace and does not harm
the other envelopes of its batch; replay of events and session updates is idempotent.

Threads: any. Writing takes the write lock; readers have connections of their own and see one
snapshot each. Fork: not supported; the server refuses.

Source: DESIGN section 6.6, ingest.md section 6.
"""

from __future__ import annotations

import json as plain_json
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from crashfree._ground import ids, json
from crashfree.server import durations, pending, schema, users
from crashfree.server.counting import SqliteCounts
from crashfree.server.engine import Busy, CountReader, Engine, Unavailable
from crashfree.server.facts import Facts
from crashfree.server.recording import Hooks, Recorder

_READERS: Final = 4
_MERGES: Final = 3
_WRITER_CACHE: Final = -32_000  # KiB
_READER_CACHE: Final = -8_000
_BUSY_MS: Final = 250
"""How long another process may hold the database; ingest tries again, then answers 503."""


class Project(NamedTuple):
    """A project as ingest and the API need it."""

    id: int
    slug: str
    name: str
    platform: str | None
    disabled: bool
    date_created: float


class Store:
    """One database file."""

    path: str
    recorder: Recorder
    engine: Engine | None
    """What keeps the sessions, when that is not this file."""
    _catalog_changed: list[Callable[[], None]]
    _catalog_dirty: bool
    _changes: int
    """What the database said of changes by others when it was written last."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        hooks: Hooks | None = None,
        catalog_migrations: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> None:
        """Open it; `engine` keeps the sessions in place of this file."""
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        self._closed = False
        self.engine = engine
        make_private(self.path)
        self._writer = self._connect(_WRITER_CACHE)
        try:
            # The application's own checkpoints: see `checkpoint`.
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")
            schema.migrate(self._writer, catalog=catalog_migrations)
            self.recorder = Recorder(self._secret(), hooks or Hooks())
        except BaseException:
            self._writer.close()
            raise
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._watcher: sqlite3.Connection | None = None
        self._watcher_lock = threading.Lock()
        self._name = ids.event_id()[:12]
        self._catalog_changed = []
        self._catalog_dirty = False
        self._changes = 0

    def _connect(self, cache: int) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path,
            timeout=_BUSY_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA cache_size = {cache}")
            db.execute("PRAGMA temp_store = MEMORY")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _secret(self) -> bytes:
        row = self._writer.execute("SELECT value FROM meta WHERE name = 'did_secret'").fetchone()
        if row is None:
            secret = bytes.fromhex(ids.event_id() + ids.event_id())
            self._writer.execute(
                "INSERT INTO meta (name, value) VALUES ('did_secret', ?)", (secret.hex(),)
            )
            return secret
        return bytes.fromhex(row[0])

    # Reading.

    @contextmanager
    def read(self, *, counts: bool = True) -> Generator[sqlite3.Connection, None, None]:
        """Give a connection that sees one snapshot, with rows that know their column names.

        `counts` False: for names and settings alone; `aggregates` may lack what has just come, and
        nothing is waited for. Raises Busy when another process keeps the database locked.
        """
        db = self._reader()
        try:
            db.execute("BEGIN")
            try:
                if counts:
                    self._complete(db)
                yield db
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        finally:
            with self._idle_lock:
                keep = len(self._idle) < _READERS and not self._closed
                if keep:
                    self._idle.append(db)
            if not keep:
                db.close()

    def version(self) -> str:
        """Return a text that changes whenever anybody, in any process, has written something.

        SQLite counts changes for a connection, so this one is kept, and the text is different for
        each store.
        """
        with self._watcher_lock:
            if self._closed:
                return self._name
            if self._watcher is None:
                self._watcher = self._connect(0)
            number = self._watcher.execute("PRAGMA data_version").fetchone()[0]
        return f"{self._name}.{number}"

    def counts(self, db: sqlite3.Connection) -> CountReader:
        """Return what answers questions about sessions; `db` is a connection of `read`."""
        return SqliteCounts(db) if self.engine is None else self.engine.counts()

    def _complete(self, db: sqlite3.Connection) -> None:
        """Begin the snapshot of `db` anew until it holds no aggregates that are not added up."""
        for _ in range(_MERGES):
            if not pending.waiting(db):
                return
            db.execute("ROLLBACK")
            self.merge()
            db.execute("BEGIN")
        # Others write all the time: once, nobody may between the merge and the snapshot.
        db.execute("ROLLBACK")
        with self._lock:
            self._merge()
            db.execute("BEGIN")
            pending.waiting(db)

    def _reader(self) -> sqlite3.Connection:
        with self._idle_lock:
            if self._idle:
                return self._idle.pop()
        db = self._connect(_READER_CACHE)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA query_only = ON")
        return db

    # Writing.

    @contextmanager
    def write(self) -> Generator[sqlite3.Connection, None, None]:
        """Give the writing connection inside a transaction; an exception undoes everything."""
        with self._lock:
            db = self._writer
            db.row_factory = sqlite3.Row
            self._begin()
            try:
                if pending.waiting(db):
                    pending.merge(db)
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._catalog_dirty = False
                db.execute("ROLLBACK")
                self.recorder.forget()
                raise
            finally:
                db.row_factory = None
            dirty, self._catalog_dirty = self._catalog_dirty, False
        if dirty:
            for callback in self._catalog_changed:
                callback()

    def _begin(self) -> None:
        """Begin a transaction that writes. Raises Busy."""
        db = self._writer
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                raise Busy(str(error)) from None
            raise
        # Changed by nothing that this connection writes: what is remembered of the tables may be
        # wrong when another process (the command line, say) has been at them.
        changes = db.execute("PRAGMA data_version").fetchone()[0]
        if changes != self._changes:
            self._changes = changes
            self.recorder.forget()

    def merge(self) -> None:
        """Add up the aggregates that wait for it. Raises Busy."""
        with self._lock:
            self._merge()

    def _merge(self) -> None:
        db = self._writer
        self._begin()
        try:
            pending.merge(db)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def try_write_lock(self) -> bool:
        """Take the write lock if it is free; `write_facts` gives it back."""
        return self._lock.acquire(blocking=False)

    def write_facts(self, batch: Sequence[Facts]) -> list[Exception | None]:
        """Write a batch in one transaction; when that fails, each entry in one of its own.

        Where an engine keeps the sessions, there is one more before it, for names alone.

        The caller has taken the write lock by `try_write_lock`; it is free again afterwards.
        Raises Busy when another process holds the database; nothing was written then.
        """
        try:
            try:
                self._write_together(batch)
            except Busy:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever it is, the neighbours go on
                if _is_busy(error):
                    raise Busy(str(error)) from None
                return self._write_apart(batch, error)
            return [None] * len(batch)
        finally:
            self._lock.release()

    def record(self, *batch: Facts) -> None:
        """Write a batch, waiting for the lock; raises what went wrong with the first bad entry."""
        with self._lock:
            self._write_together(batch)

    def _write_together(self, batch: Sequence[Facts]) -> None:
        engine = self.engine
        if engine is None:
            with self._recording() as db:
                self.recorder.record(db, batch)
            return
        # First the names, for good: no id that an engine has seen may be given to another name.
        with self._recording() as db:
            sessions, buckets = self.recorder.place(db, batch)
        with self._recording() as db:
            self.recorder.record(
                db, [facts._replace(sessions=(), aggregates=()) for facts in batch]
            )
            if sessions or buckets:
                engine.write(sessions, buckets)

    @contextmanager
    def _recording(self) -> Generator[sqlite3.Connection, None, None]:
        db = self._writer
        self._begin()
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self.recorder.forget()
            raise

    def _write_apart(self, batch: Sequence[Facts], error: Exception) -> list[Exception | None]:
        if len(batch) == 1:
            return [_told(error)]
        results: list[Exception | None] = []
        for facts in batch:
            try:
                self._write_together((facts,))
            except Exception as fault:  # noqa: BLE001 -- told to the one it belongs to
                results.append(_told(fault))
            else:
                results.append(None)
        return results

    # Projects, keys, options.

    def projects(self, db: sqlite3.Connection) -> list[Project]:
        """Return all projects by id."""
        return [
            Project(row[0], row[1], row[2], row[3], bool(row[4]), row[5])
            for row in db.execute(
                "SELECT id, slug, name, platform, disabled, date_created FROM projects ORDER BY id"
            )
        ]

    def add_project(
        self,
        db: sqlite3.Connection,
        slug: str,
        *,
        at: float,
        name: str | None = None,
        platform: str | None = None,
        project_id: int | None = None,
        public_key: str | None = None,
    ) -> Project:
        """Make a project with one key."""
        cursor = db.execute(
            "INSERT INTO projects (id, slug, name, platform, date_created) VALUES (?, ?, ?, ?, ?)",
            (project_id, slug, name or slug, platform, at),
        )
        made = int(cursor.lastrowid or 0)
        self.add_key(db, made, at=at, public_key=public_key)
        return Project(made, slug, name or slug, platform, False, at)

    def add_key(
        self,
        db: sqlite3.Connection,
        project_id: int,
        *,
        at: float,
        label: str = "Default",
        public_key: str | None = None,
    ) -> str:
        """Make a key of 32 hex digits for a project and return it."""
        key = public_key or ids.event_id()
        db.execute(
            "INSERT INTO project_keys (public_key, project_id, label, date_created)"
            " VALUES (?, ?, ?, ?)",
            (key, project_id, label, at),
        )
        self.catalog_changed()
        return key

    def option(self, db: sqlite3.Connection, project_id: int, name: str, default: Any) -> Any:
        """Return a setting of a project."""
        row = db.execute(
            "SELECT value FROM project_options WHERE project_id = ? AND name = ?",
            (project_id, name),
        ).fetchone()
        return default if row is None else plain_json.loads(row[0])

    def set_option(self, db: sqlite3.Connection, project_id: int, name: str, value: Any) -> None:
        """Keep a setting of a project."""
        db.execute(
            "INSERT OR REPLACE INTO project_options (project_id, name, value) VALUES (?, ?, ?)",
            (project_id, name, json.encode(value).decode()),
        )
        self.catalog_changed()

    def on_catalog_change(self, callback: Callable[[], None]) -> None:
        """Be told when projects, keys or options change in this process."""
        self._catalog_changed.append(callback)

    def catalog_changed(self) -> None:
        """Say inside `write` that projects, keys or options change; told on after the commit."""
        self._catalog_dirty = True

    # Names.

    def environment_id(self, db: sqlite3.Connection, name: str) -> int:
        """Return the id of an environment, made when new; inside `write`."""
        return self.recorder.environment_id(db, name)

    def release_id(
        self, db: sqlite3.Connection, version: str, project_id: int, at: float, *, seen: bool = True
    ) -> int:
        """Return the id of a release, made and joined to the project when new; inside `write`."""
        return self.recorder.release_id(db, version, project_id, at, seen=seen)

    def meta(self, name: str) -> str | None:
        """Return a value that belongs to the whole database."""
        with self.read(counts=False) as db:
            row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Keep a value that belongs to the whole database."""
        with self.write() as db:
            db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    # Care.

    def settle_users(self) -> None:
        """Count anew the hours that wait for it, if there are any."""
        with self.read(counts=False) as db:
            waiting = db.execute("SELECT 1 FROM user_stale LIMIT 1").fetchone()
        if waiting is not None:
            with self.write() as db:
                users.settle(db)

    def fold_users(self, *, at_least: int, step: int = 2_000) -> int:
        """Fold waiting users into their sets, in short transactions; return how many."""
        with self.read(counts=False) as db:
            waiting = users.recent_rows(db, at_least)
        folded = 0
        while waiting >= at_least:
            with self.write() as db:
                moved = users.fold(db, limit=step)
            folded += moved
            if not moved:
                break
        return folded

    def seal_durations(self, *, before_day: int) -> int:
        """Pack the durations of the stale days before `before_day`; return how many days."""
        with self.read(counts=False) as db:
            stale = db.execute(
                "SELECT project_id, slot FROM duration_stale WHERE slot < ?", (before_day,)
            ).fetchall()
        for project, day in stale:
            with self.write() as db:
                durations.seal(db, project, day)
                # Still under the lock: a change that comes after this must mark the day again.
                self.recorder.sealed(project, day)
        return len(stale)

    def checkpoint(self, *, largest_log: int = 64 * 1024 * 1024) -> None:
        """Move the write-ahead log into the database.

        Beside the writer, on a connection of its own. Only when the log has outgrown
        `largest_log`, because writing never paused, with the writer waiting.
        """
        db = self._connect(_READER_CACHE)
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if _size(self.path + "-wal") > largest_log:
                with self._lock:
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.close()

    def close(self) -> None:
        """Close every connection. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._writer.close()
        with self._idle_lock:
            idle, self._idle = self._idle, []
        with self._watcher_lock:
            # Nobody asks any more: the loop has ended before the store is closed.
            if self._watcher is not None:
                idle.append(self._watcher)
                self._watcher = None
        for db in idle:
            db.close()


def make_private(path: str) -> None:
    """Make an empty file that only its owner can read, where there is none.

    A database holds the token and what users have sent. SQLite gives its log the same rights, and
    says itself what is wrong with a path that cannot be used.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _is_busy(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, sqlite3.OperationalError) and ("locked" in text or "busy" in text)


def _told(error: Exception) -> Exception:
    """Return an error in the words of the contract."""
    if isinstance(error, sqlite3.OperationalError):
        unavailable = Unavailable(str(error))
        unavailable.__cause__ = error
        return unavailable
    return error


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
