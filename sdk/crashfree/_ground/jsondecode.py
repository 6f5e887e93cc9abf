"""Reading JSON of strangers: strict and bounded.

Apart from `json`, which every start needs, because reading takes `re` and the decoder of the
standard library, and most programs never read any. Threads: any. Source: ingest.md section 3.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from crashfree._ground.typed import Any

MAX_DEPTH = 100
MAX_DIGITS = 400
_DIGITS = "0123456789"

# A string, its end missing or not, or one bracket. Compiled (and then cached) at first need.
_STRING_OR_BRACKET = r'"(?:[^"\\]+|\\[\s\S])*"?|[][{}]'


def without_surrogates(text: str) -> str:
    """Return `text` with every lone surrogate replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = MAX_DEPTH,
    pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Return the value that `data` spells.

    `pairs_hook` is called with the entries of each object, in order, doubled keys included, and
    its result stands in for the object; None: a dict, in which the last of doubled keys wins.

    Raises ValueError for anything that is not strict UTF-8 JSON, for nesting over `max_depth`,
    for integers over 400 digits and for numbers beyond the range of a float.
    """
    text = str(data, "utf-8")
    if _depth_exceeds(text, max_depth):
        raise ValueError(f"JSON is nested deeper than {max_depth}")
    if pairs_hook is None and not may_hold_long_integer(text):
        value = _decoder.decode(text)
    else:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
            parse_float=_finite,
            object_pairs_hook=pairs_hook,
        )
    # One character is looked for ten times as fast as two.
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        value = _clean(value)
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits is refused (limit {MAX_DIGITS})")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if value - value != 0.0:
        raise ValueError(f"{digits:.40} is out of range")
    return value


def may_hold_long_integer(text: str) -> bool:
    """Return whether there is a run of more digits than an integer may have."""
    # A run of more digits than are taken covers one character in so many: looking at those alone
    # spares the decoder a call of Python for every integer, which halves its time.
    for at in range(MAX_DIGITS, len(text), MAX_DIGITS + 1):
        if text[at].isdigit():
            run = text[at - MAX_DIGITS : at + MAX_DIGITS + 1]
            before = run[:MAX_DIGITS]
            after = run[MAX_DIGITS:]
            digits = len(before) - len(before.rstrip(_DIGITS))
            digits += len(after) - len(after.lstrip(_DIGITS))
            if digits > MAX_DIGITS:
                return True
    return False


# Made once: json.loads() makes one a call when it is given hooks.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _depth_exceeds(text: str, limit: int) -> bool:
    # Cheap bound first: brackets inside strings only make this over-estimate.
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for match in re.finditer(_STRING_OR_BRACKET, text):
        char = match[0]
        if char == "[" or char == "{":
            depth += 1
            if depth > limit:
                return True
        elif char == "]" or char == "}":
            depth -= 1
    return False


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_clean(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {_clean(key): _clean(entry) for key, entry in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
