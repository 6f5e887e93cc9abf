"""Reading the JSON of a server that may be newer, older or not ours: wrong types read as absent.

Pure; threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

Payload = Mapping[str, object]


def mapping(value: object) -> Payload:
    """Return a JSON object; an empty one in place of anything else."""
    return cast("Payload", value) if isinstance(value, Mapping) else {}


def array(value: object) -> list[object]:
    """Return a JSON array; an empty one in place of anything else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def text(payload: Payload, key: str) -> str | None:
    """Return a string that is not empty, a number as its digits; None otherwise."""
    value = payload.get(key)
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def count(payload: Payload, key: str) -> int:
    """Return a whole number; 0 in place of anything else."""
    value = payload.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
