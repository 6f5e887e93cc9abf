"""Two servers: what the first takes, the second must have as well."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from crashfree._protocol.dsn import Dsn
from crashfree.errors import ConfigurationError
from crashfree.server import LocalServer
from crashfree.server.forward import Forward, trim
from tests.support.clock import FakeClock
from tests.support.serving import envelope, rfc3339, send, session, totals
from tests.support.waiting import wait_until


@pytest.fixture
def pair() -> Iterator[tuple[LocalServer, LocalServer]]:
    with LocalServer() as upstream, LocalServer(forward=upstream.dsn) as server:
        yield server, upstream


def _waiting(server: LocalServer) -> int:
    with server.store.read() as db:
        return int(db.execute("SELECT count(*) FROM forwarding").fetchone()[0])


def test_everything_is_passed_on(pair: tuple[LocalServer, LocalServer]) -> None:
    server, upstream = pair
    for number in range(5):
        body = envelope(
            ("session", session(time.time() - 1, did=f"u{number}", init=True, status="exited")),
            ("event", {"message": f"number {number}", "release": "app@1.0"}),
        )
        assert send(server, body).status == 200
    wait_until(lambda: not _waiting(server), 20)
    for each in (server, upstream):
        assert totals(each, "sum(session)", "count_unique(user)") == {
            "sum(session)": 5,
            "count_unique(user)": 5,
        }
        with each.store.read() as db:
            assert db.execute("SELECT count(*) FROM events").fetchone()[0] == 5


def test_what_the_upstream_cannot_take_now_waits_and_goes_later(
    pair: tuple[LocalServer, LocalServer],
) -> None:
    server, upstream = pair
    upstream.faults.plan(status=503)
    upstream.faults.plan(status=429, headers={"Retry-After": "1"})
    assert send(server, envelope(("session", session(time.time(), init=True)))).status == 200
    wait_until(lambda: upstream.faults.pending == 0, 30)
    wait_until(lambda: not _waiting(server), 30)
    assert totals(upstream, "sum(session)") == {"sum(session)": 1}


def test_what_the_upstream_refuses_for_good_is_dropped_and_counted(
    pair: tuple[LocalServer, LocalServer],
) -> None:
    server, upstream = pair
    upstream.faults.plan(status=413)
    assert send(server, b"{}\n").status == 200
    wait_until(lambda: not _waiting(server), 20)
    with server.store.read() as db:
        rows = db.execute("SELECT reason FROM tallies WHERE what = 'not_forwarded'").fetchall()
    assert [row[0] for row in rows] == ["refused_413"]


def test_the_time_spent_here_does_not_look_like_a_wrong_clock() -> None:
    """A client whose clock is two hours slow; the upstream is reached three hours later."""
    clock = FakeClock()
    slow = clock.time() - 7200
    with LocalServer(clock=clock) as upstream, LocalServer(clock=clock) as server:
        forward = Forward(server.store, Dsn.parse(upstream.dsn), clock)
        body = envelope(
            ("session", session(slow - 60, init=True)), header={"sent_at": rfc3339(slow)}
        )
        with server.store.write() as db:
            db.execute(
                "INSERT INTO forwarding (project_id, received, body) VALUES (1, ?, ?)",
                (clock.time(), body),
            )
        true_start = clock.time() - 60
        clock.advance(3 * 3600)
        forward.turn()
        forward.stop()
        assert forward.passed == 1
        with upstream.store.read() as db:
            (started_us,) = db.execute("SELECT started_us FROM sessions").fetchone()
    assert started_us == pytest.approx(true_start * 1e6, abs=10)


def test_a_full_buffer_loses_its_oldest_and_says_so() -> None:
    with LocalServer() as server:
        with server.store.write() as db:
            db.executemany(
                "INSERT INTO forwarding (project_id, received, body) VALUES (1, 0, ?)",
                [(bytes([number]) * 1000,) for number in range(10)],
            )
        assert trim(server.store, now=0, most_bytes=3500) == 7
        with server.store.read() as db:
            left = [row[0][0] for row in db.execute("SELECT body FROM forwarding ORDER BY id")]
        assert left == [7, 8, 9]


@pytest.mark.slow
def test_what_keeps_envelopes_here_is_said_once_and_so_is_the_end_of_it(
    pair: tuple[LocalServer, LocalServer], caplog: pytest.LogCaptureFixture
) -> None:
    server, upstream = pair

    def said() -> list[str]:
        return _said(caplog)

    upstream.faults.plan(status=503)
    upstream.faults.plan(status=503)
    assert send(server, b"{}\n").status == 200
    wait_until(lambda: not _waiting(server) and len(said()) > 1, 30)
    assert len(said()) == 2
    assert "answers 503" in said()[0]
    assert "wait in the database" in said()[0]
    assert "goes on" in said()[1]
    for _ in range(3):
        upstream.faults.plan(status=403)
        assert send(server, b"{}\n").status == 200
        wait_until(lambda: not _waiting(server), 30)
    assert len(said()) == 3
    assert "refuses envelopes (403)" in said()[2]
    key = Dsn.parse(upstream.dsn).public_key
    assert key not in "".join(said())


def test_an_upstream_that_is_away_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with LocalServer() as gone:
        dsn = gone.dsn
    with LocalServer(forward=dsn) as server:
        assert send(server, b"{}\n").status == 200
        wait_until(lambda: _said(caplog), 30)
    assert "cannot be reached" in _said(caplog)[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_a_server_does_not_forward_to_itself(host: str) -> None:
    """Each envelope would come back and be passed on again, for ever."""
    with LocalServer() as server:
        port = Dsn.parse(server.dsn).port
    again = LocalServer(port=port, forward=f"http://k@{host}:{port}/1")
    with pytest.raises(ConfigurationError, match="itself"):
        again.start()


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server has said; uvicorn says more, or less, as other tests have told it."""
    return [record.getMessage() for record in caplog.records if record.name == "crashfree.server"]
