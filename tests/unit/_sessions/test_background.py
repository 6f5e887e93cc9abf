"""The 30-second rule. Source: sessions.md section 4."""

from __future__ import annotations

from typing import Any

import pytest

from crashfree._protocol.timestamps import rfc3339
from tests.support.desk import Desk
from tests.support.vectors import load


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.sessions.begin()
    desk.wait(100)
    return desk


@pytest.mark.parametrize(("away", "sessions"), [(29.999, 1), (30.0, 2), (30.001, 2), (3600.0, 2)])
def test_the_edge_is_at_thirty_seconds(desk: Desk, away: float, sessions: int) -> None:
    """W35, W36: less stays the same session, equal starts another."""
    desk.sessions.enter_background()
    desk.wait(away)
    desk.sessions.enter_foreground()
    assert desk.sessions.stats().started == sessions
    assert desk.sessions.alive


@pytest.mark.parametrize("away", [29.999, 30.0, 30.001])
def test_the_edge_is_the_same_without_a_timer(desk: Desk, away: float) -> None:
    """The worker may be late, or there may be none: the rule is looked at on return."""
    desk.sessions.enter_background()
    desk.clock.advance(away)
    desk.sessions.enter_foreground()
    assert desk.sessions.stats().started == (1 if away < 30 else 2)


def test_the_end_is_the_moment_of_leaving(desk: Desk) -> None:
    left = desk.clock.time()
    desk.sessions.enter_background()
    desk.wait(500)
    assert desk.last["status"] == "exited"
    assert desk.last["timestamp"] == rfc3339(left)
    assert desk.last["duration"] == 100
    assert not desk.sessions.alive


