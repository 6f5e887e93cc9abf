"""What came of what was sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.catalog import Catalog, catalog
from tests.support.serving import envelope, send, session


@pytest.fixture(scope="module")
def fed() -> Iterator[Catalog]:
    with catalog("web", "api") as found:
        found.event("web@1")
        found.event("web@1", project="api")
        found.put(found.p("filters/"), {"releases": ["bad@*"]})
        for _ in range(3):
            found.session("bad@1")
        found.clock.advance(3 * 86_400)
        report = {
            "timestamp": found.clock.time(),
            "discarded_events": [{"reason": "sample_rate", "category": "error", "quantity": 7}],
        }
        assert send(found.server, envelope(("client_report", report))).status == 200
        yield found


def _sums(fed: Catalog, **query: object) -> dict[tuple[object, ...], int]:
    answer = fed.get(fed.o("stats_v2/", field="sum(quantity)", **query))
    return {
        tuple(group["by"].values()): group["totals"]["sum(quantity)"] for group in answer["groups"]
    }


def test_everything_by_outcome_category_and_reason(fed: Catalog) -> None:
    assert _sums(fed, statsPeriod="14d") == {
        ("accepted", "error", "error"): 2,
        ("filtered", "session", "release-version"): 3,
        ("client_discard", "error", "sample_rate"): 7,
    }


@pytest.mark.parametrize(
    ("query", "sums"),
    [
        ({"groupBy": "outcome", "project": "api"}, {("accepted",): 1}),
        ({"groupBy": "outcome", "category": "session"}, {("filtered",): 3}),
        ({"groupBy": "category", "statsPeriod": "24h"}, {("error",): 7}),
        (
            {"groupBy": ["project", "category"]},
            {(1, "error"): 8, (1, "session"): 3, (2, "error"): 1},
        ),
    ],
)
def test_grouped_and_narrowed(
    fed: Catalog, query: dict[str, object], sums: dict[tuple[object, ...], int]
) -> None:
    assert _sums(fed, **query) == sums


def test_the_answer_says_which_whole_days_it_is_about(fed: Catalog) -> None:
    answer = fed.get(fed.o("stats_v2/", start="2026-09-21T20:00:00", end="2026-09-22T01:00:00"))
    assert (answer["start"][:19], answer["end"][:19]) == (
        "2026-09-21T00:00:00",
        "2026-09-23T00:00:00",
    )


def test_what_is_skipped_odd_or_not_forwarded_is_told_as_well(fed: Catalog) -> None:
    """Kinds that are not kept, and the counters of sessions.md section 5.3."""
    fed.clock.advance(10 * 86_400)
    now = fed.clock.time()
    begun = session(now - 5, init=True, status="ok")
    ended = {**begun, "init": False, "status": "exited", "seq": 1}
    late = {**begun, "init": False, "status": "ok", "seq": 2}
    odd = session(now - 5, init=False, status="exited")
    items = [("session", each) for each in (begun, begun, ended, late, odd)]
    assert send(fed.server, envelope(*items, ("span", {}), ("span", {}))).status == 200
    with fed.server.store.write() as db:
        db.execute(
            "INSERT INTO tallies VALUES (1, ?, 'not_forwarded', 'envelope', 'refused', 4)",
            (int(now // 86_400),),
        )
    assert _sums(fed, statsPeriod="24h") == {
        ("noted", "session", "duplicate_init"): 1,
        ("noted", "session", "late_update"): 1,
        ("noted", "session", "missing_init"): 1,
        ("skipped", "span", "span"): 2,
        ("not_forwarded", "envelope", "refused"): 4,
    }
    assert _sums(fed, statsPeriod="24h", groupBy="outcome", outcome="noted") == {("noted",): 3}


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"field": "sum(x)"}, 'Invalid field; only "sum(quantity)" is kept'),
        ({"groupBy": "weather"}, 'Invalid groupBy: "weather"'),
        ({"outcome": "lost"}, 'Invalid outcome: "lost"'),
    ],
)
def test_a_wrong_question_is_told_so(fed: Catalog, query: dict[str, str], detail: str) -> None:
    assert fed.get(fed.o("stats_v2/", **query), 400) == {"detail": detail}
