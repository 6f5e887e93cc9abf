"""Templates, and how a view becomes an answer.

    def show(call: Call) -> Response:
        return render(call, "things.html", title="Things", things=…)

    ROUTES = [view("/things", GET=show)]

A view is shown to whoever came through the door; anyone else gets the door. A Problem becomes a
page that says what is wrong. Templates escape everything that is not Markup, and nothing in a page
may bring script or style of its own: the application's Content-Security-Policy forbids both.

Threads: handlers run on any thread; the environment is made once and only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from crashfree._version import __version__
from crashfree.server.context import context
from crashfree.server.endpoint import Call, Handler, Problem, call_of, read_body
from crashfree.server.pages import assets, door, figures, sparks
from crashfree.server.pages.layout import NAVIGATION, PERIODS

_FORM: Final = 1024 * 1024
"""The largest form."""
_WORDS: Final = {
    400: "That question cannot be answered",
    401: "Come in",
    403: "This is not allowed",
    404: "There is no such page",
    405: "This cannot be done here",
    413: "That is too much",
}


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("crashfree.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    given = cast("dict[str, Any]", made.globals)
    given.update(
        NO_DATA=figures.NO_DATA, navigation=NAVIGATION, periods=PERIODS, asset=assets.address
    )
    filters: Any = made.filters
    filters.update(
        percent=figures.percent,
        share=figures.share,
        spark=sparks.spark,
        points=figures.points,
        number=figures.number,
        short_number=figures.short_number,
        duration=figures.duration,
        size=figures.size,
        instant=figures.instant,
        short_version=figures.short_version,
        breakable=figures.breakable,
    )
    return made


_TEMPLATES: Final = _environment()


def render(call: Call, template: str, *, title: str, status: int = 200, **values: Any) -> Response:
    """Return a page. `choice` in the values (`layout.Chosen`) shows the chooser."""
    return _rendered(call.request, template, status, {"title": title, **values})


def _rendered(request: Request, template: str, status: int, values: Mapping[str, Any]) -> Response:
    given = {
        "path": request.url.path,
        "version": __version__,
        "organization": context(request).organization,
        "choice": None,
        "json_address": None,
        "section": "",
        "seen": getattr(request.state, "seen", ""),
        **values,
    }
    text = _TEMPLATES.get_template(template).render(given)
    return Response(
        # A client's JSON may hold half a surrogate pair, which is no character.
        text.encode("utf-8", "replace"),
        status,
        {"Cache-Control": "no-store"},
        "text/html; charset=utf-8",
    )


def view(path: str, *, GET: Handler | None = None, POST: Handler | None = None) -> Route:
    """Make the route of a view. A POST comes from a form of ours, and answers with a redirect."""
    handlers = {"GET": GET, "POST": POST}

    async def serve(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        refusal = _at_the_door(request, method)
        if refusal is not None:
            return refusal
        handler = handlers.get(method)
        try:
            if handler is None:
                raise Problem(405)
            body = b"" if method == "GET" else await read_body(request, _FORM)
            return await run_in_threadpool(_run, handler, request, body)
        except Problem as problem:
            return await run_in_threadpool(problem_page, request, problem)

    return Route(path, serve, methods=["GET", "HEAD", "POST"])


def _run(handler: Handler, request: Request, body: bytes) -> Response:
    # Before anything is read: what is written meanwhile makes this view an old one.
    request.state.seen = context(request).store.version()
    return handler(call_of(request, body))


def _at_the_door(request: Request, method: str) -> Response | None:
    token = context(request).token
    shown = request.query_params.get(door.TOKEN) if method == "GET" else None
    if shown is not None and door.fits(shown, token):
        return door.welcome(request, token)
    if shown is None and door.is_open(request, token):
        return None
    values = {"title": _WORDS[401], "wrong": shown is not None}
    return _rendered(request, "door.html", 401 if method == "GET" else 403, values)


def problem_page(request: Request, problem: Problem) -> Response:
    """Return a page that says what is wrong."""
    said: object = problem.body
    detail = cast("Mapping[str, object]", said).get("detail") if isinstance(said, dict) else said
    values = {
        "title": _WORDS.get(problem.status, "Something went wrong"),
        "status": problem.status,
        "detail": detail if isinstance(detail, str) else "",
    }
    return _rendered(request, "problem.html", problem.status, values)


def _home(call: Call) -> Response:
    return RedirectResponse("/releases", 303)


async def _nowhere(request: Request) -> Response:
    problem = Problem(404)
    # A program that asks for something that is not there is no reader of pages.
    if "text/html" not in request.headers.get("accept", ""):
        return problem.response()
    return await run_in_threadpool(problem_page, request, problem)


ROUTES: Final = [view("/", GET=_home)]
NOWHERE: Final = Route(
    "/{rest:path}", _nowhere, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
)
"""Every other address; the last of all routes."""
