"""The index of releases: a row a release and project, with its health over the chosen range.

Threads: handlers run on any thread. Source: sessions.md sections 5.3 to 5.6.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from crashfree.server.endpoint import Call
from crashfree.server.pages.asking import ask
from crashfree.server.pages.layout import chosen
from crashfree.server.pages.site import render, view
from crashfree.server.release_list import list_releases


def show(call: Call) -> Response:
    """Show the releases."""
    choice = chosen(call)
    query = [
        *choice.where,
        ("flatten", "1"),
        ("health", "1"),
        ("adoptionStages", "1"),
        ("query", call.query.get("query", "")),
    ]
    found = ask(call, list_releases, "/api/0/organizations/{organization}/releases/", query=query)
    return render(
        call,
        "releases.html",
        title="Releases",
        choice=choice,
        json_address=found.address,
        releases=found.data,
    )


ROUTES: Final = [view("/releases", GET=show)]
