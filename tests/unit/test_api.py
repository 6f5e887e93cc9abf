"""The public functions, through `crashfree.testing.capture`."""

from __future__ import annotations

import asyncio
import builtins
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import crashfree
from crashfree._capture.scope import Scope
from crashfree.testing import capture
from crashfree.types import Breadcrumb, Event, Hint


def tags(event: Event) -> dict[str, str]:
    return dict(event.get("tags", {}))


def test_before_init_every_function_is_quiet() -> None:
    assert not crashfree.is_initialized()
    assert crashfree.capture_message("x") is None
    assert crashfree.capture_exception(ValueError()) is None
    assert crashfree.capture_event({"message": "x"}) is None
    crashfree.add_breadcrumb(message="x")
    crashfree.start_session()
    crashfree.end_session()
    crashfree.enter_background()
    crashfree.enter_foreground()
    crashfree.navigate("home")
    with crashfree.session(), crashfree.background_session():
        pass
    assert crashfree.flush() is True
    assert crashfree.close() is True
    assert crashfree.stats().sent == {}


def test_capture_exception_takes_the_one_being_handled() -> None:
    with capture() as seen:
        assert crashfree.capture_exception() is None
        try:
            {}["k"]
        except KeyError:
            event_id = crashfree.capture_exception()
    [event] = seen.events
    assert event["event_id"] == event_id
    assert event["exception"]["values"][0]["type"] == "KeyError"


def test_keywords_apply_to_one_event_alone() -> None:
    with capture() as seen:
        crashfree.set_tag("always", "1")
        crashfree.capture_message(
            "first", tags={"once": "2"}, extra={"a": 1}, user={"id": "7"}, fingerprint=["f"]
        )
        crashfree.capture_message("second")
    first, second = seen.events
    assert tags(first) == {"always": "1", "once": "2"}
    assert first["extra"] == {"a": 1}
    assert first["fingerprint"] == ["f"]
    assert tags(second) == {"always": "1"}
    assert "extra" not in second
    assert "user" not in second or "id" not in second["user"]


def test_scopes_nest_and_what_is_set_inside_stays_inside() -> None:
    with capture() as seen:
        crashfree.set_tag("outer", "o")
        with crashfree.new_scope() as scope:
            scope.set_tag("block", "b")
            crashfree.capture_message("1")
        with crashfree.isolation_scope():
            crashfree.set_tag("isolated", "i")
            crashfree.capture_message("2")
        crashfree.capture_message("3")
    assert [tags(event) for event in seen.events] == [
        {"outer": "o", "block": "b"},
        {"outer": "o", "isolated": "i"},
        {"outer": "o"},
    ]


def test_a_unit_has_scopes_of_its_own() -> None:
    with capture(session_mode="request") as seen:
        crashfree.set_tag("process", "p")
        with crashfree.session():
            crashfree.set_tag("unit", "1")
            crashfree.add_breadcrumb(message="in unit 1")
            crashfree.capture_message("one")
        with crashfree.session():
            crashfree.capture_message("two")
    one, two = seen.events
    assert tags(one) == {"process": "p", "unit": "1"}
    assert tags(two) == {"process": "p"}
    assert [c["message"] for c in one["breadcrumbs"]["values"]] == ["in unit 1"]
    assert "breadcrumbs" not in two
    assert one["contexts"]["trace"]["trace_id"] != two["contexts"]["trace"]["trace_id"]


def test_an_isolation_scope_inside_a_unit_is_honoured_and_left() -> None:
    with capture(session_mode="request") as seen, crashfree.session():
        crashfree.set_tag("unit", "u")
        with crashfree.isolation_scope():
            crashfree.set_tag("inner", "i")
            crashfree.capture_message("1")
        crashfree.capture_message("2")
    assert [tags(event) for event in seen.events] == [
        {"unit": "u", "inner": "i"},
        {"unit": "u"},
    ]


def test_the_unit_of_another_thread_is_reached_by_propagate_scope() -> None:
    def work() -> None:
        crashfree.set_tag("worker", "w")
        crashfree.capture_exception(ValueError("in a thread"))

    with capture(session_mode="request") as seen:
        with crashfree.session():
            crashfree.set_tag("unit", "u")
            bound = crashfree.propagate_scope(work)
            with ThreadPoolExecutor(2) as pool:
                for future in [pool.submit(bound), pool.submit(bound)]:
                    future.result()
        with crashfree.session():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert [tags(event).get("unit") for event in seen.events] == ["u", "u", None]
    [bucket] = seen.aggregates[0]["aggregates"]
    assert (bucket.get("errored"), bucket.get("exited")) == (1, 1)


