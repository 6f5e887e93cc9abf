"""JSON as the wire wants it: compact UTF-8 out, strict and bounded in.

Encoding takes plain data (what `_capture.normalize` makes). Decoding is for bytes of strangers:
it refuses NaN, Infinity and what a float would make infinite, ends deep nesting in an error
instead of a RecursionError, and replaces lone surrogates, which real clients send and other
readers refuse.

Threads: any. Source: wire.md section 7 (last line), ingest.md section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crashfree._ground.typed import Any

MAX_DEPTH = 100


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _chunks_maker() -> Callable[[object], Iterable[str]]:
    # `import json` costs 4 ms of `re` and `enum`, which only its decoder needs. This is what its
    # encoder comes down to when it is asked for compact text.
    try:
        from _json import encode_basestring, make_encoder
    except ImportError:
        from json import JSONEncoder

        return JSONEncoder(
            ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
        ).iterencode
    encoder = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, False)
    return lambda value: encoder(value, 0)


_chunks = _chunks_maker()


def encode(value: object) -> bytes:
    """Return `value` as compact UTF-8 JSON.

    Raises ValueError for NaN and infinities, TypeError for what JSON does not know. A lone
    surrogate, which UTF-8 cannot carry, becomes U+FFFD.
    """
    text = "".join(_chunks(value))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return without_surrogates(text).encode("utf-8")


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
    from crashfree._ground.jsondecode import decode as read

    return read(data, max_depth=max_depth, pairs_hook=pairs_hook)
