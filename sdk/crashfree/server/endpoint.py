"""How a handler of the management API is written: a plain function from a call to a response.

    def list_things(call: Call) -> Response:
        with call.store.read() as db:
            return answer([...])

    ROUTES = [api("/api/0/organizations/{organization}/things/", GET=list_things)]

Handlers run in a thread, so they may wait for the database; the body is read, bounded, before.
Authentication, the Host check and the last resort for unforeseen errors are the application's.

Threads: handlers run on any thread of the pool. Source: releases.md sections 4.1 and 4.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crashfree._ground import json
from crashfree._ground.clock import Clock
from crashfree._protocol.limits import MIB
from crashfree._protocol.timestamps import rfc3339
from crashfree.server.context import Context, context
from crashfree.server.store import Project, Store

_DETAILS: Final = {
    400: "Bad request",
    401: "Authentication credentials were not provided.",
    403: "You do not have permission to perform this action.",
    404: "The requested resource does not exist",
    405: "Method not allowed",
    409: "Conflict",
    413: "The request body is too large",
}
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH")


class Problem(Exception):
    """An answer that is an error.

    `body` None is Sentry's standard `{"detail": …}` of the status, text is that detail, anything
    else is sent as it is.
    """

    status: int
    body: object
    headers: Mapping[str, str]

    def __init__(
        self, status: int, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, body)
        self.status = status
        if body is None:
            body = _DETAILS.get(status, "Error")
        self.body = {"detail": body} if isinstance(body, str) else body
        self.headers = headers or {}

    def response(self) -> Response:
        """Return it as a response."""
        return answer(self.body, self.status, headers=self.headers)


def answer(
    data: object = None, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response; 204 and 205 have no body."""
    if status in (204, 205):
        return Response(status_code=status, headers=dict(headers or {}))
    return Response(
        json.encode(data),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/json",
    )


