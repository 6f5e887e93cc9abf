"""Limits by category; the later deadline counts, on the monotonic clock."""

from __future__ import annotations

from crashfree._delivery.limiter import Limiter
from tests.support.clock import FakeClock


def test_nothing_is_limited_at_first(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    assert not limiter.limited("error")
    assert limiter.remaining() == {}
    assert limiter.healthy()


def test_a_limit_holds_until_its_deadline_and_for_its_category_only(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"error": 60.0})
    assert limiter.limited("error")
    assert not limiter.limited("session")
    clock.advance(59.9)
    assert limiter.limited("error")
    clock.advance(0.1)
    assert not limiter.limited("error")


def test_a_later_shorter_limit_never_shortens(clock: FakeClock) -> None:
    """wire.md section 11.2; the incumbent overwrites (complaints-transport row 45)."""
    limiter = Limiter(clock=clock)
    limiter.update({"error": 60.0})
    clock.advance(10.0)
    limiter.update({"error": 5.0})
    clock.advance(20.0)
    assert limiter.limited("error")
    limiter.update({"error": 100.0})
    clock.advance(99.0)
    assert limiter.limited("error")


def test_a_limit_of_nothing_lifts_none(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"session": 60.0})
    limiter.update({"session": 0.0})
    limiter.update({})
    assert limiter.limited("session")


def test_fractions_of_seconds_count(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"error": 1.5})
    clock.advance(1.4)
    assert limiter.limited("error")
    clock.advance(0.2)
    assert not limiter.limited("error")


def test_a_limit_on_all_covers_every_category_reports_included(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"*": 60.0})
    assert limiter.limited("error")
    assert limiter.limited("internal")
    assert limiter.everything_limited()


def test_client_reports_have_no_limit_of_their_own(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"error": 60.0, "session": 60.0})
    assert not limiter.limited("internal")
    assert not limiter.everything_limited()


def test_setting_the_wall_clock_changes_nothing(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"error": 60.0})
    clock.set_wall(clock.wall + 10_000)
    assert limiter.limited("error")


def test_only_new_limits_are_told(clock: FakeClock) -> None:
    """A server may state the same limit on every answer (complaints-transport row 46)."""
    limiter = Limiter(clock=clock)
    assert limiter.update({"transaction": 86_400.0}) == ["transaction"]
    assert limiter.update({"transaction": 86_400.0}) == []
    clock.advance(90_000.0)
    assert limiter.update({"transaction": 86_400.0}) == ["transaction"]


def test_limits_on_what_we_never_send_do_not_make_us_unhealthy(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"transaction": 86_400.0, "span": 86_400.0})
    assert limiter.healthy()
    limiter.update({"session": 10.0})
    assert not limiter.healthy()


def test_the_end_of_a_limit_can_be_waited_for(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"session": 10.0, "*": 4.0})
    assert limiter.until("session") == clock.monotonic() + 10.0
    assert limiter.until("error") == clock.monotonic() + 4.0
    clock.advance(10.0)
    assert limiter.until("session") == 0.0


def test_limits_survive_a_fork(clock: FakeClock) -> None:
    limiter = Limiter(clock=clock)
    limiter.update({"error": 60.0})
    limiter.forget()
    assert limiter.limited("error")
