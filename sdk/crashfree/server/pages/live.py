"""Whether anything was written since a view was made: a short answer to a short question.

    GET /live   If-None-Match: "what the view was made from"   →   304, or 204 with a new ETag

An open view asks this every other second and fetches itself again after a 204. There is nothing to
keep for it: no connection stays open, so that a server stops at once, and a view that is hidden
does not ask.

Threads: handlers run on any thread.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from crashfree.server.endpoint import Call
from crashfree.server.pages.site import view


def show(call: Call) -> Response:
    """Answer whether the data is still what it was."""
    etag = f'"{call.store.version()}"'
    known = {each.strip() for each in call.headers.get("if-none-match", "").split(",")}
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    return Response(status_code=304 if etag in known else 204, headers=headers)


ROUTES: Final = [view("/live", GET=show)]
