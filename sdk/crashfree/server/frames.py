"""The frames of an event, as ownership rules, suspect commits and grouping look at them.

Payloads are strangers' JSON: what has the wrong shape is not there.

Pure; any thread. Source: releases.md section 6.3 (step 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_MOST_FRAMES: Final = 500


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return the object, or an empty one."""
    # A decoded object is a dict and nothing else; asking for Mapping would cost ten times as much.
    found: Any = value
    return found if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return the list, or an empty one."""
    found: Any = value
    return found if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    """Return the text; None for anything else."""
    return value if isinstance(value, str) else None


def pairs(value: object) -> list[tuple[str, Any]]:
    """Return names and values of an object, or of a list of pairs; headers and tags are both."""
    named = as_mapping(value)
    if named:
        return [(str(name), entry) for name, entry in named.items()]
    listed = (as_list(pair) for pair in as_list(value))
    return [(pair[0], pair[1]) for pair in listed if len(pair) == 2 and isinstance(pair[0], str)]


def interface_values(event: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the entries of `exception` or `threads`, in either of the two forms they come in."""
    found = event.get(name)
    return _mappings(as_list(found) or as_list(as_mapping(found).get("values")))


def _mappings(values: list[Any]) -> list[Mapping[str, Any]]:
    return [value for value in values if value and isinstance(value, dict)]


def exceptions(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the exception values, the original cause first."""
    return interface_values(event, "exception")


def frames_of(stacktrace: object) -> list[Mapping[str, Any]]:
    """Return the frames of a stack trace, oldest call first."""
    return _mappings(as_list(as_mapping(stacktrace).get("frames"))[-_MOST_FRAMES:])


def event_frames(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return all frames of the exceptions, else of the event, else of the thread that matters."""
    found = [frame for value in exceptions(event) for frame in frames_of(value.get("stacktrace"))]
    if found:
        return found
    found = frames_of(event.get("stacktrace"))
    if found:
        return found
    return frames_of(_relevant_thread(event).get("stacktrace"))


def _relevant_thread(event: Mapping[str, Any]) -> Mapping[str, Any]:
    threads = interface_values(event, "threads")
    if len(threads) == 1:
        return threads[0]
    for mark in ("crashed", "current"):
        for thread in threads:
            if thread.get(mark) is True:
                return thread
    return {}


def in_app(frames: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the frames of the application itself; all of them when none is marked so."""
    return [frame for frame in frames if frame.get("in_app") is True] or frames


def paths(frame: Mapping[str, Any], platform: str | None) -> Iterator[str]:
    """Yield the paths a frame goes by: as munged for its platform, relative, absolute."""
    munged = _munged(frame, platform)
    if munged:
        yield munged
    for name in ("filename", "abs_path"):
        text = as_text(frame.get(name))
        if text:
            yield text


def path(frame: Mapping[str, Any], platform: str | None) -> str | None:
    """Return the best of a frame's paths."""
    return next(paths(frame, platform), None)


def _munged(frame: Mapping[str, Any], platform: str | None) -> str | None:
    """A Java frame names only its file; its module tells the folder."""
    if as_text(frame.get("platform")) or platform:
        platform = as_text(frame.get("platform")) or platform
    module, filename = as_text(frame.get("module")), as_text(frame.get("filename"))
    if platform != "java" or not module or not filename or "/" in filename:
        return None
    folders = module.split(".")[:-1]
    return "/".join([*folders, filename])
