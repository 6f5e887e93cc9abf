"""Which events are the same problem, and what it is called.

Events are grouped by their own fingerprint when the client gave one, else by the stack: the type
of each exception with the functions it went through, the application's own where it is known
which they are. Line numbers, addresses and messages do not count, so an edited file does not make
every old problem a new one. Without a stack the type and the message decide, with numbers and ids
in it taken as one.

Pure; any thread.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from crashfree.server.frames import (
    as_list,
    as_mapping,
    as_text,
    event_frames,
    exceptions,
    frames_of,
    in_app,
)

_LEVELS: Final = ("fatal", "error", "warning", "info", "debug")
_DEFAULT: Final = re.compile(r"\{\{\s*default\s*\}\}")
_CHANGING: Final = re.compile(
    r"""
      https?://\S+
    | [0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}
    | \b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?
    | \b0x[0-9a-fA-F]+\b
    | \b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{12,}\b
    | \d+
    """,
    re.VERBOSE,
)
_HASHED_FILE: Final = re.compile(r"(?<=[.\-_/])[0-9a-f]{8,}(?=\.)")
_MOST_TEXT: Final = 8192
_TITLE_LENGTH: Final = 100
_CULPRIT_LENGTH: Final = 200


class Group(NamedTuple):
    """The problem that an event belongs to, as this event describes it."""

    hash: str
    type: str
    """`error` or `default`."""
    title: str
    culprit: str
    level: str
    platform: str
    unhandled: bool
    metadata: Mapping[str, Any]


def group(event: Mapping[str, Any]) -> Group:
    """Return the group of an event."""
    errors = exceptions(event)
    main: Mapping[str, Any] = errors[-1] if errors else {}
    kind = (as_text(main.get("type")) or "")[:_MOST_TEXT]
    value = (as_text(main.get("value")) or "")[:_MOST_TEXT]
    frame = _culprit_frame(event, errors)
    metadata: dict[str, Any]
    if errors:
        title = _first_line(": ".join(part for part in (kind, _first_line(value)) if part))
        metadata = {"type": kind or "Error", "value": value[:1024]}
        for name in ("filename", "function"):
            text = as_text(frame.get(name))
            if text:
                metadata[name] = text[:256]
    else:
        title = _first_line(_message(event))
        metadata = {"title": title or "<unlabeled event>"}
    level = as_text(event.get("level"))
    return Group(
        hash=_hash(event, errors),
        type="error" if errors else "default",
        title=title or ("Error" if errors else "<unlabeled event>"),
        culprit=_culprit(event, frame),
        level=level if level in _LEVELS else "error",
        platform=(as_text(event.get("platform")) or "other")[:64],
        unhandled=any(
            as_mapping(error.get("mechanism")).get("handled") is False for error in errors
        ),
        metadata=metadata,
    )


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1] + "…"


def _message(event: Mapping[str, Any]) -> str:
    logentry = as_mapping(event.get("logentry"))
    found = as_text(logentry.get("formatted")) or as_text(logentry.get("message"))
    if not found:
        message = event.get("message")
        nested = as_mapping(message)
        found = (
            as_text(message) or as_text(nested.get("formatted")) or as_text(nested.get("message"))
        )
    return (found or "")[:_MOST_TEXT]


def _template(event: Mapping[str, Any]) -> str:
    """The message before its values were put in, where the client tells it."""
    logentry = as_mapping(event.get("logentry"))
    template = as_text(logentry.get("message"))
    return template[:_MOST_TEXT] if template else _message(event)


def _culprit_frame(event: Mapping[str, Any], errors: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the newest frame of the application, of the last exception that has any."""
    frames: list[Mapping[str, Any]]
    for error in reversed(errors):
        frames = frames_of(error.get("stacktrace"))
        if frames:
            break
    else:
        frames = event_frames(event)
    own = [frame for frame in frames if frame.get("in_app") is True] or frames
    return own[-1] if own else {}


def _culprit(event: Mapping[str, Any], frame: Mapping[str, Any]) -> str:
    transaction = as_text(event.get("transaction"))
    if transaction:
        return transaction[:_CULPRIT_LENGTH]
    place = as_text(frame.get("module")) or as_text(frame.get("filename")) or ""
    function = as_text(frame.get("function")) or ""
    return (f"{place} in {function}" if place and function else place or function)[:_CULPRIT_LENGTH]


# Hashing.


def _hash(event: Mapping[str, Any], errors: list[Mapping[str, Any]]) -> str:
    fingerprint = as_list(event.get("fingerprint"))
    if not fingerprint:
        return _digest(_default_parts(event, errors))
    parts: list[str] = []
    for entry in fingerprint[:50]:
        text = str(entry)[:1024]
        if _DEFAULT.fullmatch(text.strip()):
            parts.extend(_default_parts(event, errors))
        else:
            parts.append(text)
    return _digest(parts)


def _digest(parts: Iterable[str]) -> str:
    text = "\0".join([*parts, ""]).encode("utf-8", "replace")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _default_parts(event: Mapping[str, Any], errors: list[Mapping[str, Any]]) -> list[str]:
    parts: list[str] = []
    stacked = False
    for error in errors:
        frames = _functions(frames_of(error.get("stacktrace")))
        stacked = stacked or bool(frames)
        parts.append("type:" + (as_text(error.get("type")) or ""))
        parts.extend(frames)
    if not errors:
        frames = _functions(event_frames(event))
        stacked = bool(frames)
        parts.extend(frames)
    if stacked:
        return parts
    for error in errors:
        parts.append("value:" + _steady((as_text(error.get("value")) or "")[:_MOST_TEXT]))
    if not errors:
        parts.append("message:" + _steady(_template(event)))
    return parts


def _steady(text: str) -> str:
    """Replace what changes from event to event by one letter."""
    return _CHANGING.sub("#", text)


def _functions(frames: list[Mapping[str, Any]]) -> list[str]:
    """Name the frames that count; a recursion counts once, however deep."""
    found: list[str] = []
    for frame in in_app(frames):
        name = _function(frame)
        if name and name not in found[-3:]:
            found.append(name)
    return found


def _function(frame: Mapping[str, Any]) -> str:
    place = as_text(frame.get("module"))
    if not place:
        place = _HASHED_FILE.sub("#", as_text(frame.get("filename")) or "")
    function = as_text(frame.get("function")) or ""
    if function in ("", "?", "<unknown>", "<anonymous>", "<lambda>"):
        function = (as_text(frame.get("context_line")) or "").strip()[:200]
    return f"{place}:{function}" if place or function else ""
