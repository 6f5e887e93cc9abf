"""uvicorn in this process: what it does with the context of a request after the answer."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from crashfree.integration import Unit
from crashfree.testing import capture
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.uvicorn import UvicornIntegration
from tests.support.http_contract import counts

GET = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
ANSWER = b"ok"
IMPLEMENTATIONS = ("h11", "httptools")


async def program(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})


def units() -> int:
    gc.collect()
    # Its type is asked: `isinstance` wakes up what is lazy.
    return sum(issubclass(type(thing), Unit) for thing in gc.get_objects())


async def failing(scope: Any, receive: Any, send: Any) -> None:
    """Answers, takes a while, and fails then."""
    if scope["type"] == "http":
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})
        for _ in range(10):
            await asyncio.sleep(0)
        raise LookupError(scope["path"])


async def talk(
    http: str, visit: Callable[[Any, Any], Awaitable[None]], app: Any = program, **config: Any
) -> None:
    """Serve `app` for one connection."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("httptools" if http == "httptools" else "h11")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                AsgiMiddleware(app),
                http=http,
                log_config=None,
                access_log=False,
                lifespan="off",
                **config,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        try:
            await visit(reader, writer)
        finally:
            writer.close()
            server.should_exit = True
            await serving


@pytest.mark.parametrize("http", IMPLEMENTATIONS)
def test_a_connection_that_is_kept_open_keeps_no_unit_of_its_requests(http: str) -> None:
    """Its timer is set while the last message is sent, and would hold the context of that."""
    before = units()
    alive: list[int] = []

    async def visit(reader: Any, writer: Any) -> None:
        for _ in range(50):
            writer.write(GET)
            await reader.readuntil(ANSWER)
        for _ in range(10):
            # The task that has sent the last answer comes to its end.
            await asyncio.sleep(0)
        alive.append(units())

    with capture(session_mode="request", integrations=[UvicornIntegration()]) as seen:
        asyncio.run(talk(http, visit))
    assert alive == [before]
    assert counts(seen) == {"exited": 50}


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("http", IMPLEMENTATIONS)
def test_each_request_of_a_pipeline_counts(http: str, watched: bool) -> None:
    """uvicorn begins the next one in the context of the one before."""

    async def visit(reader: Any, writer: Any) -> None:
        writer.write(GET * 3)
        for _ in range(3):
            await reader.readuntil(ANSWER)

    integrations: list[Any] = [UvicornIntegration()] if watched else []
    with capture(session_mode="request", integrations=integrations) as seen:
        asyncio.run(talk(http, visit))
    assert counts(seen) == {"exited": 3}


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("http", IMPLEMENTATIONS)
def test_each_request_of_a_pipeline_is_a_crash_if_it_fails_after_its_answer(
    http: str, watched: bool
) -> None:
    """The next one begins while the one before has not come to its end."""

    async def visit(reader: Any, writer: Any) -> None:
        writer.write(GET * 3)
        for _ in range(3):
            await reader.readuntil(ANSWER)
        for _ in range(20):
            await asyncio.sleep(0)

    integrations: list[Any] = [UvicornIntegration()] if watched else []
    with capture(session_mode="request", integrations=integrations) as seen:
        asyncio.run(talk(http, visit, failing))
    assert counts(seen) == {"crashed": 3}
    assert len(seen.events) == 3


@pytest.mark.parametrize("http", IMPLEMENTATIONS)
def test_a_connection_is_closed_when_nothing_more_is_asked(http: str) -> None:
    rest: list[bytes] = []

    async def visit(reader: Any, writer: Any) -> None:
        for _ in range(3):
            writer.write(GET)
            await reader.readuntil(ANSWER)
        rest.append(await reader.read())

    with capture(session_mode="request", integrations=[UvicornIntegration()]):
        asyncio.run(talk(http, visit, timeout_keep_alive=0.05))
    assert rest == [b""]


@pytest.mark.parametrize("http", IMPLEMENTATIONS)
def test_a_connection_that_is_over_leaves_no_timer(http: str) -> None:
    waiting: list[int] = []

    async def visit(reader: Any, writer: Any) -> None:
        loop: Any = asyncio.get_running_loop()
        writer.write(GET)
        await reader.readuntil(ANSWER)
        waiting.append(timers(loop))
        writer.close()
        while timers(loop):
            await asyncio.sleep(0)
        waiting.append(timers(loop))

    with capture(session_mode="request", integrations=[UvicornIntegration()]):
        asyncio.run(talk(http, visit, timeout_keep_alive=1000))
    assert waiting == [1, 0]


def timers(loop: Any) -> int:
    """How many timers of connections wait."""
    return sum(
        not handle.cancelled() and handle.when() > loop.time() + 900 for handle in loop._scheduled
    )


def test_what_is_around_the_protocols_is_taken_away_again() -> None:
    protocol: Any = pytest.importorskip("uvicorn.protocols.http.h11_impl").H11Protocol
    before = protocol.connection_made
    with capture(integrations=[UvicornIntegration()]):
        assert protocol.connection_made is not before
    assert protocol.connection_made is before
