"""Too large an event is made smaller in a fixed order, each step noted in `_meta`.

Threads: any; works on the event it is given. Source: wire.md section 8.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from crashfree._capture import plain
from crashfree._capture.meta import Notes, Path
from crashfree._ground import json
from crashfree._ground.typed import Any
from crashfree._protocol import limits
from crashfree.types import Event

_KEPT_CONTEXTS = frozenset(("runtime", "os", "trace"))
_KEPT_FRAMES = 20
_CONTEXT_KEYS = ("pre_context", "context_line", "post_context")
_ESSENTIAL = (
    "event_id", "timestamp", "platform", "level", "release", "dist", "environment", "tags", "sdk",
)  # fmt: skip
_ESSENTIAL_TEXT = 1024
_ESSENTIAL_EXCEPTIONS = 10

Step = Callable[[Event, Notes, int], bool]
"""Takes something away and says whether it did; called again as long as it does.

Told how many bytes are too many.
"""


def encoded(event: Event, max_bytes: int = limits.EVENT_BYTES) -> bytes:
    """Return the JSON of an event, or of what is left of it when it must fit `max_bytes`.

    Raises TypeError, ValueError or RecursionError for an event that is no plain JSON.
    """
    data = json.encode(event)
    if len(data) <= max_bytes:
        return data
    notes = Notes(event.get("_meta"))
    event["_meta"] = notes.tree
    for step in _STEPS:
        while step(event, notes, len(data) - max_bytes):
            data = json.encode(event)
            if len(data) <= max_bytes:
                return data
    return json.encode(_essence(event))


def _drop_foreign_variables(event: Event, notes: Notes, excess: int) -> bool:
    return _drop_from_frames(event, notes, ("vars",), in_app=False)


def _drop_modules(event: Event, notes: Notes, excess: int) -> bool:
    return _drop(event, "modules", notes)


def _drop_variables(event: Event, notes: Notes, excess: int) -> bool:
    return _drop_from_frames(event, notes, ("vars",), in_app=True)


def _drop_old_breadcrumbs(event: Event, notes: Notes, excess: int) -> bool:
    values = plain.entries(plain.members(event.get("breadcrumbs")).get("values"))
    if not values:
        return False
    path: Path = (None, "breadcrumbs")
    notes.shortened(path, len(values))
    # What was noted about single ones would now point to others.
    notes.forget((path, "values"))
    kept = values[(len(values) + 1) // 2 :]
    event["breadcrumbs"] = {"values": kept}
    if not kept:
        del event["breadcrumbs"]
    return True


def _drop_largest_extra(event: Event, notes: Notes, excess: int) -> bool:
    extra = event.get("extra")
    if not extra:
        return False
    sizes = {key: len(json.encode(value)) for key, value in extra.items()}
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        del extra[key]
        notes.forget(((None, "extra"), key))
        notes.removed(((None, "extra"), key))
        excess -= sizes[key]
        if excess <= 0:
            break
    return True


def _drop_contexts(event: Event, notes: Notes, excess: int) -> bool:
    contexts = event.get("contexts") or {}
    extra = [name for name in contexts if name not in _KEPT_CONTEXTS]
    for name in extra:
        del contexts[name]
        notes.forget(((None, "contexts"), name))
        notes.removed(((None, "contexts"), name))
    return bool(extra)


def _drop_request(event: Event, notes: Notes, excess: int) -> bool:
    return _drop(event, "request", notes)


def _drop_source(event: Event, notes: Notes, excess: int) -> bool:
    both = _drop_from_frames(event, notes, _CONTEXT_KEYS, in_app=False)
    return _drop_from_frames(event, notes, _CONTEXT_KEYS, in_app=True) or both


def _drop_middle_frames(event: Event, notes: Notes, excess: int) -> bool:
    done = False
    for path, frames in _stacks(event):
        if len(frames) > _KEPT_FRAMES:
            notes.shortened(path, len(frames))
            for index in range(len(frames)):
                notes.forget((path, index))
            half = _KEPT_FRAMES // 2
            frames[half:-half] = []
            done = True
    return done


_STEPS: tuple[Step, ...] = (
    _drop_foreign_variables,
    _drop_modules,
    _drop_variables,
    _drop_old_breadcrumbs,
    _drop_largest_extra,
    _drop_contexts,
    _drop_request,
    _drop_source,
    _drop_middle_frames,
)


def _essence(event: Event) -> Event:
    """Return what tells at least that, where and under which release something happened."""
    notes = Notes()
    small: dict[str, Any] = {}
    for key, value in event.items():
        if key in _ESSENTIAL:
            small[key] = value
        elif key == "exception":
            small[key] = {"values": _essential_exceptions(plain.values(value))}
        elif key in ("logentry", "message"):
            entry = plain.members(value)
            text = str(entry.get("formatted") if entry else value)[:_ESSENTIAL_TEXT]
            small["logentry"] = {"formatted": text}
        elif key != "_meta":
            notes.removed((None, key))
    tags: dict[str, Any] = small.get("tags") or {}
    if len(json.encode(tags)) > limits.EVENT_BYTES // 2:
        del small["tags"]
        notes.removed((None, "tags"))
    small["_meta"] = notes.tree
    return small  # type: ignore[return-value]


def _essential_exceptions(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            key: str(value[key])[:_ESSENTIAL_TEXT] if key != "mechanism" else value[key]
            for key in ("type", "value", "module", "mechanism")
            if value.get(key) is not None
        }
        for value in values[-_ESSENTIAL_EXCEPTIONS:]
    ]


def _drop(event: Event, key: str, notes: Notes) -> bool:
    if plain.members(event).pop(key, None) is None:
        return False
    notes.forget((None, key))
    notes.removed((None, key))
    return True


def _drop_from_frames(event: Event, notes: Notes, keys: tuple[str, ...], *, in_app: bool) -> bool:
    done = False
    for path, frames in _stacks(event):
        for index, frame in enumerate(frames):
            if bool(frame.get("in_app")) is not in_app:
                continue
            for key in keys:
                if frame.pop(key, None) is not None:
                    notes.forget(((path, index), key))
                    notes.removed(((path, index), key))
                    done = True
    return done


def _stacks(event: Event) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    for key in ("exception", "threads"):
        for index, value in enumerate(plain.values(event.get(key))):
            frames = plain.entries(plain.members(value.get("stacktrace")).get("frames"))
            if frames:
                at: Path = (((None, key), "values"), index)
                yield ((at, "stacktrace"), "frames"), frames
