"""One event as a reader sees it: errors and their stacks, breadcrumbs, tags, request, contexts.

Whatever an odd payload holds, reading it raises nothing; every list and text is bounded, so that
one event cannot fill a browser.

Pure; any thread. Source: wire.md (event payload), releases.md section 6.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

from crashfree._ground import json
from crashfree._protocol.timestamps import parse_timestamp
from crashfree.server.frames import (
    as_list,
    as_mapping,
    as_text,
    event_frames,
    exceptions,
    frames_of,
    interface_values,
    pairs,
)
from crashfree.server.ownership import event_tags

_MOST_FRAMES: Final = 250
_MOST_ERRORS: Final = 20
_MOST_CRUMBS: Final = 200
_MOST_ENTRIES: Final = 100
_MOST_LINES: Final = 20
_LONGEST_LINE: Final = 400
_LONGEST_TEXT: Final = 4_000
_LONGEST_NAME: Final = 400
_LEVELS: Final = ("fatal", "error", "warning", "info", "debug")

Pairs = tuple[tuple[str, str], ...]


class Line(NamedTuple):
    """One line of source."""

    number: int | None
    text: str
    current: bool


class Frame(NamedTuple):
    """One call of a stack."""

    function: str
    place: str
    """The file as the client named it, or the module."""
    line: int | None
    in_app: bool
    source: tuple[Line, ...]
    variables: Pairs


class Run(NamedTuple):
    """Calls that follow each other and are all the application's own, or all not."""

    in_app: bool
    frames: tuple[Frame, ...]


class Raised(NamedTuple):
    """One error of a chain; the newest call first."""

    type: str
    value: str
    module: str
    mechanism: str
    handled: bool | None
    runs: tuple[Run, ...]
    left_out: int


class Crumb(NamedTuple):
    """One breadcrumb."""

    time: float | None
    """Seconds since the epoch."""
    type: str
    category: str
    level: str
    message: str
    data: Pairs


class Table(NamedTuple):
    """Names and values under a heading."""

    name: str
    rows: Pairs


class Asked(NamedTuple):
    """The HTTP request that an event belongs to."""

    method: str
    url: str
    query: Pairs
    headers: Pairs
    cookies: Pairs
    data: str
    environment: Pairs


class View(NamedTuple):
    """One event."""

    message: str
    errors: tuple[Raised, ...]
    """What was raised last comes first, its causes after it."""
    stack: tuple[Run, ...]
    """The stack of an event without an error, or of the thread that matters."""
    crumbs: tuple[Crumb, ...]
    crumbs_left_out: int
    tags: Pairs
    user: Pairs
    request: Asked | None
    contexts: tuple[Table, ...]
    extra: Pairs
    modules: Pairs
    sdk: str
    transaction: str
    server: str


def view(payload: Mapping[str, Any]) -> View:
    """Return how an event is shown."""
    errors = exceptions(payload)[-_MOST_ERRORS:]
    crumbs = interface_values(payload, "breadcrumbs")
    shown = tuple(_raised(error) for error in reversed(errors))
    frames = [] if any(error.runs for error in shown) else event_frames(payload)
    sdk = as_mapping(payload.get("sdk"))
    return View(
        message=_message(payload),
        errors=shown,
        stack=_runs(frames[-_MOST_FRAMES:]),
        crumbs=tuple(_crumb(crumb) for crumb in crumbs[-_MOST_CRUMBS:]),
        crumbs_left_out=max(0, len(crumbs) - _MOST_CRUMBS),
        tags=_names(event_tags(payload)),
        user=_names(pairs(payload.get("user"))),
        request=_request(as_mapping(payload.get("request"))),
        contexts=tuple(_contexts(as_mapping(payload.get("contexts")))),
        extra=_texts(pairs(payload.get("extra"))),
        modules=tuple(sorted(_names(pairs(payload.get("modules")), most=500))),
        sdk=" ".join(part for part in (_name(sdk.get("name")), _name(sdk.get("version"))) if part),
        transaction=_name(payload.get("transaction")),
        server=_name(payload.get("server_name")),
    )


def _message(payload: Mapping[str, Any]) -> str:
    logentry, message = as_mapping(payload.get("logentry")), payload.get("message")
    nested = as_mapping(message)
    for text in (
        logentry.get("formatted"),
        logentry.get("message"),
        message,
        nested.get("formatted"),
        nested.get("message"),
    ):
        if isinstance(text, str) and text:
            return _cut(text)
    return ""


# Stacks.


