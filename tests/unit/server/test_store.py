from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree.server import LocalServer, pending, transfer
from crashfree.server.facts import AggregatesFact, EventFact, Facts, SessionFact
from crashfree.server.recording import Hooks, MetEvent
from crashfree.server.schema import MIGRATIONS
from crashfree.server.store import Store
from tests.support.serving import envelope, send, session
from tests.support.waiting import wait_until

_NOW = 1_790_000_000.0


def _facts(number: int = 0, *, event: str | None = None, did: str | None = None) -> Facts:
    """One envelope: a session, a bucket and perhaps an event."""
    started_us = int(_NOW * 1e6)
    update = SessionFact(
        number.to_bytes(16, "big"),
        "a",
        "",
        did,
        started_us,
        started_us,
        0,
        True,
        "ok",
        0,
        None,
        None,
    )
    found = None
    if event is not None:
        found = EventFact(event, _NOW, "a", "", None, "error", "python", b"{}", {"message": event})
    buckets = AggregatesFact("a", "", ((started_us, None, 1),))
    return Facts(1, _NOW, event, found, (update,), (buckets,), (), (), {})


def _timed(number: int) -> Facts:
    """A session that ended well and told how long it was."""
    facts = _facts(number)
    (update,) = facts.sessions
    ended = update._replace(status="exited", duration_us=number * 1_000_000, errors=0)
    return facts._replace(sessions=(ended,), aggregates=())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "x.db")
    yield opened
    opened.close()


def _count(store: Store, table: str) -> int:
    with store.read() as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _write(store: Store, *batch: Facts) -> list[Exception | None]:
    assert store.try_write_lock()
    return store.write_facts(batch)


def test_a_batch_is_written_together(store: Store) -> None:
    assert _write(store, *(_facts(number) for number in range(5))) == [None] * 5
    assert _count(store, "sessions") == 5
    with store.read() as db:
        assert db.execute("SELECT exited FROM aggregates").fetchall()[0][0] == 5


def test_an_entry_that_fails_leaves_no_trace_and_its_neighbours_are_written(
    tmp_path: Path,
) -> None:
    def met(db: sqlite3.Connection, event: MetEvent) -> None:
        if event.event_id == "bad":
            raise KeyError("a bug in a hook")

    store = Store(tmp_path / "x.db", hooks=Hooks(issue_of=met))
    batch = [_facts(1, event="good"), _facts(2, event="bad"), _facts(3, event="fine")]
    results = _write(store, *batch)
    assert [type(result) for result in results] == [type(None), KeyError, type(None)]
    assert _count(store, "sessions") == 2
    with store.read() as db:
        events = [row[0] for row in db.execute("SELECT event_id FROM events ORDER BY id")]
        counted = db.execute("SELECT healthy FROM counts_hour").fetchone()[0]
    assert events == ["good", "fine"]
    assert counted == 4, "two sessions and two buckets of one"
    store.close()