def test_tasks_keep_their_scopes_apart() -> None:
    async def handle(name: str, fail: bool) -> None:
        async with crashfree.session():
            crashfree.set_tag("task", name)
            await asyncio.sleep(0)
            if fail:
                raise RuntimeError(name)

    async def main() -> None:
        await asyncio.gather(handle("a", False), handle("b", True), return_exceptions=True)

    with capture(session_mode="request") as seen:
        asyncio.run(main())
    [event] = seen.events
    assert tags(event) == {"task": "b"}
    [bucket] = seen.aggregates[0]["aggregates"]
    assert (bucket.get("crashed"), bucket.get("exited")) == (1, 1)


def test_a_session_block_in_application_mode_is_an_application_session() -> None:
    with capture(auto_session_tracking=False) as seen:
        with crashfree.session():
            pass
        with pytest.raises(KeyError), crashfree.session():
            raise KeyError("x")
    assert [(s["status"], s["errors"]) for s in seen.sessions] == [("exited", 0), ("crashed", 1)]
    assert len({s["sid"] for s in seen.sessions}) == 2
    [event] = seen.events
    assert event["exception"]["values"][0]["mechanism"]["type"] == "session"


def test_before_send_sees_changes_and_drops() -> None:
    def before_send(event: Event, hint: Hint) -> Event | None:
        if event.get("message") == "drop":
            return None
        event["tags"] = {"seen": "yes"}
        return event

    with capture(before_send=before_send) as seen:
        crashfree.capture_message("keep")
        assert crashfree.capture_message("drop") is None
    [event] = seen.events
    assert tags(event) == {"seen": "yes"}


def test_breadcrumbs_are_bounded_and_filtered() -> None:
    def before(crumb: Any, hint: Any) -> Any:
        return None if crumb["message"] == "secret" else crumb

    with capture(max_breadcrumbs=2, before_breadcrumb=before) as seen:
        for message in ("1", "2", "secret", "3"):
            crashfree.add_breadcrumb(message=message)
        crashfree.add_breadcrumb({"message": "4"}, category="test")
        crashfree.capture_message("x")
    values = seen.events[0]["breadcrumbs"]["values"]
    assert [crumb["message"] for crumb in values] == ["3", "4"]
    assert values[1]["category"] == "test"


def test_the_user_of_init_and_of_set_user_identify_sessions() -> None:
    with capture(user={"id": 0, "email": "a@b"}) as seen:
        pass
    assert seen.sessions[-1]["did"] == "0"
    with capture() as seen:
        crashfree.set_user({"email": "a@b"})
    assert seen.sessions[-1]["did"] == "a@b"


def test_feedback_is_sent() -> None:
    with capture() as seen:
        about = crashfree.capture_message("x")
        assert crashfree.capture_feedback("it broke", email="a@b", event_id=about)
    [item] = [
        item for envelope in seen.transport.envelopes for item in envelope.items
        if item.type == "feedback"
    ]  # fmt: skip
    from crashfree._ground import json

    feedback = json.decode(item.payload)["contexts"]["feedback"]
    assert feedback["message"] == "it broke"
    assert feedback["associated_event_id"] == about


def test_close_ends_the_session_and_later_calls_do_nothing() -> None:
    with capture() as seen:
        assert crashfree.close()
        assert not crashfree.is_initialized()
        crashfree.capture_message("late")
        assert crashfree.close()
    assert [s["status"] for s in seen.sessions] == ["exited"]
    assert seen.events == []


def test_init_again_ends_the_old_session_and_goes_on_with_the_new_client() -> None:
    first, second = (crashfree.testing.MemoryTransport() for _ in range(2))
    crashfree.init(release="a@1", transport=first, spool=False, auto_integrations=False)
    try:
        crashfree.init(release="a@2", transport=second, spool=False, auto_integrations=False)
        assert [s["attrs"]["release"] for s in first.sessions] == ["a@1"]
        assert first.sessions[0]["status"] == "exited"
        crashfree.capture_message("x")
    finally:
        crashfree.close()
    assert [e["release"] for e in second.events] == ["a@2"]
    assert first.events == []


def test_several_transports_get_everything() -> None:
    first, second = (crashfree.testing.MemoryTransport() for _ in range(2))
    crashfree.init(release="a@1", transport=[first, second], spool=False, auto_integrations=False)
    crashfree.capture_message("x")
    crashfree.close()
    assert [len(t.events) for t in (first, second)] == [1, 1]
    assert [len(t.sessions) for t in (first, second)] == [1, 1]


