"""Style sheet and scripts, from this package and the plotting library; nothing is ever asked of
another machine.

An asset's address carries a mark of its content, so that browsers keep it as long as it is true.

Threads: any.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crashfree.server.endpoint import Problem
from crashfree.server.pages.drawing import Bundle, edition

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_KEEP: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_ASK_AGAIN: Final = {"Cache-Control": "no-cache"}


class _Asset(NamedTuple):
    data: bytes
    mark: str
    media_type: str


def _load() -> dict[str, _Asset]:
    found: dict[str, _Asset] = {}
    for each in files("crashfree.server").joinpath("static").iterdir():
        media_type = _TYPES.get(each.name.rpartition(".")[2])
        if media_type is not None:
            data = each.read_bytes()
            found[each.name] = _Asset(data, hashlib.sha256(data).hexdigest()[:12], media_type)
    return found


_ASSETS: Final = _load()


_VEGA: Final = "vega.js"
_VEGA_EDITION: Final = edition()
_BUNDLE: Final = Bundle()


def address(name: str) -> str:
    """Return the address of an asset."""
    mark = _VEGA_EDITION if name == _VEGA else _ASSETS[name].mark
    return f"/static/{name}?v={mark}"


async def _serve(request: Request) -> Response:
    name = request.path_params["name"]
    try:
        asset = await run_in_threadpool(_vega) if name == _VEGA else _ASSETS.get(name)
    except Problem as problem:
        return problem.response()
    if asset is None:
        return Problem(404).response()
    kept = request.query_params.get("v") == asset.mark
    return Response(asset.data, 200, _KEEP if kept else _ASK_AGAIN, asset.media_type)


def _vega() -> _Asset:
    return _Asset(_BUNDLE.get(), _VEGA_EDITION, _TYPES["js"])


ROUTES: Final = [Route("/static/{name}", _serve, methods=["GET", "HEAD"])]
