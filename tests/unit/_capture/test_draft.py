"""Whole events: what they hold, and that the official normaliser has nothing to complain."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import tracemalloc
from typing import Any

import pytest

from crashfree._capture.draft import Draft, Recorder, held_by
from crashfree._capture.scope import Scope
from crashfree._capture.settings import CaptureSettings
from tests.support.clock import FakeClock
from tests.support.normaliser import complaints, strictly
from tests.support.vectors import read

SETTINGS = CaptureSettings(
    release="app@1.0.0", dist="7", environment="test", server_name="host-1",
    integrations=lambda: ["flask"],
)  # fmt: skip


class NowClock(FakeClock):
    """Stands still at a time that servers accept."""

    def __init__(self) -> None:
        import time

        super().__init__(time.time())


def recorder(**changes: Any) -> Recorder:
    return Recorder(SETTINGS._replace(**changes), NowClock())


def event_of(draft: Draft) -> dict[str, Any]:
    payload = draft.finish()
    assert complaints(payload) == []
    return strictly(payload)  # type: ignore[no-any-return]


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def test_an_event_says_what_every_event_needs() -> None:
    """Source: wire.md section 5."""
    own = recorder()
    event = event_of(own.exception(caught(ValueError("bad")), Scope()))
    assert event["platform"] == "python"
    assert event["level"] == "error"
    assert (event["release"], event["dist"]) == ("app@1.0.0", "7")
    assert (event["environment"], event["server_name"]) == ("test", "host-1")
    assert event["timestamp"] == own.clock.time()
    assert event["sdk"]["name"] == "crashfree.python"
    assert event["sdk"]["integrations"] == ["flask"]
    assert event["contexts"]["runtime"]["version"].startswith(
        ".".join(map(str, sys.version_info[:2]))
    )
    assert event["contexts"]["runtime"]["build"] == sys.version
    assert event["contexts"]["os"]["name"]
    assert event["contexts"]["device"]["processor_count"] >= 1
    assert event["contexts"]["app"]["app_start_time"].endswith("Z")
    assert len(event["contexts"]["trace"]["trace_id"]) == 32
    assert event["modules"]["pytest"] == pytest.__version__
    assert "_meta" not in event


def test_the_thread_and_the_task_are_named() -> None:
    own = recorder()

    async def work() -> dict[str, Any]:
        return event_of(own.exception(caught(ValueError()), Scope()))

    async def main() -> dict[str, Any]:
        return await asyncio.create_task(work(), name="the-task")

    event = asyncio.run(main())
    assert event["contexts"]["task"]["name"] == "the-task"
    (thread,) = event["threads"]["values"]
    assert thread["name"] == threading.current_thread().name
    assert thread["main"] is True
    assert event["exception"]["values"][0]["thread_id"] == thread["id"]


def test_a_message_is_said_twice_because_servers_differ() -> None:
    """Source: wire.md section 5."""
    event = event_of(recorder().message("hello", "warning", Scope()))
    assert event["message"] == event["logentry"]["formatted"] == "hello"
    assert event["level"] == "warning"
    assert "exception" not in event


def test_a_message_names_its_thread_where_it_is_not_the_main_one() -> None:
    own = recorder()
    assert "threads" not in event_of(own.message("hello", "info", Scope()))
    drafts: list[Draft] = []
    thread = threading.Thread(
        target=lambda: drafts.append(own.message("hello", "info", Scope())), name="counter"
    )
    thread.start()
    thread.join()
    (named,) = event_of(drafts[0])["threads"]["values"]
    assert (named["name"], named["main"]) == ("counter", False)


def test_a_message_has_the_stack_of_its_caller_when_that_is_wanted() -> None:
    event = event_of(recorder(attach_stacktrace=True).message("hello", "info", Scope()))
    (thread,) = event["threads"]["values"]
    last = thread["stacktrace"]["frames"][-1]
    assert last["function"] == "test_a_message_has_the_stack_of_its_caller_when_that_is_wanted"


def test_an_exception_that_was_never_raised_gets_the_stack_of_its_caller() -> None:
    error = ValueError("made, not raised")
    bare = event_of(recorder().exception(error, Scope()))
    assert "stacktrace" not in bare["exception"]["values"][0]
    event = event_of(recorder(attach_stacktrace=True).exception(error, Scope()))
    frames = event["exception"]["values"][0]["stacktrace"]["frames"]
    assert frames[-1]["function"].startswith("test_an_exception_that_was_never_raised")


def test_the_callers_above_the_handler_can_be_added() -> None:
    def handler() -> Draft:
        return recorder(add_full_stack=True).exception(caught(ValueError()), Scope())

    frames = event_of(handler())["exception"]["values"][0]["stacktrace"]["frames"]
    names = [frame["function"].rpartition(".")[2] for frame in frames]
    assert names[-3:] == ["test_the_callers_above_the_handler_can_be_added", "handler", "caught"]


def test_an_event_of_scopes_holds_all_they_know() -> None:
    scope = Scope()
    scope.set_tag("plan", "pro")
    scope.set_user({"id": 42, "email": "ada@example.com"})
    scope.set_context("cart", {"items": 3})
    scope.set_extra("more", [1, {"a": object()}])
    scope.set_fingerprint(["{{ default }}", "cart"])
    scope.set_transaction("/cart/{id}")
    scope.set_level("warning")
    for number in range(150):
        scope.add_breadcrumb({"category": "query", "message": f"SELECT {number}"})
    event = event_of(recorder().exception(caught(ValueError()), scope))
    assert event["tags"] == {"plan": "pro"}
    assert event["user"] == {"id": "42", "email": "ada@example.com"}
    assert event["contexts"]["cart"] == {"items": 3}
    assert event["extra"]["more"][0] == 1
    assert event["fingerprint"] == ["{{ default }}", "cart"]
    assert event["transaction"] == "/cart/{id}"
    assert event["level"] == "warning"
    assert len(event["breadcrumbs"]["values"]) == 100
    assert event["breadcrumbs"]["values"][-1]["message"] == "SELECT 149"
    assert event["_meta"]["breadcrumbs"][""] == {"len": 150}


def test_what_a_draft_took_is_what_it_was_at_that_moment() -> None:
    scope = Scope()
    extra: dict[str, Any] = {"list": [1], "deep": {"a": 1}}
    crumb_data = {"rows": 1}
    scope.set_extra("live", extra)
    scope.add_breadcrumb({"message": "m", "data": crumb_data})
    draft = recorder().exception(caught(ValueError()), scope)
    extra["list"].append(2)
    extra["deep"]["a"] = 2
    crumb_data["rows"] = 2
    event = event_of(draft)
    assert event["extra"]["live"] == {"list": [1], "deep": {"a": 1}}
    assert event["breadcrumbs"]["values"][0]["data"] == {"rows": 1}


def test_finishing_twice_gives_the_same_event() -> None:
    """An item may be built by two threads at the same moment."""
    draft = recorder(with_locals=True).exception(caught(ValueError("x" * 10_000)), Scope())
    assert strictly(draft.finish()) == strictly(draft.finish())


def test_a_message_over_the_limit_is_cut_and_noted() -> None:
    event = event_of(
        recorder(max_value_length=100).exception(caught(ValueError("é" * 100)), Scope())
    )
    value = event["exception"]["values"][0]["value"]
    assert len(value.encode()) <= 100
    note = event["_meta"]["exception"]["values"]["0"]["value"][""]
    assert note["len"] == 200
    assert note["rem"][0][:2] == ["!limit", "x"]


def recurse() -> None:
    recurse()


def test_a_recursion_error_stays_small() -> None:
    """500 kB with the incumbent. Source: wire.md section 6.3."""
    with pytest.raises(RecursionError) as error:
        recurse()
    draft = recorder().exception(error.value, Scope())
    assert len(draft.finish()) < 150_000
    event = event_of(draft)
    frames = event["exception"]["values"][0]["stacktrace"]["frames"]
    assert len(frames) == 250
    note = event["_meta"]["exception"]["values"]["0"]["stacktrace"]["frames"][""]
    assert note["len"] > 900


def test_events_of_one_scope_share_a_trace() -> None:
    scope = Scope()
    scope.set_trace("ab" * 16, "cd" * 8)
    own = recorder()
    one, two = (event_of(own.message("m", "info", scope))["contexts"]["trace"] for _ in range(2))
    assert one == two
    assert one["trace_id"] == "ab" * 16
    assert one["parent_span_id"] == "cd" * 8


def test_an_event_that_the_program_made_keeps_what_it_says() -> None:
    event = event_of(
        recorder().event(
            {
                "event_id": "4E1D8BF2-82F4-4BA7-9946-9F88BE543E4A",
                "message": "own", "level": "warn",
                "environment": "own", "tags": {"a": 1}, "contexts": {"os": {"name": "Plan 9"}},
            },
            Scope(),
        )
    )  # fmt: skip
    assert event["event_id"] == "4e1d8bf282f44ba799469f88be543e4a"
    assert (event["level"], event["environment"]) == ("warning", "own")
    assert event["contexts"]["os"] == {"name": "Plan 9"}
    assert event["release"] == "app@1.0.0"


# --- counterparts of recorded bodies: the same information or more --------------------------


def recorded(name: str) -> dict[str, Any]:
    for line in read(f"envelopes/{name}").split(b"\n"):
        try:
            parsed = json.loads(line)
        except ValueError:
            continue
        if "platform" in parsed:
            return parsed  # type: ignore[no-any-return]
    raise AssertionError(name)


OTHERS_ONLY = {
    # Not sent on purpose: the command line may hold secrets, and nobody groups by it.
    "extra", "extra.sys.argv",
    # Null there; we leave it out when there is none.
    "contexts.trace.parent_span_id",
}  # fmt: skip


def shape(value: Any, path: str = "") -> set[str]:
    """The paths of all members; list entries under one name."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, below in value.items():
            at = f"{path}.{key}" if path else key
            found |= {at} | shape(below, at)
    elif isinstance(value, list):
        for below in value:
            found |= shape(below, path + "[]")
    return found


