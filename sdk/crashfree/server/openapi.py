"""The description of the management API, made from its own routes.

Paths, methods, summaries and request bodies come from what serves them: a route's handlers, their
docstrings and the shapes they check with. So the description cannot name what is not there.

Threads: handlers run on any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from crashfree._version import __version__
from crashfree.server.endpoint import Call, Handler, answer, api
from crashfree.server.fields import Object

PATH: Final = "/api/0/openapi.json"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_SUCCESS: Final = {"POST": "201", "DELETE": "204"}
_PARAMETERS: Final = {
    "organization": "Slug of the organization.",
    "project": "Slug or number of the project.",
    "version": "Name of the release.",
    "issue": "Number or short id of the issue.",
    "event": "Id of the event.",
    "attachment": "Number of the attachment.",
    "file": "Number of the file, or the id of a file in a bundle.",
    "repository": "Number of the repository.",
    "member": "Number of the member.",
    "filter": "Name of the inbound filter.",
    "key": "The public key.",
}


Bodies = Mapping[tuple[str, str], Object]
"""The shapes that request bodies are checked with, by method and path."""
Queries = Mapping[tuple[str, str], Mapping[str, str]]
"""What the parameters of a query mean, by method and path."""


def route(routes: Sequence[BaseRoute], bodies: Bodies, queries: Queries) -> Route:
    """Return the route of the description of `routes`, itself included."""
    listed: list[BaseRoute] = list(routes)

    def get_openapi(call: Call) -> Response:
        """Return this description."""
        return answer(describe(listed, bodies, queries, server=call.base_url))

    own = api(PATH, GET=get_openapi)
    listed.append(own)
    return own


def described(routes: Sequence[BaseRoute]) -> dict[str, Mapping[str, Handler]]:
    """Return the handlers of each path, by method."""
    found: dict[str, Mapping[str, Handler]] = {}
    for each in routes:
        endpoint = cast("Callable[..., Any] | None", getattr(each, "endpoint", None))
        handlers = getattr(endpoint, "handlers", None)
        if handlers is not None:
            found[str(getattr(endpoint, "path", ""))] = handlers
    return found


def describe(
    routes: Sequence[BaseRoute],
    bodies: Bodies,
    queries: Queries,
    *,
    server: str = "http://127.0.0.1",
) -> dict[str, Any]:
    """Return the description as OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for path, handlers in described(routes).items():
        entry = paths.setdefault(path, {})
        names = _PARAMETER.findall(path)
        if names:
            entry["parameters"] = [_parameter(name) for name in names]
        for method, handler in handlers.items():
            entry[method.lower()] = _operation(
                method, path, handler, bodies.get((method, path)), queries.get((method, path), {})
            )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "crashfree",
            "version": __version__,
            "description": "The management API of the local release-health server, as Sentry's.",
        },
        "servers": [{"url": server}],
        "security": [{"token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Detail": {
                    "type": "object",
                    "properties": {"detail": {"type": ["string", "object"]}},
                    "required": ["detail"],
                },
                "FieldErrors": {
                    "type": "object",
                    "description": "Texts by field; lists nest by index.",
                    "additionalProperties": {"type": ["array", "object", "string"]},
                },
            },
            "responses": {
                "Unauthorized": _error("The token is missing or wrong.", "Detail"),
                "NotFound": _error("There is no such thing.", "Detail"),
                "Invalid": _error("The request is not well formed.", "FieldErrors"),
            },
        },
    }


def _error(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": _PARAMETERS.get(name, name),
        "schema": {"type": "string"},
    }


def _operation(
    method: str, path: str, handler: Handler, body: Object | None, query: Mapping[str, str]
) -> dict[str, Any]:
    text = (handler.__doc__ or "").strip()
    success = _SUCCESS.get(method, "200")
    found: dict[str, Any] = {
        "operationId": _operation_id(path, handler.__name__),
        "summary": text.partition("\n")[0].rstrip("."),
        "responses": {
            success: {"description": "Done."},
            "400": {"$ref": "#/components/responses/Invalid"},
            "401": {"$ref": "#/components/responses/Unauthorized"},
        },
    }
    if _PARAMETER.search(path):
        found["responses"]["404"] = {"$ref": "#/components/responses/NotFound"}
    if query:
        found["parameters"] = [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in query.items()
        ]
    if body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body.schema()}},
        }
    return found


def _operation_id(path: str, name: str) -> str:
    """One handler may serve several paths, an operation id only one."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path) if word not in ("", "api", "0")]
    return "_".join([name, *words])
