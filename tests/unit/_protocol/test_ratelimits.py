"""Rules of wire.md sections 11.2 and 11.3; the vectors are the specification's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._protocol.ratelimits import (
    KNOWN_CATEGORIES,
    parse_rate_limits,
    parse_retry_after,
    response_limits,
)
from crashfree._protocol.timestamps import parse_rfc3339
from tests.support.vectors import load

VECTORS: dict[str, Any] = load("rate_limits.json")


def test_the_known_categories_are_the_specification_s() -> None:
    assert sorted(KNOWN_CATEGORIES) == VECTORS["known_categories"]


@pytest.mark.parametrize("case", VECTORS["header"], ids=lambda case: repr(case["header"]))
def test_a_header_gives_seconds_by_category(case: dict[str, Any]) -> None:
    assert parse_rate_limits(case["header"]) == case["limits"]


@pytest.mark.parametrize("case", VECTORS["retry_after"], ids=lambda c: repr(c["retry_after"]))
def test_retry_after_gives_seconds(case: dict[str, Any]) -> None:
    now = parse_rfc3339(case["now"])
    assert parse_retry_after(case["retry_after"], now=now) == case["seconds"]


@pytest.mark.parametrize("case", VECTORS["response"], ids=lambda case: case["about"])
def test_a_response_gives_limits(case: dict[str, Any]) -> None:
    limits = response_limits(
        case["status"], case["x_sentry_rate_limits"], case["retry_after"], now=0.0
    )
    assert limits == case["limits"]


@pytest.mark.parametrize("namespaces", ["spans", "spans;transactions", "Custom"])
def test_a_limit_on_other_metrics_than_ours_does_nothing(namespaces: str) -> None:
    header = f"60:metric_bucket;error:organization:quota:{namespaces}"
    assert parse_rate_limits(header) == {"error": 60.0}


def test_metrics_without_namespaces_or_with_custom_among_them_are_limited() -> None:
    assert parse_rate_limits("60:metric_bucket:organization:quota:") == {"metric_bucket": 60.0}
    assert parse_rate_limits("60:metric_bucket:o:q:spans;custom") == {"metric_bucket": 60.0}


@pytest.mark.parametrize("number", ["1_0", "٦٠", "0x10", "infinity", "-inf", "1e999", ""])
def test_what_is_no_finite_number_limits_nothing(number: str) -> None:
    assert parse_rate_limits(f"{number}:error:key") == {}
    assert parse_rate_limits(f"{number}::key") == {}


def test_only_separators_name_no_category_and_so_limit_none() -> None:
    """An empty field means all; a field of separators is not empty."""
    assert parse_rate_limits("60:;:key") == {}


GROUP = st.text(st.sampled_from("0123456789.:;,-+ eroinfnsa*\t"), max_size=40)


@given(GROUP)
@settings(deadline=None)
def test_no_header_widens_a_limit_or_leaves_the_range(header: str) -> None:
    limits = parse_rate_limits(header)
    assert set(limits) <= KNOWN_CATEGORIES | {"*"}
    assert all(0.0 <= seconds <= 86_400.0 for seconds in limits.values())
    if "*" in limits:
        squeezed = "".join(header.split())
        fields = [part.split(":") for part in squeezed.split(",")]
        assert any(len(field) > 1 and field[1] == "" for field in fields)


@given(GROUP, GROUP)
@settings(deadline=None)
def test_a_further_limit_never_shortens_an_earlier_one(first: str, second: str) -> None:
    alone = parse_rate_limits(first)
    together = parse_rate_limits(f"{first},{second}")
    assert all(together[category] >= seconds for category, seconds in alone.items())


@given(st.text(max_size=40), st.floats(0, 4e9))
@settings(deadline=None)
def test_any_retry_after_gives_seconds_within_a_day(header: str, now: float) -> None:
    assert 0.0 <= parse_retry_after(header, now=now) <= 86_400.0


def test_the_known_categories_are_those_of_the_vocabulary() -> None:
    import ast
    from pathlib import Path

    import crashfree.types

    tree = ast.parse(Path(crashfree.types.__file__).read_text(encoding="utf-8"))
    [words] = [
        {leaf.value for leaf in ast.walk(node.value) if isinstance(leaf, ast.Constant)}
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DataCategory"
    ]
    assert words == KNOWN_CATEGORIES
