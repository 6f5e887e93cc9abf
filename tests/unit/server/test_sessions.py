"""Merging updates of one session: the order they arrive in says nothing."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crashfree.server.facts import SessionFact
from crashfree.server.sessions import (
    ABNORMAL,
    CRASHED,
    ERRORED,
    HEALTHY,
    UNHANDLED,
    SessionRow,
    anomaly,
    begun,
    column_of,
    merged,
)


def _fact(**fields: Any) -> SessionFact:
    given: dict[str, Any] = {
        "sid": b"s" * 16,
        "release": "a",
        "environment": "",
        "did": None,
        "started_us": 0,
        "changed_us": 1,
        "rank": 1,
        "init": False,
        "status": "ok",
        "errors": 0,
        "duration_us": None,
        "mechanism": None,
        **fields,
    }
    return SessionFact(**given)


_FACTS = st.builds(
    lambda rank, status, errors, init, duration: _fact(
        rank=rank,
        changed_us=rank * 10,
        status=status,
        errors=errors,
        init=init,
        duration_us=duration,
    ),
    st.integers(0, 5),
    st.sampled_from(["ok", "exited", "vanished", "unhandled", "abnormal", "crashed"]),
    st.integers(0, 3),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 9)),
)


def _all(facts: list[SessionFact]) -> SessionRow:
    row = begun(facts[0], 1, 1, 0)
    for fact in facts[1:]:
        row = merged(row, fact, 0)
    return row


@given(st.lists(_FACTS, min_size=1, max_size=4, unique_by=lambda fact: (fact.rank, fact.status)))
def test_the_order_of_arrival_changes_nothing(facts: list[SessionFact]) -> None:
    assert len({_all(list(order)) for order in permutations(facts)}) == 1


@given(st.lists(_FACTS, min_size=1, max_size=5))
def test_a_replay_changes_nothing(facts: list[SessionFact]) -> None:
    row = _all(facts)
    for fact in facts:
        again = merged(row, fact, 0)
        assert again == row


def test_a_status_is_raised_and_never_lowered() -> None:
    crashed = begun(_fact(status="crashed", errors=1, rank=1), 1, 1, 0)
    assert merged(crashed, _fact(status="exited", rank=9), 0).status == "crashed"
    exited = begun(_fact(status="exited", rank=9), 1, 1, 0)
    assert merged(exited, _fact(status="crashed", errors=1, rank=1), 0).status == "crashed"


def test_a_user_who_comes_later_is_filled_in_and_one_who_is_there_stays() -> None:
    row = begun(_fact(), 1, 1, 0)
    row = merged(row, _fact(rank=2), 7)
    assert row.user_id == 7
    assert merged(row, _fact(rank=3), 8).user_id == 7


def test_each_status_has_its_column() -> None:
    assert column_of("ok", 0) == column_of("exited", 0) == HEALTHY
    assert column_of("ok", 1) == column_of("exited", 2) == column_of("vanished", 0) == ERRORED
    assert column_of("crashed", 0) == CRASHED
    assert column_of("abnormal", 0) == ABNORMAL
    assert column_of("unhandled", 0) == UNHANDLED


def test_what_is_odd_is_named() -> None:
    row = begun(_fact(init=True, status="exited"), 1, 1, 0)
    again = _fact(init=True, status="exited")
    assert anomaly(row, again, merged(row, again, 0)) == "duplicate_init"
    late = _fact(status="ok", rank=0)
    assert anomaly(row, late, merged(row, late, 0)) == "late_update"
    raised = _fact(status="crashed", rank=2)
    assert anomaly(row, raised, merged(row, raised, 0)) is None
