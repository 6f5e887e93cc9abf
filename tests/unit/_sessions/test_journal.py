"""The journal of an application session."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._ground import log
from crashfree._sessions.journal import Journal, decode
from tests.support.desk import Desk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session"


@pytest.fixture
def desk(path: Path) -> Desk:
    return Desk(open_journal=lambda: Journal.create(str(path)))


def test_it_is_there_as_soon_as_a_session_starts(desk: Desk, path: Path) -> None:
    assert not path.exists()
    desk.sessions.begin()
    entry = decode(path.read_bytes())
    assert entry is not None
    assert entry.session is not None
    assert entry.session.sid == desk.sessions.sid
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_change_is_in_it_at_once(desk: Desk, path: Path) -> None:
    desk.sessions.begin()
    desk.fail()
    desk.sessions.enter_background()
    entry = decode(path.read_bytes())
    assert entry is not None
    assert entry.session is not None
    assert entry.session.errors == 1
    assert entry.left == desk.clock.time()


def test_the_heart_beats_at_least_every_minute(desk: Desk, path: Path) -> None:
    desk.sessions.begin()
    for _ in range(10):
        desk.wait(60)
        entry = decode(path.read_bytes())
        assert entry is not None
        assert desk.clock.time() - entry.seen <= 60


def test_a_withdrawn_session_leaves_nothing_to_tell(desk: Desk, path: Path) -> None:
    desk.sessions.begin()
    desk.sessions.withdraw()
    entry = decode(path.read_bytes())
    assert entry is not None
    assert (entry.session, entry.untold) == (None, ())
    assert desk.sessions.finish()
    assert not path.exists()


def test_a_change_in_the_middle_of_a_note_is_noted(desk: Desk, path: Path) -> None:
    """The inner one finds somebody writing, and leaves it to them."""
    desk.sessions.begin()
    journal = desk.sessions._journal
    assert journal is not None

    class Entered:
        done = False

        def write(self, entry: object) -> None:
            if not self.done:
                self.done = True
                desk.fail()
            journal.write(entry)  # type: ignore[arg-type]

    desk.sessions._journal = Entered()  # type: ignore[assignment]
    desk.fail()
    entry = decode(path.read_bytes())
    assert entry is not None
    assert entry.session is not None
    assert entry.session.errors == 2


def test_a_forked_child_leaves_it_alone(desk: Desk, path: Path) -> None:
    desk.sessions.begin()
    before = path.read_bytes()
    desk.sessions.forget()
    path.rename(path.with_name("parents"))
    desk.sessions.start()
    assert path.with_name("parents").read_bytes() == before
    assert path.exists()


def test_too_much_to_tell_keeps_the_latest(desk: Desk, path: Path) -> None:
    for number in range(30):
        desk.sessions.start("x" * 5000 + str(number))
    entry = decode(path.read_bytes())
    assert entry is not None
    assert entry.session is not None
    assert entry.untold
    assert entry.untold[-1]["sid"] == desk.sids[-1]


def test_without_a_place_there_is_none_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.forget_repeats()
    assert Journal.create(str(tmp_path / "missing" / "session")) is None
    assert len(caplog.records) == 1


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert decode(data) is None
