"""The interpreter's hooks: chained, idempotent, removable."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import crashfree
from crashfree._client import hooks
from crashfree.errors import IntegrationError
from crashfree.integration import Kit
from crashfree.testing import capture

HOOKS = [(sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook")]


@pytest.fixture
def previous(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Hooks of the program, which note that they were called."""
    called: list[str] = []
    for owner, name in HOOKS:
        label = f"{owner.__name__}.{name}"
        monkeypatch.setattr(owner, name, lambda *_, label=label: called.append(label))
    yield called
    hooks.uninstall()


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_uncaught_error_is_captured_and_then_the_previous_hook_runs(
    previous: list[str],
) -> None:
    with capture() as seen:
        error = raised(ValueError("bad"))
        sys.excepthook(ValueError, error, error.__traceback__)
        assert previous == ["sys.excepthook"]
    (event,) = seen.events
    (value,) = event["exception"]["values"]
    assert value["mechanism"] == {"type": "excepthook", "handled": False, "exception_id": 0}
    assert seen.sessions[-1]["status"] == "crashed"


def test_an_uncaught_error_of_a_thread_is_survived(previous: list[str]) -> None:
    with capture() as seen:
        thread = threading.Thread(target=lambda: 1 / 0, name="the-thread")
        thread.start()
        thread.join()
        assert previous == ["threading.excepthook"]
    (event,) = seen.events
    assert event["exception"]["values"][0]["mechanism"]["type"] == "threading"
    assert event["threads"]["values"][0]["name"] == "the-thread"
    assert seen.sessions[-1]["status"] == "unhandled"


class Dying:
    def __del__(self) -> None:
        raise ValueError("in a finalizer")


def test_an_error_in_a_finalizer_is_survived(previous: list[str]) -> None:
    with capture() as seen:
        Dying()
        gc.collect()
        assert previous == ["sys.unraisablehook"]
    (event,) = seen.events
    assert event["exception"]["values"][0]["mechanism"]["type"] == "unraisablehook"
    assert seen.sessions[-1]["status"] == "unhandled"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_how_a_program_stops_by_will_is_no_error(previous: list[str], error: Any) -> None:
    """Source: DESIGN decision 10 in sdk/README.md; sessions.md section 3.6."""
    with capture() as seen:
        sys.excepthook(type(error), error, None)
        assert previous == ["sys.excepthook"]
    assert seen.events == []
    assert seen.sessions[-1]["status"] == "exited"


def test_ctrl_c_is_a_crash_where_the_program_says_so(previous: list[str]) -> None:
    with capture(interrupt_status="crashed") as seen:
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert seen.events == []
    assert seen.sessions[-1]["status"] == "crashed"


def test_installing_twice_captures_once(previous: list[str]) -> None:
    with capture() as seen:
        hooks.install(seen.client)
        error = raised(ValueError("bad"))
        sys.excepthook(ValueError, error, error.__traceback__)
    assert previous == ["sys.excepthook"]
    assert len(seen.events) == 1


def test_closing_puts_back_what_was_there(previous: list[str]) -> None:
    before = [getattr(owner, name) for owner, name in HOOKS]
    with capture():
        assert all(getattr(o, n) is not b for (o, n), b in zip(HOOKS, before, strict=True))
    assert [getattr(owner, name) for owner, name in HOOKS] == before


def test_whoever_came_after_us_stays_and_ours_falls_silent(
    previous: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture() as seen:
        ours = sys.excepthook

        def later(*arguments: Any) -> None:
            previous.append("later")
            ours(*arguments)

        monkeypatch.setattr(sys, "excepthook", later)
    assert sys.excepthook is later
    error = raised(ValueError("bad"))
    sys.excepthook(ValueError, error, error.__traceback__)
    assert previous == ["later", "sys.excepthook"]
    assert seen.events == []
    with capture() as again:
        sys.excepthook(ValueError, error, error.__traceback__)
    assert previous == ["later", "sys.excepthook"] * 2, "not installed in front of itself"
    assert len(again.events) == 1


def test_the_previous_hook_runs_even_when_capturing_fails(
    previous: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture() as seen:

        def broken(*arguments: Any, **options: Any) -> None:
            raise RuntimeError("ours")

        monkeypatch.setattr(type(seen.client), "capture_exception", broken)
        with pytest.raises(RuntimeError):  # the strict boundary of tests lets it pass
            sys.excepthook(ValueError, ValueError(), None)
    assert previous == ["sys.excepthook"]


def test_interactive_shells_are_left_alone(
    previous: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    before = sys.excepthook
    with capture():
        assert sys.excepthook is before
        assert threading.excepthook is not previous


def test_the_scopes_of_the_failing_thread_apply(previous: list[str]) -> None:
    with capture() as seen:

        def work() -> None:
            with crashfree.isolation_scope():
                crashfree.set_tag("where", "inside")
                crashfree.capture_message("one")
            raise ValueError

        crashfree.set_tag("where", "process")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [event["tags"]["where"] for event in seen.events] == ["inside", "process"]


def test_an_integration_that_is_named_finds_the_hooks_in_place(previous: list[str]) -> None:
    found: list[object] = []

    class Looking:
        name = "looking"
        mode = None

        def install(self, kit: Kit) -> None:
            found.append(sys.excepthook)

        def uninstall(self) -> None:
            pass

    with capture(integrations=[Looking()]):
        assert found == [sys.excepthook]


def test_a_start_that_fails_leaves_the_hooks_as_they_were(previous: list[str]) -> None:
    before = [getattr(owner, name) for owner, name in HOOKS]
    with pytest.raises(IntegrationError):
        crashfree.init(release="a@1", integrations=["no such"], spool=False)
    assert [getattr(owner, name) for owner, name in HOOKS] == before
    with capture() as seen:
        with pytest.raises(IntegrationError):
            crashfree.init(release="a@1", integrations=["no such"], spool=False)
        error = raised(ValueError("the old client's"))
        sys.excepthook(ValueError, error, error.__traceback__)
    assert len(seen.events) == 1
