"""ASGI by hand: the middleware around a program that knows no framework."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Generator
from typing import Any

import pytest

import crashfree
from crashfree.integration import Integration, Unit, unit
from crashfree.testing import capture
from crashfree_integrations.asgi import AsgiMiddleware
from tests.support.http_calls import call_asgi
from tests.support.http_contract import (
    SLOW,
    Broken,
    Harness,
    HttpContract,
    Refused,
    captured_and_raised,
    counts,
    divide,
    quietly,
)


async def program(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await talk(scope["path"], receive, send)
        return
    try:
        await respond(scope["path"], receive, send)
    except Refused:
        await answer(send, 400, b"refused")
    except Broken:
        await answer(send, 503, b"broken")
    except SystemError:
        await answer(send, 500, b"raised")
    except KeyError:
        await answer(send, 404, b"missing")


async def respond(path: str, receive: Any, send: Any) -> None:
    if path == "/items/7/error":
        divide(7)
    elif path == "/read-fails":
        await receive()
        divide(7)
    elif path == "/handled":
        quietly()
    elif path == "/reraised":
        captured_and_raised()
    elif path == "/raised":
        raise SystemError("500")
    elif path == "/turned":
        raise Broken
    elif path == "/refused":
        raise Refused
    elif path == "/missing":
        raise KeyError(path)
    elif path == "/nowhere":
        await answer(send, 404, b"nowhere")
        return
    elif path == "/returned":
        await answer(send, 500, b"sorry")
        return
    elif path == "/background":
        await answer(send, 200, b"fine")
        raise BufferError("afterwards")
    elif path != "/ok":
        await stream(path, send)
        return
    await answer(send, 200, b"fine")


async def answer(send: Any, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def stream(path: str, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    if path == "/stream-fails":
        raise BufferError("in the middle")
    if path.startswith("/late-user"):
        crashfree.set_user({"id": "late-7"})
    if path == "/late-user-fails":
        raise BufferError("in the middle")
    try:
        while path == "/endless":
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
    except OSError:
        return
    await send({"type": "http.response.body", "body": b"two"})


async def talk(path: str, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    if path == "/talk-fails":
        raise BufferError("in the middle")
    await send({"type": "websocket.close"})


class AsgiHarness:
    name = "asgi"
    route = None
    lacks = {"data": "the body was the program's alone"}  # noqa: RUF012
    patched = ()

    def integrations(self) -> list[Integration]:
        return []

    def application(self) -> Any:
        return AsgiMiddleware(program)

    wrapped = staticmethod(AsgiMiddleware)
    talk = staticmethod(call_asgi)

    def receivers(self) -> object:
        return None


class TestAsgi(HttpContract):
    harness: Harness = AsgiHarness()


def run(application: Any, scope: dict[str, Any], incoming: list[dict[str, Any]]) -> list[Any]:
    """Serve one scope; returns what was sent."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(application(scope, receive, send), SLOW))
    return sent


def request() -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}


def test_a_middleware_made_by_hand_puts_an_undecided_process_into_request_mode() -> None:
    with capture() as seen:
        AsgiMiddleware(program)
    assert seen.sessions == []


def test_websockets_can_be_left_alone() -> None:
    with capture(session_mode="request") as seen:
        call_asgi(AsgiMiddleware(program, websockets=False), "ws:/talk")
    assert counts(seen) == {}


def test_the_request_ends_with_its_trailers() -> None:
    ended: list[bool] = []

    async def trailing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        seen.client.flush()
        ended.append(bool(counts(seen)))
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})
        seen.client.flush()
        ended.append(bool(counts(seen)))

    with capture(session_mode="request") as seen:
        run(AsgiMiddleware(trailing), request(), [])
    assert ended == [False, True]
    assert counts(seen) == {"exited": 1}


