"""The range a question is about: `statsPeriod`, `start`, `end`, `interval`.

A range is taken exactly as it was asked for. Intervals begin at whole multiples of their length
since the epoch (so days are UTC days), and the first and last are cut where the range ends.

Pure; threads: any. Source: sessions.md section 5.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from crashfree._protocol.timestamps import parse_timestamp
from crashfree.server.endpoint import Problem

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DEFAULT_PERIOD: Final = 90 * 86_400
_LONGEST: Final = 10 * 366 * 86_400
MOST_POINTS: Final = 10_000
MICRO: Final = 1_000_000


class Range(NamedTuple):
    """From `start_us` up to, not including, `end_us`."""

    start_us: int
    end_us: int


def parse_period(text: str) -> int:
    """Return the seconds of `24h`, `14d`, `30m`; Problem(400) for anything else."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise Problem(400, f"Invalid statsPeriod: {text[:20]!r}")
    seconds = int(number) * _UNITS[unit]
    if not 0 < seconds <= _LONGEST:
        raise Problem(400, f"Invalid statsPeriod: {text[:20]!r}")
    return seconds


def parse_range(query: Mapping[str, str], now: float, *, default: int = DEFAULT_PERIOD) -> Range:
    """Return the range that a query asks for; `start` and `end` need each other."""
    start, end = query.get("start"), query.get("end")
    if start or end:
        if not (start and end):
            raise Problem(400, "start and end are both required")
        first, last = _instant_us(start), _instant_us(end)
        if first >= last:
            raise Problem(400, "start must be before end")
        return Range(first, last)
    period = query.get("statsPeriod")
    seconds = parse_period(period) if period else default
    # Microseconds are whole numbers; what starts at this very instant is in.
    end_us = int(now * MICRO) + 1
    return Range(end_us - seconds * MICRO, end_us)


def health_range(query: Mapping[str, str], now: float) -> Range | None:
    """Return the range that health is asked about; None: the last 24 hours.

    `summaryStatsPeriod` as the original has it, or the ends, `summaryStart` and `summaryEnd`.
    """
    period = query.get("summaryStatsPeriod") or query.get("healthStatsPeriod")
    if period:
        return parse_range({"statsPeriod": period}, now)
    ends = {"start": query.get("summaryStart", ""), "end": query.get("summaryEnd", "")}
    return parse_range(ends, now) if any(ends.values()) else None


def _instant_us(text: str) -> int:
    try:
        return round(parse_timestamp(text if "T" in text else f"{text}T00:00:00") * MICRO)
    except ValueError:
        raise Problem(400, f"start or end date not in a valid format: {text[:40]!r}") from None


def parse_interval(text: str | None, span: Range) -> int:
    """Return the length of an interval in microseconds; None: an hour, or a day for long ranges."""
    if not text:
        long = span.end_us - span.start_us > 7 * 86_400 * MICRO
        return (86_400 if long else 3600) * MICRO
    try:
        step = parse_period(text) * MICRO
    except Problem:
        raise Problem(400, f"Invalid interval: {text[:20]!r}") from None
    if step < 60 * MICRO:
        raise Problem(400, "Interval cannot be smaller than a minute")
    if (span.end_us - span.start_us) / step > MOST_POINTS:
        raise Problem(
            400, "Your interval and date range would create too many results; ask for a larger one"
        )
    return step
