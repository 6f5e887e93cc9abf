"""Answers of the ingest paths: headers that every one has, refusals, how both are sent.

Threads: any. Source: ingest.md sections 2.2 to 2.4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from crashfree._ground import json

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

CORS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"X-Sentry-Error, X-Sentry-Rate-Limits, Retry-After",
    ),
)
PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-max-age", b"3600"),
    (
        b"access-control-allow-headers",
        b"X-Sentry-Auth, X-Requested-With, Origin, Accept, Content-Type, Authentication,"
        b" Authorization, Content-Encoding, sentry-trace, baggage, X-CSRFToken",
    ),
)
JSON: Final = (b"content-type", b"application/json")


class Refusal(Exception):
    """An answer of 400 or more."""

    status: int
    detail: str
    causes: tuple[str, ...]
    headers: tuple[Header, ...]

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        causes: Iterable[str] = (),
        headers: Iterable[Header] = (),
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.causes = tuple(causes)
        self.headers = tuple(headers)

    @property
    def body(self) -> bytes:
        """The JSON object of the answer."""
        body: dict[str, object] = {"detail": self.detail}
        if self.causes:
            body["causes"] = list(self.causes)
        return json.encode(body)


def refusal_headers(refusal: Refusal) -> tuple[Header, ...]:
    """Return the headers of a refusal; the detail once more, in one line."""
    line = refusal.detail.replace("\r", " ").replace("\n", " ")
    told = line.encode("ascii", "replace")[:1024]
    return (JSON, *CORS, (b"x-sentry-error", told), *refusal.headers)


def good_headers(limits: str = "") -> tuple[Header, ...]:
    """Return the headers of an answer of 200; `limits` is the value of `X-Sentry-Rate-Limits`."""
    if not limits:
        return (JSON, *CORS)
    return (JSON, *CORS, (b"x-sentry-rate-limits", limits.encode("latin-1")))


def good_body(event_id: str | None) -> bytes:
    """Return the body of an answer of 200."""
    return b"{}" if event_id is None else b'{"id":"%s"}' % event_id.encode("ascii")


def rendered(headers: Iterable[Header], body: bytes) -> bytes:
    """Return headers, `Content-Length`, the blank line and the body, as they are sent."""
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"%scontent-length: %d\r\n\r\n%s" % (lines, len(body), body)


_GOOD: Final = rendered(good_headers(), b"{}")
_GOOD_WITH_ID: Final = rendered(good_headers(), good_body("%" * 32)).replace(b"%" * 32, b"%s")


def good(event_id: str | None, *, limits: str = "") -> bytes:
    """Return an answer of 200 as it is sent, but for the status line."""
    if limits:
        return rendered(good_headers(limits), good_body(event_id))
    return _GOOD if event_id is None else _GOOD_WITH_ID % event_id.encode("ascii")


def refused(refusal: Refusal) -> bytes:
    """Return a refusal as it is sent, but for the status line."""
    return rendered(refusal_headers(refusal), refusal.body)


async def send(channel: Send, status: int, headers: Iterable[Header], body: bytes) -> None:
    """Send a whole answer."""
    await channel(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await channel({"type": "http.response.body", "body": body})
