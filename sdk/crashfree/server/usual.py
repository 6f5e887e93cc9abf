"""The usual ingest request, found in the bytes of a connection.

Nearly every envelope comes in a POST with `Content-Length`, a handful of headers and a small body.
Those are recognised here by comparing a few bytes with what was read before: a client sends the
same head each time, but for the length. Whatever is unusual in the least (another method, chunks,
`Expect`, folded lines, a doubled header, credentials that cannot be read) is None, and goes through
the HTTP parser and Starlette, which say what it is. So what is read here is never judged
differently, only sooner.

Invariants: `Content-Length` stands there once and `Transfer-Encoding` never, so that nobody can
disagree about where a request ends; a head is remembered only as far as it is short.

Threads: the event loop's. Source: ingest.md sections 2.1, 2.4 and 2.5.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from crashfree.server import auth, heads

LARGEST: Final = 256 * 1024
"""A larger body is none of the usual ones: reading it would hold up the loop."""
LARGEST_COMPRESSED: Final = 32 * 1024
_LONGEST_HEAD: Final = 2048
_MOST_KNOWN: Final = 512
_MOST_HEADERS: Final = 40
_REQUEST: Final = re.compile(
    rb"POST /api/([0-9]{1,18})/(envelope|store)/?(?:\?([\x21\x22\x24-\x7e]*))? HTTP/1\.1"
)
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = b"ontent-Length: "
_LENGTH_LOWER: Final = b"ontent-length: "
_UNUSUAL: Final = frozenset(
    (b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer", b"http2-settings")
)


class Head(NamedTuple):
    """What the head of a usual request says, but for the length of its body."""

    project_id: int
    single_event: bool
    """A body of `/store/`: one event without an envelope."""
    key: str | None
    encoding: str | None
    user_agent: str | None
    forwarded: str | None
    largest: int
    """A body that is larger is not usual."""


class Found(NamedTuple):
    """A usual request at the beginning of some bytes; its body need not be there yet."""

    head: Head
    begin: int
    end: int


_known: dict[bytes, Head | None] = {}


def find(data: bytes) -> Found | None:
    """Return the usual request that `data` begins with; None: let the parser look at it."""
    end = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
    if end < 0:
        return None
    at = data.find(_LENGTH, 0, end)
    if at < 0:
        at = data.find(_LENGTH_LOWER, 0, end)
        if at < 0:
            return None
    at += len(_LENGTH)
    stop = data.find(b"\r", at)
    digits = data[at:stop]
    if not digits.isdigit() or len(digits) > 7:
        return None
    # Two heads that are equal but for these digits have them in the same place: behind the first
    # line that speaks of a length.
    rest = data[:at] + data[stop:end]
    try:
        head = _known[rest]
    except KeyError:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        head = _known[rest] = _head(rest, at)
    if head is None:
        return None
    size = int(digits)
    if size > head.largest:
        return None
    return Found(head, end + 4, end + 4 + size)


def _head(rest: bytes, at: int) -> Head | None:
    """Read a head whose length, which stood at `at`, was cut out."""
    if rest[at - len(_LENGTH) - 3 : at].lower() != b"\r\nc" + _LENGTH_LOWER:
        return None
    first, *lines = rest.split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    if request is None or len(lines) > _MOST_HEADERS:
        return None
    headers: dict[bytes, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            return None
        name = found[1].lower()
        if name in _UNUSUAL or name in headers:
            return None
        headers[name] = found[2].strip(b" \t").decode("latin-1")
    if b"host" not in headers or headers.get(b"content-length") != "":
        return None
    if headers.get(b"connection", "keep-alive").lower() != "keep-alive":
        return None
    credentials = headers.get(b"x-sentry-auth")
    try:
        key = auth.sender_key(
            () if credentials is None else (credentials,), (request[3] or b"").decode("ascii")
        )
    except auth.Refused:
        return None
    encoding = headers.get(b"content-encoding")
    first_hop = headers.get(b"x-forwarded-for")
    if first_hop is None and b"forwarded" in headers:
        first_hop = heads.forwarded_for(headers[b"forwarded"])
    return Head(
        int(request[1]),
        request[2] == b"store",
        key,
        encoding,
        headers.get(b"user-agent"),
        None if first_hop is None else first_hop.split(",")[0].strip(),
        LARGEST if encoding is None else LARGEST_COMPRESSED,
    )
