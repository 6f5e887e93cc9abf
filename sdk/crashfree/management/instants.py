"""Instants between Python and the API: aware datetimes here, RFC 3339 in UTC there.

Pure; threads: any. Source: releases.md section 4 (dates out and in).
"""

from __future__ import annotations

from datetime import datetime, timezone

from crashfree._protocol.timestamps import epoch_of, parse_timestamp, rfc3339


def to_wire(moment: datetime | float) -> str:
    """Return an instant as the API wants it; a float counts seconds since the epoch.

    Raises ValueError for a datetime without a time zone.
    """
    return rfc3339(epoch_of(moment) if isinstance(moment, datetime) else float(moment))


def from_wire(value: object) -> datetime | None:
    """Return an instant that the API gave; None when it gave none, or nothing readable."""
    if not isinstance(value, str):
        return None
    try:
        seconds = parse_timestamp(value)
    except ValueError:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc)


def with_offset(seconds: int, offset_minutes: int) -> str:
    """Return an instant in the author's own zone, to the second, as git knows it."""
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    local = datetime.fromtimestamp(seconds + offset_minutes * 60, timezone.utc)
    zone = f"{sign}{hours:02d}:{minutes:02d}"
    return local.strftime("%Y-%m-%dT%H:%M:%S") + ("Z" if zone in ("+00:00", "-00:00") else zone)
