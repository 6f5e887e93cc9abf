"""The examples under real servers: what the local server computes is what was requested."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crashfree.server import LocalServer
from tests.support.site import Site, health
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
    pytest.mark.slow,
]

EXAMPLES = Path(__file__).parents[2] / "examples"
DJANGO = EXAMPLES / "django_project"
PYTHON = sys.executable

AIOHTTP = """
import sys
import crashfree
from aiohttp import web

crashfree.init(release="shop@1.0.0")

@web.middleware
async def remember_user(request, handler):
    if "X-User" in request.headers:
        crashfree.set_user({"id": request.headers["X-User"]})
    return await handler(request)

async def show(request):
    return web.json_response({"item": request.match_info["item"]})

async def basket(request):
    try:
        raise LookupError("the basket is lost")
    except LookupError as error:
        crashfree.capture_exception(error)
    return web.json_response([])

async def pay(request):
    return web.json_response(100 / int(request.match_info["amount"]))

app = web.Application(middlewares=[remember_user])
app.router.add_get("/items/{item}", show)
app.router.add_get("/basket", basket)
app.router.add_get("/pay/{amount}", pay)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
"""

STARLETTE = """
import crashfree
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

crashfree.init(release="shop@1.0.0")

def remember(request):
    if "X-User" in request.headers:
        crashfree.set_user({"id": request.headers["X-User"]})

async def show(request):
    remember(request)
    return JSONResponse(request.path_params)

def basket(request):
    remember(request)
    try:
        raise LookupError("the basket is lost")
    except LookupError as error:
        crashfree.capture_exception(error)
    return JSONResponse([])

def pay(request):
    remember(request)
    return JSONResponse(100 / int(request.path_params["amount"]))

app = Starlette(
    routes=[
        Route("/items/{item}", show), Route("/basket", basket), Route("/pay/{amount}", pay)
    ]
)
"""

# name, modules it needs, command, directory
SITES = [
    ("flask_app.py", ["flask"], [PYTHON, "flask_app.py", "PORT"], EXAMPLES),
    (
        "flask under waitress",
        ["flask", "waitress"],
        [PYTHON, "-m", "waitress", "--listen=127.0.0.1:PORT", "flask_app:app"],
        EXAMPLES,
    ),
    ("fastapi_app.py", ["fastapi", "uvicorn"], [PYTHON, "fastapi_app.py", "PORT"], EXAMPLES),
    (
        "fastapi under uvicorn, two workers",
        ["fastapi", "uvicorn"],
        [PYTHON, "-m", "uvicorn", "--workers=2", "--port=PORT", "fastapi_app:app"],
        EXAMPLES,
    ),
    (
        "django_project by runserver",
        ["django"],
        [PYTHON, "manage.py", "runserver", "--noreload", "PORT"],
        DJANGO,
    ),
    (
        "django_project by runserver with its reloader",
        ["django"],
        [PYTHON, "manage.py", "runserver", "PORT"],
        DJANGO,
    ),
    (
        "django_project under waitress",
        ["django", "waitress"],
        [PYTHON, "-m", "waitress", "--listen=127.0.0.1:PORT", "shop.wsgi:application"],
        DJANGO,
    ),
    (
        "django_project under uvicorn",
        ["django", "uvicorn"],
        [PYTHON, "-m", "uvicorn", "--port=PORT", "shop.asgi:application"],
        DJANGO,
    ),
    ("aiohttp", ["aiohttp"], [PYTHON, "-c", AIOHTTP, "PORT"], EXAMPLES),
    (
        "starlette under uvicorn",
        ["starlette", "uvicorn"],
        [PYTHON, "-m", "uvicorn", "--port=PORT", "starlette_app:app"],
        None,
    ),
]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


@pytest.mark.parametrize(
    ("modules", "command", "cwd"), [site[1:] for site in SITES], ids=[site[0] for site in SITES]
)
def test_a_site_has_the_numbers_of_what_was_requested(
    modules: list[str],
    command: list[str],
    cwd: Path | None,
    server: LocalServer,
    tmp_path: Path,
) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if cwd is None:
        cwd = tmp_path
        (tmp_path / "starlette_app.py").write_text(STARLETTE)
    with Site(command, cwd=cwd, server=server, spool=tmp_path / "spool") as site:
        assert [site.get(f"/items/{item}", user="ada") for item in range(6)] == [200] * 6
        assert site.get("/basket", user="bob") == 200
        assert [site.get("/pay/0", user=user) for user in ("cid", "ada")] == [500, 500]
        assert site.get("/no/such/page") == 404
        said = site.stop(signal.SIGINT if "runserver" in command else signal.SIGTERM)
    expected = {
        "healthy": 7,
        "errored": 1,
        "crashed": 2,
        "users": 3,
        "crash-free": 0.8,
        "releases": ["shop@1.0.0"],
    }
    wait_until(lambda: health(server) == expected, 10, f"{health(server)} is {expected}: {said}")
