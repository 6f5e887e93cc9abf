"""What is behind a rate: counts that add up, and what did not count."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from crashfree.server import LocalServer
from crashfree.server.pages.figures import percent
from tests.support.catalog import Catalog
from tests.support.clock import FakeClock
from tests.support.reading import Node, Page, Reader
from tests.support.serving import envelope, send
from tests.unit.server.pages.conftest import DAY, Shop


def sums(page: Page) -> dict[str, list[list[str]]]:
    """The rows of the tables of sums, by their caption."""
    return {
        table.one("caption").text: [
            [cell.text for cell in row.children if isinstance(cell, Node) and cell.tag == "td"]
            for row in [*table.one("tbody").all("tr"), *table.one("tfoot").all("tr")]
        ]
        for table in page.root.all("table", class_="sums")
    }


@pytest.mark.parametrize("period", ["24h", "7d", "14d"])
@pytest.mark.parametrize("release", ["", "web@1.0.0", "web@1.1.0"])
@pytest.mark.parametrize("environment", ["", "production", "nowhere"])
def test_the_counts_add_up_to_the_rate(
    shop: Shop, release: str, period: str, environment: str
) -> None:
    query = urlencode({"statsPeriod": period, "environment": environment, "project": "web"})
    page = shop.visitor.open((f"/releases/{release}" if release else "") + f"/counts?{query}")
    days = int(period[:-1]) if period.endswith("d") else 1
    told = [
        each
        for each in shop.told
        if release in ("", each.release)
        and environment in ("", each.environment)
        and each.started >= shop.clock.time() - days * DAY
    ]
    sessions, users = sums(page).values()
    counts = [int(row[0]) for row in sessions]
    assert sum(counts[:-1]) == counts[-1] == len(told)
    assert counts[4] == sum(each.status == "crashed" for each in told)
    people = [int(row[0]) for row in users]
    assert people[0] + people[1] == people[2] == len({each.did for each in told})
    rates = shop.rates(*told)
    shown = [page.root.one(data_rate=name).text.split()[0] for name in ("sessions", "users")]
    assert shown == [percent(rate) for rate in rates]


def test_adoption_opens_to_the_users_and_sessions_of_the_last_day(shop: Shop) -> None:
    page = shop.visitor.open("/releases/web@1.1.0/counts?statsPeriod=7d")
    day = [each for each in shop.told if each.started >= shop.clock.time() - DAY]
    mine = [each for each in day if each.release == "web@1.1.0"]
    rows = {
        row.one("th").text: [cell.text for cell in row.all("td")]
        for row in page.root.one(id="adoption").one("tbody").all("tr")
    }
    users, everyone = len({each.did for each in mine}), len({each.did for each in day})
    assert rows == {
        "app": ["0", "0", "—", "0", "0", "—"],
        "web": [
            str(users),
            str(everyone),
            percent(users / everyone * 100),
            str(len(mine)),
            str(len(day)),
            percent(len(mine) / len(day) * 100),
        ],
    }


def test_without_data_there_is_no_rate(shop: Shop) -> None:
    page = shop.visitor.open("/counts?start=2020-01-01&end=2020-01-02")
    assert page.root.one(data_rate="sessions").text == "—"
    assert "No session, so there is no rate." in page.root.one("main").text


def test_a_release_that_is_not_there_has_no_counts(shop: Shop) -> None:
    shop.visitor.open("/releases/nothing/counts", 404)


def test_what_did_not_count_is_told_with_its_reason() -> None:
    clock = FakeClock()
    with LocalServer(clock=clock, projects=("web",)) as server:
        catalog, reader = Catalog(server, clock), Reader(server)
        page = reader.open("/counts")
        assert "Nothing: all that was sent has been counted." in page.root.one("main").text
        catalog.put(catalog.p("filters/"), {"releases": ["bad@*"]})
        catalog.session("bad@1", did="x")
        catalog.session("good@1", did="x")
        report = {
            "timestamp": clock.time(),
            "discarded_events": [
                {"reason": "queue_overflow", "category": "session", "quantity": 3}
            ],
        }
        assert send(server, envelope(("client_report", report))).status == 200
        page = reader.open("/counts")
        (table,) = [
            each for each in page.root.all("table") if "did not count" in each.one("caption").text
        ]
        rows = [
            [cell.text for cell in row.children if isinstance(cell, Node)][1:]
            for row in table.one("tbody").all("tr")
        ]
        assert rows == [
            ["queue_overflow", "session", "3"],
            ["release-version", "session", "1"],
        ]
        assert page.root.one(data_total="sessions").text == "1"
        (link,) = [each for each in page.root.all("a") if each.text == "As JSON"]
        groups = reader.ask(link["href"]).json["groups"]
        assert {group["by"]["reason"]: group["totals"]["sum(quantity)"] for group in groups} == {
            "queue_overflow": 3,
            "release-version": 1,
        }