def test_the_request_ends_with_a_file_that_the_server_sends() -> None:
    async def sending(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": "/dev/null"})
        raise BufferError("afterwards")

    with capture(session_mode="request") as seen, pytest.raises(BufferError):
        run(AsgiMiddleware(sending), request(), [])
    assert counts(seen) == {"exited": 1}


def test_what_is_counted_is_sent_before_the_server_may_stop() -> None:
    async def living(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(send, 200, b"fine")
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with capture(session_mode="request") as seen:
        application = AsgiMiddleware(AsgiMiddleware(living))
        call_asgi(application, "/ok")
        assert counts(seen) == {}
        sent = run(
            application,
            {"type": "lifespan"},
            [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}],
        )
        assert counts(seen) == {"exited": 1}
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_a_server_that_fails_to_start_is_an_event() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise BufferError("no database")

    with capture(session_mode="request") as seen, pytest.raises(BufferError):
        run(AsgiMiddleware(failing), {"type": "lifespan"}, [])
    assert counts(seen) == {}
    assert seen.events[0]["exception"]["values"][0]["type"] == "BufferError"


def test_a_program_that_knows_no_lifespan_is_no_event() -> None:
    """Servers ask for it and go on without."""

    async def ignorant(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["type"])

    with capture(session_mode="request") as seen, pytest.raises(AssertionError):
        run(AsgiMiddleware(ignorant), {"type": "lifespan"}, [])
    assert seen.events == []


def test_a_coroutine_that_is_thrown_away_is_counted() -> None:
    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            AsgiMiddleware(waiting)(request(), loop.create_future, None)  # type: ignore[arg-type]
        )
        await asyncio.sleep(0)
        coroutine = task.get_coro()
        assert coroutine is not None
        coroutine.close()
        task.cancel()

    with capture(session_mode="request") as seen:
        asyncio.run(serve())
    assert counts(seen) == {"exited": 1}
    assert seen.events == []


def test_connections_leave_nothing_behind() -> None:
    """A scope for each connection that is kept alive is how Channels programs grow."""
    wrapped = AsgiMiddleware(program)

    async def serve(times: int) -> None:
        for _ in range(times):
            incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]

            async def receive(incoming: Any = incoming) -> Any:
                crashfree.set_tag("connection", "one")
                return incoming.pop(0)

            async def send(message: Any) -> None:
                pass

            await wrapped({"type": "websocket", "path": "/talk", "headers": []}, receive, send)

    with capture(session_mode="request"):
        asyncio.run(serve(10))
        gc.collect()
        before = len(gc.get_objects())
        asyncio.run(serve(10_000))
        gc.collect()
        assert len(gc.get_objects()) - before < 100


def test_a_last_message_that_cannot_be_sent_leaves_the_unit_in_charge() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await answer(send, 200, b"ok")
        except OSError:
            crashfree.set_tag("told", "yes")
            crashfree.capture_message("gone")

    async def server(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    async def nothing() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with capture(session_mode="request") as seen:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        asyncio.run(AsgiMiddleware(app)(scope, nothing, server))
        crashfree.capture_message("after")
    assert [event.get("tags", {}) for event in seen.events] == [{"told": "yes"}, {}]


def test_an_answer_that_is_thrown_away_while_it_is_handed_over_leaves_without_a_word() -> None:
    """By the collector, in another context than the one in which it was served."""

    class Never:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, b"ok")

    async def server(message: Any) -> None:
        if message["type"] == "http.response.body":
            await Never()

    async def nothing() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with capture(session_mode="request") as seen:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        coroutine = AsgiMiddleware(app)(scope, nothing, server)
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
        assert isinstance(unit(mechanism="next", session=False), Unit)
    assert counts(seen) == {"exited": 1}


def test_an_answer_that_is_sent_from_a_copy_of_the_context_is_sent() -> None:
    """As bridges between sync and async code do it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.create_task(answer(send, 200, b"ok"))
        crashfree.capture_message("afterwards")

    async def nothing() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    sent: list[str] = []

    async def server(message: Any) -> None:
        sent.append(message["type"])

    with capture(session_mode="request") as seen:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        asyncio.run(AsgiMiddleware(app)(scope, nothing, server))
    assert sent == ["http.response.start", "http.response.body"]
    assert seen.events[0]["request"]["method"] == "GET"
    assert counts(seen) == {"exited": 1}
