from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.server.shortids import ShortId, decode, encode, parse, short_id


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_number_survives_its_text(number: int) -> None:
    assert decode(encode(number)) == number
    assert decode(encode(number).lower()) == number


def test_known_numbers() -> None:
    assert encode(0) == "0"
    assert encode(3111) == "317"
    assert short_id("my-app", 42) == "MY-APP-1A"
    assert parse("my-app-1a") == ShortId("my-app", 42)
    assert parse("SENTRY_317") == ShortId("sentry", 3111)
    assert decode("OIL") == decode("011")


@pytest.mark.parametrize("text", ["", "A", "-1", "A-", "A-U", "A-" + "Z" * 14, "A-1.", "A-é"])
def test_what_is_no_short_id_is_none(text: str) -> None:
    assert parse(text) is None


def test_nothing_spells_no_number() -> None:
    assert decode("") is None
