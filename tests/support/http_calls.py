"""Calling WSGI and ASGI applications in this process, the way servers do."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from tests.support.http_contract import SLOW, Talk


def call_wsgi(
    application: Any,
    path: str,
    *,
    gone: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Talk:
    """Serve one request under the eyes of `wsgiref.validate`."""
    route, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "PATH_INFO": route,
        "QUERY_STRING": query,
        "REQUEST_METHOD": "POST" if body else "GET",
        "REMOTE_ADDR": "192.0.2.1",
    }
    setup_testing_defaults(environ)
    environ["SCRIPT_NAME"] = ""
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    environ["wsgi.input"] = io.BytesIO(body)
    environ["wsgi.errors"] = io.StringIO()
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    statuses: list[int] = []

    def start_response(status: str, given: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        statuses.append(int(status[:3]))
        return lambda data: None

    received: list[bytes] = []
    escaped: BaseException | None = None
    try:
        answer = validator(application)(environ, start_response)
        try:
            for part in answer:
                received.append(part)
                if gone and len(received) > 2:
                    break
        finally:
            answer.close()  # type: ignore[attr-defined]
    except Exception as error:
        escaped = error
    return Talk(statuses[-1] if statuses else None, b"".join(received), escaped)


def call_asgi(
    application: Any,
    path: str,
    *,
    gone: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Talk:
    """Serve one connection on a loop of its own."""
    return asyncio.run(serve(application, path, gone, headers or {}, body))


async def serve(
    application: Any,
    path: str,
    gone: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    body: bytes = b"",
) -> Talk:
    """Serve one connection on this loop."""
    websocket = path.startswith("ws:")
    route, _, query = path.removeprefix("ws:").partition("?")
    scope: dict[str, Any] = {
        "type": "websocket" if websocket else "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST" if body else "GET",
        "scheme": "ws" if websocket else "http",
        "path": route,
        "raw_path": route.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"testserver"),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("192.0.2.1", 4711),
        "server": ("testserver", 80),
        "state": {},
        "subprotocols": [],
    }
    incoming = (
        [{"type": "websocket.connect"}]
        if websocket
        else [{"type": "http.request", "body": body, "more_body": False}]
    )
    if websocket and not gone:
        incoming.append({"type": "websocket.receive", "text": "hello"})
    left = asyncio.Event()
    statuses: list[int] = []
    received: list[bytes] = []

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        if not websocket:
            await left.wait()
            return {"type": "http.disconnect"}
        return {"type": "websocket.disconnect", "code": 1001}

    async def send(message: Any) -> None:
        if left.is_set():
            raise OSError("the client is not there any more")
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif message["type"] == "http.response.body":
            received.append(message.get("body", b""))
            if gone and len(received) > 2:
                if gone == "cancel":
                    task.cancel()
                else:
                    left.set()
        await asyncio.sleep(0)

    task = asyncio.ensure_future(application(scope, receive, send))
    escaped: BaseException | None = None
    try:
        await asyncio.wait_for(_settled(task), SLOW)
    except (Exception, asyncio.CancelledError) as error:
        escaped = error
    return Talk(statuses[-1] if statuses else None, b"".join(received), escaped)


async def _settled(task: Awaitable[None]) -> None:
    await task
