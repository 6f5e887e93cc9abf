"""One session per process: start, end, what it says when, and what errors do to it."""

from __future__ import annotations

import pytest

from crashfree._protocol.timestamps import rfc3339
from tests.support.desk import Desk


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.sessions.begin()
    return desk


def test_nothing_is_told_before_the_initial_delay(desk: Desk) -> None:
    desk.wait(9.999)
    assert desk.told == []
    desk.wait(0.001)
    (update,) = desk.told
    assert update["status"] == "ok"
    assert update["init"] is True
    assert update["seq"] == 0
    assert update["errors"] == 0
    assert "duration" not in update
    assert update["attrs"] == {"release": "app@1.0", "environment": "test"}


def test_a_short_program_tells_once(desk: Desk) -> None:
    started = desk.clock.time()
    desk.wait(2.5)
    desk.sessions.end()
    (update,) = desk.told
    assert update["status"] == "exited"
    assert update["init"] is True
    assert update["duration"] == 2.5
    assert update["started"] == rfc3339(started)
    assert update["timestamp"] == rfc3339(started + 2.5)
    desk.wait(60)
    assert len(desk.told) == 1


def test_init_is_said_once_and_seq_counts(desk: Desk) -> None:
    """W15: the same sid, did, started and attributes; init first; seq 0, 1, 2."""
    desk.wait(10)
    desk.fail()
    desk.wait(5)
    desk.sessions.end()
    assert [update.get("init") for update in desk.told] == [True, None, None]
    assert [update.get("seq") for update in desk.told] == [0, 1, 2]
    assert [update.get("errors") for update in desk.told] == [0, 1, 1]
    assert [update.get("status") for update in desk.told] == ["ok", "ok", "exited"]
    for key in ("sid", "started", "attrs"):
        assert len({str(update[key]) for update in desk.told}) == 1


def test_only_the_first_handled_error_is_worth_an_update_of_its_own(desk: Desk) -> None:
    desk.wait(10)
    assert desk.fail() is not None
    assert desk.fail() is None
    desk.sessions.end()
    assert desk.last["errors"] == 2


def test_a_handled_error_before_the_first_update_waits_for_it(desk: Desk) -> None:
    assert desk.fail() is None
    desk.wait(10)
    assert desk.last["errors"] == 1
    assert desk.last["init"] is True


def test_a_crash_ends_the_session_at_once(desk: Desk) -> None:
    desk.wait(3)
    update = desk.fail("crashed")
    assert update is not None
    assert update["status"] == "crashed"
    assert update["errors"] == 1
    assert update["init"] is True
    assert not desk.sessions.alive


def test_nothing_follows_a_crash(desk: Desk) -> None:
    """W13: two more errors and an end say nothing more."""
    desk.fail("crashed")
    assert desk.fail() is None
    assert desk.fail("crashed") is None
    desk.sessions.end()
    desk.sessions.end("crashed")
    desk.wait(100)
    assert len(desk.told) == 1


def test_an_error_that_was_counted_before_only_makes_it_worse(desk: Desk) -> None:
    desk.fail("errored")
    desk.fail("errored", counted=True)
    desk.fail("crashed", counted=True)
    assert desk.last["status"] == "crashed"
    assert desk.last["errors"] == 1


def test_an_error_survived_shows_when_the_session_ends(desk: Desk) -> None:
    """W42: an error in a thread; the process ends cleanly."""
    desk.fail("unhandled")
    assert desk.sessions.alive
    desk.sessions.end()
    assert desk.last["status"] == "unhandled"
    assert desk.last["errors"] == 1


@pytest.mark.parametrize(
    ("status", "expected"), [("crashed", "crashed"), ("abnormal", "abnormal"), (None, "unhandled")]
)
def test_worse_than_survived_wins(status: str, expected: str) -> None:
    desk = Desk()
    desk.sessions.begin()
    desk.fail("unhandled")
    desk.sessions.end(status)  # type: ignore[arg-type]
    assert desk.last["status"] == expected
    assert desk.last["errors"] == 1


