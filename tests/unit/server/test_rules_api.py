from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.catalog import Catalog, catalog
from tests.support.serving import ask, envelope, send, session


@pytest.fixture
def c() -> Iterator[Catalog]:
    with catalog() as made:
        yield made


def shown(c: Catalog) -> dict[str, Any]:
    return {entry["id"]: entry for entry in c.get(c.p("filters/"))}


def test_all_filters_are_off_at_first_and_say_what_they_see(c: Catalog) -> None:
    found = shown(c)
    assert not any(entry["active"] for entry in found.values())
    assert {name: entry["appliesTo"]["sessions"] for name, entry in found.items()} == {
        "ip-address": True,
        "release-version": True,
        "error-message": False,
        "localhost": True,
        "legacy-browsers": True,
        "web-crawlers": True,
    }


def test_a_release_filter_drops_events_and_sessions_and_counts_them(c: Catalog) -> None:
    c.put(c.p("filters/"), {"releases": ["old@*"], "error_messages": ["*ignore me*"]})
    c.event("old@1")
    c.session("old@1")
    c.session("old@2")
    c.event("new@1", value="please ignore me")
    c.session("new@1", status="crashed", errors=1)
    c.event("new@1", project="api", value="please ignore me")
    assert [e["version"] for e in c.get(c.o("releases/", project="web"))] == ["new@1"]
    assert c.get(c.p("events/")) == []
    found = shown(c)
    assert found["release-version"]["dropped"] == {"error": 1, "session": 2}
    assert found["error-message"]["dropped"] == {"error": 1}
    assert len(c.get(c.p("events/", "api"))) == 1
    totals = ask(c.server, "sessions/", field="crash_rate(session)", statsPeriod="24h").json
    assert totals["groups"][0]["totals"]["crash_rate(session)"] == 1.0


def test_an_update_of_a_filtered_session_leaves_no_trace(c: Catalog) -> None:
    """A filter that is switched on in the middle of a session freezes it as it was."""
    payload = session(c.clock.time(), sid="0" * 31 + "1", release="a@1", init=True, status="ok")
    send(c.server, envelope(("session", payload)))
    c.put(c.p("filters/"), {"releases": "a@*"})
    crashed = payload | {"status": "crashed", "errors": 1, "seq": 5}
    send(c.server, envelope(("session", {**crashed, "init": False})))
    totals = ask(c.server, "sessions/", field="crash_rate(session)", statsPeriod="24h").json
    assert totals["groups"][0]["totals"]["crash_rate(session)"] == 0.0


def test_user_agents_and_addresses_are_filtered(c: Catalog) -> None:
    c.put(c.p("filters/web-crawlers/"), {"active": True}, 204)
    c.put(c.p("filters/legacy-browsers/"), {"subfilters": ["ie9"]}, 204)
    for agent in ("Googlebot/2.1", "Mozilla/5.0 (compatible; MSIE 9.0)", "Firefox/130.0"):
        c.event("a@1", request={"headers": {"User-Agent": agent}})
    payload = session(c.clock.time(), init=True)
    payload["attrs"]["user_agent"] = "Googlebot/2.1"
    send(c.server, envelope(("session", payload)))
    browser = [("User-Agent", "Mozilla/5.0 (compatible; bingbot/2.0)")]
    payload = session(c.clock.time(), init=True)
    send(c.server, envelope(("session", payload)), headers=browser)
    assert len(c.get(c.p("events/"))) == 1
    found = shown(c)
    assert found["web-crawlers"]["dropped"] == {"error": 1, "session": 2}
    assert found["legacy-browsers"]["dropped"] == {"error": 1}
    c.put(c.p("filters/ip-address/"), {"settings": ["127.0.0.0/8"]}, 204)
    c.event("a@1")
    assert len(c.get(c.p("events/"))) == 1
    assert shown(c)["ip-address"]["dropped"] == {"error": 1}
    c.put(c.p("filters/ip-address/"), {"active": False}, 204)
    c.event("a@1")
    assert len(c.get(c.p("events/"))) == 2


def test_changes_keep_what_they_do_not_name(c: Catalog) -> None:
    c.put(c.p("filters/"), {"releases": ["a@*"], "localhost": True})
    c.put(c.p("filters/"), {"releases": []})
    found = shown(c)
    assert (found["localhost"]["active"], found["release-version"]["active"]) == (True, False)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("filters/", {"releases": ["["]}, 400),
        ("filters/", {"nonsense": 1}, 400),
        ("filters/browser-extensions/", {"active": True}, 400),
        ("filters/nonsense/", {"active": True}, 404),
        ("filters/release-version/", {"active": True}, 400),
        ("filters/localhost/", {}, 400),
        ("filters/legacy-browsers/", {"subfilters": ["netscape"]}, 400),
    ],
)
def test_unusable_filters_are_refused(c: Catalog, path: str, body: Any, status: int) -> None:
    c.put(c.p(path), body, status)
    assert not any(entry["active"] for entry in shown(c).values())


# Ownership.


def test_ownership_is_kept_as_typed_and_as_read(c: Catalog) -> None:
    assert c.get(c.p("ownership/"))["raw"] is None
    kept = c.put(c.p("ownership/"), {"raw": "# c\npath:src/* #core a@b.c\n"})
    assert kept["raw"] == "# c\npath:src/* #core a@b.c"
    assert kept["schema"]["rules"] == [
        {
            "matcher": {"type": "path", "pattern": "src/*"},
            "owners": [
                {"type": "team", "identifier": "core"},
                {"type": "user", "identifier": "a@b.c"},
            ],
        }
    ]
    assert c.get(c.p("ownership/")) == kept
    assert c.put(c.p("ownership/"), {"raw": ""})["schema"]["rules"] == []


def test_rules_that_cannot_be_read_name_the_place(c: Catalog) -> None:
    refused = c.put(c.p("ownership/"), {"raw": "path:a b@c.d\npath:x"}, 400)
    assert refused == {"raw": "Parse error: ownership (line 2, column 1)"}
    c.put(c.p("ownership/"), {"autoAssignment": "maybe"}, 400)
    c.put(c.p("ownership/"), {"raw": "x" * 100_001}, 400)


def test_with_members_an_unknown_owner_is_a_mistake(c: Catalog) -> None:
    c.post(c.o("members/"), {"email": "ada@x.y", "teams": ["core"]})
    raw = "path:a ada@x.y #core\npath:b bob@x.y #other"
    refused = c.put(c.p("ownership/"), {"raw": raw}, 400)
    assert refused == {"raw": ["Invalid rule owners: #other, bob@x.y"]}
    c.put(c.p("ownership/"), {"raw": raw.splitlines()[0]})