def lacking(ours: dict[str, Any], theirs: dict[str, Any]) -> set[str]:
    prefixes = (
        "modules",
        "sdk",
        "_meta",
        "breadcrumbs",
        "exception.values[].stacktrace.frames[].vars",
    )
    missing = shape(theirs) - shape(ours) - OTHERS_ONLY
    return {path for path in missing if not path.startswith(prefixes)}


def test_a_chained_unhandled_exception_tells_at_least_what_the_incumbent_tells() -> None:
    theirs = recorded("py-event-chained-unhandled.envelope")
    error = ValueError("outer")
    error.__cause__ = caught(KeyError("inner"))
    scope = Scope()
    scope.set_transaction("run", "task")
    draft = recorder(with_locals=True).exception(
        caught(error), scope, mechanism={"type": "excepthook", "handled": False}
    )
    ours = event_of(draft)
    assert lacking(ours, theirs) == set()
    assert [value["mechanism"]["handled"] for value in ours["exception"]["values"]] == [False] * 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with 3.11")
def test_a_group_tells_at_least_what_the_incumbent_tells() -> None:
    theirs = recorded("py-event-exception-group.envelope")
    namespace: dict[str, Any] = {"caught": caught}
    exec(
        "error = caught(ExceptionGroup('g', [caught(ValueError('v')),"
        " caught(ExceptionGroup('h', [caught(OSError(2, 'no'))]))]))",
        namespace,
    )
    scope = Scope()
    scope.set_transaction("run")
    ours = event_of(recorder(with_locals=True).exception(namespace["error"], scope))
    assert lacking(ours, theirs) == set()
    assert len(ours["exception"]["values"]) >= 4


