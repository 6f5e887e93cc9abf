"""aiohttp's server under the contract, and what only it has. Its own server runs, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

import crashfree
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.aiohttp import AiohttpIntegration
from tests.support.http_contract import (
    SLOW,
    Broken,
    Harness,
    HttpContract,
    Refused,
    Talk,
    captured_and_raised,
    counts,
    divide,
    quietly,
)

pytest.importorskip("aiohttp")

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

DONE: web.AppKey[asyncio.Event] = web.AppKey("done", asyncio.Event)


async def ok(request: web.Request) -> web.Response:
    return web.Response(text="fine")


async def handled(request: web.Request) -> web.Response:
    quietly()
    return web.Response(text="handled")


async def error(request: web.Request) -> web.Response:
    return web.Response(text=str(divide(int(request.match_info["item"]))))


async def reraised(request: web.Request) -> web.Response:
    captured_and_raised()
    raise AssertionError


async def returned(request: web.Request) -> web.Response:
    return web.Response(text="sorry", status=500)


async def raised(request: web.Request) -> web.Response:
    raise web.HTTPInternalServerError


async def turned(request: web.Request) -> web.Response:
    raise web.HTTPServiceUnavailable from Broken()


async def refused(request: web.Request) -> web.Response:
    raise web.HTTPBadRequest from Refused()


async def missing(request: web.Request) -> web.Response:
    raise web.HTTPNotFound


async def read_fails(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(text=str(divide(1)))


async def stream(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"one")
    if request.path == "/stream-fails":
        raise BufferError("in the middle")
    if request.path.startswith("/late-user"):
        crashfree.set_user({"id": "late-7"})
    if request.path == "/late-user-fails":
        raise BufferError("in the middle")
    try:
        while request.path == "/endless":
            await answer.write(b"more")
            await asyncio.sleep(0)
    finally:
        request.app[DONE].set()
    await answer.write(b"two")
    return answer


async def talk(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        if request.path == "/talk-fails":
            raise BufferError("in the middle")
        await socket.close()
    request.app[DONE].set()
    return socket


def program() -> web.Application:
    app = web.Application()
    app[DONE] = asyncio.Event()
    app.router.add_post("/read-fails", read_fails)
    app.router.add_get("/items/{item}/error", error)
    for path, handler in (
        ("/ok", ok),
        ("/handled", handled),
        ("/reraised", reraised),
        ("/returned", returned),
        ("/raised", raised),
        ("/turned", turned),
        ("/refused", refused),
        ("/missing", missing),
        ("/stream", stream),
        ("/stream-fails", stream),
        ("/endless", stream),
        ("/late-user", stream),
        ("/late-user-fails", stream),
        ("/talk", talk),
        ("/talk-fails", talk),
    ):
        app.router.add_get(path, handler)
    return app


def call(
    application: Any,
    path: str,
    *,
    gone: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Talk:
    """Serve one connection with aiohttp's own server; `application` makes the application."""
    return asyncio.run(
        asyncio.wait_for(_call(application, path, gone, dict(headers or {}), body), SLOW)
    )


async def _call(
    make: Any, path: str, gone: str | None, headers: dict[str, str], body: bytes
) -> Talk:
    app = make()
    runner = web.AppRunner(app, access_log=None, handler_cancellation=gone == "cancel")
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    base = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as client:
            if path.startswith("ws:"):
                return await _talk(client, f"{base}{path[3:]}", gone, app)
            if gone:
                await _go(port, path)
                await app[DONE].wait()
                return Talk(None, b"")
            async with client.request(
                "POST" if body else "GET", f"{base}{path}", headers=headers, data=body or None
            ) as reply:
                try:
                    return Talk(reply.status, await reply.read())
                except aiohttp.ClientPayloadError:
                    return Talk(reply.status, b"")
    finally:
        await runner.cleanup()


async def _talk(client: Any, url: str, gone: str | None, app: Any) -> Talk:
    async with client.ws_connect(url) as socket:
        if not gone:
            await socket.send_str("hello")
            await socket.receive()
    if gone:
        await app[DONE].wait()
    return Talk(101, b"")


