"""Reading plain JSON of unknown shape: an object, a list, or nothing.

Only exact dicts and lists count, so that no code of a subclass runs. What is returned is the very
object, to be read or changed in place. Threads: any.
"""

from __future__ import annotations

from crashfree._ground.typed import Any, cast


def members(value: object) -> dict[str, Any]:
    """Return an object's members; an empty dict when it is none."""
    return cast("dict[str, Any]", value) if type(value) is dict else {}


def entries(value: object) -> list[Any]:
    """Return a list's entries; an empty list when it is none."""
    if type(value) is not list:
        return []
    return value  # pyright: ignore[reportUnknownVariableType]


def values(part: object) -> list[dict[str, Any]]:
    """Return the objects in `part["values"]`, as exceptions, threads and breadcrumbs are sent."""
    return [one for one in entries(members(part).get("values")) if type(one) is dict]