def download(data: bytes, name: str) -> Response:
    """Return a file as something that a browser saves and never shows."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name.rpartition("/")[2]) or "file"
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{plain[:100]}"'},
    )


def iso(seconds: float | None) -> str | None:
    """Return an instant as the API writes it; None stays None."""
    return None if seconds is None else rfc3339(seconds)


class Call(NamedTuple):
    """One request to the management API."""

    request: Request
    path: Mapping[str, str]
    query: QueryParams
    headers: Headers
    body: bytes
    context: Context
    now: float
    project: Project
    """The project the path names; without one in the path, reading it is a mistake."""

    @property
    def store(self) -> Store:
        return self.context.store

    @property
    def clock(self) -> Clock:
        return self.context.clock

    @property
    def base_url(self) -> str:
        """Scheme, host and port as the caller used them."""
        return str(self.request.base_url).rstrip("/")

    def json(self) -> Any:
        """Return the decoded body; Problem(400) when it is no JSON."""
        try:
            return json.decode(self.body)
        except ValueError as error:
            raise Problem(400, f"JSON parse error - {error}") from None

    def json_object(self) -> dict[str, Any]:
        """Return the decoded body; Problem(400) when it is no JSON object."""
        value = self.json()
        if not isinstance(value, dict):
            raise Problem(400, {"non_field_errors": ["Invalid data. Expected a dictionary."]})
        return cast("dict[str, Any]", value)


Handler = Callable[[Call], Response]


def api(
    path: str,
    *,
    max_body: int = 32 * MIB,
    GET: Handler | None = None,
    POST: Handler | None = None,
    PUT: Handler | None = None,
    DELETE: Handler | None = None,
    PATCH: Handler | None = None,
) -> Route:
    """Make a route; the slash at the end of a path is optional for callers.

    `{organization}` in the path must be the server's, else 404; `{project}` is a slug or an id and
    becomes `call.project`.
    """
    given = (GET, POST, PUT, DELETE, PATCH)
    handlers = {
        name: handler for name, handler in zip(_METHODS, given, strict=True) if handler is not None
    }
    allowed = ", ".join([*handlers, "OPTIONS"])

    async def serve(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        if method == "OPTIONS":
            return Response(headers={"Allow": allowed})
        handler = handlers.get(method)
        if handler is None:
            return Problem(
                405, f'Method "{method}" not allowed.', headers={"Allow": allowed}
            ).response()
        try:
            body = b"" if method == "GET" else await read_body(request, max_body)
            return await run_in_threadpool(_run, handler, request, body)
        except Problem as problem:
            return problem.response()

    route = Route(path.rstrip("/"), serve, methods=[*_METHODS, "HEAD", "OPTIONS"])
    # For the description of the API, which is built from the routes.
    serve.__dict__["handlers"] = handlers
    serve.__dict__["path"] = path
    return route


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request; Problem(413) when it is longer than `limit`."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise Problem(413)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Problem(413)
        parts.append(part)
    return b"".join(parts)


def _run(handler: Handler, request: Request, body: bytes) -> Response:
    return handler(call_of(request, body))


def call_of(request: Request, body: bytes = b"") -> Call:
    """Return a request as handlers see it; Problem(404) when its path names what is not ours."""
    where = context(request)
    path = cast("Mapping[str, str]", request.path_params)
    if "organization" in path and path["organization"] != where.organization:
        raise Problem(404)
    project = find_project(where.store, path["project"]) if "project" in path else NO_PROJECT
    return Call(
        request,
        path,
        request.query_params,
        request.headers,
        body,
        where,
        where.clock.time(),
        project,
    )


NO_PROJECT: Final = Project(0, "", "", None, False, 0.0)


def find_project(store: Store, name: str) -> Project:
    """Return a project by slug or id; Problem(404) when there is none."""
    with store.read() as db:
        for project in store.projects(db):
            if name in (project.slug, str(project.id)):
                return project
    raise Problem(404)


class Cursor(NamedTuple):
    """Where a page starts."""

    per_page: int
    number: int

    @property
    def offset(self) -> int:
        return self.per_page * self.number


def cursor_of(call: Call, *, default: int = 100, most: int = 100) -> Cursor:
    """Read `per_page` and `cursor`; Problem(400) in Sentry's words when they are wrong."""
    text = call.query.get("per_page", str(default))
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise Problem(400, "Invalid per_page parameter.")
    per_page = int(text)
    if per_page > most:
        raise Problem(400, f"Invalid per_page value. Cannot exceed {most}.")
    cursor = call.query.get("cursor")
    if not cursor:
        return Cursor(per_page, 0)
    parts = cursor.split(":")
    try:
        _, number, backwards = int(float(parts[0])), int(parts[1]), int(parts[2])
    except (ValueError, IndexError, OverflowError):
        raise Problem(400, "Invalid cursor parameter.") from None
    if len(parts) != 3 or backwards not in (0, 1):
        raise Problem(400, "Invalid cursor parameter.")
    if number < 0:
        raise Problem(400, "Pagination offset cannot be negative")
    return Cursor(per_page, number)


def page(call: Call, rows: Sequence[object], *, default: int = 100, most: int = 100) -> Response:
    """Return one page of `rows` (all of them are given) with Sentry's Link header."""
    cursor = cursor_of(call, default=default, most=most)
    start = cursor.offset
    shown = list(rows[start : start + cursor.per_page])
    more = len(rows) > start + cursor.per_page
    return answer(shown, headers={"Link": link(call, cursor, more=more)})


def link(call: Call, cursor: Cursor, *, more: bool) -> str:
    """Return the Link header of a page."""
    parts: list[str] = []
    # The path as it was decoded; a header takes neither what is not Latin-1 nor a line's end.
    path = quote(call.request.url.path, safe="/@:+,;=!$&'()*~")
    for name, number, backwards, results in (
        ("previous", cursor.number - 1, 1, cursor.number > 0),
        ("next", cursor.number + 1, 0, more),
    ):
        text = f"{cursor.per_page}:{number}:{backwards}"
        query = [(key, value) for key, value in call.query.multi_items() if key != "cursor"]
        url = f"{call.base_url}{path}?{urlencode([*query, ('cursor', text)])}"
        flag = "true" if results else "false"
        parts.append(f'<{url}>; rel="{name}"; results="{flag}"; cursor="{text}"')
    return ", ".join(parts)
