"""The timers of a connection, on an event loop whose time the test lets pass."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, cast

import pytest

from crashfree_integrations.keepalive import ConnectionLoop
from tests.support.clock import FakeClock
from tests.support.timers import ManualTimer, ManualTimers

PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


class Loop:
    """As much of an event loop as connections use; its time begins at 100."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clock.mono = 100.0
        self.timers = ManualTimers(self.clock)
        self.time = self.clock.monotonic
        self.advance = self.timers.advance

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context
    ) -> ManualTimer:
        return self.timers.at(self.time() + delay, lambda: context.run(callback, *args))

    def create_task(self, work: Any) -> str:
        return f"task of {work}"

    def get_debug(self) -> bool:
        return True

    @property
    def armed(self) -> int:
        return self.timers.armed


@pytest.fixture
def loop() -> Loop:
    return Loop()


def connection(loop: Loop) -> ConnectionLoop:
    return ConnectionLoop(cast("Any", loop))


def test_a_timer_rings_once_at_its_time(loop: Loop) -> None:
    rung: list[float] = []
    timer = connection(loop).call_later(5, lambda: rung.append(loop.time()))
    assert timer.when() == 105.0
    loop.advance(4.9)
    assert rung == []
    assert not timer.cancelled()
    loop.advance(10)
    assert rung == [105.0]
    assert timer.cancelled()
    assert loop.armed == 0


def test_one_that_is_cancelled_does_not_ring(loop: Loop) -> None:
    rung: list[float] = []
    connection(loop).call_later(5, lambda: rung.append(loop.time())).cancel()
    loop.advance(10)
    assert rung == []
    assert loop.armed == 0


def test_the_loop_knows_one_timer_however_often_it_is_set_again(loop: Loop) -> None:
    rung: list[float] = []
    server = connection(loop)
    for _ in range(100):
        timer = server.call_later(5, lambda: rung.append(loop.time()))
        loop.advance(0.02)
        assert loop.armed == 1
        timer.cancel()
    server.call_later(5, lambda: rung.append(loop.time()))
    assert loop.armed == 1
    loop.advance(10)
    assert rung == [pytest.approx(107.0)]


def test_a_timer_that_rings_sooner_than_the_one_before_is_not_late(loop: Loop) -> None:
    rung: list[float] = []
    server = connection(loop)
    server.call_later(5, lambda: rung.append(-1)).cancel()
    server.call_later(1, lambda: rung.append(loop.time()))
    loop.advance(10)
    assert rung == [101.0]


def test_to_cancel_one_that_has_rung_does_not_cancel_the_next(loop: Loop) -> None:
    rung: list[float] = []
    server = connection(loop)
    first = server.call_later(1, lambda: rung.append(loop.time()))
    loop.advance(2)
    server.call_later(1, lambda: rung.append(loop.time()))
    first.cancel()
    loop.advance(2)
    assert rung == [101.0, 103.0]


def test_a_timer_may_be_set_while_one_rings(loop: Loop) -> None:
    rung: list[float] = []
    server = connection(loop)

    def again() -> None:
        rung.append(loop.time())
        if len(rung) < 3:
            server.call_later(1, again)

    server.call_later(1, again)
    loop.advance(10)
    assert rung == [101.0, 102.0, 103.0]


def test_two_at_a_time_both_ring(loop: Loop) -> None:
    rung: list[str] = []
    server = connection(loop)
    server.call_later(5, lambda: rung.append("one"))
    server.call_later(1, rung.append, "two")
    loop.advance(10)
    assert rung == ["two", "one"]


def test_a_timer_rings_in_the_context_of_its_connection(loop: Loop) -> None:
    rung: list[str] = []
    server = connection(loop)

    def request() -> None:
        PLACE.set("the request")
        server.call_later(1, lambda: rung.append(PLACE.get()))
        server.call_later(1, lambda: rung.append(PLACE.get()))

    copy_context().run(request)
    loop.advance(2)
    assert rung == ["nowhere", "nowhere"]


def test_a_connection_that_is_over_leaves_no_timer_but_one_that_is_set(loop: Loop) -> None:
    rung: list[float] = []
    over, open_still = connection(loop), connection(loop)
    over.call_later(5, lambda: rung.append(-1)).cancel()
    open_still.call_later(5, lambda: rung.append(loop.time()))
    for server in (over, open_still):
        server.rest()
    assert loop.armed == 1
    loop.advance(10)
    assert rung == [105.0]


def test_everything_else_is_the_loops(loop: Loop) -> None:
    server = connection(loop)
    assert server.create_task("a request") == "task of a request"
    assert server.get_debug()
