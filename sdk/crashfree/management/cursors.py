"""Pagination: the `Link` header names the next page by a cursor.

Only the cursor is taken from the header, never the address: it comes from the server's idea of its
own name, which behind a proxy is not where the token may go.

Pure; threads: any. Source: releases.md section 4.2.
"""

from __future__ import annotations


def next_cursor(link: str | None) -> str | None:
    """Return the cursor of the next page; None when this was the last one."""
    for part in _parts(link or ""):
        attributes = _attributes(part)
        if attributes.get("rel") == "next":
            if attributes.get("results") == "false":
                return None
            return attributes.get("cursor") or None
    return None


def _parts(link: str) -> list[str]:
    """Split at commas outside quotes and angle brackets."""
    parts: list[str] = []
    current: list[str] = []
    quoted = bracketed = False
    for char in link:
        if char == '"' and not bracketed:
            quoted = not quoted
        elif char in "<>" and not quoted:
            bracketed = char == "<"
        if char == "," and not quoted and not bracketed:
            parts.append("".join(current))
            current.clear()
        else:
            current.append(char)
    parts.append("".join(current))
    return parts


def _attributes(part: str) -> dict[str, str]:
    answer: dict[str, str] = {}
    _, _, rest = part.partition(">")
    for piece in rest.split(";"):
        name, equals, value = piece.strip().partition("=")
        if equals:
            answer[name.strip().lower()] = value.strip().strip('"')
    return answer
