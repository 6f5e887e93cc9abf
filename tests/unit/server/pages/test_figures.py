from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.server.pages import figures


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "—"),
        (0.0, "0%"),
        (100.0, "100%"),
        (6 / 7 * 100, "85.7%"),
        (99.999, "99.99%"),
        (99.5, "99.5%"),
        (98 / 100 * 100, "98%"),
        (94.99, "94.9%"),
    ],
)
def test_a_rate_as_text(rate: float | None, text: str) -> None:
    assert figures.percent(rate) == text


@given(st.integers(1, 10**9), st.data())
def test_a_crash_is_never_rounded_away(total: int, data: st.DataObject) -> None:
    crashed = data.draw(st.integers(1, total))
    text = figures.percent((total - crashed) / total * 100)
    # One crash in a thousand million is less than a float can tell apart from none.
    if crashed / total > 1e-7:
        assert text != "100%"
    assert 0 <= float(text.rstrip("%")) <= 100


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0.0, "±0"), (0.34, "+0.34"), (-2.5, "\N{MINUS SIGN}2.5"), (0.001, "±0")],
)
def test_a_difference_has_its_sign(value: float | None, text: str) -> None:
    assert figures.points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0, "0"), (9_999, "9,999"), (12_345, "12.3k"), (4_190_000, "4.1M"), (2e9, "2G")],
)
def test_a_count_in_little_room(value: float | None, text: str) -> None:
    assert figures.short_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (340.0, "340 ms"),
        (4_200.0, "4.2 s"),
        (95_000.0, "95 s"),
        (180_000.0, "3 min"),
        (9_000_000.0, "2.5 h"),
    ],
)
def test_a_duration(value: float | None, text: str) -> None:
    assert figures.duration(value) == text


def test_an_instant_is_written_in_utc_and_says_so() -> None:
    text = str(figures.instant("2026-09-21T14:13:20Z"))
    assert 'datetime="2026-09-21T14:13:20Z"' in text
    assert ">2026-09-21 14:13<" in text
    assert "UTC" in text


@pytest.mark.parametrize(
    ("version", "short"),
    [("web@1.2.3", "1.2.3"), ("web@1.2.3+4", "1.2.3 (4)"), ("a" * 40, "a" * 12), ("x y", "x y")],
)
def test_a_short_version(version: str, short: str) -> None:
    assert figures.short_version(version) == short


def test_a_long_name_may_break_and_brings_no_markup() -> None:
    assert str(figures.breakable("a.b@<c>")) == "a.<wbr>b@<wbr>&lt;c&gt;"
