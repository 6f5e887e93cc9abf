"""Every status and every failure has an outcome; wire.md section 11.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._delivery.outcome import REASONS, Outcome, of_status, outcome_of
from crashfree._ground.http import Reply
from crashfree.errors import Unreachable


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (200, "accepted", None),
        (204, "accepted", None),
        (400, "refused", "send_error"),
        (401, "refused", "send_error"),
        (403, "refused", "send_error"),
        (404, "refused", "send_error"),
        (405, "refused", "send_error"),
        (413, "too_large", "send_error"),
        (429, "limited", None),
        (500, "refused", "send_error"),
        (503, "refused", "send_error"),
        (301, "refused", "send_error"),
        (302, "refused", "send_error"),
        (100, "refused", "send_error"),
    ],
)
def test_the_table_of_statuses(status: int, outcome: Outcome, reason: str | None) -> None:
    assert outcome_of(Reply(status, {}, b"")) == outcome
    assert REASONS[outcome] == reason


@given(st.integers(min_value=-10, max_value=10_000))
def test_every_number_is_a_status_with_an_outcome(status: int) -> None:
    outcome = of_status(status)
    assert (REASONS[outcome] is None) == (200 <= status < 300 or status == 429)


def test_silence_is_told_apart_by_what_was_written() -> None:
    assert outcome_of(Unreachable("refused", sent=False)) == "unwritten"
    assert outcome_of(Unreachable("timeout", sent=True)) == "unanswered"
    assert REASONS["unwritten"] == REASONS["unanswered"] == "network_error"


def test_anything_else_is_a_fault_of_ours() -> None:
    assert outcome_of(ZeroDivisionError()) == "failed"
    assert REASONS["failed"] == "internal_sdk_error"