def _raised(error: Mapping[str, Any]) -> Raised:
    mechanism = as_mapping(error.get("mechanism"))
    handled = mechanism.get("handled")
    frames = frames_of(error.get("stacktrace"))
    return Raised(
        type=_name(error.get("type")) or "Error",
        value=_text(error.get("value")),
        module=_name(error.get("module")),
        mechanism=_name(mechanism.get("type")),
        handled=handled if isinstance(handled, bool) else None,
        runs=_runs(frames[-_MOST_FRAMES:]),
        left_out=max(0, len(frames) - _MOST_FRAMES),
    )


def _runs(frames: Sequence[Mapping[str, Any]]) -> tuple[Run, ...]:
    # Where no frame is marked, nobody knows which are the application's: all are shown.
    marked = any(frame.get("in_app") is True for frame in frames)
    newest_first = (_frame(frame, marked=marked) for frame in reversed(frames))
    return tuple(
        Run(in_app, tuple(group)) for in_app, group in groupby(newest_first, lambda f: f.in_app)
    )


def _frame(frame: Mapping[str, Any], *, marked: bool) -> Frame:
    line = frame.get("lineno")
    number = line if isinstance(line, int) and not isinstance(line, bool) else None
    return Frame(
        function=_name(frame.get("function")) or "?",
        place=_name(
            as_text(frame.get("filename"))
            or as_text(frame.get("module"))
            or as_text(frame.get("abs_path"))
            or "?"
        ),
        line=number,
        in_app=frame.get("in_app") is True or not marked,
        source=tuple(_source(frame, number)),
        variables=_texts(pairs(frame.get("vars"))),
    )


def _source(frame: Mapping[str, Any], number: int | None) -> Iterator[Line]:
    current = as_text(frame.get("context_line"))
    if current is None:
        return
    before = as_list(frame.get("pre_context"))[-_MOST_LINES:]
    after = as_list(frame.get("post_context"))[:_MOST_LINES]
    first = None if number is None else number - len(before)
    for index, text in enumerate((*before, current, *after)):
        yield Line(
            number=None if first is None or first + index < 1 else first + index,
            text=(as_text(text) or "").rstrip("\r\n")[:_LONGEST_LINE],
            current=index == len(before),
        )


# The rest.


def _crumb(crumb: Mapping[str, Any]) -> Crumb:
    level = as_text(crumb.get("level"))
    return Crumb(
        time=_instant(crumb.get("timestamp")),
        type=_name(crumb.get("type")),
        category=_name(crumb.get("category")),
        level=level if level in _LEVELS else "info",
        message=_text(crumb.get("message")),
        data=_texts(pairs(crumb.get("data"))),
    )


def _instant(value: object) -> float | None:
    try:
        seconds = parse_timestamp(value)
    except (ValueError, OverflowError):
        return None
    # Nobody's clock is before 1970, and years have four digits.
    return seconds if 0 <= seconds < 2.5e11 else None


def _request(request: Mapping[str, Any]) -> Asked | None:
    if not request:
        return None
    query = request.get("query_string")
    data = request.get("data")
    return Asked(
        method=_name(request.get("method")),
        url=_text(request.get("url")),
        query=_texts(pairs(query)) if not isinstance(query, str) else _query(query),
        headers=_texts(pairs(request.get("headers"))),
        cookies=_cookies(request.get("cookies")),
        data="" if data is None else _text(data),
        environment=_texts(pairs(request.get("env"))),
    )


def _query(text: str) -> Pairs:
    parts = (part.partition("=") for part in text.removeprefix("?").split("&") if part)
    return _texts((name, value) for name, _, value in parts)


def _cookies(value: object) -> Pairs:
    if not isinstance(value, str):
        return _texts(pairs(value))
    parts = (part.strip().partition("=") for part in value.split(";") if part.strip())
    return _texts((name, text) for name, _, text in parts)


def _contexts(contexts: Mapping[str, Any]) -> Iterator[Table]:
    for name, value in sorted(contexts.items())[:_MOST_ENTRIES]:
        rows = _texts(entry for entry in pairs(value) if entry[0] != "type")
        if rows:
            yield Table(_name(name), rows)


def _texts(entries: Iterable[tuple[str, object]]) -> Pairs:
    return tuple((_name(name), _text(value)) for name, value in islice(entries, _MOST_ENTRIES))


def _names(entries: Iterable[tuple[str, object]], *, most: int = _MOST_ENTRIES) -> Pairs:
    return tuple((_name(name), _name(value)) for name, value in islice(entries, most))


def _name(value: object) -> str:
    """Return a text that should be short."""
    return _cut(_text(value), _LONGEST_NAME)


def _text(value: object) -> str:
    """Return a value as text: text as it is, everything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _cut(value)
    try:
        return _cut(json.encode(value).decode("utf-8", "replace"))
    except (TypeError, ValueError, RecursionError):
        return "?"


def _cut(text: str, longest: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
