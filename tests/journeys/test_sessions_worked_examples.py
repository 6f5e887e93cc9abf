"""The worked examples of the specification on the real client, with a clock that stands still.

W24 to W26, W31 to W34, W37 and W38 need processes that die: see the journeys beside this one, and
the post-mortem's tests. Source: sessions.md section 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from freezegun import freeze_time

import crashfree
from crashfree._delivery.memory import MemoryTransport
from crashfree._protocol.aggregates import to_payloads
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import session_item, sessions_item
from crashfree._protocol.timestamps import epoch_of, rfc3339
from tests.support.stub import Answer, Stub
from tests.support.vectors import load
from tests.support.world import UNHANDLED, World, raise_and_catch


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        world.close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


@pytest.fixture
def world(worlds: list[World]) -> World:
    return begun(worlds)


def begun(worlds: list[World], **options: Any) -> World:
    """A program in application mode, its session begun."""
    world = World(**options)
    worlds.append(world)
    world.client.begin()
    return world


def test_w01_a_handled_error_and_an_end_are_one_update(world: World) -> None:
    world.identify({"id": 42})
    world.fail()
    world.client.end_session()
    assert world.kinds() == [["event"], ["session"]]
    (up,) = world.ups
    assert (up["status"], up["errors"], up["did"], up["init"]) == ("exited", 1, "42", True)


def test_w02_a_crash_rides_in_the_envelope_of_its_event(world: World) -> None:
    world.crash()
    world.client.close()
    assert world.kinds() == [["event", "session"]]
    (up,) = world.ups
    assert (up["status"], up["errors"], up["init"]) == ("crashed", 1, True)


def test_w03_handled_a_then_unhandled_b(world: World) -> None:
    world.fail("a")
    world.crash("b")
    world.client.end_session()
    (up,) = world.ups
    assert (up["status"], up["errors"]) == ("crashed", 2)


def test_w04_a_captured_error_that_then_escapes_is_one_event_and_a_crash(world: World) -> None:
    """Deduplication may not hide a crash."""
    unit = world.unit()
    error = raise_and_catch(RuntimeError("a"))
    world.fail(error, unit=unit)
    unit.crash(error)
    unit.end()
    assert world.totals() == {"crashed": 1}
    assert len(world.events) == 1


def test_w04_in_application_mode_it_is_one_error(world: World) -> None:
    error = raise_and_catch(RuntimeError("a"))
    world.fail(error)
    world.crash(error)
    (up,) = world.ups
    assert (up["status"], up["errors"]) == ("crashed", 1)
    assert len(world.events) == 1


def test_w05_messages_change_nothing(world: World) -> None:
    world.client.capture_message("fatal", "fatal")
    world.client.capture_event({"message": "an error log", "level": "error"})
    world.client.end_session()
    (up,) = world.ups
    assert (up["status"], up["errors"]) == ("exited", 0)
    assert len(world.events) == 2


def test_w06_an_exception_at_level_warning_changes_nothing(world: World) -> None:
    world.fail(level="warning")
    world.client.end_session()
    (up,) = world.ups
    assert (up["status"], up["errors"]) == ("exited", 0)


def test_w07_sampling_hides_no_error(worlds: list[World]) -> None:
    world = begun(worlds, sample_rate=0.0)
    world.fail()
    world.client.end_session()
    assert world.events == []
    (up,) = world.ups
    assert up["errors"] == 1


def test_w07_sampling_hides_no_crash(worlds: list[World]) -> None:
    world = begun(worlds, sample_rate=0.0)
    world.crash()
    assert world.kinds() == [["session"]]
    assert world.ups[0]["status"] == "crashed"


@pytest.mark.parametrize(
    "options",
    [
        {"before_send": lambda event, hint: None},
        {"ignore_errors": (RuntimeError,)},
        {"ignore_errors": ("RuntimeError",)},
    ],
)
@pytest.mark.parametrize("how", [{}, {"mechanism": UNHANDLED}])
def test_w08_what_a_filter_drops_does_not_count(
    worlds: list[World], options: dict[str, Any], how: dict[str, Any]
) -> None:
    world = begun(worlds, **options)
    world.fail(**how)
    world.client.end_session()
    assert world.events == []
    (up,) = world.ups
    assert (up["status"], up["errors"]) == ("exited", 0)


def test_w08_what_a_processor_drops_does_not_count(world: World) -> None:
    world.client.add_processor(lambda event, hint: None)
    world.fail()
    world.client.end_session()
    assert world.events == []
    assert world.ups[0]["errors"] == 0


def test_w09_a_rate_limit_on_errors_hides_no_error(worlds: list[World], stub: Stub) -> None:
    world = begun(worlds, dsn=stub.dsn)
    stub.script(Answer(headers={"X-Sentry-Rate-Limits": "60:error:key"}))
    world.client.capture_message("the one that brings the limit")
    assert world.client.flush(10.0)
    world.fail()
    world.client.end_session()
    assert world.client.flush(10.0)
    assert len(stub.items("event")) == 1
    assert [(up["status"], up["errors"]) for up in stub.items("session")][-1] == ("exited", 1)
    assert world.client.stats().dropped == {("ratelimit_backoff", "error"): 1}


def test_w10_without_a_release_there_is_no_session(worlds: list[World]) -> None:
    world = begun(worlds, release=None)
    world.client.start_session()
    unit = world.unit()
    world.fail(unit=unit)
    unit.end()
    world.client.close()
    assert world.ups == []
    assert world.totals() == {}


def test_w11_start_start_end_end(worlds: list[World]) -> None:
    world = World(auto_session_tracking=False)
    worlds.append(world)
    world.client.start_session()
    world.client.start_session()
    world.client.end_session()
    world.client.end_session()
    assert [up["status"] for up in world.ups] == ["exited", "exited"]
    assert len({up["sid"] for up in world.ups}) == 2


def test_w12_an_error_after_the_end_leaves_the_session_alone(world: World) -> None:
    world.client.end_session()
    world.fail()
    assert world.kinds() == [["session"], ["event"]]
    assert world.ups[0]["errors"] == 0


def test_w13_nothing_follows_a_crash(world: World) -> None:
    world.crash()
    world.fail("second")
    world.fail("third")
    world.client.end_session()
    (up,) = world.ups
    assert (up["status"], up["errors"]) == ("crashed", 1)
    assert len(world.events) == 3


def test_w14_an_end_after_the_end_says_nothing(world: World) -> None:
    world.client.end_session()
    world.client.end_session("crashed")
    assert [up["status"] for up in world.ups] == ["exited"]


def test_w15_one_session_told_three_times(world: World) -> None:
    world.wait(10)
    world.fail()
    world.wait(5)
    world.client.end_session()
    assert world.kinds() == [["session"], ["event", "session"], ["session"]]
    first, second, third = world.ups
    assert [first.get("init"), second.get("init"), third.get("init")] == [True, None, None]
    assert [up.get("seq") for up in world.ups] == [0, 1, 2]
    for key in ("sid", "started", "attrs"):
        assert first[key] == second[key] == third[key]  # type: ignore[literal-required]


def test_w16_a_user_known_too_late_is_never_added(world: World) -> None:
    world.wait(10)
    world.identify({"id": 42})
    world.client.end_session()
    assert all("did" not in up for up in world.ups)


def test_w17_a_user_with_the_number_zero(world: World) -> None:
    world.identify({"id": 0, "email": "a@example.com"})
    world.client.end_session()
    assert world.ups[0]["did"] == "0"


def test_w18_naive_datetimes_are_refused_never_local() -> None:
    with pytest.raises(ValueError, match="time zone"):
        epoch_of(datetime(2024, 1, 1, 12, 0))


def test_w19_a_clock_that_goes_back(world: World) -> None:
    world.clock.set_wall(world.clock.wall - 600)
    world.client.end_session()
    (up,) = world.ups
    assert up["duration"] == 0
    assert up["timestamp"] == up["started"]


def test_w20_two_requests_at_the_edge_of_a_minute_are_two_buckets(world: World) -> None:
    world.clock.set_wall(1_704_110_459.999999)
    world.unit().end()
    world.clock.set_wall(1_704_110_460.0)
    world.unit().end()
    world.client.flush(5.0)
    (payload,) = world.transport.aggregates
    assert [(row["started"], row.get("exited")) for row in payload["aggregates"]] == [
        ("2024-01-01T12:00:00.000000Z", 1),
        ("2024-01-01T12:01:00.000000Z", 1),
    ]


def test_w21_one_bucket_with_every_column(world: World) -> None:
    for verdict in ("none", "errored", "crashed", "unhandled"):
        unit = world.unit()
        unit.session.account(verdict)  # type: ignore[arg-type]
        unit.end()
    assert world.totals() == {"exited": 1, "errored": 1, "crashed": 1, "unhandled": 1}
    (payload,) = world.transport.aggregates
    assert len(payload["aggregates"]) == 1


@pytest.mark.parametrize(
    "case",
    [case for case in load("sessions.json") if case["input"]["kind"] == "envelope_split"],
    ids=lambda case: case["name"],
)
def test_w22_w23_a_hundred_session_items_to_an_envelope(case: dict[str, Any]) -> None:
    def item(number: int) -> Any:
        started = rfc3339(1_704_110_400.0)
        attributes: Any = {"release": f"app@1.{number}"}
        if case["input"]["item_type"] == "session":
            return session_item({"sid": str(number), "started": started, "attrs": attributes})
        (payload,) = to_payloads(attributes, {(1_704_110_400, None, "exited"): 1})
        return sessions_item(payload)

    envelope = Envelope.of([item(number) for number in range(case["input"]["count"])])
    assert [len(part.items) for part in envelope.split()] == case["expect"]["items_per_envelope"]


@pytest.mark.parametrize("interval", [10, 60])
def test_w39_the_interval_never_changes_totals(worlds: list[World], interval: int) -> None:
    world = World(session_flush_interval=float(interval), session_mode="request")
    worlds.append(world)
    for second in range(300):
        unit = world.unit()
        if second % 50 == 0:
            unit.crash(raise_and_catch(RuntimeError("x")))
        unit.end()
        world.clock.advance(1)
        if second % interval == 0:
            world.client.flush(5.0)
    assert world.totals() == {"exited": 294, "crashed": 6}


def test_w40_a_rate_limit_on_sessions_delays_and_merges_them(
    worlds: list[World], stub: Stub
) -> None:
    world = World(dsn=stub.dsn, session_mode="request")
    worlds.append(world)
    world.client.begin()
    stub.script(Answer(status=429, headers={"X-Sentry-Rate-Limits": "60:session:organization"}))
    for _ in range(4):
        world.unit().end()
        world.client.flush(10.0)
        world.clock.advance(10)
    assert len(stub.requests) == 1
    stub.requests.clear()
    world.clock.advance(61)
    world.unit().end()
    assert world.client.flush(10.0)
    (payload,) = stub.items("sessions")
    assert sum(row["exited"] for row in payload["aggregates"]) == 5
    assert world.client.stats().dropped == {}


def test_w41_a_transport_that_refuses_once_gets_both_batches(world: World) -> None:
    world.client._parts = world.client._parts._replace(transport=_Once(world.transport))
    world.unit().end()
    world.client.flush(5.0)
    assert world.transport.aggregates == []
    world.unit().end()
    assert world.totals() == {"exited": 2}


class _Once:
    """Refuses the first aggregates."""

    def __init__(self, inner: MemoryTransport) -> None:
        self.inner = inner
        self.refused = False

    def submit(self, envelope: Envelope) -> bool:
        if not self.refused and any(item.type == "sessions" for item in envelope.items):
            self.refused = True
            return False
        return self.inner.submit(envelope)

    def flush(self, timeout: float) -> bool:
        return self.inner.flush(timeout)

    def close(self, timeout: float) -> bool:
        return self.inner.close(timeout)


def test_w42_an_error_in_a_worker_thread_of_a_program_that_ends_well(world: World) -> None:
    world.fail(mechanism={"type": "threading", "handled": False})
    world.client.close()
    assert world.ups[-1]["status"] == "unhandled"
    assert world.ups[-1]["errors"] == 1


# --- the background, on the real client ----------------------------------------


@pytest.mark.parametrize(("away", "sids"), [(29.999, 1), (30.0, 2), (30.001, 2)])
def test_w35_w36_the_thirty_second_rule(world: World, away: float, sids: int) -> None:
    world.wait(100)
    left = world.clock.time()
    world.client.enter_background()
    world.wait(away)
    world.client.enter_foreground()
    world.wait(20)
    world.client.end_session()
    assert len({up["sid"] for up in world.ups}) == sids
    if sids == 2:
        ended = next(up for up in world.ups if up["status"] == "exited")
        assert ended["timestamp"] == rfc3339(left)
        assert ended["duration"] == pytest.approx(100)


@pytest.mark.parametrize(("away", "sids"), [(29.999, 1), (30.0, 2), (30.001, 2)])
def test_the_rule_works_under_freezegun_through_the_public_door(away: float, sids: int) -> None:
    transport = MemoryTransport()
    with freeze_time("2026-01-01T12:00:00Z") as frozen:
        # The mode is named: in a test run some server framework has been imported long ago.
        crashfree.init(release="app@1.0", transport=transport, session_mode="application")
        try:
            frozen.tick(100)
            crashfree.enter_background()
            frozen.tick(away)
            crashfree.enter_foreground()
            frozen.tick(5)
            crashfree.end_session()
        finally:
            crashfree.close()
    assert len({up["sid"] for up in transport.sessions}) == sids
    ended = [up for up in transport.sessions if up["status"] == "exited"]
    if sids == 2:
        assert ended[0]["timestamp"] == "2026-01-01T12:01:40.000000Z"
    assert ended[-1]["duration"] == pytest.approx(105 if sids == 1 else 5)


# --- the modes ----------------------------------------


def test_a_process_that_serves_units_takes_its_unsent_session_back(world: World) -> None:
    world.client.serves_units()
    world.unit().end()
    world.wait(100)
    world.client.close()
    assert world.ups == []
    assert not world.client.application_mode


def test_a_session_that_was_told_of_is_ended_when_the_process_serves_units(world: World) -> None:
    world.wait(10)
    world.client.serves_units()
    assert [up["status"] for up in world.ups] == ["ok", "exited"]


# --- the vectors ----------------------------------------


@pytest.mark.parametrize(
    "case",
    [case for case in load("sessions.json") if case["input"]["kind"] == "sdk"],
    ids=lambda case: case["name"],
)
def test_sdk_vectors(case: dict[str, Any], worlds: list[World]) -> None:
    given, expected = case["input"], case["expect"]
    options: dict[str, Any] = dict(given.get("options", {}))
    if "before_send" in options:
        options["before_send"] = lambda event, hint: None
    if "ignore_errors" in options:
        options["ignore_errors"] = tuple(options["ignore_errors"])
    world = World(release=given["release"], auto_session_tracking=False, **options)
    worlds.append(world)
    for op in given["ops"]:
        match op.split():
            case ["start"]:
                world.client.start_session()
            case ["end"]:
                world.client.end_session()
            case ["flush"]:
                world.client.flush(5.0)
            case ["set_user", number]:
                world.identify({"id": int(number)})
            case ["capture_message", level]:
                world.client.capture_message("text", level)  # type: ignore[arg-type]
            case ["capture_exception", "handled", "ZeroDivisionError"]:
                world.fail(ZeroDivisionError())
            case ["capture_exception", "handled", *_]:
                world.fail()
            case ["capture_exception", "unhandled", *_]:
                world.crash()
            case _:
                raise AssertionError(op)
    assert len(world.events) == expected["events"]
    assert len(world.ups) == len(expected["updates"])
    for up, fields in zip(world.ups, expected["updates"], strict=True):
        assert {key: up.get(key) for key in fields} == fields
        assert up["attrs"] == {"release": given["release"], "environment": given["environment"]}
    if "distinct_sids" in expected:
        assert len({up["sid"] for up in world.ups}) == expected["distinct_sids"]
