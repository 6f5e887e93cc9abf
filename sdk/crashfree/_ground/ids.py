"""Random ids and rolls, all from `os.urandom`.

Safe after fork (no state that a child could inherit) and without effect on a program that seeds
`random`. Threads: any.
"""

from __future__ import annotations

import os


def event_id() -> str:
    """Return a version 4 UUID as 32 hex digits."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return raw.hex()


def session_id() -> str:
    """Return a version 4 UUID in its dashed form."""
    text = event_id()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def trace_id() -> str:
    """Return 32 hex digits that are not all zero."""
    return event_id()


def span_id() -> str:
    """Return 16 hex digits that are not all zero."""
    return event_id()[:16]


def roll() -> float:
    """Return a number in [0, 1), for sampling."""
    # 53 bits, what a float holds: with more, the highest ones would round up to 1.
    return (int.from_bytes(os.urandom(7), "big") >> 3) / (1 << 53)
