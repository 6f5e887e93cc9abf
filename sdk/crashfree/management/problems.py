"""The answers of a server that is not content, as sentences: which field, what is wrong with it.

Pure; threads: any. Source: releases.md sections 4.1 and 5.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from crashfree._ground import json
from crashfree.errors import ApiError
from crashfree.management.payloads import mapping, text

_MAX_SENTENCES = 12
_REASONS = {
    401: "the server does not accept the token",
    403: "the token may not do this",
    404: "not found",
    408: "the server gave up waiting",
    413: "the request is too large",
    429: "too many requests",
    500: "the server failed",
    502: "bad gateway",
    503: "the server is busy",
    504: "gateway timeout",
    507: "the server has no room",
    524: "the server took too long",
}


class NotJson(ApiError):
    """A success whose body is not the JSON that was due: a proxy or a login page answered."""


def error_of(status: int, body: bytes) -> ApiError:
    """Return the error that an answer means; its detail is in the server's own words."""
    value = _decoded(body)
    renamed = renamed_project(value) if 300 <= status < 400 else None
    sentences = [f"the project was renamed to {renamed!r}"] if renamed else list(_sentences(value))
    if not sentences:
        sentences = [_REASONS.get(status, f"the server answered {status}")]
    if len(sentences) > _MAX_SENTENCES:
        left = len(sentences) - _MAX_SENTENCES
        sentences = [*sentences[:_MAX_SENTENCES], f"and {left} more"]
    return ApiError(status, "; ".join(sentences), body=value)


def renamed_project(value: object) -> str | None:
    """Return the new slug when a 302 says that the project was renamed."""
    payload = mapping(value)
    return text(payload, "slug") or text(
        mapping(mapping(payload.get("detail")).get("extra")), "slug"
    )


def _decoded(body: bytes) -> object:
    if not body:
        return None
    try:
        return json.decode(body)
    except (ValueError, RecursionError):
        return None  # HTML of a proxy: nothing for a person to read


def _sentences(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        return
    payload = mapping(value)
    detail = payload.get("detail")
    if isinstance(detail, str) and detail:
        yield detail
        return
    message = text(mapping(detail), "message")
    if message:
        yield message
        return
    error = payload.get("error")
    if isinstance(error, str) and error:
        yield error
        return
    yield from _fields("", {key: entry for key, entry in payload.items() if key != "errorId"})


def _fields(path: str, value: object) -> Iterator[str]:
    """Walk nested field errors: `commits[3].patch_set[0].path: too long`."""
    if isinstance(value, str):
        yield f"{path}: {value}" if path else value
    elif isinstance(value, list):
        for entry in cast("list[object]", value):
            yield from _fields(path, entry)
    elif isinstance(value, Mapping):
        for key, entry in cast("Mapping[str, object]", value).items():
            yield from _fields(_joined(path, key), entry)


def _joined(path: str, key: str) -> str:
    if key in ("non_field_errors", "nonFieldErrors"):
        return path
    if key.isdecimal():
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