def test_a_lone_surrogate_leaves_the_event_readable() -> None:
    theirs = recorded("py-event-types-lone-surrogate.envelope")
    assert "\\ud800" in json.dumps(theirs).lower() or "\ufffd" in json.dumps(
        theirs, ensure_ascii=False
    )
    scope = Scope()
    scope.set_extra("lone", "a\ud800b")
    scope.set_tag("lone", "a\ud800b")
    scope.set_extra("\ud800", {"\udfff": "\ud83d"})
    event = event_of(recorder().exception(caught(ValueError("a\ud800b")), scope))
    assert event["exception"]["values"][0]["value"] == "a\ufffdb"
    assert event["extra"]["lone"] == "a\ufffdb"


def test_secrets_are_hidden_where_the_incumbent_hides_them_and_deeper() -> None:
    scope = Scope()
    scope.set_extra("login", {"deep": {"password": "hunter2", "user": "ada"}})
    scope.set_tag("api-key", "hunter2")

    def fail(password: str) -> None:
        raise ValueError(f"https://user:{password}@example.com/")

    with pytest.raises(ValueError) as error:
        fail("hunter2")
    draft = recorder(with_locals=True, source_context=False).exception(error.value, scope)
    assert b"hunter2" not in draft.finish()
    assert event_of(draft)["extra"]["login"]["deep"]["user"] == "ada"


def test_an_event_of_any_size_is_sent_below_the_limit() -> None:
    scope = Scope()
    for number in range(100):
        scope.set_extra(f"k{number}", ["x" * 8000] * 10)
        scope.add_breadcrumb(
            {"message": "y" * 8000, "data": {str(n): "z" * 8000 for n in range(10)}}
        )
    draft = recorder(with_locals=True).exception(caught(ValueError("x" * 100_000)), scope)
    payload = draft.finish()
    assert len(payload) <= 900_000
    event = strictly(payload)
    assert event["exception"]["values"][0]["type"] == "ValueError"
    assert event["contexts"]["trace"]


def filled(scope: Scope) -> Scope:
    for index in range(30):
        scope.add_breadcrumb(category="query", message=f"SELECT {index}", data={"rows": index})
    scope.set_tag("color", "red")
    scope.set_context("app", {"app_name": "shop"})
    scope.set_context("cart", {"items": 3})
    return scope


def test_a_stowed_draft_finishes_as_if_it_had_not_been() -> None:
    own = recorder()
    error = caught(ValueError("bad"))
    draft = own.exception(error, filled(Scope()))
    before = event_of(draft)
    draft.stow()
    assert draft.taken == {}
    assert event_of(draft) == before
    assert event_of(draft) == before


