"""What an event shows of a request's body, where `send_default_pii` allows it.

Only what the program itself has read: nothing is taken out of a stream that somebody else waits
for. Threads: any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

MOST: Final = 16 * 1024
"""Bytes; of a longer body nothing is shown."""


def shown(raw: bytes, content_type: str | None) -> object:
    """Return the body as JSON, as form or as text; None when it is empty, too long or binary."""
    if not raw or len(raw) > MOST:
        return None
    kind = (content_type or "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json" or kind.endswith("+json"):
            return json.loads(raw)
        text = raw.decode("utf-8")
    except ValueError:
        return None
    if kind == "application/x-www-form-urlencoded":
        return form(parse_qs(text, keep_blank_values=True))
    return text if kind.startswith("text/") else None


def form(fields: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the fields of a form; one that came once is its value, not a list."""
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
