"""One release: its figures, plots and lists are what the API says and what was told."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from crashfree._protocol.timestamps import rfc3339
from crashfree.server import LocalServer
from crashfree.server.pages.figures import percent, points
from tests.support.catalog import Catalog
from tests.support.clock import FakeClock
from tests.support.reading import Node, Page, Reader
from tests.unit.server.pages.conftest import DAY, Shop

HERE = "/releases/web@1.1.0"


def opened(shop: Shop, **query: str) -> Page:
    return shop.visitor.open(f"{HERE}?{urlencode(query)}")


def tiles(page: Page) -> dict[str, Node]:
    return {tile.one(class_="name").text: tile for tile in page.root.all(class_="tile")}


def plot(page: Page, name: str) -> dict[str, Any]:
    found = page.root.one(class_="plot", data_plot=name)
    return dict(json.loads(found.one("script").raw))


def table(page: Page, title: str) -> list[dict[str, str]]:
    """The figures under a plot, by the names of their columns."""
    (found,) = [
        each for each in page.root.all("table") if each.one("caption").text.startswith(title + ",")
    ]
    names = [head.text for head in found.one("thead").all("th")]
    return [
        dict(
            zip(names, [cell.text for cell in row.children if isinstance(cell, Node)], strict=True)
        )
        for row in found.one("tbody").all("tr")
    ]


@pytest.mark.parametrize("period", ["24h", "7d", "30d"])
@pytest.mark.parametrize("environment", ["", "staging"])
def test_the_figures_are_those_counted_by_hand(shop: Shop, period: str, environment: str) -> None:
    page = opened(shop, statsPeriod=period, environment=environment, project="web")
    days = int(period[:-1]) if period.endswith("d") else 1
    everything = [
        each
        for each in shop.told
        if each.started >= shop.clock.time() - days * DAY and environment in ("", each.environment)
    ]
    told = [each for each in everything if each.release == "web@1.1.0"]
    sessions, users = shop.rates(*told)
    shown = tiles(page)
    assert shown["Crash-free sessions"].one(class_="rate").text.split()[0] == percent(sessions)
    assert shown["Crash-free users"].one(class_="rate").text.split()[0] == percent(users)
    assert shown["Sessions"].one("strong").text == str(len(told))
    assert shown["Users"].one("strong").text == str(len({each.did for each in told}))
    all_sessions, all_users = shop.rates(*everything)
    before = [each for each in everything if each.release == "web@1.0.0"]
    its_sessions, its_users = shop.rates(*before)
    for name, mine, others in (
        ("Crash-free sessions", sessions, (all_sessions, its_sessions)),
        ("Crash-free users", users, (all_users, its_users)),
    ):
        differences = [more.text.split()[0] for more in shown[name].all(class_="more")]
        assert differences == [
            points(None if mine is None or other is None else mine - other) for other in others
        ]


def test_every_plot_has_its_figures_beside_it_and_they_are_the_api_s(shop: Shop) -> None:
    page = opened(shop, statsPeriod="7d", project="web")
    fields = ["sum(session)", "crash_free_rate(session)", "crash_free_rate(user)"]
    answer = shop.catalog.get(
        shop.catalog.o(
            "sessions/",
            field=[*fields, "count_unique(user)"],
            statsPeriod="7d",
            interval="6h",
            query="release:web@1.1.0",
            project="web",
        )
    )
    (group,) = answer["groups"]
    series = group["series"]
    rates = [None if rate is None else rate * 100 for rate in series["crash_free_rate(session)"]]
    shown = table(page, "Crash-free sessions")
    assert [row["This release"] for row in shown] == [percent(rate) for rate in rates]
    assert [row["From"] for row in shown] == [
        f"{start[:10]} {start[11:16]}" for start in _starts(shop, answer["intervals"])
    ]
    by_status = table(page, "Sessions by status")
    sums = [sum(int(row[name]) for name in row if name != "From") for row in by_status]
    assert sums == series["sum(session)"]
    users = table(page, "Users")
    assert [int(row["This release"]) for row in users] == series["count_unique(user)"]


def test_the_figures_of_the_plots_are_a_step_away_as_json(shop: Shop) -> None:
    page = opened(shop, statsPeriod="7d", project="web")
    (link,) = [each for each in page.root.all("a") if "figures of these plots" in each.text]
    (group,) = shop.visitor.ask(link["href"]).json["groups"]
    rates = [row["This release"] for row in table(page, "Crash-free users")]
    assert rates == [
        percent(None if rate is None else rate * 100)
        for rate in group["series"]["crash_free_rate(user)"]
    ]


def _starts(shop: Shop, intervals: list[str]) -> list[str]:
    """When the intervals begin; the first is cut where the range begins."""
    return [rfc3339(shop.clock.time() - 7 * DAY), *intervals[1:]]


def test_a_plot_draws_the_figures_of_its_table(shop: Shop) -> None:
    page = opened(shop, statsPeriod="7d", project="web")
    for name, title in (("crash-free-users", "Crash-free users"), ("adoption", "Adoption")):
        definition = plot(page, name)
        drawn = definition["layer"][0]["data"]["values"]
        for column in {each["series"] for each in drawn}:
            values = [each["value"] for each in drawn if each["series"] == column]
            assert [percent(value) for value in values] == [
                row[column] for row in table(page, title)
            ]


def test_deploys_and_first_times_of_new_issues_are_marked(shop: Shop) -> None:
    page = opened(shop, statsPeriod="14d", project="web")
    for figure in page.root.all(class_="plot"):
        definition = json.loads(figure.one("script").raw)
        texts = [
            value["text"]
            for layer in definition["layer"]
            for value in layer["data"]["values"]
            if "text" in value
        ]
        assert texts == ["production · blue", "WEB-1 ValueError: bad <b>cart</b>"]
    (issues,) = {row["New issues"] for row in table(page, "New issues")} - {"0"}
    assert issues == "1"


def test_a_marker_outside_of_the_range_is_not_drawn(shop: Shop) -> None:
    definition = plot(opened(shop, statsPeriod="24h", project="web"), "sessions")
    assert not any(
        "text" in value for layer in definition["layer"] for value in layer["data"]["values"]
    )


@pytest.mark.parametrize(
    ("tab", "titles"),
    [
        ("all", ["ValueError: bad <b>cart</b>"]),
        ("new", ["ValueError: bad <b>cart</b>"]),
        ("unhandled", []),
        ("regressed", []),
        ("resolved", []),
    ],
)
def test_issues_in_tabs(shop: Shop, tab: str, titles: list[str]) -> None:
    page = opened(shop, tab=tab, project="web")
    section = page.root.one(id="issues")
    assert [each.text for each in section.all("a", class_="title")] == titles
    current = section.one(aria_current="page")
    assert current.text == f"{tab.capitalize()} {len(titles)}"


def test_commits_authors_and_files(shop: Shop) -> None:
    page = opened(shop, project="web")
    messages = [each.text for each in page.root.all(class_="message")]
    assert messages == ["Faster cart", "Less tax", "Search"]
    (authors,) = [each for each in page.root.all("table") if "author" in each.one("caption").text]
    rows = [
        [
            cell.one("bdi").text if cell.tag == "th" else cell.text
            for cell in row.children
            if isinstance(cell, Node)
        ]
        for row in authors.one("tbody").all("tr")
    ]
    assert rows == [["Ana", "2", "2"], ["Jo", "1", "2"]]
    assert page.root.one(id="commits-title").text == "Commits 3 3 files changed"
    files = [each.text for each in page.root.one(class_="commit-list").all("ul")[2].all("li")]
    assert files == ["D old.py", "M shop/cart.py"]


def test_deploys_and_other_projects(shop: Shop) -> None:
    page = opened(shop, project="web")
    deploys, others = page.root.all("ul", class_="listing")
    assert deploys.text.startswith("production blue")
    assert others.one("a")["href"] == "/releases/web%401.1.0?project=app"
    assert shop.visitor.open(others.one("a")["href"]).root.one("h1").text == "1.1.0"


def test_the_releases_before_and_after_are_a_step_away(shop: Shop) -> None:
    (before,) = opened(shop, project="web").root.one(class_="neighbours").all("a")
    assert (before["rel"], before["title"]) == ("prev", "web@1.0.0")
    (after,) = shop.visitor.open(before["href"]).root.one(class_="neighbours").all("a")
    assert after["title"] == "web@1.1.0"


def test_without_data_every_plot_and_tile_says_so(shop: Shop) -> None:
    page = opened(shop, project="app")
    shown = tiles(page)
    assert shown["Crash-free sessions"].one("strong").text == "—"
    assert shown["Adoption (24 h)"].one("strong").text == "—"
    assert [more.text for more in shown["Crash-free users"].all(class_="more")] == [
        "— to all releases"
    ]
    drawn = {each["data-plot"] for each in page.root.all(class_="plot")}
    assert "crash-free-sessions" not in drawn
    assert "durations" not in drawn


def test_a_project_that_the_release_is_not_of_is_told_so(shop: Shop) -> None:
    page = shop.visitor.open("/releases/web@1.0.0?project=app", 404)
    assert "is not one of project app" in page.root.one(role="alert").text


def test_the_json_beside_the_view_is_the_release(shop: Shop) -> None:
    page = opened(shop, project="web", statsPeriod="7d")
    (link,) = [each for each in page.root.one("footer").all("a") if "JSON" in each.text]
    health = shop.visitor.ask(link["href"]).json["projects"][0]["healthData"]
    rate = tiles(page)["Crash-free users"].one(class_="rate").text.split()[0]
    assert rate == percent(health["crashFreeUsers"])


@pytest.mark.slow
def test_a_plot_can_be_taken_away_as_a_picture(shop: Shop) -> None:
    svg = shop.visitor.ask(f"{HERE}/plots/sessions.svg?project=web")
    assert svg.headers["Content-Type"] == "image/svg+xml"
    assert b"Sessions by status" in svg.body
    assert b"Crashed" in svg.body
    png = shop.visitor.ask(f"{HERE}/plots/sessions.png?project=web")
    assert png.body.startswith(b"\x89PNG")
    definition = shop.visitor.ask(f"{HERE}/plots/sessions.json?project=web").json
    assert "vega-lite" in definition["$schema"]
    for wrong in ("sessions.pdf", "nothing.svg"):
        assert shop.visitor.ask(f"{HERE}/plots/{wrong}?project=web").status == 404


@pytest.mark.slow
def test_the_script_that_draws_comes_from_this_server(shop: Shop) -> None:
    sources = [each["src"] for each in opened(shop).root.all("script") if "src" in each.attributes]
    (vega,) = [each for each in sources if "vega" in each]
    answer = shop.visitor.ask(vega)
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert b"vegaEmbed" in answer.body


def test_the_address_of_sentry_s_tools_leads_here(shop: Shop) -> None:
    answer = shop.visitor.ask("/organizations/crashfree/releases/web@1.1.0/")
    assert (answer.status, answer.headers["Location"]) == (303, "/releases/web%401.1.0")


def test_names_that_no_search_can_spell_have_a_view() -> None:
    clock = FakeClock()
    with LocalServer(projects=("web",), clock=clock) as server:
        catalog, reader = Catalog(server, clock), Reader(server)
        for name in ('say "hi"@1', "a*b", "100%", "x#y?z", "ünï@1.0", "[a,b]", "'; --"):
            catalog.session(name, did="someone")
            shown = reader.open("/releases?query=&sort=sessions")
            (link,) = [
                each for each in shown.root.all("a", class_="version") if each["title"] == name
            ]
            page = reader.open(link["href"])
            assert tiles(page)["Sessions"].one("strong").text == "1", name
            reader.open(tiles(page)["Sessions"].one("a")["href"])
