"""A unit of work: one session, one scope, any number of segments, one end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Generator

import pytest

import crashfree
from crashfree._client import guard
from crashfree._client.unit import ends_by_will
from crashfree._sessions.unitsession import UnitSession
from crashfree.integration import JoinedUnit, Service, Unit, unit
from crashfree.testing import capture
from crashfree.types import Request
from tests.support.world import World


def counts(seen: capture) -> dict[str, int]:
    total: dict[str, int] = {}
    for payload in seen.aggregates:
        for bucket in payload["aggregates"]:
            for outcome in ("exited", "errored", "crashed", "abnormal", "unhandled"):
                if outcome in bucket:
                    total[outcome] = total.get(outcome, 0) + int(str(bucket[outcome]))  # type: ignore[literal-required]
    return total


def test_it_ends_once_whoever_says_so() -> None:
    with capture(session_mode="request") as seen:
        begun = unit(mechanism="test")
        threads = [threading.Thread(target=begun.end) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        begun.end()
    assert counts(seen) == {"exited": 1}


def test_a_nested_framework_gets_the_running_unit_and_counts_nothing() -> None:
    with capture(session_mode="request") as seen, unit(mechanism="outer") as outer:
        assert isinstance(outer, Unit)
        with unit(mechanism="inner") as inner:
            assert isinstance(inner, JoinedUnit)
            inner.set_transaction("/route")
            crashfree.capture_message("x")
    assert counts(seen) == {"exited": 1}
    assert seen.events[0]["transaction"] == "/route"


def test_an_error_that_passes_two_frameworks_is_one_event_and_one_crash() -> None:
    def handle() -> None:
        with unit(mechanism="outer"), unit(mechanism="inner"):
            try:
                raise ValueError("once")
            except ValueError as error:
                crashfree.capture_exception(error)
                raise

    with capture(session_mode="request") as seen, pytest.raises(ValueError, match="once"):
        handle()
    assert counts(seen) == {"crashed": 1}
    assert len(seen.events) == 1


@pytest.mark.parametrize(
    ("error", "by_will"),
    [
        (SystemExit(), True),
        (SystemExit(0), True),
        (SystemExit(1), False),
        (SystemExit("no"), False),
        (KeyboardInterrupt(), True),
        (GeneratorExit(), True),
        (asyncio.CancelledError(), True),
        (ValueError(), False),
    ],
)
def test_what_ends_a_unit_by_will(error: BaseException, by_will: bool) -> None:
    """Source: sessions.md section 3.6."""
    assert ends_by_will(error) is by_will
    with capture(session_mode="request") as seen, pytest.raises(type(error)):
        with unit(mechanism="test"):
            raise error
    assert counts(seen) == ({"exited": 1} if by_will else {"crashed": 1})
    assert len(seen.events) == (0 if by_will else 1)


def test_segments_run_on_any_thread_and_share_the_scope() -> None:
    def segment(begun: Unit | JoinedUnit, number: int) -> None:
        with begun.segment():
            crashfree.set_tag(f"segment{number}", "yes")
            if number == 2:
                crashfree.capture_exception(KeyError("second"))

    with capture(session_mode="request") as seen:
        begun = unit(mechanism="test")
        for number in range(3):
            thread = threading.Thread(target=segment, args=(begun, number))
            thread.start()
            thread.join()
        begun.end()
    assert counts(seen) == {"errored": 1}
    assert seen.events[0]["tags"] == {"segment0": "yes", "segment1": "yes", "segment2": "yes"}


def test_the_innermost_scope_of_a_unit_does_not_leak_into_the_next() -> None:
    with capture(session_mode="request") as seen:
        for number in range(2):
            with unit(mechanism="test"):
                if number == 0:
                    crashfree.get_current_scope().set_tag("first", "only")
                crashfree.capture_message(str(number))
    assert [event.get("tags", {}) for event in seen.events] == [{"first": "only"}, {}]


def test_a_unit_begun_inside_an_isolation_block_has_its_own_scope() -> None:
    with capture(session_mode="request") as seen, crashfree.isolation_scope():
        crashfree.set_tag("block", "b")
        with unit(mechanism="test"):
            crashfree.set_tag("unit", "u")
        crashfree.capture_message("after")
    assert seen.events[0]["tags"] == {"block": "b"}


def test_the_request_is_asked_for_only_when_an_event_is_made() -> None:
    asked: list[int] = []

    def request() -> Request:
        asked.append(1)
        return {"method": "GET", "url": "http://shop/cart"}

    with capture(session_mode="request") as seen:
        with unit(mechanism="test") as begun:
            begun.set_request(request)
        assert asked == []
        with unit(mechanism="test") as begun:
            begun.set_request(request)
            crashfree.capture_message("x")
    assert asked == [1]
    assert seen.events[0]["request"]["url"] == "http://shop/cart"


def test_a_user_known_late_still_counts() -> None:
    with capture(session_mode="request") as seen:
        with unit(mechanism="test"):
            crashfree.set_user({"id": "7"})
        with unit(mechanism="test") as begun:
            begun.set_user({"email": "a@b"})
        with unit(mechanism="test"):
            pass
    buckets = seen.aggregates[0]["aggregates"]
    assert {bucket.get("did"): bucket.get("exited") for bucket in buckets} == {
        "7": 1, "a@b": 1, None: 1
    }  # fmt: skip


def test_statuses_that_count_as_crashes() -> None:
    with capture(session_mode="request", crashed_statuses=range(500, 600)) as seen:
        for status in (200, 404, 500, 503):
            with unit(mechanism="test") as begun:
                begun.answered(status)
    assert counts(seen) == {"exited": 2, "crashed": 2}


def test_the_first_unit_turns_an_undecided_process_into_one_that_serves() -> None:
    with capture() as seen:
        assert seen.client.application_mode
        with unit(mechanism="test"):
            pass
        assert not seen.client.application_mode
    assert seen.sessions == []
    assert counts(seen) == {"exited": 1}


def test_sessions_can_be_left_out() -> None:
    with capture(session_mode="request") as seen, unit(mechanism="test", session=False):
        crashfree.capture_message("x")
    assert counts(seen) == {}
    assert len(seen.events) == 1
    with capture(session_mode="request", auto_session_tracking=False) as seen:
        with unit(mechanism="test"):
            pass
        with crashfree.session():
            pass
    assert counts(seen) == {"exited": 1}


def test_a_request_that_cannot_be_described_costs_neither_event_nor_crash() -> None:
    def broken() -> Request:
        raise RuntimeError("no such header")

    guard.set_strict(False)
    with capture(session_mode="request") as seen, pytest.raises(ValueError, match="once"):
        with unit(mechanism="test") as begun:
            begun.set_request(broken)
            raise ValueError("once")
    assert counts(seen) == {"crashed": 1}
    assert [event["exception"]["values"][-1]["type"] for event in seen.events] == ["ValueError"]


def test_a_coroutine_that_is_thrown_away_leaves_without_a_word() -> None:
    """The collector closes it in another context than the one in which it was entered."""

    class Never:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def serve(begun: Unit) -> None:
        with begun:
            await Never()

    with capture(session_mode="request") as seen:
        begun = unit(mechanism="test")
        assert isinstance(begun, Unit)
        coroutine = serve(begun)
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
    assert counts(seen) == {"exited": 1}


def test_a_unit_entered_twice_is_left_twice() -> None:
    with capture(session_mode="request") as seen:
        begun = unit(mechanism="test")
        with begun.segment():
            with begun.segment():
                crashfree.get_current_scope().set_tag("inner", "kept")
            crashfree.capture_message("between")
        crashfree.capture_message("outside")
        begun.leave()
        begun.end()
    assert [event.get("tags", {}) for event in seen.events] == [{}, {}]
    assert counts(seen) == {"exited": 1}


def test_a_block_that_outlives_the_unit_it_was_opened_in_leaves_nothing_behind() -> None:
    """The unit stays left, and what was set in the block is gone."""
    with capture(session_mode="request") as seen:
        begun = unit(mechanism="test")
        begun.enter()
        block = crashfree.isolation_scope()
        block.__enter__().set_tag("block", "b")
        begun.leave()
        begun.end()
        block.__exit__(None, None, None)
        crashfree.capture_message("after")
        assert isinstance(unit(mechanism="next"), Unit)
    assert seen.events[0].get("tags", {}) == {}


def test_a_block_that_is_left_in_another_context_disturbs_nobody() -> None:
    """As a generator that is thrown away: the collector closes it wherever it is."""

    def work() -> Generator[None, None, None]:
        with crashfree.isolation_scope() as scope:
            scope.set_tag("block", "b")
            yield

    with capture(session_mode="request") as seen:
        generator = work()
        contextvars.copy_context().run(next, generator)
        generator.close()
        crashfree.capture_message("after")
    assert seen.events[0].get("tags", {}) == {}


def test_a_request_is_served_by_one_unit_that_is_entered_from_the_start() -> None:
    def describe(method: str, url: str) -> Request:
        return {"method": method, "url": url}

    with capture(session_mode="request") as seen:
        service = Service(crashfree.get_client(), "test", describe)
        begun = Unit.serving(service, ("GET", "http://shop/cart"))
        assert begun is not None
        assert Unit.serving(service, ("GET", "http://shop/other")) is None
        crashfree.capture_message("x")
        begun.leave()
        begun.end()
    assert seen.events[0]["request"]["url"] == "http://shop/cart"
    assert counts(seen) == {"exited": 1}


def test_making_room_in_the_ledger_has_a_boundary() -> None:
    with capture(session_mode="request") as seen, unit(mechanism="test") as begun:
        session = begun.session
        assert isinstance(session, UnitSession)
        assert hasattr(session.minute.full, "__crashfree_boundary__")
    assert counts(seen) == {"exited": 1}


def test_naming_a_user_has_a_boundary() -> None:
    """A user is what the program made of it."""
    with capture(session_mode="request") as seen, unit(mechanism="test") as begun:
        assert hasattr(begun.session.minute.named, "__crashfree_boundary__")
    assert counts(seen) == {"exited": 1}


def test_a_forked_child_sends_its_counts_by_and_by_as_its_parent_did() -> None:
    world = World(session_mode="request")
    world.unit().end()
    assert world.client.counting
    world.client.forget()
    assert not world.client.counting
    begun = world.unit()
    assert world.client.counting
    begun.end()
    world.close()
    assert (
        sum(
            bucket.get("exited", 0)
            for payload in world.transport.aggregates
            for bucket in payload["aggregates"]
        )
        == 1
    )


def test_a_unit_that_has_ended_is_no_part_of_the_next_request() -> None:
    def describe() -> Request:
        return {"method": "GET"}

    with capture(session_mode="request") as seen:
        service = Service(crashfree.get_client(), "test", describe)
        first = Unit.serving(service)
        assert first is not None
        first.end()
        assert isinstance(unit(mechanism="still of the first"), JoinedUnit)
        second = Unit.serving(service)
        assert second is not None
        second.end()
        second.leave()
        first.leave()
    assert counts(seen) == {"exited": 2}


def test_a_unit_without_a_session_is_joined_for_as_long_as_it_is_entered() -> None:
    """`sessions=False` of a middleware holds for what is nested in it."""
    with capture(session_mode="request") as seen:
        client = crashfree.get_client()
        outer = Unit.serving(Service(client, "test", sessions=False))
        assert outer is not None
        outer.end()
        assert Unit.serving(Service(client, "inner")) is None
        outer.leave()
    assert counts(seen) == {}
