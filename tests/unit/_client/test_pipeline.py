"""The order of an event's stages, and what each of them means for the session."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
from typing import Any

import pytest

from crashfree._capture.scope import Scope
from crashfree._capture.settings import CaptureSettings
from crashfree._client.pipeline import Filters, Pipeline, verdict_of
from crashfree._client.report import Discard, Report
from crashfree._ground import log
from tests.support.clock import FakeClock
from tests.support.normaliser import complaints

UNHANDLED: Any = {"type": "excepthook", "handled": False}


class Desk:
    """A pipeline and the clock and dice it works with."""

    def __init__(self, *, settings: dict[str, Any] | None = None, **filters: Any) -> None:
        self.clock = FakeClock()
        self.rolled = 0.0
        self.pipeline = Pipeline(
            CaptureSettings(release="app@1.0.0", **(settings or {})),
            Filters(**filters),
            clock=self.clock,
            roll=lambda: self.rolled,
        )
        self.scope = Scope()

    def fail(self, error: BaseException | None = None, **how: Any) -> Report:
        raised = caught(error or ValueError("bad"))
        return self.pipeline.exception(raised, scopes=(Scope(), self.scope), **how)


def caught(error: BaseException) -> BaseException:
    if error.__traceback__ is not None:
        return error
    try:
        raise error
    except BaseException as raised:
        return raised


def sent(report: Report) -> dict[str, Any]:
    assert report.item is not None
    event: dict[str, Any] = json.loads(report.item.payload)
    return event


def reasons(report: Report) -> list[tuple[Discard, int]]:
    assert report.item is None
    return list(report.discards)


def dropped_as(report: Report, reason: str) -> None:
    assert reasons(report) == [(Discard(reason), 1)]  # type: ignore[arg-type]
    assert report.verdict == "none"


# --- order ----------------------------------------------------------------------------------


def test_the_stages_come_in_the_order_of_the_specification() -> None:
    """Source: sessions.md section 3.3, wire.md section 9."""
    order: list[str] = []

    def stage(name: str) -> Any:
        def run(event: Any, hint: Any = None) -> Any:
            order.append(f"{name} {event['extra']['password']}")
            return event

        return run

    desk = Desk(
        settings={"scrubber": stage("scrubber")}, before_send=stage("before_send"),
        sample_rate=lambda event, hint: order.append("sample") or 1.0,
    )  # fmt: skip
    desk.scope.set_extra("password", "x")
    desk.scope.add_event_processor(stage("scope"))
    desk.pipeline.add_processor(stage("client"))
    report = desk.fail()
    assert order == [
        "scope x", "client x", "scrubber [Filtered]", "before_send [Filtered]", "sample",
    ]  # fmt: skip
    assert report.verdict == "errored"


def test_what_a_filter_drops_leaves_the_session_alone() -> None:
    """Source: sessions.md section 3.3, first rows of the table."""
    drop: Any = lambda event, hint: None  # noqa: E731
    dropped_as(Desk(ignore_errors=(ValueError,)).fail(mechanism=UNHANDLED), "event_processor")
    dropped_as(Desk(before_send=drop).fail(mechanism=UNHANDLED), "before_send")
    desk = Desk()
    desk.scope.add_event_processor(drop)
    dropped_as(desk.fail(mechanism=UNHANDLED), "event_processor")
    desk = Desk()
    desk.pipeline.add_processor(drop)
    dropped_as(desk.fail(mechanism=UNHANDLED), "event_processor")
    desk.pipeline.remove_processor(drop)
    assert desk.fail(mechanism=UNHANDLED).item is not None


def test_what_sampling_drops_still_counts_for_the_session() -> None:
    """A quota must not hide a crash."""
    desk = Desk(sample_rate=0.5)
    desk.rolled = 0.5
    report = desk.fail(mechanism=UNHANDLED)
    assert report.verdict == "crashed"
    assert reasons(report) == [(Discard("sample_rate"), 1)]
    desk.rolled = 0.49
    assert desk.fail().item is not None
    assert Desk(sample_rate=0.0).fail().item is None


def test_a_sampler_sees_the_event_and_one_that_fails_has_no_say() -> None:
    desk = Desk(sample_rate=lambda event, hint: 0.2 if event["level"] == "error" else 1.0)
    desk.rolled = 0.3
    assert desk.fail().item is None
    desk.scope.set_level("warning")
    assert desk.fail().item is not None

    def broken(event: Any, hint: Any) -> float:
        raise RuntimeError("no")

    assert Desk(sample_rate=broken).fail().item is not None
    assert Desk(sample_rate=lambda event, hint: "half").fail().item is not None


# --- callbacks ------------------------------------------------------------------------------


def test_callbacks_that_raise_fail_closed() -> None:
    """An event whose filter failed is dropped, not sent unfiltered. Source: wire.md section 9."""

    def broken(*arguments: Any) -> Any:
        raise RuntimeError("no")

    dropped_as(Desk(before_send=broken).fail(), "before_send")
    dropped_as(Desk(settings={"scrubber": broken}).fail(), "event_processor")
    desk = Desk()
    desk.scope.add_event_processor(broken)
    dropped_as(desk.fail(), "event_processor")


@pytest.mark.parametrize("answer", [5, "event", [], object()])
def test_callbacks_that_return_no_event_drop_it(answer: Any) -> None:
    dropped_as(Desk(before_send=lambda event, hint: answer).fail(), "before_send")


def test_what_leaves_the_program_by_will_passes_a_callback() -> None:
    def interrupt(event: Any, hint: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Desk(before_send=interrupt).fail()
    assert log.inside.get() is False


def test_before_send_sees_plain_json_and_the_exception() -> None:
    seen: list[Any] = []

    def before_send(event: Any, hint: Any) -> Any:
        seen.append((copy.deepcopy(event), hint))
        return event

    desk = Desk(before_send=before_send)
    desk.scope.set_extra("object", object())
    error = caught(ValueError("bad"))
    report = desk.fail(error, hint={"own": 1})
    (event, hint) = seen[0]
    assert json.loads(json.dumps(event)) == sent(report)
    assert hint["exc_info"] == (ValueError, error, error.__traceback__)
    assert hint["own"] == 1


def test_what_before_send_puts_in_is_made_fit_to_send() -> None:
    live: dict[str, Any] = {"number": 1}

    def before_send(event: Any, hint: Any) -> Any:
        event["tags"] = {"n": 1}
        event["extra"] = {"live": live, "object": object(), "nan": float("nan")}
        event["user"] = {"id": 5}
        event["unknown"] = {1, 2}
        return event

    report = Desk(before_send=before_send).fail()
    live["number"] = 2
    event = sent(report)
    assert report.item is not None
    assert [c for c in complaints(report.item.payload) if "timestamp" not in c] == []
    assert event["tags"] == {"n": "1"}
    assert event["user"] == {"id": "5"}
    assert event["extra"]["live"] == {"number": 1}
    assert event["extra"]["nan"] == "nan"


def test_what_before_send_puts_deep_inside_cannot_lose_the_event() -> None:
    def before_send(event: Any, hint: Any) -> Any:
        event["exception"]["values"][0]["stacktrace"]["frames"][-1]["vars"] = {"o": object()}
        loop: list[Any] = []
        loop.append(loop)
        event["breadcrumbs"] = {"values": [{"message": "m", "data": {"loop": loop}}]}
        return event

    event = sent(Desk(before_send=before_send).fail())
    assert event["exception"]["values"][0]["stacktrace"]["frames"][-1]["vars"]["o"].startswith("<")
    assert event["breadcrumbs"]["values"][0]["data"] == {"loop": ["<cyclic>"]}


def test_the_id_of_an_event_is_not_for_callbacks_to_change() -> None:
    def before_send(event: Any, hint: Any) -> Any:
        event["event_id"] = "f" * 32
        return event

    report = Desk(before_send=before_send).fail()
    assert sent(report)["event_id"] == report.event_id != "f" * 32


def test_what_a_processor_adds_is_scrubbed() -> None:
    def processor(event: Any, hint: Any) -> Any:
        event.setdefault("extra", {})["login"] = {"password": "x", "object": Secretive()}
        return event

    desk = Desk()
    desk.scope.add_event_processor(processor)
    assert "hunter2" not in json.dumps(sent(desk.fail()))


class Secretive:
    def __repr__(self) -> str:
        return "Secretive(password='hunter2')"


def test_a_scrubber_of_the_program_runs_after_ours() -> None:
    def scrubber(event: Any) -> Any:
        event["extra"]["iban"] = "***"
        return event

    desk = Desk(settings={"scrubber": scrubber})
    desk.scope.set_extra("iban", "DE00")
    assert sent(desk.fail())["extra"]["iban"] == "***"
    dropped_as(Desk(settings={"scrubber": lambda event: None}).fail(), "event_processor")


def test_nothing_is_captured_while_a_callback_runs() -> None:
    """The client asks this mark; see its own tests."""
    marks: list[bool] = []

    def before_send(event: Any, hint: Any) -> Any:
        marks.append(log.inside.get())
        return event

    Desk(before_send=before_send).fail()
    assert marks == [True]
    assert log.inside.get() is False


# --- verdicts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        ({}, "errored"),
        ({"mechanism": {"type": "generic", "handled": True}}, "errored"),
        ({"mechanism": {"type": "generic"}}, "errored"),
        ({"mechanism": UNHANDLED}, "crashed"),
        ({"mechanism": {"type": "wsgi", "handled": False}}, "crashed"),
        ({"mechanism": {"type": "threading", "handled": False}}, "unhandled"),
        ({"mechanism": {"type": "asyncio", "handled": False}}, "unhandled"),
        ({"mechanism": {"type": "unraisablehook", "handled": False}}, "unhandled"),
        ({"level": "fatal"}, "errored"),
        ({"level": "warning"}, "none"),
        ({"level": "info", "mechanism": UNHANDLED}, "none"),
    ],
)
@pytest.mark.parametrize("seen", [False, True], ids=["as a draft", "as an event"])
def test_an_exception_means_for_its_session(how: dict[str, Any], verdict: str, seen: bool) -> None:
    """Source: sessions.md section 3.2; an error that the program survives is "unhandled"."""
    filters = {"before_send": lambda event, hint: event} if seen else {}
    assert Desk(**filters).fail(**how).verdict == verdict


def test_the_level_of_the_scope_decides_too() -> None:
    desk = Desk()
    desk.scope.set_level("warning")
    assert desk.fail().verdict == "none"


def test_messages_never_count() -> None:
    assert Desk().pipeline.message("m", "fatal", scopes=(Scope(),)).verdict == "none"


@pytest.mark.parametrize(
    ("event", "verdict"),
    [
        ({"message": "m", "level": "fatal"}, "none"),
        ({"exception": {"values": [{"type": "E"}]}}, "errored"),
        ({"exception": {"values": [{"type": "E"}]}, "level": "warning"}, "none"),
        ({"exception": {"values": [{"type": "E", "mechanism": {"type": "x", "handled": False}}]}},
         "crashed"),
        ({"exception": {"values": [
            {"type": "A", "mechanism": {"type": "chained", "handled": False}}, {"type": "B"}]}},
         "crashed"),
        ({"exception": {"values": [
            {"type": "A", "mechanism": {"type": "chained", "handled": False}},
            {"type": "B", "mechanism": {"type": "threading", "handled": False}}]}}, "unhandled"),
    ],
)  # fmt: skip
def test_an_event_of_the_program_means_for_its_session(event: Any, verdict: str) -> None:
    assert Desk().pipeline.event(event, scopes=(Scope(),)).verdict == verdict
    if "message" not in event:
        assert verdict_of(event) == verdict


def test_what_before_send_makes_of_an_event_is_what_counts() -> None:
    def forgive(event: Any, hint: Any) -> Any:
        event["level"] = "warning"
        return event

    assert Desk(before_send=forgive).fail(mechanism=UNHANDLED).verdict == "none"


# --- duplicates -----------------------------------------------------------------------------


class Own(Exception):
    pass


@pytest.mark.parametrize("kind", [ValueError, Own, OSError])
def test_the_same_object_is_sent_once_and_may_still_raise_the_status(kind: type) -> None:
    """`capture(e); raise` must not end as merely errored. Source: sessions.md section 3.3."""
    desk = Desk()
    error = caught(kind("bad"))
    first = desk.fail(error)
    second = desk.fail(error, mechanism=UNHANDLED)
    assert (first.verdict, first.duplicate) == ("errored", False)
    assert (second.verdict, second.duplicate) == ("crashed", True)
    assert second.item is None
    assert second.discards == ()


def test_nothing_is_taken_of_what_is_told_already() -> None:
    """Source: complaints-transport.md, 30."""
    asked: list[int] = []

    class Asked(Exception):
        def __str__(self) -> str:
            asked.append(1)
            return "x"

    desk = Desk(settings={"with_locals": True})
    error = caught(Asked())
    assert desk.fail(error).duplicate is False
    desk.scope.set_level("warning")
    for _ in range(3):
        again = desk.fail(error, mechanism=UNHANDLED)
        assert (again.verdict, again.duplicate) == ("none", True)
    assert asked == [1]


def test_two_objects_that_are_alike_are_both_sent() -> None:
    class Same(Exception):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    desk = Desk()
    for kind in (ValueError, Same):
        assert desk.fail(caught(kind("x"))).duplicate is False
        assert desk.fail(caught(kind("x"))).duplicate is False


def test_many_short_lived_errors_at_one_address_are_all_sent() -> None:
    desk = Desk(error_storm_limit=0)
    for _ in range(200):
        assert desk.fail(ValueError()).duplicate is False
        assert desk.fail(Own()).duplicate is False


def test_an_object_that_is_kept_and_raised_again_is_news_in_another_unit_and_later() -> None:
    desk = Desk()
    error = caught(ValueError("kept"))
    one, two = object(), object()
    assert desk.fail(error, where=one).duplicate is False
    assert desk.fail(error, where=one).duplicate is True
    assert desk.fail(error, where=two).duplicate is False
    desk.clock.advance(61.0)
    assert desk.fail(error, where=two).duplicate is False


def test_a_copy_of_an_exception_is_another_one() -> None:
    """Exceptions cross processes by pickle; the mark of one must not silence the other."""
    desk = Desk()
    error = caught(ValueError("x"))
    desk.fail(error)
    again = pickle.loads(pickle.dumps(error))
    assert desk.fail(again).duplicate is False


def test_what_a_filter_dropped_was_not_captured() -> None:
    keep: list[bool] = [False, True]
    desk = Desk(before_send=lambda event, hint: event if keep.pop(0) else None)
    error = caught(ValueError("x"))
    assert desk.fail(error).item is None
    assert desk.fail(error).item is not None


def test_the_memory_of_captured_objects_keeps_none_of_them_alive() -> None:
    import weakref

    desk = Desk(error_storm_limit=0)
    alive = []
    for _ in range(2000):
        error = caught(Own())
        alive.append(weakref.ref(error))
        desk.fail(error)
    del error
    gc.collect()
    assert not any(one() for one in alive)
    assert len(desk.pipeline._sightings._seen) <= 1000


# --- ignored --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "error", "hit"),
    [
        (ValueError, ValueError(), True),
        (ValueError, UnicodeDecodeError("utf-8", b"", 0, 1, ""), True),
        (ValueError, KeyError(), False),
        ("ValueError", UnicodeError(), True),
        ("builtins.ValueError", ValueError(), True),
        ("asyncio.exceptions.TimeoutError", TimeoutError(), False),
        ("LookupError", KeyError(), True),
        ("Error", KeyError(), False),
        (f"{__name__}.Own", Own(), True),
        ("Own", Own(), True),
        (BaseException, KeyError(), True),
        (asyncio.CancelledError, asyncio.CancelledError(), True),
    ],
)
def test_types_and_names_are_ignored_subclasses_included(
    rule: Any, error: BaseException, hit: bool
) -> None:
    assert (Desk(ignore_errors=(rule,)).fail(error).item is None) is hit


# --- storms ---------------------------------------------------------------------------------


def test_a_storm_of_handled_errors_is_held_back_and_counted() -> None:
    """Source: wire.md section 18."""
    desk = Desk(error_storm_limit=30)
    reports = [desk.fail(ValueError("x"), level=None) for _ in range(15)]
    assert [report.item is not None for report in reports] == [True] * 10 + [False] * 5
    assert reports[-1].discards == ((Discard("backpressure"), 1),)
    assert reports[-1].verdict == "errored", "the session counts it all the same"
    kept = 0
    for _ in range(5):
        desk.clock.advance(1.0)
        kept += sum(desk.fail(ValueError("x")).item is not None for _ in range(15))
    assert kept == 20, "thirty in ten seconds"
    desk.clock.advance(10.0)
    assert desk.fail().item is not None


def test_a_storm_never_holds_back_what_nobody_handled() -> None:
    desk = Desk(error_storm_limit=1)
    assert desk.fail().item is not None
    assert desk.fail().item is None
    for _ in range(20):
        assert desk.fail(ValueError("x"), mechanism=UNHANDLED).item is not None


def test_other_errors_pass_while_one_place_storms() -> None:
    desk = Desk(error_storm_limit=100)
    for _ in range(20):
        desk.fail(ValueError("x"))
    assert desk.fail(KeyError("y")).item is not None


def test_no_limit_means_no_limit() -> None:
    desk = Desk(error_storm_limit=0)
    assert all(desk.fail(ValueError("x")).item is not None for _ in range(500))


def test_a_duplicate_in_a_storm_adds_nothing() -> None:
    desk = Desk(error_storm_limit=1)
    desk.fail()
    error = caught(ValueError("x"))
    assert desk.fail(error).discards == ((Discard("backpressure"), 1),)
    again = desk.fail(error)
    assert (again.duplicate, again.discards) == (True, ())


# --- the rest -------------------------------------------------------------------------------


def test_an_event_that_is_no_mapping_is_refused_with_a_reason() -> None:
    for junk in (None, 5, "event", ["event"], object()):
        report = Desk().pipeline.event(junk, scopes=(Scope(),))  # type: ignore[arg-type]
        assert reasons(report) == [(Discard("invalid"), 1)]


def test_an_event_made_from_an_exception_is_known_as_a_duplicate() -> None:
    desk = Desk()
    error = caught(ValueError("x"))
    desk.fail(error)
    hint: Any = {"exc_info": (ValueError, error, error.__traceback__)}
    event: Any = {"exception": {"values": [{"type": "ValueError", "value": "x"}]}}
    assert desk.pipeline.event(event, hint, scopes=(Scope(),)).duplicate is True


def test_attachments_go_along_and_those_that_do_not_fit_are_counted() -> None:
    """Source: wire.md section 8.4, point 3."""
    desk = Desk()
    desk.scope.add_attachment(b"scope", "scope.txt")
    large = {"filename": "large.bin", "data": bytes(10 * 1024 * 1024 + 1)}
    report = desk.fail(hint={"attachments": [{"filename": "own.txt", "data": b"own"}, large]})
    assert [item.headers["filename"] for item in report.attachments] == ["scope.txt", "own.txt"]
    assert report.discards == ((Discard("invalid", "attachment"), 10 * 1024 * 1024 + 1),)


def test_the_attachments_of_a_dropped_event_are_counted_in_bytes() -> None:
    desk = Desk(before_send=lambda event, hint: None)
    desk.scope.add_attachment(b"12345", "a.txt")
    assert reasons(desk.fail()) == [
        (Discard("before_send"), 1), (Discard("before_send", "attachment"), 5),
    ]  # fmt: skip


def test_an_event_without_callbacks_is_built_when_it_is_sent() -> None:
    report = Desk().fail()
    assert report.item is not None
    assert report.item.built is False
    assert sent(report)["event_id"] == report.event_id


def test_an_unhandled_event_is_marked_as_the_last_to_be_given_up() -> None:
    for filters in ({}, {"before_send": lambda event, hint: event}):
        desk = Desk(**filters)
        item = desk.fail(mechanism=UNHANDLED).item
        assert item is not None
        assert item.unhandled
        handled = desk.fail().item
        assert handled is not None
        assert not handled.unhandled


def test_events_of_one_isolation_scope_share_its_trace() -> None:
    desk = Desk()
    one, two = sent(desk.fail()), sent(desk.fail())
    assert one["contexts"]["trace"] == two["contexts"]["trace"]
    desk.scope = Scope()
    assert sent(desk.fail())["contexts"]["trace"] != one["contexts"]["trace"]


def test_what_before_send_leaves_alone_stays_as_it_was() -> None:
    desk = Desk(before_send=lambda event, hint: event)
    desk.scope.set_tag("a", "b")
    desk.scope.set_user({"id": "1"})
    desk.scope.set_context("own", {"deep": {"x": [1, 2]}})
    desk.scope.set_request({"url": "http://h/", "method": "GET"})
    desk.scope.set_fingerprint(["f"])
    given: Any = {"message": "m", "timestamp": 1_790_000_000.5, "level": "warning"}
    own = desk.pipeline.event(given, scopes=(Scope(), desk.scope))
    seen = sent(own)
    plain = Desk()
    plain.scope = desk.scope
    other = sent(plain.pipeline.event(given, scopes=(Scope(), desk.scope)))
    for one in (seen, other):
        del one["event_id"]
        del one["contexts"]["app"]
    assert seen == other
    assert seen["timestamp"] == 1_790_000_000.5


def test_secrets_in_the_contexts_of_the_process_are_found_when_the_program_put_them_there() -> None:
    desk = Desk()
    desk.scope.set_context("device", {"token": "x"})
    assert sent(desk.fail())["contexts"]["device"] == {"token": "[Filtered]"}

    def processor(event: Any, hint: Any) -> Any:
        event["contexts"]["os"]["password"] = "x"
        return event

    desk.scope.add_event_processor(processor)
    assert sent(desk.fail(KeyError("y")))["contexts"]["os"]["password"] == "[Filtered]"
