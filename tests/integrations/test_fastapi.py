"""FastAPI under the contract, and what only FastAPI has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import crashfree
from crashfree.errors import IntegrationError
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.fastapi import FastApiIntegration
from tests.support.http_calls import call_asgi
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
)

fastapi = pytest.importorskip("fastapi")

import starlette
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware

# Old versions leave the streams of their middleware to the collector.
pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def program() -> Any:
    app = FastAPI()

    @app.get("/ok")
    async def ok() -> Any:
        return PlainTextResponse("fine")

    @app.get("/handled")
    def handled() -> str:
        quietly()
        return "handled"

    @app.get("/items/{item}/error")
    def error(item: int) -> float:
        return divide(item)

    @app.get("/reraised")
    async def reraised() -> None:
        captured_and_raised()

    @app.get("/returned")
    async def returned() -> Any:
        return JSONResponse("sorry", 500)

    @app.get("/raised")
    async def raised() -> None:
        raise HTTPException(500)

    @app.get("/turned")
    def turned() -> None:
        raise Broken

    @app.get("/refused")
    async def refused() -> None:
        raise Refused

    @app.get("/missing")
    def missing() -> None:
        raise HTTPException(404)

    @app.post("/read-fails")
    async def read_fails(request: Request) -> None:
        await request.body()
        divide(1)

    @app.post("/json-fails")
    def json_fails(item: dict[str, int]) -> None:
        divide(item["price"])

    @app.get("/background")
    def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        return "fine"

    @app.get("/stream")
    @app.get("/stream-fails")
    @app.get("/endless")
    @app.get("/late-user")
    @app.get("/late-user-fails")
    async def stream(request: Request) -> Any:
        return StreamingResponse(parts(request.url.path))

    @app.websocket("/talk")
    @app.websocket("/talk-fails")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        if socket.url.path == "/talk-fails":
            raise BufferError("in the middle")
        await socket.close()

    @app.exception_handler(Broken)
    async def broken(request: Request, error: Exception) -> Any:
        return JSONResponse("broken", 503)

    @app.exception_handler(Refused)
    def refuse(request: Request, error: Exception) -> Any:
        return JSONResponse("refused", 400)

    return app


def fail() -> None:
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


OLD_MIDDLEWARE = (
    {"/background": "its middleware loses background tasks"}
    if int(starlette.__version__.partition(".")[0]) < 1
    else {}
)


class FastApiHarness:
    name = "fastapi"
    route: str | None = "/items/{item}/error"
    lacks: dict[str, str] = {}  # noqa: RUF012
    patched = (
        (FastAPI, "__call__"),
        (Starlette, "__call__"),
        (ExceptionMiddleware, "__call__"),
        (BaseHTTPMiddleware, "__call__"),
    )

    def integrations(self) -> list[Integration]:
        return [FastApiIntegration()]

    def application(self) -> Any:
        return program()

    wrapped = staticmethod(AsgiMiddleware)
    talk = staticmethod(call_asgi)

    def receivers(self) -> object:
        return None


class TestFastApi(HttpContract):
    harness: Harness = FastApiHarness()


class TestFastApiAttachedByItself(HttpContract):
    """Starlette's integration is there too then; middleware of the program hides the answer."""

    class _Harness(FastApiHarness):
        lacks = OLD_MIDDLEWARE

        def application(self) -> Any:
            app = program()

            @app.middleware("http")
            async def passing(request: Request, call_next: Any) -> Any:
                return await call_next(request)

            return app

    harness: Harness = _Harness()

    def observed(self, **options: Any) -> capture:
        return capture(auto_integrations=True, **options)


def test_a_route_of_an_included_router_is_named_with_its_prefix() -> None:
    router = fastapi.APIRouter(prefix="/users")

    @router.get("/{user}")
    def user(user: int) -> float:
        return divide(user)

    app = FastAPI()
    app.include_router(router, prefix="/api")
    mounted = FastAPI()
    mounted.mount("/v1", app)
    with capture(integrations=["fastapi"]) as seen:
        call_asgi(app, "/api/users/7")
        call_asgi(mounted, "/v1/api/users/7")
    assert [event["transaction"] for event in seen.events] == [
        "/api/users/{user}",
        "/v1/api/users/{user}",
    ]
    assert counts(seen) == {"crashed": 2}


def test_an_error_in_a_dependency_is_a_crash_and_a_bad_argument_is_not() -> None:
    app = FastAPI()

    def failing() -> Iterator[int]:
        divide(1)
        yield 1

    @app.get("/depends")
    def depends(value: int = Depends(failing)) -> int:
        return value

    @app.get("/item/{item}")
    def item(item: int) -> int:
        return item

    @app.get("/answer", response_model=int)
    def answer() -> str:
        return "not a number"

    with capture(integrations=["fastapi"]) as seen:
        call_asgi(app, "/depends")
        assert call_asgi(app, "/item/none").status == 422
        call_asgi(app, "/answer")
    assert counts(seen) == {"crashed": 2, "exited": 1}
    assert [event["transaction"] for event in seen.events] == ["/depends", "/answer"]


def test_a_json_body_is_told_when_personal_data_is_allowed() -> None:
    kind = {"Content-Type": "application/json"}
    with capture(integrations=["fastapi"], send_default_pii=True) as seen:
        call_asgi(program(), "/json-fails", headers=kind, body=b'{"price": 7}')
    assert seen.events[0]["request"]["data"] == {"price": 7}


def test_the_mechanism_is_the_frameworks_name() -> None:
    with capture(integrations=["fastapi", "starlette"]) as seen:
        call_asgi(program(), ROUTED)
    mechanism = seen.events[0]["exception"]["values"][-1]["mechanism"]
    assert mechanism["type"] == "fastapi"


def test_an_old_fastapi_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi, "__version__", "0.68.1")
    with pytest.raises(IntegrationError, match=r"fastapi>=0\.110\.1, found 0\.68\.1"):
        capture(integrations=["fastapi"]).__enter__()
