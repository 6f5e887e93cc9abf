"""What a form of the page does: a writing call to the API's own handlers, then back to the view.

    act(call, update_issue, {"status": "resolved"}, issue="7")
    return back(call, said="resolved")

Whether a form may write is not decided here: the door wants its cookie, and the application wants
the request to come from one of our own pages.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import QueryParams
from starlette.responses import RedirectResponse, Response

from crashfree._ground import json
from crashfree.server.endpoint import NO_PROJECT, Call, Handler, Problem, find_project

SAID: Final = "said"
"""The parameter that tells a view what was just done; each view has its own words for it."""
_MOST_FIELDS: Final = 200


class Form:
    """The fields of a form as it was sent; a name may stand there more than once."""

    __slots__ = ("_fields",)
    _fields: dict[str, list[str]]

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = dict(fields)

    def text(self, name: str) -> str:
        """Return a field without blanks around it; empty when it is not there."""
        return self._fields.get(name, [""])[-1].strip()

    def texts(self, name: str) -> list[str]:
        """Return every value of a field."""
        return self._fields.get(name, [])

    def ticked(self, name: str) -> bool:
        """Return whether a box is ticked."""
        return name in self._fields


def form(call: Call) -> Form:
    """Read the form that a request brings; Problem(400) when it is none."""
    try:
        pairs = parse_qsl(
            call.body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise Problem(400, "this form cannot be read") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return Form(fields)


def act(call: Call, handler: Handler, body: object = None, **names: str) -> Any:
    """Call a writing handler of the API and return what it answers; Problem when it refuses."""
    where = {"organization": call.context.organization, **names}
    project = find_project(call.store, names["project"]) if "project" in names else NO_PROJECT
    response = handler(
        call._replace(
            path=where,
            query=QueryParams(),
            body=b"" if body is None else json.encode(body),
            project=project,
        )
    )
    data = json.decode(bytes(response.body)) if response.body else None
    if response.status_code >= 400:
        raise Problem(response.status_code, data)
    return data


def back(call: Call, path: str | None = None, *, said: str = "", anchor: str = "") -> Response:
    """Go back to a view (that which the form stands in), which may say what was done."""
    query = [pair for pair in call.query.multi_items() if pair[0] != SAID]
    if said:
        query.append((SAID, said))
    address = "/" + (path or call.request.url.path).lstrip("/")
    tail = (f"?{urlencode(query)}" if query else "") + (f"#{anchor}" if anchor else "")
    return RedirectResponse(address + tail, 303)


def reason(problem: Problem) -> str:
    """Return in one line why the API refused something."""
    found: list[str] = []
    _collect(problem.body, found)
    return " ".join(found) or "This cannot be done."


def _collect(body: object, found: list[str]) -> None:
    if isinstance(body, str):
        found.append(body)
    elif isinstance(body, Mapping):
        for each in body.values():  # pyright: ignore[reportUnknownVariableType]
            _collect(each, found)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(body, list):
        for each in body:  # pyright: ignore[reportUnknownVariableType]
            _collect(each, found)  # pyright: ignore[reportUnknownArgumentType]
