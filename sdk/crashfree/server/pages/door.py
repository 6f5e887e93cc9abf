"""Who may look at the pages: a browser that has shown the token once.

    http://127.0.0.1:8787/?token=...   sets a cookie and goes on to the same address without it

The cookie proves that its owner knew the token without telling it: cookies go to every port of a
host, so another server of the same machine may see it. It is HttpOnly and SameSite=Strict; writing
needs a request of our own pages as well, which the application checks for all but the API.

Threads: any. Source: releases.md section 4.1.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

_COOKIE: Final = "crashfree"
_LASTS: Final = 90 * 86_400
TOKEN: Final = "token"
"""The parameter that brings the token."""


def is_open(request: Request, token: str) -> bool:
    """Return whether a browser has shown the server's token."""
    shown = request.cookies.get(_name(request), "")
    return hmac.compare_digest(shown.encode("utf-8", "replace"), _proof(token).encode())


def fits(shown: str, token: str) -> bool:
    """Return whether what was shown is the server's token."""
    return hmac.compare_digest(shown.strip().encode("utf-8", "replace"), token.encode())


def welcome(request: Request, token: str) -> Response:
    """Let a browser in, and send it on to where it came without the token."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != TOKEN]
    # Not the router's path, which may have been changed on the way here; never another host's.
    path = "/" + request.url.path.lstrip("/")
    response = RedirectResponse(path + (f"?{urlencode(query)}" if query else ""), 303)
    response.set_cookie(
        _name(request),
        _proof(token),
        max_age=_LASTS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def _name(request: Request) -> str:
    # Several servers of one machine share a host, and with it their cookies.
    return f"{_COOKIE}-{request.url.port or 80}"


def _proof(token: str) -> str:
    return hmac.new(token.encode(), b"page", hashlib.sha256).hexdigest()
