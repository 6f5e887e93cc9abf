from __future__ import annotations

from datetime import datetime, timezone

from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._ground.clock import SYSTEM_CLOCK, Clock, Mark
from tests.support.clock import FakeClock


def test_a_mark_reads_all_three_clocks(clock: FakeClock) -> None:
    assert Mark.of(clock) == Mark(clock.wall, clock.mono, clock.boot)


def test_work_is_measured_without_the_time_that_the_machine_slept(clock: FakeClock) -> None:
    start = Mark.of(clock)
    clock.advance(3)
    clock.suspend(100)
    assert start.elapsed(Mark.of(clock)) == 3


def test_idle_time_includes_the_time_that_the_machine_slept(clock: FakeClock) -> None:
    start = Mark.of(clock)
    clock.advance(3)
    clock.suspend(100)
    assert start.idle(Mark.of(clock)) == 103


def test_a_boot_clock_that_stands_still_does_not_hide_idle_time(clock: FakeClock) -> None:
    start = Mark.of(clock)
    clock.mono += 40
    assert start.idle(Mark.of(clock)) == 40


def test_setting_the_wall_clock_changes_no_length_of_time(clock: FakeClock) -> None:
    start = Mark.of(clock)
    clock.advance(5)
    clock.set_wall(0.0)
    assert start.elapsed(Mark.of(clock)) == 5
    assert start.idle(Mark.of(clock)) == 5


MARKS = st.builds(Mark, *[st.floats(-1e9, 1e9)] * 3)


@given(MARKS, MARKS)
@settings(deadline=None)
def test_no_length_of_time_is_negative_and_idle_is_never_shorter(start: Mark, now: Mark) -> None:
    assert 0.0 <= start.elapsed(now) <= start.idle(now)


def test_the_system_clock_goes_forward() -> None:
    clock: Clock = SYSTEM_CLOCK
    before, after = Mark.of(clock), Mark.of(clock)
    assert after.mono >= before.mono
    assert after.boot >= before.boot


def test_a_frozen_clock_is_seen_through_the_system_clock() -> None:
    """The `time` module is asked at each call, so that freezegun works for users' tests."""
    moment = datetime(2026, 11, 21, tzinfo=timezone.utc)
    with freeze_time(moment) as frozen:
        start = Mark.of(SYSTEM_CLOCK)
        assert start.wall == moment.timestamp()
        frozen.tick(30)
        now = Mark.of(SYSTEM_CLOCK)
    assert now.wall - start.wall == 30
    assert start.elapsed(now) == 30
    assert start.idle(now) >= 30
