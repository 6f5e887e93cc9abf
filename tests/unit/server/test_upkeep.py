from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from crashfree.server import LocalServer
from crashfree.server.context import Settings
from crashfree.server.engine import Busy
from crashfree.server.upkeep import Upkeep, forget_keys, prune
from tests.support.clock import FakeClock
from tests.support.serving import ask, envelope, rfc3339, send, session

_DAY = 86_400
_START = 1_790_000_000.0 // _DAY * _DAY


@pytest.fixture
def aged() -> Iterator[tuple[LocalServer, FakeClock]]:
    """A server with one session, one bucket and one event a day for ten days."""
    clock = FakeClock(_START)
    with LocalServer(clock=clock) as server:
        for day in range(10):
            clock.set_wall(_START + day * _DAY + 7200)
            started = clock.time() - 3600
            update = session(started, did=f"user-{day}", init=True, status="exited", duration=day)
            buckets = {
                "attrs": {"release": "app@1.0"},
                "aggregates": [{"started": rfc3339(started), "exited": 1, "did": "bucket"}],
            }
            event = {"message": f"day {day}", "timestamp": started}
            body = envelope(("session", update), ("sessions", buckets), ("event", event))
            assert send(server, body).status == 200
        yield server, clock


def _totals(server: LocalServer, days: int) -> dict[str, object]:
    answer = ask(
        server,
        "sessions/",
        field=("sum(session)", "count_unique(user)", "max(session.duration)"),
        start=rfc3339(_START),
        end=rfc3339(_START + days * _DAY),
        interval="1d",
    )
    totals: dict[str, object] = answer.json["groups"][0]["totals"]
    return totals


def test_pruning_deletes_what_is_older_and_nothing_else(
    aged: tuple[LocalServer, FakeClock],
) -> None:
    server, _ = aged
    server.store.fold_users(at_least=1)
    server.store.seal_durations(before_day=10**6)
    gone = prune(server.store, before=_START + 6 * _DAY)
    assert (gone["sessions"], gone["aggregates"], gone["events"]) == (6, 6, 6)
    assert _totals(server, 10) == {
        "sum(session)": 8,
        "count_unique(user)": 5,
        "max(session.duration)": 9000.0,
    }
    assert _totals(server, 6)["sum(session)"] == 0
    assert ask(server, "releases/").json[0]["version"] == "app@1.0", "a release outlives its data"


def test_pruning_twice_deletes_nothing_more(aged: tuple[LocalServer, FakeClock]) -> None:
    server, _ = aged
    prune(server.store, before=_START + 5 * _DAY)
    assert not any(prune(server.store, before=_START + 5 * _DAY).values())


def test_only_the_newest_events_are_kept(aged: tuple[LocalServer, FakeClock]) -> None:
    server, _ = aged
    prune(server.store, before=0, max_events=3)
    with server.store.read() as db:
        found = [row[0] for row in db.execute("SELECT timestamp FROM events ORDER BY id")]
    assert found == [_START + day * _DAY + 3600 for day in (7, 8, 9)]


def test_keys_of_old_sessions_are_forgotten_and_nothing_counts_twice(
    aged: tuple[LocalServer, FakeClock],
) -> None:
    server, clock = aged
    assert forget_keys(server.store, before=clock.time() - 6 * _DAY) == 4
    assert forget_keys(server.store, before=clock.time() - 6 * _DAY) == 0
    with server.store.read() as db:
        (left,) = db.execute("SELECT count(*) FROM session_keys").fetchone()
    assert left == 6
    # An update of one that was forgotten is too old to be taken at all.
    sids = _sids(server)
    update = session(_START + 3600, sid=sids[0], status="crashed", errors=1)
    assert send(server, envelope(("session", update))).status == 200
    assert _totals(server, 10)["sum(session)"] == 20


def _sids(server: LocalServer) -> list[str]:
    with server.store.read() as db:
        return [row[0].hex() for row in db.execute("SELECT sid FROM sessions ORDER BY started_us")]


def test_a_turn_does_what_is_due_and_changes_no_number(
    aged: tuple[LocalServer, FakeClock],
) -> None:
    server, clock = aged
    before = _totals(server, 10)
    upkeep = Upkeep(server.store, clock, Settings(retention_days=30))
    for _ in range(3):
        upkeep.turn()
        clock.advance(3600)
    assert _totals(server, 10) == before
    with server.store.read() as db:
        assert db.execute("SELECT count(*) FROM duration_days").fetchone()[0] >= 9


def test_a_turn_tidies_the_catalog_as_well(aged: tuple[LocalServer, FakeClock]) -> None:
    server, clock = aged
    old = clock.time() - 31 * _DAY
    with server.store.write() as db:
        for date in (old, clock.time() - _DAY):
            db.execute(
                "INSERT INTO activities (project_id, issue_id, type, data, date)"
                " VALUES (1, 1, 'first_seen', '{}', ?)",
                (date,),
            )
    Upkeep(server.store, clock, Settings(retention_days=30)).turn()
    with server.store.read() as db:
        dates = [row[0] for row in db.execute("SELECT date FROM activities")]
    assert old not in dates
    assert clock.time() - _DAY in dates


class _Rival(FakeClock):
    """A clock that, asked for the time, lets another process take the database."""

    def __init__(self, path: str, now: float) -> None:
        super().__init__(now)
        self.other = sqlite3.connect(path, isolation_level=None)
        self.wanted = True

    def time(self) -> float:
        if self.wanted:
            self.wanted = False
            self.other.execute("BEGIN IMMEDIATE")
        return super().time()


def test_what_a_busy_database_put_off_is_done_in_the_next_turn(
    aged: tuple[LocalServer, FakeClock],
) -> None:
    server, _ = aged
    rival = _Rival(server.store.path, _START + 10 * _DAY)
    upkeep = Upkeep(server.store, rival, Settings(retention_days=3))
    try:
        with pytest.raises(Busy):
            upkeep.turn()
    finally:
        rival.other.close()
    assert _totals(server, 10)["sum(session)"] == 20
    upkeep.turn()
    assert _totals(server, 10)["sum(session)"] == 6


def test_a_job_that_fails_is_told_once_an_hour_and_does_not_keep_the_others_from_theirs(
    aged: tuple[LocalServer, FakeClock], caplog: pytest.LogCaptureFixture
) -> None:
    server, clock = aged
    clock.set_wall(_START + 10 * _DAY)
    server.store.set_meta("keys_forgotten_us", "never")
    upkeep = Upkeep(server.store, clock, Settings(retention_days=3))
    upkeep.turn()
    assert _totals(server, 10)["sum(session)"] == 6, "pruning comes after what failed"
    upkeep.turn()

    def told() -> int:
        return sum(record.name == "crashfree.server" for record in caplog.records)

    assert told() == 1
    clock.advance(3600)
    upkeep.turn()
    assert told() == 2


def test_a_sealed_day_that_changes_is_read_anew(aged: tuple[LocalServer, FakeClock]) -> None:
    server, clock = aged
    server.store.seal_durations(before_day=10**6)
    update = session(clock.time() - 60, init=True, status="exited", duration=50)
    assert send(server, envelope(("session", update))).status == 200
    assert _totals(server, 10)["max(session.duration)"] == 50_000.0
    server.store.seal_durations(before_day=10**6)
    assert _totals(server, 10)["max(session.duration)"] == 50_000.0
