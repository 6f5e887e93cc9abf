"""Issues that a commit message says it fixes.

A keyword serves the whole list behind it, over line ends, until a character that is no letter,
digit, `_ - ,` or white space. A link to an issue of this server counts like its short id.

Pure; any thread. Source: releases.md section 6.2.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from crashfree.server.shortids import ShortId, parse

_KEYWORDS = "Fix|Fixes|Fixed|Close|Closes|Closed|Resolve|Resolves|Resolved"
_LISTS = re.compile(rf"\b(?:{_KEYWORDS}):?\s+([A-Za-z0-9_\-\s\,]+)\b", re.IGNORECASE)
_SHORT_ID = re.compile(r"\b([A-Z0-9_-]+-[A-Z0-9]+)\b", re.IGNORECASE)
_LINKS = re.compile(rf"\b(?:{_KEYWORDS}):?\s+(https?://\S+)", re.IGNORECASE)
_MARKDOWN_LINK = re.compile(r"\[([^\]\[]*)\]\([^()]*\)")
_ISSUE_PATH = re.compile(r"/issues/(\d{1,18})(?:/|$)")
_IGNORE_MARK = "#skipsentry"
# A message is kept up to this length; reading further would only cost time.
_MAX_LENGTH = 65_536


class References(NamedTuple):
    """What a message names: short ids in order of appearance, and numbers of linked issues."""

    short_ids: tuple[str, ...]
    issue_ids: tuple[int, ...]

    def parsed(self) -> tuple[ShortId, ...]:
        """Return the short ids that can be those of an issue."""
        found = (parse(text) for text in self.short_ids)
        return tuple(entry for entry in found if entry is not None)


def ignored(message: str | None) -> bool:
    """Say whether the commit asks not to be counted."""
    return message is not None and _IGNORE_MARK in message


def references(message: str | None, *, host: str | None = None) -> References:
    """Return the issues a commit message resolves; `host` is the name this server goes by."""
    if not message:
        return References((), ())
    text = _MARKDOWN_LINK.sub(r"\1", message[:_MAX_LENGTH])
    short_ids: list[str] = []
    for found in _LISTS.finditer(text):
        short_ids.extend(_SHORT_ID.findall(found[1]))
    return References(tuple(short_ids), tuple(_linked(text, host)))


def _linked(text: str, host: str | None) -> list[int]:
    if host is None:
        return []
    found: list[int] = []
    for link in _LINKS.finditer(text):
        try:
            parts = urlsplit(link[1])
        except ValueError:
            continue
        name = parts.hostname or ""
        if name != host and not name.endswith("." + host):
            continue
        path = _ISSUE_PATH.search(parts.path)
        if path is not None:
            found.append(int(path[1]))
    return found