def test_consent_holds_everything_back_until_it_is_given() -> None:
    with capture(require_consent=True) as seen:
        crashfree.capture_message("early")
        assert seen.events == []
        crashfree.give_consent()
        assert len(seen.events) == 1
        crashfree.revoke_consent()
        crashfree.capture_message("late")
    assert len(seen.events) == 1


def test_a_transport_that_is_none_is_refused() -> None:
    with pytest.raises(crashfree.ConfigurationError, match="submit, flush and close"):
        crashfree.init(release="a@1", transport=object())  # type: ignore[arg-type]
    assert not crashfree.is_initialized()


def test_stats_account_for_every_session() -> None:
    with capture(session_mode="request") as seen:
        with crashfree.session():
            assert crashfree.stats().sessions_alive == 1
        after = crashfree.stats()
        assert (after.sessions_started, after.sessions_alive, after.sessions_untold) == (1, 0, 1)
        crashfree.flush()
        assert crashfree.stats().sessions_untold == 0
    assert len(seen.aggregates) == 1
    with capture():
        assert crashfree.stats().sessions_started == 1
        assert crashfree.stats().sessions_alive == 1


def test_ctrl_z_is_the_background_for_programs_that_ask_for_it() -> None:
    import signal

    before = signal.getsignal(signal.SIGTSTP)
    with capture(background_on_suspend=True):
        assert signal.getsignal(signal.SIGTSTP) is not before
    assert signal.getsignal(signal.SIGTSTP) is before
    with capture():
        assert signal.getsignal(signal.SIGTSTP) is before


def test_the_door_imports_nothing_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may strike inside the import of something else, where it must not import."""
    monkeypatch.delitem(vars(crashfree), "set_tag", raising=False)
    assert crashfree.get_client() is not None

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"imported {arguments[0]}")

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", refuse)
        function = crashfree.set_tag
    assert function is crashfree._api.set_tag  # type: ignore[attr-defined]


def test_breadcrumbs_put_into_a_scope_directly_follow_the_rules_too() -> None:
    def before(crumb: Breadcrumb, hint: Any) -> Breadcrumb | None:
        crashfree.get_isolation_scope().add_breadcrumb(message="from inside")
        message = crumb.get("message", "")
        return None if message == "drop" else {**crumb, "message": message.upper()}

    with capture(max_breadcrumbs=2, before_breadcrumb=before) as seen:
        with crashfree.isolation_scope() as scope:
            for message in ("one", "drop", "two", "three"):
                scope.add_breadcrumb(message=message)
            crashfree.capture_message("x")
    (event,) = seen.events
    kept = [crumb.get("message") for crumb in event["breadcrumbs"]["values"]]
    assert kept == ["TWO", "THREE"]
    scope = crashfree.get_isolation_scope()
    scope.add_breadcrumb(message="after")
    assert scope.breadcrumbs()[-1]["message"] == "after"
    scope.clear_breadcrumbs()


def test_a_breadcrumb_keeps_no_large_object_alive() -> None:
    """Source: complaints-transport.md, 27."""

    class Large(bytearray):
        """May be weakly referenced."""

    def add(**data: object) -> None:
        crashfree.add_breadcrumb(message="read", data=data)
        crashfree.get_isolation_scope().add_breadcrumb(message="read", data=data)

    with capture() as seen:
        large, listed = Large(10_000_000), Large(10)
        gone = [weakref.ref(large), weakref.ref(listed)]
        add(body=large, path="/tmp", lines=[listed])
        del large, listed
        assert [reference() for reference in gone] == [None, None]
        crashfree.capture_message("x")
    (event,) = seen.events
    for crumb in event["breadcrumbs"]["values"]:
        assert crumb["data"]["path"] == "/tmp"
        assert len(crumb["data"]["body"]) <= 8192


def test_ten_thousand_scopes_leave_nothing_behind() -> None:
    """Source: complaints-transport.md, 25."""

    def work() -> None:
        with crashfree.isolation_scope():
            crashfree.set_tag("key", "value")
            with crashfree.new_scope() as scope:
                scope.set_context("more", {"a": 1})
                crashfree.add_breadcrumb(message="m")

    with capture():
        work()
        # Not isinstance: it asks the class of every lazy object that another test has left.
        before = sum(type(one) is Scope for one in gc.get_objects())
        for _ in range(10_000):
            work()
        assert sum(type(one) is Scope for one in gc.get_objects()) <= before
