"""Instants as text, both ways. Inside crashfree an instant is a float: epoch seconds, UTC.

Out: always RFC 3339, UTC, six digits, `Z`. In: `parse_rfc3339` for what must be an instant (a
zone is required), `parse_timestamp` for what events carry (numbers, and text without a zone,
which means UTC, never local time). Pure; threads: any.

`datetime` is imported where it is used: on CPython 3.11 it reads a second implementation only to
throw it away, a twentieth of what `init` may cost, and `init` writes no date.

Source: sessions.md section 1.1, wire.md sections 3.2, 5 and 11.3.
"""

from __future__ import annotations

from crashfree._ground.typed import datetime

_MONTHS = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)


def rfc3339(seconds: float) -> str:
    """Return an instant as `2026-11-21T01:02:03.000004Z`.

    Raises ValueError for what no calendar holds (years beyond 1 to 9999, NaN, infinities).
    """
    import datetime as calendar

    # Plain arithmetic: cheaper than datetime.fromtimestamp, and nothing for freezegun to replace.
    try:
        moment = calendar.datetime(1970, 1, 1) + calendar.timedelta(0, seconds)
    except (OverflowError, ValueError):
        raise ValueError(f"{seconds!r} seconds since the epoch is no date") from None
    return moment.isoformat("T", "microseconds") + "Z"


def minute_of(seconds: float) -> int:
    """Return the start of the minute that holds an instant: seconds, a multiple of 60."""
    return int(seconds // 60) * 60


def epoch_of(moment: datetime) -> float:
    """Return an aware datetime as seconds since the epoch.

    Raises ValueError for a naive one: taken as local time it would be wrong on most machines, and
    taken as UTC on the others.
    """
    if moment.utcoffset() is None:
        raise ValueError(
            f"{moment!r} has no time zone; give it one, for instance datetime.now(timezone.utc)"
        )
    return moment.timestamp()


def parse_rfc3339(text: str) -> float:
    """Return the instant that `text` names; it must have a zone (`Z`, `+01:00` or `+0100`).

    Raises ValueError for anything else.
    """
    body, offset = _split_zone(text)
    if offset is None:
        raise ValueError(f"{text!r:.80} has no time zone")
    return _instant(body, text) - offset


def parse_timestamp(value: object) -> float:
    """Return the instant of an event: seconds since the epoch, or RFC 3339, where no zone is UTC.

    Raises ValueError for anything else, a blank in place of the `T` and numbers as text included.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
        rfc3339(seconds)
        return seconds
    if not isinstance(value, str):
        raise ValueError(f"a timestamp is a number or text, not {type(value).__name__}")
    body, offset = _split_zone(value)
    return _instant(body, value) - (offset or 0)


def parse_http_date(text: str) -> float:
    """Return the instant of an HTTP date, in any of its three forms.

    Raises ValueError for anything else.
    """
    import datetime as calendar

    words = text.replace(",", " ").replace("-", " ").split()
    try:
        if len(words) == 5:  # asctime: Sun Nov  6 08:49:37 1994
            _, month, day, clock, year = words
        elif len(words) == 6 and words[5].upper() in ("GMT", "UTC", "+0000"):
            _, day, month, year, clock, _ = words
        else:
            raise ValueError
        hour, minute, second = clock.split(":")
        number = _digits(year)
        if len(year) == 2:
            number += 1900 if number >= 70 else 2000
        moment = calendar.datetime(
            number,
            _MONTHS.index(month.lower()) + 1,
            _digits(day),
            _digits(hour),
            _digits(minute),
            min(_digits(second), 59),
            tzinfo=calendar.timezone.utc,
        )
    except ValueError:
        raise ValueError(f"{text!r:.80} is no HTTP date") from None
    return moment.timestamp()


def _split_zone(text: str) -> tuple[str, int | None]:
    """Split off the zone; its offset in seconds, None when there is none."""
    if text[-1:] in ("Z", "z"):
        return text[:-1], 0
    at = max(text.rfind("+"), text.rfind("-"))
    if at < 19:  # a sign of the date, or none
        return text, None
    zone = text[at + 1 :]
    if len(zone) == 5 and zone[2] == ":":
        zone = zone[:2] + zone[3:]
    if len(zone) != 4:
        raise ValueError(f"{text!r:.80} has no readable time zone")
    hours, minutes = _digits(zone[:2]), _digits(zone[2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"{text!r:.80} has no readable time zone")
    seconds = hours * 3600 + minutes * 60
    return text[:at], -seconds if text[at] == "-" else seconds


def _instant(body: str, text: str) -> float:
    """Return the instant of `2026-11-21T01:02:03[.fraction]` read as UTC."""
    import datetime as calendar

    fraction = body[19:]
    if (
        len(body) < 19
        or body[4] != "-"
        or body[7] != "-"
        or body[10] not in "Tt"
        or body[13] != ":"
        or body[16] != ":"
        or body[11:13] == "24"  # midnight by another name, which some Pythons read
        or (fraction and (fraction[0] != "." or len(fraction) == 1))
    ):
        raise ValueError(f"{text!r:.80} is not of the form 2026-11-21T01:02:03Z")
    # A leap second has no number of its own since the epoch.
    second = "59" if body[17:19] == "60" else body[17:19]
    try:
        moment = calendar.datetime.fromisoformat(f"{body[:17]}{second}+00:00")
        micros = _micros(fraction[1:])
    except ValueError:
        raise ValueError(f"{text!r:.80} is no date and time") from None
    return moment.timestamp() + micros / 1_000_000


def _micros(fraction: str) -> int:
    """Return the microseconds that the digits after the point spell; finer ones are cut off."""
    if not fraction:
        return 0
    if not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f"{fraction!r:.80} is no fraction")
    return int(fraction[:6].ljust(6, "0"))


def _digits(text: str) -> int:
    """Return the number that ASCII digits spell; int() alone would take `+1`, `1_0` and `١`."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r:.80} is not a number")
    return int(text)
