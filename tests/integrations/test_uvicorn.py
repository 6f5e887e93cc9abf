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


async def talk(http: str, visit: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Serve `program` for one connection."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("httptools" if http == "httptools" else "h11")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            AsgiMiddleware(program), http=http, log_config=None, access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)
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


def test_what_is_around_the_protocols_is_taken_away_again() -> None:
    protocol: Any = pytest.importorskip("uvicorn.protocols.http.h11_impl").H11Protocol
    before = protocol.on_response_complete
    with capture(integrations=[UvicornIntegration()]):
        assert protocol.on_response_complete is not before
    assert protocol.on_response_complete is before
