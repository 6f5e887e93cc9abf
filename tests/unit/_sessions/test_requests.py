"""Units of work: each is counted once, in the minute it began, as what it came to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from crashfree._sessions import requests, unitsession
from crashfree._sessions.aggregator import SessionAggregator
from crashfree._sessions.application import NoSessions
from crashfree._sessions.requests import RequestSessions
from tests.support.clock import FakeClock
from tests.support.units import ATTRIBUTES, Shop, totals
from tests.support.vectors import load


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ((), "exited"),
        (("none",), "exited"),
        (("errored", "errored"), "errored"),
        (("unhandled", "errored"), "unhandled"),
        (("crashed", "unhandled", "errored"), "crashed"),
        (("errored", "crashed"), "crashed"),
    ],
)
def test_the_worst_of_a_unit_is_what_counts(
    shop: Shop, verdicts: tuple[str, ...], outcome: str
) -> None:
    shop.serve(*verdicts)
    assert shop.flush() == {outcome: 1}


def test_a_unit_ends_once(shop: Shop) -> None:
    unit = shop.requests.begin()
    unit.end()
    unit.end()
    unit.account("crashed")
    unit.end()
    assert shop.flush() == {"exited": 1}


def test_a_unit_in_flight_is_not_sent(shop: Shop) -> None:
    unit = shop.requests.begin()
    assert unit.live
    assert shop.flush() == {}
    assert shop.aggregator.stats().alive == 1
    unit.end()
    assert not unit.live
    assert shop.flush() == {"exited": 1}


@pytest.mark.parametrize("parallel", [False, True])
def test_one_of_many_that_end_it_at_once_counts_it(
    shop: Shop, parallel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the way of builds with a global lock, and of those without."""
    for module in (requests, unitsession):
        monkeypatch.setattr(module, "PARALLEL", parallel)
    for _ in range(200):
        unit = shop.requests.begin()
        barrier = threading.Barrier(4)

        def end(unit: Any = unit, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            unit.end()

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert shop.flush() == {"exited": 200}


def test_a_unit_counts_in_the_minute_in_which_it_began() -> None:
    """W20: 59.999999 and the next minute; the long one ends much later."""
    shop = Shop()
    shop.clock.set_wall(1_704_110_459.999999)
    long = shop.requests.begin()
    shop.serve()
    shop.clock.set_wall(1_704_110_460.0)
    shop.serve()
    shop.clock.advance(1000)
    long.end()
    batch = shop.aggregator.take()
    assert batch is not None
    assert batch.payloads == [
        {
            "attrs": ATTRIBUTES,
            "aggregates": [
                {"started": "2024-01-01T12:00:00.000000Z", "exited": 2},
                {"started": "2024-01-01T12:01:00.000000Z", "exited": 1},
            ],
        }
    ]


def test_a_clock_that_is_set_back_is_followed(shop: Shop) -> None:
    shop.serve()
    shop.clock.set_wall(shop.clock.wall - 7200)
    shop.serve()
    batch = shop.aggregator.take()
    assert batch is not None
    (payload,) = batch.payloads
    assert len(payload["aggregates"]) == 2


def test_every_status_has_its_column(shop: Shop) -> None:
    """W21, without abnormal, which no living process can count."""
    shop.serve()
    shop.serve("errored")
    shop.serve("crashed")
    shop.serve("unhandled")
    assert shop.flush() == {"exited": 1, "errored": 1, "crashed": 1, "unhandled": 1}


def test_a_server_without_the_fifth_column_is_told_crashed() -> None:
    aggregator = SessionAggregator(ATTRIBUTES, unhandled_status="crashed")
    unit = RequestSessions(aggregator, FakeClock()).begin()
    unit.account("unhandled")
    unit.end()
    batch = aggregator.take()
    assert batch is not None
    assert totals(batch.payloads) == {"crashed": 1}


def test_users_have_buckets_of_their_own(shop: Shop) -> None:
    shop.serve(user="ann")
    shop.serve("crashed", user="ann")
    shop.serve()
    batch = shop.aggregator.take()
    assert batch is not None
    (payload,) = batch.payloads
    rows = [
        (row.get("did"), row.get("exited"), row.get("crashed")) for row in payload["aggregates"]
    ]
    assert rows == [(None, 1, None), ("ann", 1, 1)]


def test_a_user_given_at_the_beginning_stands_unless_another_is_known(shop: Shop) -> None:
    shop.requests.begin("ann").end()
    shop.requests.begin("ann").end({"id": "bob"})
    batch = shop.aggregator.take()
    assert batch is not None
    assert {row.get("did") for row in batch.payloads[0]["aggregates"]} == {"ann", "bob"}


def test_users_can_be_left_out() -> None:
    shop = Shop(users=False)
    shop.serve(user="ann")
    batch = shop.aggregator.take()
    assert batch is not None
    assert all("did" not in row for row in batch.payloads[0]["aggregates"])


@pytest.mark.parametrize("interval", [1, 7, 60, 300])
def test_the_flush_interval_never_changes_totals(interval: int) -> None:
    """W39."""
    shop = Shop()
    told: Counter[tuple[str, str]] = Counter()

    def flush() -> None:
        batch = shop.aggregator.take()
        if batch is not None:
            shop.aggregator.settle(batch)
            for row in batch.payloads[0]["aggregates"]:
                for column in ("exited", "crashed"):
                    told[row["started"], column] += row.get(column, 0)

    for second in range(300):
        shop.serve(*(("crashed",) if second % 7 == 0 else ()))
        shop.clock.advance(1)
        if second % interval == interval - 1:
            flush()
    flush()
    assert sum(n for (_, column), n in told.items() if column == "crashed") == 43
    assert sum(told.values()) == 300
    assert len({minute for minute, _ in told}) == 6


def test_queued_units_are_sent_by_the_parent_only(shop: Shop) -> None:
    """W24."""
    for _ in range(3):
        shop.serve()
    shop.aggregator.forget()
    assert shop.flush() == {}
    shop.serve("crashed")
    assert shop.flush() == {"crashed": 1}


def test_without_sessions_nothing_counts() -> None:
    sessions = NoSessions()
    unit = sessions.begin()
    unit.account("crashed")
    unit.end({"id": 1})
    unit.end()
    assert not unit.live
    assert not unit.ended


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in load("sessions.json")
        if case["input"]["kind"] == "requests" and "totals" in case["expect"]
    ],
    ids=lambda case: case["name"],
)
def test_request_vectors(case: dict[str, Any], shop: Shop) -> None:
    verdicts = {"ok": (), "handled exception": ("errored",), "unhandled exception": ("crashed",)}
    for outcome in case["input"]["outcomes"]:
        shop.serve(*verdicts[outcome])
    batch = shop.aggregator.take()
    assert batch is not None
    assert len(batch.payloads) == case["expect"]["sessions_items"]
    assert totals(batch.payloads) == case["expect"]["totals"]


def test_making_room_is_guarded_since_a_request_pays_for_it() -> None:
    """What goes wrong there is nothing the program could do about."""
    asked: list[bytes] = []

    def guarded(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def safe(word: bytes) -> None:
            asked.append(word)
            function(word)

        return safe

    aggregator = SessionAggregator(ATTRIBUTES, guarded=guarded)
    served = RequestSessions(aggregator, FakeClock())
    for _ in range(5000):
        served.begin().end()
    assert asked
    batch = aggregator.take()
    assert batch is not None
    assert totals(batch.payloads) == {"exited": 5000}
