"""Starlette under the contract, and what only Starlette has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import crashfree
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.starlette import StarletteIntegration
from tests.support.http_calls import call_asgi, serve
from tests.support.http_contract import (
    ROUTED,
    Broken,
    Harness,
    HttpContract,
    Refused,
    captured_and_raised,
    counts,
    divide,
    quietly,
    users,
)

starlette = pytest.importorskip("starlette")

from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    SimpleUser,
)
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

# Old versions leave the streams of their middleware to the collector.
pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


async def ok(request: Request) -> Any:
    return PlainTextResponse("fine")


def handled(request: Request) -> Any:
    # In a thread of the pool: the unit is known there too.
    quietly()
    return PlainTextResponse("handled")


def error(request: Request) -> Any:
    divide(int(request.path_params["item"]))


async def reraised(request: Request) -> None:
    captured_and_raised()


async def returned(request: Request) -> Any:
    return PlainTextResponse("sorry", 500)


async def raised(request: Request) -> None:
    raise HTTPException(500)


async def turned(request: Request) -> None:
    raise Broken


def refused(request: Request) -> None:
    raise Refused


async def missing(request: Request) -> None:
    raise HTTPException(404)


async def read_fails(request: Request) -> None:
    await request.body()
    divide(1)


async def stream(request: Request) -> Any:
    return StreamingResponse(parts(request.url.path))


async def background(request: Request) -> Any:
    return PlainTextResponse("fine", background=BackgroundTask(fail))


async def fail() -> None:
    raise BufferError("afterwards")


async def parts(path: str) -> AsyncIterator[str]:
    yield "one"
    if path == "/stream-fails":
        raise BufferError("in the middle")
    if path.startswith("/late-user"):
        crashfree.set_user({"id": "late-7"})
    if path == "/late-user-fails":
        raise BufferError("in the middle")
    while path == "/endless":
        yield "more"
    yield "two"


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.receive_text()
    if socket.url.path == "/talk-fails":
        raise BufferError("in the middle")
    await socket.close()


def broken(request: Request, error: Exception) -> Any:
    return PlainTextResponse("broken", 503)


async def refuse(request: Request, error: Exception) -> Any:
    return PlainTextResponse("refused", 400)


ROUTES = [
    Route("/ok", ok),
    Route("/handled", handled),
    Route("/items/{item:int}/error", error),
    Route("/reraised", reraised),
    Route("/returned", returned),
    Route("/raised", raised),
    Route("/turned", turned),
    Route("/refused", refused),
    Route("/missing", missing),
    Route("/read-fails", read_fails, methods=["POST"]),
    Route("/background", background),
    *(
        Route(path, stream)
        for path in ("/stream", "/stream-fails", "/endless", "/late-user", "/late-user-fails")
    ),
    WebSocketRoute("/talk", talk),
    WebSocketRoute("/talk-fails", talk),
]


def program(*middleware: Middleware) -> Any:
    return Starlette(
        routes=ROUTES,
        middleware=list(middleware),
        exception_handlers={Broken: broken, Refused: refuse},
    )


async def passing(request: Request, call_next: Any) -> Any:
    return await call_next(request)


OLD_MIDDLEWARE = (
    {"/background": "its middleware cuts the answer off when a background task fails"}
    if int(starlette.__version__.partition(".")[0]) < 1
    else {}
)


class StarletteHarness:
    name = "starlette"
    route: str | None = "/items/{item:int}/error"
    lacks: dict[str, str] = {}  # noqa: RUF012
    patched: tuple[tuple[object, str], ...] = (
        (Starlette, "__call__"),
        (ExceptionMiddleware, "__call__"),
        (BaseHTTPMiddleware, "__call__"),
    )

    def integrations(self) -> list[Integration]:
        return [StarletteIntegration()]

    def application(self) -> Any:
        return program()

    wrapped = staticmethod(AsgiMiddleware)
    talk = staticmethod(call_asgi)

    def receivers(self) -> object:
        return None


class TestStarlette(HttpContract):
    harness: Harness = StarletteHarness()


class TestStarletteBehindItsMiddleware(HttpContract):
    """`BaseHTTPMiddleware` hands the answer over to another task."""

    class _Harness(StarletteHarness):
        lacks = OLD_MIDDLEWARE

        def application(self) -> Any:
            return program(Middleware(BaseHTTPMiddleware, dispatch=passing))

    harness: Harness = _Harness()


class TestStarletteByHand(HttpContract):
    """Without the integration: the middleware for any framework around it, which knows no route."""

    class _Harness(StarletteHarness):
        route = None
        patched = ()
        lacks = {"data": "the body is the program's alone"}  # noqa: RUF012

        def integrations(self) -> list[Integration]:
            return []

        def application(self) -> Any:
            return AsgiMiddleware(program())

    harness: Harness = _Harness()


def test_a_route_below_a_mount_is_named_with_it() -> None:
    inner = Starlette(routes=[Route("/users/{user}", error)])
    app = Starlette(routes=[Route("/api", ok), Mount("/api/{tenant}", app=inner)])

    async def failing(request: Request) -> None:
        divide(1)

    inner.router.routes[:] = [Route("/users/{user}", failing)]
    with capture(integrations=[StarletteIntegration()]) as seen:
        call_asgi(app, "/api/acme/users/7")
    assert counts(seen) == {"crashed": 1}
    (event,) = seen.events
    assert event["transaction"] == "/api/{tenant}/users/{user}"
    assert event["request"]["url"] == "http://testserver/api/acme/users/7"


def test_an_application_inside_of_another_framework_names_its_routes() -> None:
    inner = program()

    async def foreign(scope: Any, receive: Any, send: Any) -> None:
        scope["app"] = "not Starlette"
        await inner(scope, receive, send)

    with capture(integrations=[StarletteIntegration()]) as seen:
        call_asgi(AsgiMiddleware(foreign), ROUTED)
    assert counts(seen) == {"crashed": 1}
    assert seen.events[0]["transaction"] == "/items/{item:int}/error"


def test_a_general_exception_handler_does_not_hide_crashes() -> None:
    app = Starlette(routes=ROUTES, exception_handlers={Exception: broken})
    with capture(integrations=[StarletteIntegration()]) as seen:
        call_asgi(app, ROUTED)
    assert counts(seen) == {"crashed": 1}
    assert len(seen.events) == 1


@pytest.mark.parametrize("allowed", [True, False])
def test_the_user_of_the_authentication_middleware_counts_when_allowed(allowed: bool) -> None:
    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            return AuthCredentials(["authenticated"]), SimpleUser("u-9")

    app = program(Middleware(AuthenticationMiddleware, backend=Backend()))
    with capture(integrations=[StarletteIntegration()], send_default_pii=allowed) as seen:
        call_asgi(app, "/ok")
        call_asgi(app, ROUTED)
        call_asgi(app, "ws:/talk")
    assert users(seen) == ({"u-9"} if allowed else {None})
    assert ("user" in seen.events[0]) is allowed


def test_requests_at_the_same_time_keep_their_own_scopes() -> None:
    found: dict[str, object] = {}

    async def tagged(request: Request) -> Any:
        item = request.path_params["item"]
        crashfree.set_tag("item", item)
        await asyncio.sleep(0)
        found[item] = crashfree.get_isolation_scope().tags["item"]
        if item == "7":
            divide(7)
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/{item}", tagged)])

    async def everybody() -> None:
        await asyncio.gather(*(serve(app, f"/{item}") for item in range(50)))

    with capture(integrations=[StarletteIntegration()]) as seen:
        asyncio.run(everybody())
    assert counts(seen) == {"exited": 49, "crashed": 1}
    assert found == {str(item): str(item) for item in range(50)}
    assert seen.events[0]["tags"]["item"] == "7"
    assert seen.events[0]["request"]["url"].endswith("/7")


def test_the_local_server_in_the_same_process_is_not_counted() -> None:
    import urllib.error
    import urllib.request

    from crashfree.server import LocalServer

    with LocalServer() as server, capture(integrations=[StarletteIntegration()]) as seen:
        # Passed on to Starlette, like every path but those of the ingest.
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{server.url}/no/such/page", timeout=5)
        assert seen.client.application_mode
    assert counts(seen) == {}
    assert len(seen.sessions) == 1
