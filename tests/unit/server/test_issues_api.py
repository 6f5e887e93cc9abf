"""What the issue endpoints answer beyond the issue itself: neighbours, ranges, reasons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.catalog import Catalog, catalog
from tests.support.serving import rfc3339

HOUR = 3600.0


@pytest.fixture
def shop() -> Iterator[Catalog]:
    with catalog() as made:
        yield made


def test_an_event_names_the_ones_before_and_after_it(shop: Catalog) -> None:
    """Two at the same instant included."""
    ids = [shop.event("web@1"), shop.event("web@1")]
    shop.clock.advance(1)
    ids.append(shop.event("web@1"))
    shop.event("web@1", kind="KeyError")

    def neighbours(event: str) -> tuple[object, object]:
        found = shop.get(shop.o(f"issues/1/events/{event}/"))
        return found["previousEventID"], found["nextEventID"]

    assert neighbours(ids[0]) == (None, ids[1])
    assert neighbours(ids[1]) == (ids[0], ids[2])
    assert neighbours(ids[2]) == (ids[1], None)
    assert neighbours("latest") == (ids[1], None)
    assert neighbours("oldest") == (None, ids[1])


def test_issues_of_a_range_are_those_with_an_event_in_it(shop: Catalog) -> None:
    begin = shop.clock.time()
    shop.event("web@1", kind="Early")
    shop.event("web@1", kind="Both")
    shop.clock.advance(10 * HOUR)
    shop.event("web@1", kind="Between")
    shop.clock.advance(10 * HOUR)
    shop.event("web@1", kind="Both")
    shop.event("web@1", kind="Late")

    def seen(**query: str) -> set[str]:
        found = shop.get(shop.p("issues/", query="", **query))
        return {issue["metadata"]["type"] for issue in found}

    assert seen() == {"Early", "Both", "Between", "Late"}
    assert seen(statsPeriod="1h") == {"Both", "Late"}
    assert seen(statsPeriod="11h") == {"Both", "Late", "Between"}
    assert seen(start=rfc3339(begin - HOUR), end=rfc3339(begin + HOUR)) == {"Early", "Both"}
    # Seen before and after, and not once in between.
    assert seen(start=rfc3339(begin + HOUR), end=rfc3339(begin + 11 * HOUR)) == {"Between"}
    refused = shop.answer("GET", shop.p("issues/", statsPeriod="ages"))
    assert refused.status == 400


def test_an_event_within_a_range_counts_though_it_is_neither_first_nor_last(
    shop: Catalog,
) -> None:
    begin = shop.clock.time()
    for _ in range(3):
        shop.event("web@1", kind="Often")
        shop.clock.advance(10 * HOUR)
    between = {"start": rfc3339(begin + 9 * HOUR), "end": rfc3339(begin + 11 * HOUR)}
    assert len(shop.get(shop.p("issues/", query="", **between))) == 1


def test_a_suspect_commit_says_which_file_speaks_against_it(shop: Catalog) -> None:
    at = shop.clock.time()
    shop.release(
        "web@1",
        commits=[
            shop.commit(
                "a",
                at=at,
                author_email="ada@example.org",
                author_name="Ada",
                repository="acme/shop",
                patch_set=[
                    {"path": "src/shop/pay.py", "type": "M"},
                    {"path": "src/shop/other.py", "type": "M"},
                ],
            )
        ],
    )
    event = shop.event("web@1", frames=[{"filename": "shop/pay.py", "in_app": True}])
    found = shop.get(shop.p(f"events/{event}/committers/"))
    (commit,) = found["committers"][0]["commits"]
    assert commit["suspectFile"] == "src/shop/pay.py"
    assert commit["score"] == 2
    assert [release["version"] for release in commit["releases"]] == ["web@1"]
