"""Typed reading of the JSON objects that strangers send.

Each reader returns the value of one key, or raises ValueError with a reason that names the key.
An absent key gives the default; null is a value like any other and mostly of the wrong type. Pure;
threads: any.

Source: sessions.md sections 1 and 2 (types of the fields).
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.typed import Any, cast
from crashfree._protocol.timestamps import parse_rfc3339

_HEX = "0123456789abcdef"


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return cast("dict[str, Any]", value)


def required(fields: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key that must be there."""
    if key not in fields:
        raise ValueError(f"{key} is missing")
    return fields[key]


def text(fields: Mapping[str, Any], key: str) -> str | None:
    """Return text; None when the key is absent or null."""
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is not text")
    return value


def flag(fields: Mapping[str, Any], key: str, default: bool) -> bool:
    """Return true or false."""
    value = fields.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is neither true nor false")
    return value


def count(fields: Mapping[str, Any], key: str, default: int, highest: int) -> int:
    """Return a whole number from 0 to `highest`."""
    value = fields.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} is not a whole number")
    if not 0 <= value <= highest:
        raise ValueError(f"{key} is not between 0 and {highest}")
    return value


def number(fields: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number; None when the key is absent or null."""
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{key} is not a number")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{key} is out of range") from None
    if seconds - seconds != 0.0:
        raise ValueError(f"{key} is out of range")
    return seconds


def instant(fields: Mapping[str, Any], key: str) -> float:
    """Return an instant; the key must be there and be RFC 3339 with a zone."""
    value = required(fields, key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a time")
    try:
        return parse_rfc3339(value)
    except ValueError:
        raise ValueError(f"{key} is not a time") from None


def hex_id(text: str) -> str | None:
    """Return a UUID, dashed or not, as 32 lower-case hex digits; None when it is none."""
    if len(text) == 36:
        if not text[8] == text[13] == text[18] == text[23] == "-":
            return None
        text = text.replace("-", "")
    digits = text.lower()
    return digits if len(digits) == 32 and not digits.strip(_HEX) else None


def identity(fields: Mapping[str, Any], key: str) -> str | None:
    """Return who a session belongs to; empty text and the nil UUID are nobody."""
    value = text(fields, key)
    if not value or hex_id(value) == "0" * 32:
        return None
    return value