async def _go(port: int, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"more")
    writer.transport.abort()


class AiohttpHarness:
    name = "aiohttp"
    route = "/items/{item}/error"
    lacks = {  # noqa: RUF012
        "/background": "aiohttp runs nothing after the answer",
        "/turned": "aiohttp has no error handlers but the exceptions themselves",
    }
    patched = (
        (RequestHandler, "_handle_request"),
        (RequestHandler, "finish_response"),
        (RequestHandler, "handle_error"),
    )

    def integrations(self) -> list[Integration]:
        return [AiohttpIntegration()]

    def application(self) -> Any:
        # Applications of aiohttp belong to one event loop.
        return program

    def wrapped(self, application: Any) -> Any:
        return application

    talk = staticmethod(call)

    def receivers(self) -> object:
        return None


class TestAiohttp(HttpContract):
    harness: Harness = AiohttpHarness()


def test_a_503_that_was_raised_is_a_crash_with_its_cause() -> None:
    with capture(integrations=["aiohttp"]) as seen:
        assert call(program, "/turned").status == 503
    assert counts(seen) == {"crashed": 1}
    assert [value["type"] for value in seen.events[0]["exception"]["values"]] == [
        "Broken",
        "HTTPServiceUnavailable",
    ]


def test_a_body_that_fails_after_its_handler_has_returned_is_a_crash() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        raise BufferError("in the middle")

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body())

    def make() -> web.Application:
        app = program()
        app.router.add_get("/body", answer)
        return app

    with capture(integrations=["aiohttp"]) as seen:
        call(make, "/body")
    assert counts(seen) == {"crashed": 1}
    assert seen.events[0]["transaction"] == "/body"


def test_a_handler_that_returns_nothing_is_a_crash() -> None:
    async def forgetful(request: web.Request) -> None:
        pass

    def make() -> web.Application:
        app = program()
        app.router.add_get("/nothing", forgetful)  # type: ignore[arg-type]
        return app

    with capture(integrations=["aiohttp"]) as seen:
        try:
            assert call(make, "/nothing").status == 500
        except aiohttp.ServerDisconnectedError:
            # Old versions give up the connection.
            pass
    assert counts(seen) == {"crashed": 1}


def test_a_time_out_of_a_handler_is_a_crash() -> None:
    async def slow(request: web.Request) -> web.Response:
        raise asyncio.TimeoutError

    def make() -> web.Application:
        app = program()
        app.router.add_get("/slow", slow)
        return app

    with capture(integrations=["aiohttp"]) as seen:
        assert call(make, "/slow").status == 504
    assert counts(seen) == {"crashed": 1}
    assert len(seen.events) == 1


def test_a_connection_error_of_the_program_itself_is_a_crash() -> None:
    async def upstream(request: web.Request) -> web.Response:
        raise ConnectionResetError("the database")

    def make() -> web.Application:
        app = program()
        app.router.add_get("/upstream", upstream)
        return app

    with capture(integrations=["aiohttp"]) as seen:
        assert call(make, "/upstream").status == 500
    assert counts(seen) == {"crashed": 1}


def test_a_subapplication_counts_once_and_its_route_has_the_prefix() -> None:
    def make() -> web.Application:
        app = program()
        app.add_subapp("/inner", program())
        return app

    with capture(integrations=["aiohttp"]) as seen:
        call(make, "/inner/items/7/error")
    assert counts(seen) == {"crashed": 1}
    assert seen.events[0]["transaction"] == "/inner/items/{item}/error"


def test_the_client_side_of_aiohttp_makes_no_server_of_a_program() -> None:
    import subprocess
    import sys

    code = (
        "import crashfree, sys; client = crashfree.init(release='a@1', spool=False);"
        "import aiohttp; assert 'aiohttp.web' not in sys.modules;"
        "assert client.application_mode; import aiohttp.web; assert not client.application_mode"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
