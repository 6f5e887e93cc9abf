"""Numbers as people read them; “—” where there is no data.

A rate is cut, never rounded up: 99.96 % is not 100 %. Times are written in UTC inside `<time>`;
the page's script says them in the viewer's own zone.

Pure; threads: any. Source: sessions.md section 5.3.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

from markupsafe import Markup, escape

from crashfree._protocol.timestamps import parse_timestamp
from crashfree.errors import InvalidRelease
from crashfree.release import Release

NO_DATA: Final = "—"
_FINE: Final = 95.0
_STYLES: Final = {"day": "%Y-%m-%d", "clock": "%H:%M:%S"}


def percent(rate: float | None) -> str:
    """Return a rate in percent as text: `99.52%`, `85.7%`, `0%`; two digits from 95 up."""
    if rate is None:
        return NO_DATA
    digits = 2 if rate >= _FINE else 1
    scale = 10**digits
    # What is counted exactly must not fall one step because a float lies a hair below it.
    cut = int(rate * scale + 1e-6) / scale
    return f"{cut:.{digits}f}".rstrip("0").rstrip(".") + "%"


def share(part: float | None) -> str:
    """Return a rate between 0 and 1 in percent as text."""
    return percent(None if part is None else part * 100)


def points(difference: float | None) -> str:
    """Return a difference of two rates, in percentage points, with its sign."""
    if difference is None:
        return NO_DATA
    text = f"{abs(difference):.2f}".rstrip("0").rstrip(".")
    if text == "0":
        return "±0"
    return ("+" if difference > 0 else "\N{MINUS SIGN}") + text


def number(count: float | None) -> str:
    """Return a count with separators: `12,345`."""
    return NO_DATA if count is None else f"{count:,.0f}"


def short_number(count: float | None) -> str:
    """Return a count in little room: `12.3k`, `4.1M`."""
    if count is None:
        return NO_DATA
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= limit:
            scale = 1e3 if unit == "k" else limit
            cut = int(count / scale * 10) / 10
            return f"{cut:.1f}".removesuffix(".0") + unit
    return number(count)


def duration(milliseconds: float | None) -> str:
    """Return how long something took: `340 ms`, `4.2 s`, `3 min`, `2.5 h`."""
    if milliseconds is None:
        return NO_DATA
    for limit, size, unit in ((1e3, 1.0, "ms"), (12e4, 1e3, "s"), (72e5, 6e4, "min")):
        if milliseconds < limit:
            return _sized(milliseconds / size, unit)
    return _sized(milliseconds / 36e5, "h")


def _sized(amount: float, unit: str) -> str:
    text = f"{amount:.1f}" if amount < 10 else f"{amount:.0f}"
    return f"{text.removesuffix('.0')} {unit}"


def size(count: float | None) -> str:
    """Return a number of bytes: `12 kB`."""
    if count is None:
        return NO_DATA
    for limit, scale, unit in ((1e3, 1, "bytes"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if count < limit:
            return _sized(count / scale, unit)
    return _sized(count / 1e9, "GB")


def instant(text: str | float | None, style: str = "full") -> Markup:
    """Return a `<time>`: `full` with date and time, `day`, `clock`, or `ago` (how long since).

    Takes the API's text or seconds since the epoch. UTC is what is written here.
    """
    if text is None or text == "":
        return Markup(NO_DATA)
    seconds = parse_timestamp(text) if isinstance(text, str) else text
    at = datetime.fromtimestamp(seconds, timezone.utc)
    shown = at.strftime(_STYLES.get(style, "%Y-%m-%d %H:%M"))
    machine = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" data-style="{}" title="{} UTC">{}</time>').format(
        machine, style, at.strftime("%Y-%m-%d %H:%M:%S"), shown
    )


def short_version(version: str) -> str:
    """Return a release's short name: without its package, a commit in few letters."""
    try:
        return Release.parse(version).description
    except InvalidRelease:
        return version


def breakable(text: str) -> Markup:
    """Return a long name that may break after its separators."""
    marked = str(escape(text))
    for separator in ("/", "@", "."):
        marked = marked.replace(separator, separator + "<wbr>")
    return Markup(marked)
