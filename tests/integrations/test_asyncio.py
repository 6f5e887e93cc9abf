"""asyncio: errors that nobody retrieved."""

from __future__ import annotations

import asyncio
import gc
import sys
from asyncio.base_events import BaseEventLoop
from collections.abc import Iterator
from typing import Any

import pytest

import crashfree
from crashfree.testing import capture
from crashfree_integrations.asyncio import AsyncioIntegration, UvloopIntegration


@pytest.fixture
def seen() -> Iterator[capture]:
    with capture(integrations=[AsyncioIntegration()]) as block:
        yield block


async def fail(number: int) -> None:
    crashfree.set_tag("number", str(number))
    raise ValueError(number)


def run_quietly(main: Any) -> list[dict[str, Any]]:
    """Run with an exception handler of the program; returns what it was told."""
    told: list[dict[str, Any]] = []

    async def outer() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        await main
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(outer())
    return told


async def lose_a_task() -> None:
    task = asyncio.create_task(fail(1), name="lost")
    await asyncio.sleep(0)
    del task


def test_a_task_whose_error_nobody_asked_for_is_unhandled(seen: capture) -> None:
    told = run_quietly(lose_a_task())
    assert len(told) == 1, "the handler of the program is still told"
    (event,) = seen.events
    (value,) = event["exception"]["values"]
    assert value["mechanism"] == {"type": "asyncio", "handled": False, "exception_id": 0}
    crashfree.end_session()
    assert seen.sessions[-1]["status"] == "unhandled"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks tell their context since 3.12")
def test_the_event_has_the_scopes_of_the_task(seen: capture) -> None:
    async def isolated() -> None:
        with crashfree.isolation_scope():
            task = asyncio.create_task(fail(7))
        await asyncio.sleep(0)
        del task

    run_quietly(isolated())
    assert seen.events[0]["tags"] == {"number": "7"}


def test_an_error_that_somebody_awaits_is_theirs(seen: capture) -> None:
    async def main() -> None:
        with pytest.raises(ValueError):
            await asyncio.create_task(fail(1))
        await asyncio.gather(asyncio.create_task(fail(2)), return_exceptions=True)

    assert run_quietly(main()) == []
    assert seen.events == []


def test_a_callback_that_raises_is_unhandled(seen: capture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    run_quietly(main())
    assert seen.events[0]["exception"]["values"][0]["type"] == "ZeroDivisionError"


def test_a_cancelled_task_is_no_error(seen: capture) -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_exception_handler(
            {"message": "cancelled", "exception": asyncio.CancelledError()}
        )

    run_quietly(main())
    assert seen.events == []


def test_taken_out_it_leaves_asyncio_as_it_was() -> None:
    before = vars(BaseEventLoop)["call_exception_handler"]
    with capture(integrations=[AsyncioIntegration()]):
        assert vars(BaseEventLoop)["call_exception_handler"] is not before
    assert vars(BaseEventLoop)["call_exception_handler"] is before


def test_the_loops_of_uvloop_tell_the_same() -> None:
    uvloop = pytest.importorskip("uvloop")
    with capture(integrations=[UvloopIntegration()]) as seen:
        loop = uvloop.new_event_loop()
        told: list[Any] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        loop.run_until_complete(lose_a_task())
        gc.collect()
        loop.close()
    assert len(told) == 1
    assert len(seen.events) == 1
    assert "call_exception_handler" not in vars(uvloop.Loop)
