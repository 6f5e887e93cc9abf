"""The index: its figures are the API's and those counted by hand, for any range and selection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from urllib.parse import urlencode

import pytest

from crashfree.server import LocalServer
from crashfree.server.pages.figures import percent
from tests.support.catalog import Catalog
from tests.support.clock import FakeClock
from tests.support.reading import Node, Reader
from tests.unit.server.pages.conftest import DAY, Shop, Told

Row = dict[str, Node]


def rows(visitor: Reader, **query: str) -> dict[tuple[str, str], Row]:
    """The rows of the index, by full version and project."""
    page = visitor.open(f"/releases?{urlencode(query)}")
    found: dict[tuple[str, str], Row] = {}
    for table in page.root.all("table", class_="releases"):
        for row in table.one("tbody").all("tr"):
            cells = {cell["data-name"]: cell for cell in row.all("td")}
            version = row.one("a", class_="version")["title"]
            found[version, cells["Project"].text] = {"": row.one("th"), **cells}
    return found


def figures(row: Row) -> tuple[str, str, str]:
    return (
        row["Crash-free users"].one(class_="rate").text.partition(" ")[0],
        row["Crash-free sessions"].one(class_="rate").text.partition(" ")[0],
        row["Sessions"].text,
    )


RANGES: list[dict[str, str]] = [
    {"statsPeriod": "24h"},
    {"statsPeriod": "7d"},
    {},
    {"start": "2026-09-22T00:00:00", "end": "2026-09-25T12:00:00"},
    {"start": "2026-09-23", "end": "2026-09-24"},
    {"start": "2020-01-01", "end": "2020-01-02"},
]


def _within(shop: Shop, query: dict[str, str]) -> Callable[[Told], bool]:
    if "start" in query:
        first, last = (
            datetime.fromisoformat(query[name]).replace(tzinfo=timezone.utc).timestamp()
            for name in ("start", "end")
        )
    else:
        last = shop.clock.time()
        first = last - {"24h": 1, "7d": 7}.get(query.get("statsPeriod", ""), 14) * DAY
    return lambda told: first <= told.started < last


@pytest.mark.parametrize("environment", ["", "production", "staging", "nowhere"])
@pytest.mark.parametrize("query", RANGES, ids=str)
def test_the_figures_are_the_api_s_and_those_counted_by_hand(
    shop: Shop, query: dict[str, str], environment: str
) -> None:
    within = _within(shop, query)
    named = {"environment": environment} if environment else {}
    shown = rows(shop.visitor, **query, **named)
    health = (
        {"summaryStart": query["start"], "summaryEnd": query["end"]}
        if "start" in query
        else {"summaryStatsPeriod": query.get("statsPeriod", "14d")}
    )
    path = shop.catalog.o("releases/", flatten=1, health=1, **health, **named)
    answered = {
        (entry["version"], entry["projects"][0]["slug"]): entry["projects"][0]["healthData"]
        for entry in shop.catalog.get(path)
    }
    assert shown.keys() == answered.keys()
    for (version, project), row in shown.items():
        told = [
            each
            for each in shop.told
            if (each.release, each.project) == (version, project)
            and within(each)
            and environment in ("", each.environment)
        ]
        sessions, users = shop.rates(*told)
        total = str(len(told)) if told else "0"
        assert figures(row) == (percent(users), percent(sessions), total)
        api = answered[version, project]
        assert figures(row)[:2] == (
            percent(api["crashFreeUsers"]),
            percent(api["crashFreeSessions"]),
        )


def test_no_data_is_a_dash(shop: Shop) -> None:
    row = rows(shop.visitor)["web@1.1.0", "app"]
    assert figures(row) == ("—", "—", "0")
    assert row["Adoption (24 h)"].text.startswith("—")


def test_the_tiles_are_of_all_releases_together(shop: Shop) -> None:
    page = shop.visitor.open("/releases?statsPeriod=7d")
    tiles = {
        tile.one(class_="name").text: tile.one("strong").text.partition(" ")[0]
        for tile in page.root.all(class_="tile")
    }
    told = [each for each in shop.told if each.started >= shop.clock.time() - 7 * DAY]
    sessions, users = shop.rates(*told)
    assert tiles == {
        "Crash-free sessions": percent(sessions),
        "Crash-free users": percent(users),
        "Sessions": str(len(told)),
        "Users": str(len({each.did for each in told})),
    }


def test_adoption_is_that_of_the_last_day_whatever_the_range(shop: Shop) -> None:
    day = [each for each in shop.told if each.started >= shop.clock.time() - DAY]
    mine = {each.did for each in day if each.release == "web@1.1.0"}
    share = percent(len(mine) / len({each.did for each in day}) * 100)
    for query in RANGES:
        row = rows(shop.visitor, **query)["web@1.1.0", "web"]
        assert row["Adoption (24 h)"].one(class_="figure").text == share


def test_a_release_of_two_projects_has_a_row_for_each(shop: Shop) -> None:
    assert [key for key in rows(shop.visitor) if key[0] == "web@1.1.0"] == [
        ("web@1.1.0", "web"),
        ("web@1.1.0", "app"),
    ]
    assert list(rows(shop.visitor, project="app")) == [("web@1.1.0", "app")]


def test_a_row_tells_authors_deploys_and_whether_it_is_final(shop: Shop) -> None:
    row = rows(shop.visitor)["web@1.1.0", "web"]
    assert [who.text for who in row["Authors"].all(class_="unseen")] == ["Ana", "Jo"]
    assert "Finalized" in row[""].text
    assert row[""].one(class_="deploy").text == "▲ production"
    assert row["New issues"].text == "1"
    other = rows(shop.visitor)["web@1.0.0", "web"]
    assert "created" in other[""].text


@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ("release.version:>1.0.0", ["web@1.1.0"]),
        ("release.version:<=1.0", ["web@1.0.0"]),
        ("release:latest", ["web@1.1.0"]),
        ("@1.0", ["web@1.0.0"]),
        ("release.package:none", []),
    ],
)
def test_search_words(shop: Shop, query: str, versions: list[str]) -> None:
    found = rows(shop.visitor, query=query, project="web")
    assert [version for version, _ in found] == versions


def test_a_search_that_means_nothing_is_told_so_and_stays_in_its_field(shop: Shop) -> None:
    page = shop.visitor.open("/releases?query=release.version:%3Esoon")
    assert page.root.one(id="wrong").text == "Invalid format of semantic version: 'soon'"
    field = page.root.one("input", name="query")
    assert field["value"] == "release.version:>soon"
    assert field["aria-describedby"] == "wrong"


@pytest.mark.parametrize("sort", ["date", "semver", "adoption", "crash_free_users", "sessions"])
def test_the_order_is_the_api_s(shop: Shop, sort: str) -> None:
    entries = shop.catalog.get(
        shop.catalog.o("releases/", flatten=1, health=1, sort=sort, summaryStatsPeriod="14d")
    )
    wanted = [(entry["version"], entry["projects"][0]["slug"]) for entry in entries]
    assert list(rows(shop.visitor, sort=sort)) == wanted


def test_the_json_beside_the_view_is_what_it_shows(shop: Shop) -> None:
    page = shop.visitor.open("/releases?statsPeriod=7d&environment=production")
    (link,) = [each for each in page.root.one("footer").all("a") if "JSON" in each.text]
    entries = shop.visitor.ask(link["href"]).json
    shown = rows(shop.visitor, statsPeriod="7d", environment="production")
    for entry in entries:
        (project,) = entry["projects"]
        row = shown[entry["version"], project["slug"]]
        assert figures(row)[0] == percent(project["healthData"]["crashFreeUsers"])


def test_a_period_that_is_picked_wins_over_dates_that_stood_there(shop: Shop) -> None:
    query = {"start": "2020-01-01", "end": "2020-01-02", "statsPeriod": "7d", "custom": "1"}
    assert figures(rows(shop.visitor, **query)["web@1.0.0", "web"]) == figures(
        rows(shop.visitor, statsPeriod="7d")["web@1.0.0", "web"]
    )
    # Filled in beside a period that nobody touched, the dates are what is meant.
    del query["custom"]
    assert figures(rows(shop.visitor, **query)["web@1.0.0", "web"])[2] == "0"


def test_seven_users_of_whom_another_crashes_each_day() -> None:
    """85.7 % of users crash-free each day, 0 % over the week: no average of days."""
    clock = FakeClock()
    with LocalServer(clock=clock, projects=("web",)) as server:
        catalog, visitor = Catalog(server, clock), Reader(server)
        for day in range(7):
            for user in range(7):
                status = "crashed" if user == day else "exited"
                catalog.session("web@1", did=f"user-{user}", status=status)
            clock.advance(3600)
            (row,) = rows(visitor, statsPeriod="24h").values()
            assert figures(row)[0] == "85.7%"
            clock.advance(DAY - 3600)
        clock.advance(-3600)
        (row,) = rows(visitor, statsPeriod="7d").values()
        assert figures(row) == ("0%", "85.7%", "49")


def test_an_empty_server_says_how_a_release_comes_to_be() -> None:
    with LocalServer() as server:
        page = Reader(server).open("/releases")
        assert page.root.one("h2").text == "No releases yet"
        assert {tile.one("strong").text for tile in page.root.all(class_="tile")} == {"—", "0"}
        found = Reader(server).open("/releases?query=x")
        assert found.root.one("h2").text == "Nothing found"


def test_a_long_list_has_pages() -> None:
    clock = FakeClock()
    with LocalServer(clock=clock, projects=("web",)) as server:
        catalog, visitor = Catalog(server, clock), Reader(server)
        for number in range(30):
            catalog.release(f"web@1.{number}.0")
            clock.advance(1)
        first, second = rows(visitor), rows(visitor, page="2")
        assert [len(first), len(second)] == [25, 5]
        assert not first.keys() & second.keys()
        page = visitor.open("/releases?page=3")
        assert page.root.one("h2").text == "No more releases"


def test_a_hostile_release_stays_text(shop: Shop) -> None:
    with LocalServer(clock=shop.clock, projects=("web",)) as server:
        catalog, visitor = Catalog(server, shop.clock), Reader(server)
        name = '"><script>alert(1)</script>{{7*7}}'.replace("/", "")
        catalog.session(name, did="x")
        ((version, _),) = rows(visitor)
        assert version == name
        page = visitor.open(rows(visitor)[name, "web"][""].one("a")["href"])
        for script in page.root.all("script"):
            assert "src" in script.attributes or script["type"] == "application/json"
        assert page.root.one("h1").text == name
        assert page.root.all(class_="tile")[2].one("strong").text == "1"
