"""Capture is entered in the middle of itself: by finalizers, by signals, by other threads.

Up to CPython 3.11 the collector runs finalizers in the middle of C code, `ContextVar.set` included;
the recursion mark of crashfree was one once, and the interpreter died of it within seconds here.

Source: complaints-transport.md, 16 and 17.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator

import pytest

import crashfree
from crashfree import add_breadcrumb, capture_exception, capture_message, set_extra, set_tag
from crashfree.testing import capture
from tests.support.alarm import Alarm


class Dying:
    """In a cycle, so that the collector finds it in the middle of anything."""

    def __init__(self) -> None:
        self.me = self
        self.error = ValueError("in a finalizer")

    def __del__(self) -> None:
        add_breadcrumb(message="dying")
        set_tag("dying", "yes")
        capture_exception(self.error)


@pytest.fixture
def eager_collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*before)


def fail() -> None:
    raise KeyError("on purpose")


def test_finalizers_that_capture_run_in_the_middle_of_captures(eager_collector: None) -> None:
    with capture(error_storm_limit=0, with_locals=True) as seen:
        for number in range(500):
            Dying()
            set_extra("number", number)
            try:
                fail()
            except KeyError as error:
                captured = capture_exception(error)
            assert captured is not None
        gc.collect()
    kinds = [event["exception"]["values"][0]["type"] for event in seen.events]
    assert kinds.count("KeyError") == 500
    # Those that struck inside a capture are left out, as everything is that our own work causes.
    assert kinds.count("ValueError") > 0
    assert set(kinds) == {"KeyError", "ValueError"}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_signal_handlers_that_capture_strike_at_any_moment() -> None:
    struck = depth = 0

    def handler() -> None:
        nonlocal struck, depth
        struck += 1
        depth += 1
        # One strikes inside another; bounded, since a slow machine would do nothing else.
        if depth < 5:
            alarm.strike(0.0005 if struck < 500 else 0)
        set_tag("signal", str(struck))
        capture_message(f"signal {struck}")
        depth -= 1
        alarm.strike(0.0005 if struck < 500 else 0)

    with capture(error_storm_limit=0) as seen, Alarm(handler) as alarm:
        alarm.strike(0.0005)
        for number in range(400):
            add_breadcrumb(message=f"{number}")
            assert capture_message(f"own {number}") is not None
    own = [event["message"] for event in seen.events if event["message"].startswith("own")]
    assert own == [f"own {number}" for number in range(400)]
    assert struck > 0


def test_many_threads_capture_at_once_and_nothing_is_lost_or_mixed_up() -> None:
    barrier = threading.Barrier(8)

    def work(name: str) -> None:
        barrier.wait()
        with crashfree.isolation_scope():
            set_tag("who", name)
            for number in range(50):
                add_breadcrumb(message=f"{name} {number}")
                capture_message(f"{name} {number}")

    with capture(error_storm_limit=0) as seen:
        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen.events) == 400
    assert len({event["event_id"] for event in seen.events}) == 400
    for event in seen.events:
        who = event["tags"]["who"]
        assert event["message"].startswith(f"{who} ")
        assert all(c["message"].startswith(f"{who} ") for c in event["breadcrumbs"]["values"])
