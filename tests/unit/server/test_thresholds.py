"""The limits that colour rates: defaults, change, refusal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crashfree.server.thresholds import Thresholds, load, mark
from tests.support.catalog import Catalog, catalog


@pytest.fixture(scope="module")
def shop() -> Iterator[Catalog]:
    with catalog() as made:
        yield made


def test_the_defaults_are_those_of_the_documents() -> None:
    assert Thresholds() == (99.5, 98.0)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (None, None),
        (100.0, "good"),
        (99.5, "good"),
        (99.49, "fair"),
        (98.0, "fair"),
        (97.99, "bad"),
        (0.0, "bad"),
    ],
)
def test_a_rate_is_marked_by_the_limits_it_reaches(rate: float | None, expected: object) -> None:
    assert mark(rate, Thresholds()) == expected


def test_limits_are_kept(shop: Catalog) -> None:
    path = shop.o("thresholds/")
    assert shop.get(path) == {"good": 99.5, "fair": 98.0}
    assert shop.put(path, {"good": 99.9}) == {"good": 99.9, "fair": 98.0}
    assert shop.put(path, {"good": "95.5 %", "fair": 90}) == {"good": 95.5, "fair": 90.0}
    assert load(shop.server.store) == (95.5, 90.0)
    assert shop.get(path) == {"good": 95.5, "fair": 90.0}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"good": 100.1}, "good"),
        ({"fair": -1}, "fair"),
        ({"good": "much"}, "good"),
        ({"good": True}, "good"),
        ({"good": None}, "good"),
        ({"good": float("nan")}, "good"),
        ({"good": 90, "fair": 91}, "fair"),
    ],
)
def test_what_is_no_rate_is_refused_by_its_name(
    shop: Catalog, body: dict[str, object], field: str
) -> None:
    before = shop.get(shop.o("thresholds/"))
    refused = shop.answer("PUT", shop.o("thresholds/"), body)
    assert refused.status == 400
    if field in refused.json:  # NaN is no JSON to begin with
        assert list(refused.json) == [field]
    assert shop.get(shop.o("thresholds/")) == before