def recursing(depth: int) -> BaseException:
    local = {"depth": depth, "names": ["a", "b"]}

    def go(left: int) -> None:
        if left <= 0:
            raise ValueError(local)
        go(left - 1)

    try:
        go(depth)
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("with_locals", [False, True], ids=["bare", "locals"])
@pytest.mark.parametrize("crumbs", [False, True], ids=["empty scope", "full scope"])
@pytest.mark.parametrize("depth", [0, 20, 90])
def test_a_stowed_draft_knows_what_it_takes(with_locals: bool, crumbs: bool, depth: int) -> None:
    """The queue's bound on memory is as good as this number. Source: wire.md section 13."""
    own = recorder(with_locals=with_locals)
    scope = filled(Scope()) if crumbs else Scope()
    errors = [recursing(depth) for _ in range(51)]
    kept = [own.exception(errors[50], scope)]
    said = kept[0].stow()
    tracemalloc.start()
    try:
        for error in errors[:50]:
            draft = own.exception(error, scope)
            draft.stow()
            kept.append(draft)
        taken = tracemalloc.get_traced_memory()[0] / 50
    finally:
        tracemalloc.stop()
    # Queued it has an item and an envelope as well, of 0.5 KB.
    assert 0.6 * said < taken + 512 < 1.4 * said


def test_a_built_event_knows_what_it_takes() -> None:
    own = recorder()
    scope = filled(Scope())
    error = recursing(20)
    own.exception(error, scope).build()
    tracemalloc.start()
    try:
        events = [own.exception(error, scope).build() for _ in range(20)]
        taken = tracemalloc.get_traced_memory()[0] / 20
    finally:
        tracemalloc.stop()
    assert 0.6 * held_by(events[0]) < taken < 1.4 * held_by(events[0])


class TestSealedBreadcrumbs:
    """A crumb is looked at once; sealed, all events and forks share what was found."""

    def test_what_a_callback_does_to_one_event_no_other_sees(self) -> None:
        own, scope = recorder(), filled(Scope())
        first = own.message("one", "info", scope).build()
        crumb: Any = first["breadcrumbs"]["values"][0]
        crumb["message"] = "changed"
        crumb["data"]["rows"] = "changed"
        second: Any = own.message("two", "info", scope).build()
        assert second["breadcrumbs"]["values"][0]["message"] == "SELECT 0"
        assert second["breadcrumbs"]["values"][0]["data"] == {"rows": 0}

    def test_what_the_program_does_to_its_data_later_changes_nothing(self) -> None:
        own, scope = recorder(), Scope()
        data = {"rows": 1}
        scope.add_breadcrumb(message="query", data=data)
        event_of(own.message("one", "info", scope))
        data["rows"] = 2
        data["password"] = 3
        (crumb,) = event_of(own.message("two", "info", scope))["breadcrumbs"]["values"]
        assert crumb["data"] == {"rows": 1}

    def test_secrets_are_hidden_and_noted_in_each_event(self) -> None:
        own, scope = recorder(), filled(Scope())
        scope.add_breadcrumb(message="GET http://ada:pw@host/", data={"password": "hunter2"})
        for _ in range(2):
            event = event_of(own.message("hello", "info", scope))
            crumb = event["breadcrumbs"]["values"][30]
            assert "pw" not in crumb["message"]
            assert crumb["data"] == {"password": "[Filtered]"}
            notes = event["_meta"]["breadcrumbs"]["values"]["30"]
            assert set(notes) == {"message", "data"}

    def test_another_client_looks_for_itself(self) -> None:
        scope = Scope()
        scope.add_breadcrumb(message="x" * 300, data={"remote_addr": "10.0.0.1"})
        open_minded = recorder(send_default_pii=True)
        (crumb,) = event_of(open_minded.message("m", "info", scope))["breadcrumbs"]["values"]
        assert crumb["data"] == {"remote_addr": "10.0.0.1"}
        strict = recorder(max_value_length=100)
        (crumb,) = event_of(strict.message("m", "info", scope))["breadcrumbs"]["values"]
        assert crumb["data"] == {"remote_addr": "[Filtered]"}
        assert len(crumb["message"]) == 100

    def test_forks_share_the_look_and_not_the_list(self) -> None:
        own, scope = recorder(), filled(Scope())
        event_of(own.message("one", "info", scope))
        fork = scope.fork()
        assert all(mine is theirs for mine, theirs in zip(scope.noted(), fork.noted(), strict=True))
        fork.add_breadcrumb(message="only here")
        assert len(event_of(own.message("m", "info", scope))["breadcrumbs"]["values"]) == 30
        assert len(event_of(own.message("m", "info", fork))["breadcrumbs"]["values"]) == 31