def test_a_server_without_the_fifth_status_is_told_crashed() -> None:
    desk = Desk(unhandled_status="crashed")
    desk.sessions.begin()
    desk.fail("unhandled")
    desk.sessions.end()
    assert desk.last["status"] == "crashed"


def test_a_program_may_say_itself_that_it_crashed(desk: Desk) -> None:
    desk.sessions.end("crashed")
    assert (desk.last["status"], desk.last["errors"]) == ("crashed", 1)


def test_a_message_or_warning_changes_nothing(desk: Desk) -> None:
    assert desk.fail("none") is None
    desk.sessions.end()
    assert (desk.last["status"], desk.last["errors"]) == ("exited", 0)


def test_a_second_start_ends_the_first_session(desk: Desk) -> None:
    """W11: start, start, end, end."""
    desk.sessions.start()
    desk.sessions.end()
    desk.sessions.end()
    assert [update["status"] for update in desk.told] == ["exited", "exited"]
    assert len(desk.sids) == 2
    assert desk.sessions.stats().started == 2


def test_begin_is_a_start_only_where_none_is_live(desk: Desk) -> None:
    sid = desk.sessions.sid
    desk.sessions.begin()
    assert desk.sessions.sid == sid


def test_without_automatic_sessions_only_a_start_starts_one() -> None:
    desk = Desk(automatic=False)
    desk.sessions.begin()
    desk.sessions.enter_foreground()
    assert not desk.sessions.alive
    desk.sessions.start()
    assert desk.sessions.alive


def test_flush_tells_early(desk: Desk) -> None:
    desk.sessions.announce()
    desk.sessions.announce()
    assert len(desk.told) == 1
    desk.wait(10)
    assert len(desk.told) == 1


# --- who ----------------------------------------


def test_the_user_known_at_the_first_send_is_the_did(desk: Desk) -> None:
    desk.sessions.identify({"id": 42})
    desk.wait(10)
    desk.sessions.identify({"id": 43})
    desk.sessions.end()
    assert [update.get("did") for update in desk.told] == ["42", "42"]


def test_a_user_known_too_late_is_never_added(desk: Desk) -> None:
    """W16."""
    desk.wait(10)
    desk.sessions.identify({"id": 42})
    desk.sessions.end()
    assert all("did" not in update for update in desk.told)


def test_the_installation_stands_in_for_a_user() -> None:
    desk = Desk(installation="7b9a5c0e-0000-4000-8000-000000000001")
    desk.sessions.begin()
    desk.wait(10)
    desk.sessions.end()
    assert {update.get("did") for update in desk.told} == {"7b9a5c0e-0000-4000-8000-000000000001"}


def test_a_user_who_leaves_before_the_first_send_is_not_the_did(desk: Desk) -> None:
    desk.sessions.identify({"id": 42})
    desk.sessions.identify(None)
    desk.sessions.end()
    assert "did" not in desk.last


def test_the_next_session_belongs_to_the_user_too(desk: Desk) -> None:
    desk.sessions.identify({"email": "a@example.com"})
    desk.sessions.start()
    desk.sessions.end()
    assert [update.get("did") for update in desk.told] == ["a@example.com"] * 2


def test_a_start_can_name_the_user(desk: Desk) -> None:
    desk.sessions.start("u1")
    desk.sessions.end()
    assert desk.last["did"] == "u1"


# --- pausing, routes ----------------------------------------


def test_pausing_ends_the_session_and_resuming_starts_one(desk: Desk) -> None:
    desk.sessions.pause()
    assert desk.last["status"] == "exited"
    desk.sessions.begin()
    desk.sessions.enter_background()
    desk.sessions.enter_foreground()
    assert not desk.sessions.alive
    desk.sessions.resume()
    assert desk.sessions.alive
    desk.sessions.resume()
    assert desk.sessions.stats().started == 2