def test_the_timer_says_so_when_the_time_is_over(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(29.9)
    assert desk.sessions.alive
    desk.wait(0.2)
    assert not desk.sessions.alive


def test_time_away_is_no_part_of_the_duration(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(20)
    desk.sessions.enter_foreground()
    desk.wait(5)
    desk.sessions.enter_background()
    desk.wait(10)
    desk.sessions.enter_foreground()
    desk.wait(1)
    desk.sessions.end()
    assert desk.last["duration"] == pytest.approx(106)


def test_a_suspended_laptop_counts_as_away(desk: Desk) -> None:
    """The monotonic clock stood still; the timer did not run."""
    left = desk.clock.time()
    desk.sessions.enter_background()
    desk.clock.suspend(8 * 3600)
    desk.sessions.enter_foreground()
    assert desk.sessions.stats().started == 2
    assert desk.last["timestamp"] == rfc3339(left)
    assert desk.last["duration"] == 100


def test_a_laptop_suspended_in_the_foreground_goes_on(desk: Desk) -> None:
    desk.clock.suspend(8 * 3600)
    desk.sessions.end()
    assert desk.sessions.stats().started == 1
    assert desk.last["duration"] == 100


def test_a_clock_set_ahead_ends_nothing(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.clock.set_wall(desk.clock.wall + 3600)
    desk.sessions.enter_foreground()
    assert desk.sessions.stats().started == 1


def test_left_twice_the_second_time_counts(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(20)
    left = desk.clock.time()
    desk.sessions.enter_background()
    desk.wait(20)
    assert desk.sessions.alive
    desk.wait(10)
    assert not desk.sessions.alive
    assert desk.last["timestamp"] == rfc3339(left)


def test_coming_back_twice_is_coming_back_once(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(40)
    desk.sessions.enter_foreground()
    sid = desk.sessions.sid
    desk.sessions.enter_foreground()
    assert desk.sessions.sid == sid
    assert desk.sessions.stats().started == 2


def test_two_signals_in_a_row_leave_one_session(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.sessions.enter_foreground()
    desk.wait(100)
    assert desk.sessions.stats().started == 1
    assert desk.sessions.alive


def test_a_timeout_of_zero_ends_at_once() -> None:
    desk = Desk(timeout=0.0)
    desk.sessions.begin()
    desk.sessions.enter_background()
    assert not desk.sessions.alive
    desk.sessions.enter_foreground()
    assert desk.sessions.stats().started == 2


def test_an_end_in_the_background_is_at_the_moment_of_leaving(desk: Desk) -> None:
    left = desk.clock.time()
    desk.sessions.enter_background()
    desk.wait(10)
    desk.sessions.close()
    assert desk.last["status"] == "exited"
    assert desk.last["timestamp"] == rfc3339(left)
    assert desk.last["duration"] == 100


def test_errors_in_the_background_count_and_do_not_bring_it_back(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(10)
    desk.fail()
    desk.wait(20)
    assert not desk.sessions.alive
    assert desk.last["errors"] == 1


def test_an_error_after_the_rule_struck_leaves_the_session_alone(desk: Desk) -> None:
    """No timer ran; the error itself finds that the session is over."""
    desk.sessions.enter_background()
    desk.clock.advance(31)
    assert desk.sessions.account("crashed") is None
    assert desk.last["status"] == "exited"
    assert desk.last["errors"] == 0


def test_a_crash_in_the_background_is_at_the_time_of_the_crash(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(10)
    desk.fail("crashed")
    assert desk.last["status"] == "crashed"
    assert desk.last["timestamp"] == rfc3339(desk.clock.time())


def test_a_program_started_in_the_background_has_no_session_yet() -> None:
    desk = Desk()
    desk.sessions.enter_background()
    desk.sessions.begin()
    desk.wait(100)
    assert not desk.sessions.alive
    desk.sessions.enter_foreground()
    assert desk.sessions.alive


def test_a_session_of_its_own_accord_comes_back_after_the_rule_ended_it() -> None:
    """Without automatic sessions, too: the program never said that it ended."""
    desk = Desk(automatic=False)
    desk.sessions.start()
    desk.sessions.enter_background()
    desk.wait(40)
    desk.sessions.enter_foreground()
    assert desk.sessions.stats().started == 2
    desk.sessions.end()
    desk.sessions.enter_background()
    desk.wait(40)
    desk.sessions.enter_foreground()
    assert not desk.sessions.alive


# --- work that is meant to run there ----------------------------------------


def test_work_in_the_background_is_a_session_of_its_own(desk: Desk) -> None:
    """The music player: a session with the user, one without, one with the user again."""
    left = desk.clock.time()
    with desk.sessions.background_session():
        desk.sessions.enter_background()
        desk.wait(300)
        assert desk.sessions.alive
        desk.sessions.enter_foreground()
        desk.wait(50)
    desk.sessions.end()
    attended, working, again = desk.ended()
    assert (attended["duration"], attended["timestamp"]) == (100, rfc3339(left))
    assert (working["started"], working["duration"]) == (rfc3339(left), 300)
    assert again["duration"] == 50
    assert len(desk.sids) == 3


def test_a_short_time_away_while_working_stays_one_session(desk: Desk) -> None:
    with desk.sessions.background_session():
        desk.sessions.enter_background()
        desk.wait(10)
        desk.sessions.enter_foreground()
    assert desk.sessions.stats().started == 1


def test_work_that_ends_in_the_background_ends_its_session(desk: Desk) -> None:
    with desk.sessions.background_session():
        desk.sessions.enter_background()
        desk.wait(200)
    assert not desk.sessions.alive
    assert desk.last["duration"] == 200


def test_work_begun_in_the_background_starts_its_session_there(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(100)
    assert not desk.sessions.alive
    with desk.sessions.background_session(), desk.sessions.background_session():
        desk.wait(60)
        assert desk.sessions.alive
    assert desk.last["duration"] == 60


def test_a_crash_of_background_work_is_the_background_sessions(desk: Desk) -> None:
    with desk.sessions.background_session():
        desk.sessions.enter_background()
        desk.wait(100)
        desk.fail("crashed")
    assert [update["status"] for update in desk.ended()] == ["exited", "crashed"]


def test_a_session_started_by_hand_in_the_background_outlasts_it(desk: Desk) -> None:
    desk.sessions.enter_background()
    desk.wait(100)
    desk.sessions.start()
    desk.wait(100)
    assert desk.sessions.alive
    sid = desk.sessions.sid
    desk.sessions.enter_foreground()
    assert desk.sessions.sid == sid
    desk.wait(5)
    desk.sessions.end()
    assert desk.last["duration"] == 105


async def _in_async(desk: Desk) -> None:
    async with desk.sessions.background_session():
        desk.sessions.enter_background()
        desk.wait(100)
        assert desk.sessions.alive


def test_background_work_may_be_async(desk: Desk) -> None:
    import asyncio

    asyncio.run(_in_async(desk))
    assert not desk.sessions.alive


# --- the vectors ----------------------------------------

LIFECYCLES = [
    case
    for case in load("sessions.json")
    if case["input"]["kind"] == "lifecycle"
    and not {"killed", "relaunch"} & {name for _, name in case["input"]["events"]}
]


@pytest.mark.parametrize("case", LIFECYCLES, ids=lambda case: case["name"])
def test_lifecycle_vectors(case: dict[str, Any]) -> None:
    """The vectors are Cocoa's, whose durations hold the short times away; ours do not."""
    given, expected = case["input"], case["expect"]
    desk = Desk(timeout=given["interval_s"], delay=1e9)
    zero = desk.clock.time()
    for second, name in given["events"]:
        desk.wait(zero + second - desk.clock.time())
        match name:
            case "foreground":
                desk.sessions.enter_foreground()
            case "background":
                desk.sessions.enter_background()
            case "background_launch":
                desk.sessions.enter_background()
                desk.sessions.begin()
            case "error":
                desk.fail()
            case "terminate":
                desk.sessions.close()
    assert desk.sessions.stats().started == expected["inits"]
    assert len(desk.ended()) == len(expected["ended"])
    for update, end in zip(desk.ended(), expected["ended"], strict=True):
        assert update["status"] == end["status"]
        assert update["started"] == rfc3339(zero + end["started"])
        assert update["timestamp"] == rfc3339(zero + end["timestamp"])
        away = _short_times_away(given["events"], given["interval_s"], until=end["timestamp"])
        assert update["duration"] == end["duration"] - away
        assert update["errors"] == end.get("errors", 0)


def _short_times_away(events: list[Any], interval: float, *, until: float) -> float:
    left: float | None = None
    away = 0.0
    for second, name in events:
        if second > until:
            break
        if name == "background":
            left = second
        elif name == "foreground" and left is not None:
            away += second - left if second - left < interval else 0.0
            left = None
    return away
