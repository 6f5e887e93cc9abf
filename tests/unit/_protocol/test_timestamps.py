from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._protocol.timestamps import (
    epoch_of,
    minute_of,
    parse_http_date,
    parse_rfc3339,
    parse_timestamp,
    rfc3339,
)

MOMENT = 1_795_225_248.404572  # 2026-11-21T01:40:48.404572Z, as a recorded session says


def test_an_instant_is_written_in_utc_with_six_digits_and_a_z() -> None:
    assert rfc3339(MOMENT) == "2026-11-21T01:40:48.404572Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(-0.5) == "1969-12-31T23:59:59.500000Z"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -float("inf"), 1e18, -1e18])
def test_what_no_calendar_holds_is_a_value_error(seconds: float) -> None:
    with pytest.raises(ValueError):
        rfc3339(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T01:40:48.404572Z", MOMENT),
        ("2026-11-21T01:40:48.404572z", MOMENT),
        ("2026-11-21t01:40:48.404572Z", MOMENT),
        ("2026-11-21T01:40:48.404572999Z", MOMENT),
        ("2026-11-21T02:40:48.404572+01:00", MOMENT),
        ("2026-11-21T02:40:48.404572+0100", MOMENT),
        ("2026-11-20T20:10:48.404572-05:30", MOMENT),
        ("2026-11-21T01:40:48.404572-00:00", MOMENT),
        ("2021-04-26T08:00:00+0100", 1_619_420_400.0),
        ("2026-11-21T01:41:34.371Z", 1_795_225_294.371),
        ("2026-11-21T01:41:34.3Z", 1_795_225_294.3),
        ("2026-11-21T01:41:34Z", 1_795_225_294.0),
        ("2016-12-31T23:59:60Z", 1_483_228_799.0),
        ("0001-01-01T00:00:00Z", -62_135_596_800.0),
    ],
)
def test_rfc_3339_with_a_zone_is_read(text: str, seconds: float) -> None:
    assert parse_rfc3339(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "yesterday",
        "2026-11-21",
        "2026-11-21T01:40:48",
        "2026-11-21 01:40:48Z",
        "2026-11-21T01:40Z",
        "2026-11-21T01:40:48.Z",
        "2026-11-21T01:40:48,5Z",
        "2026-11-21T01:40:48+1",
        "2026-11-21T01:40:48+01",
        "2026-11-21T01:40:48+01:0",
        "2026-11-21T01:40:48+24:00",
        "2026-11-21T01:40:48+01:60",
        "2026-11-21T01:40:48+01:00Z",
        "2026-11-21T01:40:48ZZ",
        "2026-11-21T01:40:48Z ",
        " 2026-11-21T01:40:48Z",
        "2026-13-21T01:40:48Z",
        "2026-02-29T01:40:48Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T01:60:00Z",
        "2026-11-21T01:40:61Z",
        "0000-01-01T00:00:00Z",
        "+026-11-21T01:40:48Z",
        "2026-W47-6T01:40:48Z",
        "20261121T014048Z",
        "٢٠٢٦-11-21T01:40:48Z",
        "2026-11-21T01:40:48.\u0665Z",
        "2026-11-21T01:40:48.1_0Z",
        "1795225248.4",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Text without a zone included: it names no instant. Source: sessions.md section 1.1."""
    with pytest.raises(ValueError):
        parse_rfc3339(text)


def test_a_refusal_shows_a_bounded_part_of_what_was_sent() -> None:
    with pytest.raises(ValueError) as caught:
        parse_rfc3339("x" * 60_000 + "Z")
    assert len(str(caught.value)) < 200


def test_events_may_carry_numbers_and_text_without_a_zone_which_is_utc() -> None:
    assert parse_timestamp(MOMENT) == MOMENT
    assert parse_timestamp(1_795_225_248) == 1_795_225_248.0
    assert parse_timestamp("2026-11-21T01:40:48") == 1_795_225_248.0
    assert parse_timestamp("2026-11-21T02:40:48+01:00") == 1_795_225_248.0


@pytest.mark.parametrize(
    "value", [None, True, [], "1795225248", "2026-11-21 01:00:00", float("nan"), 1e300, "now"]
)
def test_other_event_timestamps_are_refused(value: object) -> None:
    """Source: wire.md section 5 (`timestamp`)."""
    with pytest.raises(ValueError):
        parse_timestamp(value)


@given(st.integers(min_value=0, max_value=4_102_444_800_000_000))
@settings(deadline=None)
def test_every_microsecond_until_2100_survives_writing_and_reading(micros: int) -> None:
    seconds = micros / 1_000_000
    text = rfc3339(seconds)
    assert rfc3339(parse_rfc3339(text)) == text
    assert abs(parse_rfc3339(text) - seconds) < 1e-6


@given(
    st.datetimes(
        min_value=datetime(1971, 1, 1),
        max_value=datetime(2100, 1, 1),
        timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))),
    )
)
@settings(deadline=None)
def test_reading_agrees_with_the_standard_library(moment: datetime) -> None:
    assert parse_rfc3339(moment.isoformat()) == pytest.approx(moment.timestamp(), abs=1e-6)


def test_a_minute_begins_at_its_start() -> None:
    assert minute_of(parse_rfc3339("2024-01-01T12:00:59.999999Z")) % 60 == 0
    assert rfc3339(minute_of(parse_rfc3339("2024-01-01T12:00:59.999999Z"))) == (
        "2024-01-01T12:00:00.000000Z"
    )
    assert (
        minute_of(parse_rfc3339("2024-01-01T12:01:00Z"))
        - minute_of(parse_rfc3339("2024-01-01T12:00:59Z"))
        == 60
    )
    assert minute_of(-0.5) == -60


def test_an_aware_datetime_is_an_instant_and_a_naive_one_is_refused() -> None:
    """Never local time. Source: sessions.md sections 1.1 and 6 (W18)."""
    zone = timezone(timedelta(hours=1))
    assert epoch_of(datetime(2026, 11, 21, 2, 40, 48, tzinfo=zone)) == 1_795_225_248.0
    with pytest.raises(ValueError, match="no time zone"):
        epoch_of(datetime(2026, 11, 21, 2, 40, 48))


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "sun, 6 nov 1994 08:49:37 gmt",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_forms_of_an_http_date_are_read(text: str) -> None:
    assert parse_http_date(text) == 784_111_777.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "a b c d e f",
    ],
)
def test_other_texts_are_no_http_date(text: str) -> None:
    with pytest.raises(ValueError):
        parse_http_date(text)
