"""When to ask again. Source: releases.md section 4.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.management.retries import BUSY, Attempt, RetryPolicy, pause_before_next

POLICY = RetryPolicy()


def pause(
    *,
    number: int = 1,
    elapsed: float = 0.0,
    status: int | None = 503,
    sent: bool = True,
    retry_after: str | None = None,
    repeatable: bool = True,
    conflict: bool = False,
    policy: RetryPolicy = POLICY,
    now: float = 1_000_000.0,
) -> float | None:
    return pause_before_next(
        policy,
        Attempt(number, elapsed, status, sent, retry_after),
        repeatable=repeatable,
        waits_for_conflict=conflict,
        roll=0.5,
        now=now,
    )


def test_the_pauses_grow_by_half_up_to_five_seconds() -> None:
    assert [pause(number=number) for number in range(1, 7)] == [1.0, 1.5, 2.25, 3.375, 5.0, None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 501, 302, 200])
def test_an_answer_that_will_not_change_is_the_last_word(status: int) -> None:
    assert pause(status=status) is None


@pytest.mark.parametrize("status", sorted(BUSY))
def test_a_busy_server_is_asked_again(status: int) -> None:
    assert pause(status=status) is not None


@pytest.mark.parametrize(("header", "expected"), [("7", 7.0), ("0", 0.0), (" 3 ", 3.0)])
def test_retry_after_in_seconds_is_honoured(header: str, expected: float) -> None:
    assert pause(status=429, retry_after=header) == expected


def test_retry_after_as_a_date_counts_from_now() -> None:
    header = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert pause(status=429, retry_after=header, now=784_111_777.0 - 12.0) == 12.0
    assert pause(status=429, retry_after=header, now=784_111_777.0 + 12.0) == 0.0


@pytest.mark.parametrize("header", ["soon", "-3", "1.5", "", "\u0661"])
def test_an_unreadable_retry_after_falls_back_to_the_usual_pause(header: str) -> None:
    assert pause(status=429, retry_after=header) == 1.0


def test_a_pause_that_ends_behind_the_budget_is_not_begun() -> None:
    assert pause(status=429, retry_after="100", elapsed=19.0) == 100.0
    assert pause(status=429, retry_after="100", elapsed=21.0) is None


def test_what_must_not_arrive_twice_is_repeated_only_when_it_cannot_have_arrived() -> None:
    """Deploys are not idempotent."""
    assert pause(status=503, repeatable=False) is None
    assert pause(status=None, sent=True, repeatable=False) is None
    assert pause(status=None, sent=False, repeatable=False) is not None
    assert pause(status=429, repeatable=False) is not None


def test_an_address_where_nobody_answers_is_given_up_early() -> None:
    assert pause(status=None, sent=False, number=2) is not None
    assert pause(status=None, sent=False, number=3) is None
    assert pause(status=None, sent=True, number=5) is not None


def test_a_conflict_is_waited_for_only_where_commits_are_stored() -> None:
    assert pause(status=409, conflict=False) is None
    assert pause(status=409, conflict=True, number=50, elapsed=50.0) == 5.0
    assert pause(status=409, conflict=True, elapsed=59.5) is None


@given(
    st.integers(1, 50),
    st.floats(0, 500),
    st.one_of(st.none(), st.integers(100, 599)),
    st.booleans(),
    st.one_of(st.none(), st.text(max_size=8), st.integers(0, 10_000).map(str)),
)
def test_no_pause_is_negative_or_ends_behind_the_budget(
    number: int, elapsed: float, status: int | None, sent: bool, header: str | None
) -> None:
    found = pause(number=number, elapsed=elapsed, status=status, sent=sent, retry_after=header)
    assert found is None or (found >= 0.0 and elapsed + found <= POLICY.budget)
