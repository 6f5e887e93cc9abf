"""What the head of an ingest request says.

Pure; threads: any. Source: ingest.md sections 2.4 and 2.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crashfree.server.answers import Header, Refusal


class Head(NamedTuple):
    """What the head of a request says."""

    auth: tuple[str, ...]
    encoding: str | None
    length: int | None
    user_agent: str | None
    forwarded: str | None


def read(headers: Sequence[Header]) -> Head:
    credentials: list[str] = []
    encoding = user_agent = forwarded = None
    length: int | None = None
    chunked = False
    for name, value in headers:
        if name == b"x-sentry-auth":
            credentials.append(value.decode("latin-1"))
        elif name == b"content-length":
            if not value.isdigit() or len(value) > 15:
                raise Refusal(400, "bad request body: unreadable Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"content-encoding":
            encoding = value.decode("latin-1")
        elif name == b"user-agent":
            user_agent = value.decode("latin-1")
        elif name == b"x-forwarded-for":
            forwarded = value.decode("latin-1").split(",")[0].strip()
        elif name == b"forwarded" and forwarded is None:
            forwarded = forwarded_for(value.decode("latin-1"))
    if length is not None and chunked:
        raise Refusal(400, "bad request body: both Content-Length and Transfer-Encoding")
    if length is None and not chunked:
        raise Refusal(411, "length required")
    return Head(tuple(credentials), encoding, length, user_agent, forwarded)


def forwarded_for(value: str) -> str | None:
    for pair in value.split(",")[0].split(";"):
        name, _, text = pair.strip().partition("=")
        if name.lower() == "for":
            return text.strip('"').removeprefix("[").partition("]")[0]
    return None
