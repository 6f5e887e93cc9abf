from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.server.health import (
    Counts,
    Durations,
    UserCounts,
    adoption,
    percent,
    stage_after,
)
from tests.support import vectors

_CASES = vectors.load("sessions.json")


def _cases(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in _CASES if case["input"]["kind"] == kind]


@pytest.mark.parametrize("case", _cases("derive_sessions"))
def test_each_rate_is_what_upstream_derives(case: dict[str, Any]) -> None:
    """Upstream derives from counters; from data that is consistent, both must say the same."""
    given, expect = case["input"], case["expect"]
    errored_all = given["errored_preaggr"] + given["error_set_size"]
    errored = max(0, errored_all - given["crashed"] - given["abnormal"] - given["unhandled"])
    counts = Counts(
        max(0, given["init"] - errored_all),
        errored,
        given["crashed"],
        given["abnormal"],
        given["unhandled"],
    )
    assert counts.healthy == expect["healthy"]
    assert counts.errored == expect["errored"]
    if counts.total == given["init"]:
        assert counts.total == expect["all"]
        rate = expect["crash_free_rate"]
        assert counts.crash_free_rate == (None if rate is None else pytest.approx(rate))


@pytest.mark.parametrize("case", _cases("derive_users"))
def test_each_user_rate_is_what_upstream_derives(case: dict[str, Any]) -> None:
    given, expect = case["input"], case["expect"]
    users = UserCounts(given["users"], given["errored"], given["crashed"], given["abnormal"])
    assert (users.seen, users.healthy, users.errored) == (
        expect["users"],
        expect["healthy"],
        expect["errored"],
    )
    rate = expect["crash_free_user_rate"]
    assert users.crash_free_rate == (None if rate is None else pytest.approx(rate))


@pytest.mark.parametrize("case", _cases("overview"))
def test_each_overview_percentage(case: dict[str, Any]) -> None:
    given, expect = case["input"], case["expect"]
    hurt = given["errored_set"] + given["errored_preaggr"]
    worse = [given[f"sessions_{name}"] for name in ("crashed", "abnormal", "unhandled")]
    counts = Counts(given["total_sessions"] - hurt, max(0, hurt - sum(worse)), *worse)
    assert percent(counts.crash_free_rate) == expect["crash_free_sessions"]
    assert percent(counts.unhandled_rate) == expect["unhandled_session_rate"]
    assert counts.errored == expect["sessions_errored"]


@pytest.mark.parametrize("case", _cases("adoption_24h"))
def test_each_adoption(case: dict[str, Any]) -> None:
    given, expect = case["input"], case["expect"]
    sessions = adoption(given["release_sessions"], given["project_sessions"])
    assert sessions == expect["sessions_adoption"]
    assert adoption(given["release_users"], given["project_users"]) == expect["adoption"]


@pytest.mark.parametrize("case", _cases("adoption_stage"))
def test_each_stage_of_adoption(case: dict[str, Any]) -> None:
    given = case["input"]
    stage = stage_after(
        given["previous"],
        environment=given["environment"],
        release_sessions=given["release"],
        total_sessions=given["total"],
    )
    assert stage == case["expect"]["stage"]


_NUMBER = st.integers(0, 1000)


@given(st.builds(Counts, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER))
def test_a_rate_is_none_or_between_0_and_1(counts: Counts) -> None:
    for rate in (
        counts.crash_free_rate,
        counts.crash_rate,
        counts.unhandled_rate,
        counts.errored_rate,
        counts.abnormal_rate,
    ):
        assert (rate is None) == (counts.total == 0)
        assert rate is None or 0 <= rate <= 1


@given(
    st.builds(Counts, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER),
    st.builds(Counts, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER),
)
def test_the_rate_of_a_union_lies_between_those_of_its_parts(one: Counts, other: Counts) -> None:
    rates = [counts.crash_free_rate for counts in (one, other) if counts.total]
    union = one.plus(other).crash_free_rate
    assert (union is None) == (not rates)
    if union is not None:
        known = [rate for rate in rates if rate is not None]
        assert min(known) - 1e-12 <= union <= max(known) + 1e-12


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_lies_among_the_durations_and_grows(values: list[int], share: float) -> None:
    durations = Durations.of(values)
    found = durations.quantile(share)
    assert found is not None
    assert min(values) / 1000 <= found <= max(values) / 1000 * (1 + 1e-12)
    half = durations.quantile(share / 2)
    assert half is not None
    assert half <= found * (1 + 1e-12)


def test_quantiles_are_interpolated_in_milliseconds() -> None:
    durations = Durations.of([3_000_000, 1_000_000, 2_000_000, 4_000_000])
    assert durations.quantile(0.5) == 2500
    assert durations.quantile(1) == durations.maximum == 4000
    assert durations.average == 2500
    assert Durations.of([]).quantile(0.5) is None
    assert Durations.of([]).average is None
    assert Durations.of([]).maximum is None
