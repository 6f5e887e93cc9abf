"""Who may send to which project: the three places where a client puts its key.

`X-Sentry-Auth`, the query and the envelope's own `dsn`; the first two must agree where both are
given. Nothing here looks a key up: that is the store's, and its answer is the same for a wrong
key, a missing project and a disabled one. Pure; threads: any.

Source: wire.md section 2.2, ingest.md sections 2.3 and 2.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

PROTOCOL_VERSION: Final = 7
_KEY_CHARACTERS: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
)
_LONGEST_KEY: Final = 64
_MOST_REMEMBERED: Final = 256
_LONGEST_REMEMBERED: Final = 512


class Refused(Exception):
    """Credentials that cannot be used; `status` is 400 or 401."""

    status: int
    detail: str

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def sender_key(headers: Sequence[str], query: str) -> str | None:
    """Return the key that a request states outside its body; None when it states none.

    `headers` are the values of all `X-Sentry-Auth` headers, `query` the raw query string.
    Raises Refused.
    """
    by_header = _from_header(headers) if headers else None
    by_query = _from_query(query) if "sentry_" in query or "%" in query else None
    if by_header is not None and by_query is not None and by_header != by_query:
        raise Refused(401, "two different keys in header and query")
    return by_header if by_header is not None else by_query


_read_before: dict[str, str] = {}
"""Headers that were good, and their keys: a client sends the same one each time."""


def _from_header(values: Sequence[str]) -> str:
    if len(values) > 1:
        raise Refused(401, "auth header unreadable: it is there twice")
    key = _read_before.get(values[0])
    if key is None:
        pairs = _pairs(values[0])
        _check_version(pairs)
        key = pairs.get("sentry_key")
        if not key:
            raise Refused(401, "no key in the auth header")
        key = _checked(key)
        if len(_read_before) >= _MOST_REMEMBERED:
            _read_before.clear()
        if len(values[0]) <= _LONGEST_REMEMBERED:
            _read_before[values[0]] = key
    return key


def _pairs(value: str) -> Mapping[str, str]:
    word, _, rest = value.strip().partition(" ")
    if word.lower() != "sentry":
        raise Refused(401, "auth header unreadable: it does not begin with the word Sentry")
    pairs: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, text = part.partition("=")
        name = name.strip()
        if not name and not equals:
            continue
        if not equals or name in pairs:
            raise Refused(401, "auth header unreadable: a part without a value, or a name twice")
        pairs[name] = text.strip()
    return pairs


def _from_query(query: str) -> str | None:
    pairs: dict[str, str] = {}
    for name, text in parse_qsl(query, keep_blank_values=True, max_num_fields=100):
        if not name.startswith("sentry_"):
            continue
        if name in pairs:
            raise Refused(401, "no key: a name stands twice in the query")
        pairs[name] = text
    key = pairs.get("sentry_key")
    if not key:
        return None
    _check_version(pairs)
    return _checked(key)


def _check_version(pairs: Mapping[str, str]) -> None:
    text = pairs.get("sentry_version")
    if text is None or text == "7":
        return
    # Old clients say 2.0; what is above 7 does not exist yet.
    major = text.partition(".")[0]
    if not (major.isascii() and major.isdigit()) or len(major) > 4 or int(major) > PROTOCOL_VERSION:
        raise Refused(400, f"protocol version {text[:20]!r} is not known; up to 7 is")


def _checked(key: str) -> str:
    if len(key) > _LONGEST_KEY or not _KEY_CHARACTERS.issuperset(key):
        raise Refused(400, "key format: 1 to 64 letters, digits, _ and -")
    return key
