"""What a server asks a client to hold back: the grammar of two response headers.

The result maps a data category, or `"*"` for all, to seconds from now. A malformed part is
skipped and never widens a limit; within one header the longest limit of a category counts. Pure:
the caller keeps the deadlines. Threads: any.

Source: wire.md sections 11.2 to 11.4.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.typed import Literal, TypeAlias, cast
from crashfree._protocol.limits import DEFAULT_RATE_LIMIT, LONGEST_RATE_LIMIT
from crashfree._protocol.timestamps import parse_http_date
from crashfree.types import DataCategory

LimitedCategory: TypeAlias = DataCategory | Literal["*"]
RateLimits: TypeAlias = Mapping[LimitedCategory, float]

_CATEGORIES: tuple[DataCategory, ...] = (
    "default",
    "error",
    "transaction",
    "security",
    "attachment",
    "session",
    "profile",
    "replay",
    "monitor",
    "span",
    "feedback",
    "metric_bucket",
    "profile_chunk",
    "log_item",
    "log_byte",
    "trace_metric",
    "trace_metric_byte",
    "user_report",
    "internal",
)
KNOWN_CATEGORIES: frozenset[str] = frozenset(_CATEGORIES)
"""Limits for other categories do nothing: we send nothing that they could be about."""


def response_limits(
    status: int, rate_limits: str | None, retry_after: str | None, *, now: float
) -> dict[LimitedCategory, float]:
    """Return the limits of one response.

    `X-Sentry-Rate-Limits` counts on any status; `Retry-After` on 429 alone, and only when the
    other header said nothing readable. `now` is the wall clock, for dates.
    """
    limits = _read(rate_limits) if rate_limits is not None else None
    if limits is not None:
        return limits
    return {"*": parse_retry_after(retry_after, now=now)} if status == 429 else {}


def parse_rate_limits(header: str) -> dict[LimitedCategory, float]:
    """Return the limits that an `X-Sentry-Rate-Limits` header states."""
    return _read(header) or {}


def parse_retry_after(header: str | None, *, now: float) -> float:
    """Return the seconds that a `Retry-After` header asks for; 60 when it is not readable."""
    text = (header or "").strip()
    seconds = _seconds(text)
    if seconds is None:
        try:
            seconds = parse_http_date(text) - now
        except ValueError:
            return DEFAULT_RATE_LIMIT
    return min(max(seconds, 0.0), LONGEST_RATE_LIMIT)


def _read(header: str) -> dict[LimitedCategory, float] | None:
    """Return the limits of a header; None when not one part of it is readable."""
    readable = False
    limits: dict[LimitedCategory, float] = {}
    for part in "".join(header.split()).split(","):
        fields = part.split(":")
        seconds = _seconds(fields[0])
        if seconds is None or len(fields) < 2:
            continue
        readable = True
        seconds = min(max(seconds, 0.0), LONGEST_RATE_LIMIT)
        for category in _categories(fields):
            limits[category] = max(seconds, limits.get(category, 0.0))
    return limits if readable else None


def _categories(fields: list[str]) -> list[LimitedCategory]:
    if not fields[1]:
        return ["*"]
    names = [name for name in fields[1].split(";") if name in KNOWN_CATEGORIES]
    namespaces = fields[4] if len(fields) > 4 else ""
    if namespaces and "custom" not in namespaces.split(";"):
        names = [name for name in names if name != "metric_bucket"]
    return cast("list[LimitedCategory]", names)


def _seconds(text: str) -> float | None:
    """Return a finite number; None when the text is none."""
    # float() takes more than the grammar: underscores and the digits of other scripts.
    if not text.isascii() or "_" in text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds - seconds == 0.0 else None
