"""A view's questions to the API: the same handlers, called in this process.

    asked = Asked(call)
    releases = asked.get(list_releases, "releases/", query=[("health", "1")])
    releases.data, releases.address, releases.more

What comes back is what the API would have sent, and `address` is where it sends it.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams
from starlette.responses import Response

from crashfree._ground import json
from crashfree.server.endpoint import NO_PROJECT, Call, Handler, Problem, find_project

Query = Sequence[tuple[str, str]]
_GET: Final = "GET"


class Answer(NamedTuple):
    """What the API answered."""

    data: Any
    address: str
    """Where the API says the same."""
    more: bool
    """Whether there is a next page."""


def ask(call: Call, handler: Handler, path: str, *, query: Query = (), **names: str) -> Answer:
    """Ask a handler of the API.

    `path` is the API's path with `{names}`, which `names` fill in; `{organization}` is ours.
    Raises Problem for anything but a success.
    """
    response = handler(_inner(call, _where(call, names), query))
    data = json.decode(bytes(response.body)) if response.body else None
    if response.status_code >= 400:
        raise Problem(response.status_code, data)
    return Answer(data, address_of(call, path, query, **names), _has_next(response))


def address_of(call: Call, path: str, query: Query = (), **names: str) -> str:
    """Return where the API answers a question."""
    where = {name: quote(value, safe="") for name, value in _where(call, names).items()}
    return path.format_map(where) + (f"?{urlencode(query)}" if query else "")


def _where(call: Call, names: Mapping[str, str]) -> dict[str, str]:
    return {"organization": call.context.organization, **names}


def _inner(call: Call, names: Mapping[str, str], query: Query) -> Call:
    project = find_project(call.store, names["project"]) if "project" in names else NO_PROJECT
    return call._replace(path=names, query=QueryParams(list(query)), body=b"", project=project)


def _has_next(response: Response) -> bool:
    return 'rel="next"; results="true"' in response.headers.get("link", "")