def test_each_route_that_differs_is_a_session(desk: Desk) -> None:
    desk.sessions.navigate("/")
    desk.sessions.navigate("/")
    assert desk.told == []
    desk.sessions.navigate("/settings")
    desk.sessions.navigate("/settings")
    desk.sessions.navigate("/")
    assert [update["status"] for update in desk.told] == ["exited", "exited"]
    assert desk.sessions.stats().started == 3


def test_a_route_visited_while_paused_or_away_starts_nothing(desk: Desk) -> None:
    desk.sessions.navigate("/")
    desk.sessions.pause()
    desk.sessions.navigate("/settings")
    assert not desk.sessions.alive
    desk.sessions.resume()
    sid = desk.sessions.sid
    desk.sessions.navigate("/settings")
    assert desk.sessions.sid == sid


# --- the other mode ----------------------------------------


def test_an_unsent_session_is_withdrawn_without_a_trace(desk: Desk) -> None:
    assert desk.sessions.withdraw()
    desk.wait(100)
    desk.sessions.begin()
    desk.sessions.enter_background()
    desk.sessions.enter_foreground()
    desk.sessions.close()
    assert desk.told == []
    stats = desk.sessions.stats()
    assert (stats.started, stats.withdrawn, stats.alive) == (1, 1, 0)
    assert desk.timers.armed == 0


def test_a_session_that_was_told_of_has_to_end(desk: Desk) -> None:
    desk.wait(10)
    assert not desk.sessions.withdraw()
    assert [update["status"] for update in desk.told] == ["ok", "exited"]


# --- what becomes of updates ----------------------------------------


def test_init_moves_to_the_next_update_when_the_first_was_refused(desk: Desk) -> None:
    desk.accepting = False
    desk.wait(10)
    desk.accepting = True
    desk.sessions.end()
    (update,) = desk.told
    assert update["init"] is True
    assert update["status"] == "exited"


def test_a_last_word_that_was_refused_is_told_at_the_next_flush(desk: Desk) -> None:
    desk.accepting = False
    desk.sessions.end()
    desk.accepting = True
    desk.sessions.announce()
    desk.sessions.announce()
    assert [update["status"] for update in desk.told] == ["exited"]


def test_what_is_through_the_transport_is_forgotten(desk: Desk) -> None:
    desk.sessions.end()
    assert desk.sessions.stats().unconfirmed == 1
    desk.sessions.delivered(desk.last)
    assert desk.sessions.stats().unconfirmed == 0


def test_many_last_words_on_their_way_are_bounded(desk: Desk) -> None:
    for _ in range(100):
        desk.sessions.start()
    assert desk.sessions.stats().unconfirmed == 20


# --- the end of the process, and its children ----------------------------------------


def test_closing_ends_the_session_and_starts_no_other(desk: Desk) -> None:
    desk.sessions.close()
    desk.sessions.begin()
    desk.sessions.enter_foreground()
    assert [update["status"] for update in desk.told] == ["exited"]
    assert desk.timers.armed == 0


def test_a_forked_child_says_nothing_of_its_parents_session(desk: Desk) -> None:
    """W25."""
    desk.wait(10)
    desk.told.clear()
    desk.sessions.forget()
    desk.fail("crashed")
    desk.sessions.end()
    desk.sessions.close()
    assert desk.told == []
    assert desk.sessions.stats().started == 0


def test_a_duration_is_never_negative_when_the_clock_goes_back(desk: Desk) -> None:
    """W19."""
    desk.clock.set_wall(desk.clock.wall - 3600)
    desk.sessions.end()
    assert desk.last["duration"] == 0
    assert desk.last["timestamp"] == desk.last["started"]


def test_a_change_inside_a_change_is_not_lost(desk: Desk) -> None:
    """The transport may call back, and a signal handler may enter anywhere."""
    entered: list[int] = []
    take = desk.take

    def taking(update: object) -> bool:
        if not entered:
            entered.append(1)
            desk.sessions.start("inner")
        return take(update)  # type: ignore[arg-type]

    desk.sessions._emit = taking
    desk.sessions.end()
    assert desk.sessions.alive
    desk.sessions.end()
    assert len(desk.sids) == 2
    assert all(update["status"] == "exited" for update in desk.told)