def test_an_exception_inside_write_undoes_everything(store: Store) -> None:
    def fail() -> None:
        with store.write() as db:
            store.release_id(db, "app@1.0", 1, _NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert _count(store, "releases") == 0
    # The cache must not remember the id that was undone.
    with store.write() as db:
        release = store.release_id(db, "app@1.0", 1, _NOW)
        assert db.execute("SELECT version FROM releases WHERE id = ?", (release,)).fetchone()


def test_a_reader_sees_one_snapshot(store: Store) -> None:
    with store.read() as db:
        before = db.execute("SELECT count(*) FROM sessions").fetchone()[0]
        _write(store, _facts(1))
        assert db.execute("SELECT count(*) FROM sessions").fetchone()[0] == before
    assert _count(store, "sessions") == before + 1


def test_a_reader_cannot_write(store: Store) -> None:
    with store.read() as db, pytest.raises(sqlite3.OperationalError):
        db.execute("DELETE FROM sessions")


def test_a_user_is_kept_as_a_keyed_hash_only(tmp_path: Path) -> None:
    """Two databases have two secrets, so their hashes of one user differ."""
    hashes: list[bytes] = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        _write(store, _facts(1, did="ada@example.com"))
        with store.read() as db:
            hashes.append(db.execute("SELECT hash FROM users").fetchone()[0])
        store.close()
        assert b"ada@example.com" not in (tmp_path / name).read_bytes()
    assert hashes[0] != hashes[1]


def test_a_release_of_a_session_is_made_with_its_parts(store: Store) -> None:
    with store.write() as db:
        store.release_id(db, "app@1.2.3-rc.1+57", 1, _NOW)
        row = dict(db.execute("SELECT * FROM releases").fetchone())
    assert (row["package"], row["major"], row["minor"], row["patch"]) == ("app", 1, 2, 3)
    assert (row["prerelease"], row["build_code"], row["build_number"]) == ("rc.1", "57", 57)


def test_a_new_release_is_told_once_a_project(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def created(db: sqlite3.Connection, release: int, project: int, at: float) -> None:
        told.append((release, project))

    store = Store(tmp_path / "x.db", hooks=Hooks(release_created=created))
    with store.write() as db:
        for project in (1, 2, 1):
            store.release_id(db, "app@1.0", project, _NOW)
    store.close()
    assert told == [(1, 1), (1, 2)]


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "x.db").close()
    db = sqlite3.connect(tmp_path / "x.db")
    db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (len(MIGRATIONS) + 1,))
    db.commit()
    db.close()
    with pytest.raises(ValueError, match="newer crashfree"):
        Store(tmp_path / "x.db")


def test_a_failed_migration_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        Store(tmp_path / "x.db", catalog_migrations=["CREATE TABLE good (x);\nCREATE TABLE bad (;"])
    store = Store(tmp_path / "x.db", catalog_migrations=["CREATE TABLE good (x);"])
    assert _count(store, "good") == 0
    store.close()


def test_ingest_waits_while_another_process_holds_the_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with LocalServer(database=path) as server:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        answers: list[int] = []
        body = envelope(("session", session(server.store.read and _now(), init=True)))
        client = threading.Thread(target=lambda: answers.append(send(server, body).status))
        client.start()
        assert not answers
        other.execute("COMMIT")
        client.join(20)
        other.close()
        assert answers == [200]


@pytest.mark.slow
def test_a_database_that_stays_locked_is_answered_503(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with LocalServer(database=path) as server:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            answer = send(server, envelope(("session", session(_now(), init=True))))
        finally:
            other.execute("COMMIT")
            other.close()
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert _count(server.store, "sessions") == 0
        assert send(server, b"{}\n").status == 200


def _now() -> float:
    from crashfree._ground.clock import SYSTEM_CLOCK

    return SYSTEM_CLOCK.time()


def test_many_writers_and_readers_get_along(store: Store) -> None:
    failed: list[BaseException] = []
    done = threading.Event()

    def write(start: int) -> None:
        try:
            for number in range(start, start + 200):
                store.record(_facts(number, did=f"user-{number % 50}"))
        except BaseException as error:
            failed.append(error)

    def read() -> None:
        try:
            while not done.is_set():
                with store.read() as db:
                    sessions = db.execute("SELECT count(*) FROM sessions").fetchone()[0]
                    counted = db.execute("SELECT sum(healthy) FROM counts_day").fetchone()[0]
                    assert (counted or 0) == 2 * sessions
                store.fold_users(at_least=1, step=13)
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(start,)) for start in (0, 1000, 2000)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not failed
    assert _count(store, "sessions") == 600


def test_a_checkpoint_makes_the_log_small_again(store: Store) -> None:
    for number in range(300):
        _write(store, _facts(number))
    log = Path(store.path + "-wal")
    assert log.stat().st_size > 100_000
    store.checkpoint(largest_log=0)
    assert log.stat().st_size == 0


