"""The forms of issue, setup and settings: what they do, what they refuse, who may send them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.catalog import Catalog, catalog
from tests.support.serving import request
from tests.support.visitor import Visitor


@pytest.fixture
def shop() -> Iterator[Catalog]:
    with catalog("web", "api") as made:
        yield made


@pytest.fixture
def visitor(shop: Catalog) -> Visitor:
    return Visitor(shop.server)


def status(shop: Catalog, issue: int = 1) -> tuple[str, object]:
    found = shop.issue(issue)
    return found["status"], found["statusDetails"]


# Who may send a form.


def test_a_form_of_another_site_does_nothing(shop: Catalog, visitor: Visitor) -> None:
    """With the cookie, too: that is what a browser would send along."""
    shop.event("web@1")
    refused = visitor.send("/issues/1", {"do": "resolve"}, origin="https://evil.example")
    assert refused.status == 403
    assert visitor.send("/issues/1", {"do": "resolve"}, origin="null").status == 403
    assert status(shop) == ("unresolved", {})


def test_a_form_without_the_cookie_does_nothing(shop: Catalog) -> None:
    shop.event("web@1")
    body = b"do=resolve"
    assert request(shop.server.url, "POST", "/issues/1", body=body).status == 403
    wrong = [("Cookie", "crashfree=1")]
    assert request(shop.server.url, "POST", "/issues/1", headers=wrong, body=body).status == 403
    token = f"/issues/1?token={shop.server.token}"
    assert request(shop.server.url, "POST", token, body=body).status == 403
    assert status(shop) == ("unresolved", {})


@pytest.mark.parametrize("path", ["/issues", "/issues/1", "/setup", "/settings", "/live"])
def test_nobody_looks_without_the_cookie(shop: Catalog, path: str) -> None:
    shop.event("web@1")
    answer = request(shop.server.url, "GET", path)
    assert answer.status == 401
    assert b"ValueError" not in answer.body
    assert shop.server.token.encode() not in answer.body


# Issues.


def test_an_issue_is_resolved_in_each_of_three_ways(shop: Catalog, visitor: Visitor) -> None:
    shop.event("web@1.0.0")
    shop.clock.advance(60)
    shop.event("web@1.1.0", kind="Other")
    page = visitor.follow(visitor.send("/issues/1", {"do": "resolve"}))
    assert "an event from now on brings it back" in page
    assert status(shop) == ("resolved", {})
    visitor.follow(visitor.send("/issues/1", {"do": "unresolve"}))
    assert status(shop) == ("unresolved", {})
    visitor.follow(visitor.send("/issues/1", {"do": "resolve-in-release", "release": "web@1.1.0"}))
    assert status(shop) == ("resolved", {"inRelease": "web@1.1.0"})
    visitor.follow(visitor.send("/issues/1", {"do": "resolve-in-next-release"}))
    assert status(shop) == ("resolved", {"inNextRelease": True})
    page = visitor.follow(visitor.send("/issues/1", {"do": "unresolve"}))
    assert "Open again" in page


def test_an_issue_is_ignored_and_given_to_somebody(shop: Catalog, visitor: Visitor) -> None:
    shop.event("web@1")
    assert "Stop ignoring" in visitor.follow(visitor.send("/issues/1", {"do": "ignore"}))
    assert status(shop)[0] == "ignored"
    visitor.follow(visitor.send("/issues/1", {"do": "assign", "who": "user:ada@example.org"}))
    assert shop.issue(1)["assignedTo"]["id"] == "ada@example.org"
    visitor.follow(visitor.send("/issues/1", {"do": "assign", "other": "#payments"}))
    assert shop.issue(1)["assignedTo"] == {"type": "team", "id": "payments", "name": "payments"}
    visitor.follow(visitor.send("/issues/1", {"do": "assign"}))
    assert shop.issue(1)["assignedTo"] is None


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"do": "explode"},
        {"do": "assign", "other": "who is this"},
        {"do": "resolve-in-release", "release": "web@9"},
    ],
)
def test_what_an_issue_cannot_do_is_said(
    shop: Catalog, visitor: Visitor, form: dict[str, str]
) -> None:
    shop.event("web@1")
    refused = visitor.send("/issues/1", form)
    assert refused.status == 400
    assert refused.headers["Content-Type"].startswith("text/html")
    assert status(shop) == ("unresolved", {})
    assert visitor.send("/issues/99", {"do": "resolve"}).status == 404


def test_an_issue_whose_events_are_gone_stays(shop: Catalog, visitor: Visitor) -> None:
    shop.event("web@1")
    with shop.server.store.write() as db:
        db.execute("DELETE FROM events")
    assert "No event is kept any more" in visitor.text("/issues/1")
    assert visitor.get("/issues/1/events/" + "0" * 32).status == 404


def test_the_addresses_that_the_api_gives_lead_to_the_page(shop: Catalog, visitor: Visitor) -> None:
    shop.event("web@1")
    link = shop.issue(1)["permalink"].removeprefix(shop.server.url)
    assert "ValueError" in visitor.follow(visitor.get(link))
    assert "ValueError" in visitor.text(f"/issues/{shop.issue(1)['shortId']}")


def test_searches_of_issues(shop: Catalog, visitor: Visitor) -> None:
    shop.event("web@1", kind="First")
    shop.event("web@1", kind="Second")
    visitor.send("/issues/1", {"do": "resolve"})
    assert ">Second: bad<" in visitor.text("/issues")
    assert ">First: bad<" not in visitor.text("/issues")
    assert ">First: bad<" in visitor.text("/issues?query=")
    assert ">First: bad<" in visitor.text("/issues?query=is:resolved")
    assert "No such issue" in visitor.text("/issues?query=Third")
    assert "Invalid value for is:" in visitor.text("/issues?query=is:odd")
    assert "Invalid sort parameter" in visitor.text("/issues?sort=odd")
    assert visitor.get("/issues?page=0").status == 400
    assert visitor.get("/issues?statsPeriod=ages").status == 400
    shop.clock.advance(15 * 86_400)
    assert "Nothing is broken" in visitor.text("/issues")
    assert ">Second: bad<" in visitor.text("/issues?statsPeriod=30d")


# Setup.


def test_a_project_is_made_and_its_dsn_shown(shop: Catalog, visitor: Visitor) -> None:
    page = visitor.follow(visitor.send("/setup", {"name": "My Shop"}))
    (key,) = shop.get(shop.p("keys/", "my-shop"))
    assert key["dsn"]["public"] in page
    assert page.count(key["dsn"]["public"]) == 2  # the DSN itself and the snippet
    for wrong in ("", "   ", "My Shop", "!!!"):
        refused = visitor.send("/setup", {"name": wrong})
        assert refused.status in (200, 400)
        assert 'role="alert"' in refused.body.decode()
    assert len(shop.get(shop.o("projects/"))) == 3


def test_setup_waits_for_the_first_session_and_shows_it(shop: Catalog, visitor: Visitor) -> None:
    assert "Waiting for the first session or event" in visitor.text("/setup?project=web")
    shop.session("web@1.0.0", did="a")
    page = visitor.text("/setup?project=web")
    assert "Waiting" not in page
    assert "1 session, 100% crash-free" in page
    shop.event("web@1.0.0")
    assert "ValueError: bad" in visitor.text("/setup?project=web")
    assert "Waiting" in visitor.text("/setup?project=api")
    assert visitor.get("/setup?project=none").status == 404
    assert visitor.get("/setup?for=cobol").status == 404


def test_a_project_whose_keys_are_off_says_so(shop: Catalog, visitor: Visitor) -> None:
    (key,) = shop.get(shop.p("keys/"))
    shop.put(shop.p(f"keys/{key['id']}/"), {"isActive": False})
    assert "Every key of this project is switched off" in visitor.text("/setup?project=web")


# Settings.


def test_thresholds_are_saved_and_mistakes_stay_to_be_mended(
    shop: Catalog, visitor: Visitor
) -> None:
    page = visitor.text("/settings")
    assert 'value="99.5"' in page
    assert 'value="98"' in page
    page = visitor.follow(
        visitor.send("/settings", {"do": "thresholds", "good": "99.9", "fair": "95"})
    )
    assert "Saved" in page
    assert shop.get(shop.o("thresholds/")) == {"good": 99.9, "fair": 95.0}
    wrong = visitor.send("/settings", {"do": "thresholds", "good": "lots", "fair": "1"})
    assert wrong.status == 400
    assert 'value="lots"' in wrong.body.decode()
    assert "A valid number is required." in wrong.body.decode()
    assert shop.get(shop.o("thresholds/")) == {"good": 99.9, "fair": 95.0}


def test_a_filter_set_on_the_page_acts_and_is_counted(shop: Catalog, visitor: Visitor) -> None:
    form = {"do": "filters", "project": "web", "releases": "web@0.*\n\n", "localhost": "1"}
    page = visitor.follow(visitor.send("/settings", form))
    assert "Saved" in page
    shop.session("web@0.9.0")
    shop.session("web@1.0.0")
    shop.event("web@0.9.0")
    known = {entry["id"]: entry for entry in shop.get(shop.p("filters/"))}
    assert known["release-version"]["settings"] == ["web@0.*"]
    assert known["localhost"]["active"]
    assert known["release-version"]["dropped"] == {"error": 1, "session": 1}
    page = visitor.text("/settings?project=web")
    at = page.index('data-dropped="release-version"')
    assert "<strong>1</strong> error, <strong>1</strong> session" in page[at : at + 200]
    # What is not ticked is off: a form without a box is a box without its tick.
    visitor.send("/settings", {"do": "filters", "project": "web"})
    assert not any(entry["active"] for entry in shop.get(shop.p("filters/")))
    assert not any(entry["active"] for entry in shop.get(shop.p("filters/", "api")))


def test_every_filter_says_whether_it_sees_sessions(shop: Catalog, visitor: Visitor) -> None:
    page = visitor.text("/settings")
    for entry in shop.get(shop.p("filters/")):
        assert entry["note"] in page
    sessions = [entry["appliesTo"]["sessions"] for entry in shop.get(shop.p("filters/"))]
    assert page.count("not sessions</span>") == sessions.count(False) == 1


def test_a_filter_that_cannot_be_read_is_refused_with_what_was_typed(
    shop: Catalog, visitor: Visitor
) -> None:
    form = {"do": "filters", "project": "web", "ip_addresses": "10.0.0.0/8\nnowhere"}
    wrong = visitor.send("/settings", form)
    assert wrong.status == 400
    page = wrong.body.decode()
    assert "cannot read" in page
    assert "nowhere</textarea>" in page
    assert not any(entry["active"] for entry in shop.get(shop.p("filters/")))


def test_legacy_browsers_are_chosen_one_by_one(shop: Catalog, visitor: Visitor) -> None:
    form: dict[str, str | list[str]] = {
        "do": "filters",
        "project": "web",
        "legacy_browsers": ["ie", "safari"],
    }
    page = visitor.follow(visitor.send("/settings?project=web", form))
    known = {entry["id"]: entry for entry in shop.get(shop.p("filters/"))}
    assert known["legacy-browsers"]["settings"] == ["ie", "safari"]
    assert page.count(" checked") == 2


def test_limits_are_set_changed_and_taken_away(shop: Catalog, visitor: Visitor) -> None:
    row = {"count": ["10"], "seconds": ["60"], "categories": ["error, session"], "scope": ["key"]}
    visitor.follow(visitor.send("/settings", {"do": "limits", "project": "web", **row}))
    limits = shop.get(shop.p(""))["options"]["limits"]
    assert limits == [
        {"count": 10, "seconds": 60, "categories": ["error", "session"], "scope": "key"}
    ]
    wrong = visitor.send(
        "/settings",
        {"do": "limits", "project": "web", **row, "count": ["ten"]},
    )
    assert wrong.status == 400
    assert "count is a whole number" in wrong.body.decode()
    assert shop.get(shop.p(""))["options"]["limits"] == limits
    visitor.follow(
        visitor.send("/settings", {"do": "limits", "project": "web", **row, "count": [""]})
    )
    assert shop.get(shop.p(""))["options"]["limits"] == []


def test_what_is_no_form_is_refused(shop: Catalog, visitor: Visitor) -> None:
    assert visitor.send("/settings", {"do": "nonsense"}).status == 400
    assert visitor.send("/settings", {f"field{number}": "" for number in range(300)}).status == 400
    assert visitor.send("/settings", {"do": "filters", "project": "none"}).status == 404


# Live.


def test_a_view_learns_that_something_was_written(shop: Catalog, visitor: Visitor) -> None:
    seen = visitor.text("/issues").partition('data-seen="')[2].partition('"')[0]
    same = visitor.get("/live", If_None_Match=f'"{seen}"')
    assert (same.status, same.body) == (304, b"")
    shop.event("web@1")
    other = visitor.get("/live", If_None_Match=f'"{seen}"')
    assert (other.status, other.body) == (204, b"")
    assert visitor.get("/live", If_None_Match=other.headers["ETag"]).status == 304
    assert (
        visitor.text("/issues").partition('data-seen="')[2].partition('"')[0]
        in (other.headers["ETag"])
    )


def test_reading_writes_nothing(shop: Catalog, visitor: Visitor) -> None:
    """Else two open views would keep each other busy for ever."""
    shop.event("web@1")
    shop.session("web@1", did="a")
    views = ("/releases", "/releases/web@1", "/issues", "/issues/1", "/setup", "/settings")
    for path in views:
        visitor.text(path)
    before = visitor.get("/live").headers["ETag"]
    for path in views:
        visitor.text(path)
    assert visitor.get("/live").headers["ETag"] == before
