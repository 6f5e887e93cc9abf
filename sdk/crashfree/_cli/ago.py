"""How long ago something was, and instants, in words for a table.

Pure but for `now`, which is given. Source: releases.md section 5.1.
"""

from __future__ import annotations

from datetime import datetime


def ago(moment: datetime | None, now: float) -> str:
    """Return `3 hours ago`; a dash for no moment at all."""
    if moment is None:
        return "-"
    past = now - moment.timestamp()
    return f"in {span(-past)}" if past < 0 else f"{span(past)} ago"


def span(seconds: float) -> str:
    """Return a duration in its largest unit that is at least one."""
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return _counted(int(seconds // size), unit)
    return _counted(int(seconds), "second")


def instant(moment: datetime | None) -> str:
    """Return `2026-01-15 10:00:00 UTC`; a dash for none."""
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
