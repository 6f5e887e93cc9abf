"""Losses are counted once, reported once, and told to the program."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crashfree._delivery.discards import Discards
from crashfree._ground import log


def test_losses_add_up_by_reason_and_category() -> None:
    discards = Discards()
    discards.record("queue_overflow", "error")
    discards.record("queue_overflow", "error", 2)
    discards.record("network_error", "session", 7)
    assert discards.take() == {("queue_overflow", "error"): 3, ("network_error", "session"): 7}
    assert discards.take() == {}


def test_a_quantity_of_nothing_is_no_loss() -> None:
    discards = Discards()
    discards.record("send_error", "attachment", 0)
    assert not discards.pending()


def test_what_is_given_back_is_reported_with_the_next_report() -> None:
    """complaints-transport row 44."""
    discards = Discards()
    discards.record("before_send", "error", 2)
    taken = discards.take()
    discards.record("before_send", "error", 1)
    discards.give_back(taken)
    assert discards.pending()
    assert discards.take() == {("before_send", "error"): 3}


def test_totals_outlive_the_reports() -> None:
    discards = Discards()
    discards.record("before_send", "error", 2)
    discards.take()
    discards.record("before_send", "error")
    assert discards.totals() == {("before_send", "error"): 3}


def test_the_program_is_told_of_each_loss() -> None:
    """complaints-transport row 39."""
    told: list[tuple[str, str, int]] = []
    discards = Discards(lambda *loss: told.append(loss))
    discards.record("sample_rate", "error")
    discards.record("network_error", "attachment", 512)
    assert told == [("sample_rate", "error", 1), ("network_error", "attachment", 512)]


def test_the_program_is_told_later_where_there_is_a_later() -> None:
    """`on_drop` is user code; it must not run inside the code that drops."""
    told: list[str] = []
    jobs: list[Callable[[], None]] = []

    def later(job: Callable[[], None]) -> bool:
        jobs.append(job)
        return True

    discards = Discards(lambda reason, category, quantity: told.append(reason), later=later)
    discards.record("sample_rate", "error")
    discards.record("before_send", "error")
    assert told == []
    for job in jobs:
        job()
    assert told == ["sample_rate", "before_send"]


def test_nobody_runs_it_later_then_it_runs_now() -> None:
    told: list[str] = []
    discards = Discards(
        lambda reason, category, quantity: told.append(reason), later=lambda job: False
    )
    discards.record("sample_rate", "error")
    assert told == ["sample_rate"]


def test_a_callback_that_raises_harms_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.forget_repeats()

    def broken(*loss: object) -> None:
        raise ValueError("mine")

    discards = Discards(broken)
    discards.record("sample_rate", "error")
    assert discards.take() == {("sample_rate", "error"): 1}


def test_a_child_reports_none_of_the_parents_losses() -> None:
    discards = Discards()
    discards.record("before_send", "error")
    discards.forget()
    assert discards.take() == {}
    assert discards.totals() == {}