def test_what_another_process_changes_is_not_remembered_wrongly(tmp_path: Path) -> None:
    """The command line works on the file of a server that runs; so may a second server."""
    mine, other = Store(tmp_path / "x.db"), Store(tmp_path / "x.db")
    try:
        with mine.write() as db:
            mine.add_project(db, "app", at=_NOW)
        day = int(_NOW // 86_400)
        mine.record(_timed(1))
        assert other.seal_durations(before_day=day + 1) == 1
        mine.record(_timed(2))
        assert mine.seal_durations(before_day=day + 1) == 1, "the day has changed since"
        with other.write() as db:
            for table in ("releases", "release_projects", "environments"):
                db.execute(f"DELETE FROM {table}")
        mine.record(_timed(3))
        with mine.read() as db:
            assert [row[0] for row in db.execute("SELECT version FROM releases")] == ["a"]
            assert db.execute("SELECT count(*) FROM release_projects").fetchone()[0] == 1
    finally:
        mine.close()
        other.close()


_POSIX = pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX knows them")


@_POSIX
def test_only_the_owner_may_read_a_database_and_its_copies(tmp_path: Path) -> None:
    """It holds the token, and what users have sent."""
    with LocalServer(database=tmp_path / "a.db") as server:
        transfer.backup(server.store, str(tmp_path / "copy.db"))
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["a.db", "a.db-shm", "a.db-wal", "copy.db"]
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@_POSIX
def test_the_rights_of_a_database_that_is_there_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    Store(path).close()
    assert path.stat().st_mode & 0o777 == 0o644


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    store.close()
    store.close()


def test_an_unused_option_is_its_default(store: Store) -> None:
    with store.write() as db:
        assert store.option(db, 1, "x", "default") == "default"
        value: Any = {"a": [1, "ü"]}
        store.set_option(db, 1, "x", value)
    with store.read() as db:
        assert store.option(db, 1, "x", None) == value


def test_projects_that_change_are_told_on_after_the_commit(store: Store) -> None:
    told: list[int] = []
    store.on_catalog_change(lambda: told.append(_count(store, "projects")))
    with store.write() as db:
        store.add_project(db, "app", at=_NOW)
        assert not told
    assert told == [1]
    wait_until(lambda: told == [1], 1)


def test_the_version_changes_with_every_write_and_with_nothing_else(tmp_path: Path) -> None:
    """A write of another process counts, too: to SQLite that is one more connection."""
    path = tmp_path / "x.db"
    store = Store(path)
    other = Store(path)
    try:
        seen = [store.version()]
        assert store.version() == seen[-1]
        with store.read() as db:
            db.execute("SELECT count(*) FROM projects").fetchone()
        assert store.version() == seen[-1]
        store.set_meta("a", "1")
        seen.append(store.version())
        other.set_meta("b", "2")
        seen.append(store.version())
        store.record(_facts(1))
        seen.append(store.version())
        assert len(set(seen)) == 4
        assert store.version() == seen[-1]
        assert store.version() != other.version()
    finally:
        store.close()
        other.close()
    assert isinstance(store.version(), str)


def _aggregated(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(sum(exited), 0) FROM aggregates").fetchone()[0])


def test_aggregates_are_added_up_before_anybody_reads_or_changes_them(store: Store) -> None:
    """A commit only appends what it adds; see `pending`."""
    for number in range(3):
        _write(store, _facts(number))
        _write(store, _facts(number))
        with store.read() as db:
            assert _aggregated(db) == 2 * (number + 1)
            assert not pending.waiting(db)
    _write(store, _facts(9))
    with store.write() as db:
        assert _aggregated(db) == 7


def test_another_store_on_the_file_adds_up_what_the_first_has_written(store: Store) -> None:
    _write(store, _facts(1), _facts(2))
    other = Store(store.path)
    try:
        with other.read() as db:
            assert _aggregated(db) == 2
        _write(store, _facts(3))
        with other.read() as db:
            assert _aggregated(db) == 3
    finally:
        other.close()
    with store.read() as db:
        assert _aggregated(db) == 3


def test_readers_beside_a_busy_writer_see_every_aggregate_that_was_answered(store: Store) -> None:
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            store.record(_facts(1))
            written += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(30):
            least = written
            with store.read() as db:
                assert _aggregated(db) >= least
                assert not pending.waiting(db)
    finally:
        stop.set()
        thread.join()


def test_merging_twice_adds_once(store: Store) -> None:
    _write(store, _facts(1))
    store.merge()
    store.merge()
    with store.read(counts=False) as db:
        assert _aggregated(db) == 1
