"""The application: which request goes where, and what guards every one of them.

Ingest paths go straight to `Intake`, because they are many; everything else goes through
Starlette's routes behind three checks: the Host header (against DNS rebinding), the token of the
management API, and headers that let nothing run in a page.

Threads: the event loop's. Source: ingest.md sections 2.1 and 2.4; releases.md section 4.1.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router
from starlette.types import Receive, Scope, Send

from crashfree.server import (
    catalog_api,
    documents_api,
    openapi,
    outcomes,
    projects_api,
    sessions_api,
)
from crashfree.server.context import Context
from crashfree.server.endpoint import Problem, answer
from crashfree.server.intake import Intake
from crashfree.server.pages import door
from crashfree.server.pages import routes as pages
from crashfree.server.projects import Projects
from crashfree.server.trouble import Troubles

API: Final = "/api/0/"
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_GUARDS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not "no-referrer": browsers would call the origin of our own forms "null" then.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_MOST_HEADERS: Final = 100
_LONGEST_TARGET: Final = 8 * 1024
_READING: Final = frozenset(("GET", "HEAD", "OPTIONS"))


class App:
    """The ASGI application of one server."""

    intake: Intake
    state: State
    """What handlers find by `request.app.state`."""
    _context: Context
    _router: Router
    _troubles: Troubles

    def __init__(
        self,
        context: Context,
        projects: Projects,
        routes: Sequence[BaseRoute],
        *,
        reset: Callable[[Any], None] = lambda scope: None,
    ) -> None:
        self._context = context
        self._troubles = Troubles()
        self.intake = Intake(context, projects, self._troubles, reset=reset)
        # Routes without Starlette's application around them: its own handling of errors would
        # answer before ours does. The path is matched without its final slash, see `_dispatch`.
        self._router = Router([*routes], redirect_slashes=False)
        self.state = State({"context": context})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if _head_fault(scope):
                await Problem(431, "the head of the request is too large").response()(
                    scope, receive, send
                )
            elif self.intake.owns(scope["path"]):
                await self.intake(scope, receive, send)
            else:
                await self._guarded(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def guarding(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), *_missing(message)]
            await send(message)

        try:
            refusal = self._refusal(Request(scope))
            if refusal is not None:
                await refusal(scope, receive, guarding)
                return
            await self._dispatch(scope, receive, guarding)
        except Exception as error:
            number = self._troubles.note(error, scope["path"])
            if begun:
                raise
            body = {"detail": "Internal Error", "errorId": number}
            await answer(body, 500)(scope, receive, guarding)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        scope = {**scope, "app": self, "path": path.rstrip("/") or "/"}
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            problem = Problem(error.status_code, error.detail, headers=error.headers)
            await problem.response()(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that may not pass; None when it may."""
        if not self._host_fits(request.headers.get("host", "")):
            return Problem(
                400, "this Host is not ours; see the option that names further hosts"
            ).response()
        path = request.scope["path"]
        if path == API.rstrip("/") or path.startswith(API):
            return self._token_fault(request)
        if request.method not in _READING and not _same_site(request):
            return Problem(403, "cross-site request").response()
        return None

    def _host_fits(self, host: str) -> bool:
        name = host.strip()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        name = name.lower().rstrip(".")
        if name == "localhost" or name in self._context.settings.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _token_fault(self, request: Request) -> Response | None:
        authorization = request.headers.get("authorization")
        if authorization is None:
            # A page links to the answers behind it; what it may do itself goes through its forms.
            reading = request.method in _READING and _same_site(request)
            if reading and door.is_open(request, self._context.token):
                return None
            return Problem(401).response()
        words = authorization.split()
        if not words or words[0].lower() not in ("bearer", "token"):
            return Problem(401).response()
        if len(words) == 1:
            return Problem(401, "Invalid token header. No credentials provided.").response()
        if len(words) > 2:
            return Problem(
                401, "Invalid token header. Token string should not contain spaces."
            ).response()
        given, known = words[1].encode("utf-8", "replace"), self._context.token.encode()
        if not hmac.compare_digest(given, known):
            return Problem(401, "Invalid token").response()
        return None


def _head_fault(scope: Scope) -> bool:
    """Return whether a request has too many headers or too long an address."""
    return (
        len(scope["headers"]) > _MOST_HEADERS
        or len(scope["raw_path"]) + len(scope["query_string"]) > _LONGEST_TARGET
    )


def _missing(message: Any) -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in message.get("headers", ())}
    return [(name, value) for name, value in _GUARDS if name not in present]


def _same_site(request: Request) -> bool:
    """Return whether a writing request comes from one of our own pages."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin == str(request.base_url).rstrip("/")


def routes() -> list[BaseRoute]:
    """Return every route but the ingest paths."""
    listed = [
        *sessions_api.ROUTES,
        *outcomes.ROUTES,
        *projects_api.ROUTES,
        *documents_api.ROUTES,
        *catalog_api.ROUTES,
    ]
    described = openapi.route(listed, catalog_api.BODIES, catalog_api.QUERIES)
    return [*listed, described, *pages.ROUTES]
