"""Events become issues; issues are resolved, come back, and find their people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.catalog import Catalog, catalog
from tests.support.serving import rfc3339


@pytest.fixture
def c() -> Iterator[Catalog]:
    with catalog() as made:
        yield made


FRAMES: list[Any] = [
    {"filename": "src/app.py", "function": "main", "in_app": True},
    {"filename": "src/db.py", "function": "query", "in_app": True},
]


# Grouping and counts.


def test_the_same_error_is_one_issue_with_its_releases_and_users(c: Catalog) -> None:
    c.event("a@1", value="one", frames=FRAMES, user={"id": "7"})
    c.clock.advance(60)
    c.event("a@2", value="two", frames=FRAMES, user={"id": "8"}, environment="prod")
    c.event("a@2", value="two", frames=FRAMES, user={"id": "8"})
    c.event("a@2", kind="KeyError")
    found = c.issues()
    assert [(issue["title"], issue["count"]) for issue in found] == [
        ("KeyError: bad", "1"),
        ("ValueError: one", "3"),
    ]
    issue = found[1]
    assert issue["shortId"] == "WEB-1"
    assert issue["userCount"] == 2
    assert (issue["firstRelease"]["version"], issue["lastRelease"]["version"]) == ("a@1", "a@2")
    assert issue["lastSeen"] > issue["firstSeen"]
    assert (issue["status"], issue["substatus"]) == ("unresolved", "new")
    assert [e["version"] for e in c.get(c.o("releases/")) if e["newGroups"]] == ["a@2", "a@1"]
    assert c.get(c.of("a@1"))["newGroups"] == 1


def test_numbers_count_per_project(c: Catalog) -> None:
    c.event(project="api")
    c.event(project="web")
    assert [issue["shortId"] for issue in c.get(c.o("issues/"))] == ["WEB-1", "API-1"]
    assert c.get(c.o("shortids/api-1/"))["group"]["project"]["slug"] == "api"
    assert c.get(c.o("issues/API-1/"))["shortId"] == "API-1"
    c.get(c.o("shortids/API-9/"), 404)
    c.get(c.o("issues/nonsense/"), 404)


def test_events_are_found_by_issue_project_and_id(c: Catalog) -> None:
    first = c.event("a@1", frames=FRAMES, tags={"k": "v"}, environment="prod")
    c.clock.advance(5)
    second = c.event("a@1", frames=FRAMES)
    assert [e["eventID"] for e in c.get(c.o("issues/1/events/"))] == [second, first]
    assert [e["eventID"] for e in c.get(c.p("events/"))] == [second, first]
    assert c.get(c.o("issues/1/events/latest/"))["eventID"] == second
    assert c.get(c.o("issues/1/events/oldest/"))["eventID"] == first
    event = c.get(c.p(f"events/{first}/"))
    assert (event["release"], event["environment"], event["groupID"]) == ("a@1", "prod", "1")
    assert event["tags"] == [{"key": "k", "value": "v"}]
    assert event["entries"][0]["type"] == "exception"
    assert c.get(c.o(f"eventids/{first}/"))["projectSlug"] == "web"
    assert c.get(c.p("events/", full="1"))[0]["payload"]["platform"] == "python"
    c.get(c.p("events/" + "f" * 32 + "/"), 404)
    c.get(c.o("issues/1/events/" + "f" * 32 + "/"), 404)


def test_a_deleted_issue_takes_its_events_along(c: Catalog) -> None:
    c.event("a@1")
    c.delete(c.o("issues/1/"), 202)
    assert c.issues() == []
    assert c.get(c.p("events/")) == []
    assert c.get(c.of("a@1"))["newGroups"] == 0
    c.event("a@1")
    assert c.issues()[0]["count"] == "1"


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("is:unresolved", ["B", "A"]),
        ("is:resolved", ["C"]),
        ("", ["C", "B", "A"]),
        ("release:x@1", ["A"]),
        ("first-release:x@2", ["C", "B"]),
        ("!release:x@1", ["C", "B"]),
        ("release:latest", ["C", "B"]),
        ("environment:prod", ["A"]),
        ("level:warning", ["B"]),
        ("error.unhandled:1", ["A"]),
        ("b", ["B"]),
        ("is:unresolved release:[x@1,x@2]", ["B", "A"]),
        ("is:assigned", ["B"]),
        ("assigned:ada@x.y", ["B"]),
        ("project:web", ["C", "B", "A"]),
    ],
)
def test_issues_are_searched(query: str, titles: list[str]) -> None:
    with catalog() as c:
        unhandled = {"type": "A", "value": "", "mechanism": {"handled": False}}
        c.event("x@1", environment="prod", exception={"values": [unhandled]})
        c.clock.advance(1)
        c.event("x@2", kind="B", value="", level="warning")
        c.clock.advance(1)
        c.event("x@2", kind="C", value="")
        c.put(c.o("issues/2/"), {"assignedTo": "ada@x.y"})
        c.put(c.o("issues/3/"), {"status": "resolved"})
        assert [issue["title"] for issue in c.issues(query=query)] == titles


def test_wrong_questions_are_refused(c: Catalog) -> None:
    c.get(c.p("issues/", query="is:beautiful"), 400)
    c.get(c.p("issues/", sort="beauty"), 400)
    c.get(c.o("issues/", project="nope"), 400)


def test_issues_are_sorted(c: Catalog) -> None:
    c.event(kind="A", value="", user={"id": 1})
    c.clock.advance(1)
    c.event(kind="B", value="")
    c.event(kind="B", value="")
    c.clock.advance(1)
    c.event(kind="A", value="", user={"id": 2})
    orders = {
        sort: [issue["title"] for issue in c.get(c.p("issues/", sort=sort, query=""))]
        for sort in ("date", "new", "freq", "user")
    }
    assert orders == {
        "date": ["A", "B"],
        "new": ["B", "A"],
        "freq": ["B", "A"],
        "user": ["A", "B"],
    }


# Resolution and regression.


def test_resolved_now_comes_back_with_the_next_event(c: Catalog) -> None:
    c.event("a@1")
    c.clock.advance(10)
    assert c.put(c.o("issues/1/"), {"status": "resolved"})["status"] == "resolved"
    late = c.clock.time() - 5
    c.event("a@1", timestamp=late)
    assert c.issue(1)["status"] == "resolved"
    c.clock.advance(10)
    c.event("a@1")
    found = c.issue(1)
    assert (found["status"], found["substatus"]) == ("unresolved", "regressed")
    assert c.activity(1) == ["first_seen", "set_resolved", "set_regression"]
    assert c.issues(query="is:regressed")


VERSIONS = ["a@1.0", "a@2.0", "a@3.0"]
DATES = ["alpha", "beta", "gamma"]


@pytest.mark.parametrize("names", [VERSIONS, DATES])
@pytest.mark.parametrize(("seen", "back"), [(0, False), (1, True), (2, True)])
def test_resolved_in_a_release_comes_back_from_it_or_a_later_one(
    names: list[str], seen: int, back: bool
) -> None:
    with catalog() as c:
        for name in names:
            c.release(name)
            c.clock.advance(10)
        c.event(names[0])
        c.put(c.o("issues/1/"), {"status": "resolved", "statusDetails": {"inRelease": names[1]}})
        assert c.issue(1)["statusDetails"] == {"inRelease": names[1]}
        c.event()
        assert c.issue(1)["status"] == "resolved", "an event without a release says nothing"
        c.event(names[seen])
        assert (c.issue(1)["status"] == "unresolved") is back


@pytest.mark.parametrize("names", [VERSIONS, DATES])
@pytest.mark.parametrize(("seen", "back"), [(0, False), (1, False), (2, True)])
def test_resolved_in_the_next_release_comes_back_from_a_newer_one(
    names: list[str], seen: int, back: bool
) -> None:
    with catalog() as c:
        for name in names[:2]:
            c.release(name)
            c.clock.advance(10)
        c.event(names[0])
        c.put(c.o("issues/1/"), {"status": "resolvedInNextRelease"})
        assert c.issue(1)["statusDetails"] == {"inNextRelease": True}
        c.release(names[2])
        c.event(names[seen])
        found = c.issue(1)
        assert (found["status"] == "unresolved") is back
        if not back:
            assert found["statusDetails"] == {"inRelease": names[2]}


def test_the_version_counts_not_the_day_a_release_was_made(c: Catalog) -> None:
    c.release("a@2.0")
    c.event("a@2.0")
    c.put(c.o("issues/1/"), {"status": "resolved", "statusDetails": {"inRelease": "latest"}})
    c.clock.advance(10)
    c.event("a@1.9")
    assert c.issue(1)["status"] == "resolved"
    c.event("a@2.0.1")
    assert c.issue(1)["status"] == "unresolved"


def test_the_next_release_may_be_the_very_first(c: Catalog) -> None:
    c.event()
    c.put(c.o("issues/1/"), {"status": "resolvedInNextRelease"})
    c.clock.advance(10)
    c.release("a@1")
    assert c.issue(1)["statusDetails"] == {"inRelease": "a@1"}
    c.event("a@1")
    assert c.issue(1)["status"] == "unresolved"


def test_an_issue_is_reopened_ignored_and_refused_by_hand(c: Catalog) -> None:
    c.event("a@1")
    c.put(c.o("issues/1/"), {"status": "ignored"})
    c.clock.advance(1)
    c.event("a@1")
    assert c.issue(1)["status"] == "ignored"
    c.put(c.o("issues/1/"), {"status": "unresolved"})
    assert c.issue(1)["substatus"] == "ongoing"
    assert c.activity(1) == ["first_seen", "set_ignored", "set_unresolved"]
    assert c.put(c.o("issues/1/"), {"status": "done"}, 400) == {
        "status": ['"done" is not a valid choice.']
    }
    body = {"status": "resolved", "statusDetails": {"inRelease": "nope"}}
    assert "inRelease" in c.put(c.o("issues/1/"), body, 400)["statusDetails"]
    c.release("other@1", "api")
    body = {"status": "resolved", "statusDetails": {"inRelease": "other@1"}}
    c.put(c.o("issues/1/"), body, 400)


def test_many_issues_are_changed_at_once(c: Catalog) -> None:
    c.event(kind="A")
    c.event(kind="B")
    c.event(kind="C", project="api")
    changed = c.put(c.p("issues/", id=["1", "2", "3"]), {"status": "resolved"})
    assert changed["status"] == "resolved"
    assert [issue["title"] for issue in c.get(c.o("issues/", query="is:unresolved"))] == ["C: bad"]
    c.put(c.p("issues/", id="99"), {"status": "resolved"}, 204)


# Commits that name issues.


def fixing(c: Catalog, message: str, key: str = "a", **fields: Any) -> dict[str, Any]:
    return c.commit(key, message=message, author_email="ada@x.y", repository="r", **fields)


def test_a_commit_resolves_the_issue_it_names_in_its_release(c: Catalog) -> None:
    c.event("a@1")
    c.clock.advance(10)
    c.release("a@2", commits=[fixing(c, "Repair\n\nFixes WEB-1")])
    found = c.issue(1)
    assert found["status"] == "resolved"
    assert found["statusDetails"]["inRelease"] == "a@2"
    assert found["statusDetails"]["inCommit"]["id"] == "a" * 40
    assert found["statusDetails"]["actor"]["email"] == "ada@x.y"
    assert c.activity(1) == ["first_seen", "referenced_in_commit", "set_resolved_in_release"]
    assert [issue["id"] for issue in c.get(c.of("a@2", "resolved/"))] == ["1"]
    c.event("a@1")
    assert c.issue(1)["status"] == "resolved"
    c.event("a@2")
    assert c.issue(1)["status"] == "unresolved"


def test_a_repeated_push_does_not_resolve_what_has_come_back(c: Catalog) -> None:
    """A build that runs twice must not hide a regression."""
    c.event("a@1")
    c.release("a@2", commits=[fixing(c, "Fixes WEB-1")])
    c.event("a@2")
    c.put(c.of("a@2"), {"commits": [fixing(c, "Fixes WEB-1")]})
    assert c.issue(1)["status"] == "unresolved"
    assert c.activity(1).count("referenced_in_commit") == 1


def test_a_message_that_was_edited_takes_the_resolution_back(c: Catalog) -> None:
    c.event("a@1")
    c.release("a@2", commits=[fixing(c, "Fixes WEB-1")])
    c.put(c.of("a@2"), {"commits": [fixing(c, "Fixes nothing")]})
    assert c.issue(1)["status"] == "unresolved"


def test_links_and_other_projects_count_and_strangers_do_not(c: Catalog) -> None:
    c.event("a@1")
    c.event("a@1", project="api")
    host = c.server.url.removeprefix("http://")
    messages = [f"Fixes http://{host}/organizations/x/issues/1/", "Closes: API-1, WEB-77, NO-1"]
    c.release(
        "a@2",
        commits=[fixing(c, message, key) for message, key in zip(messages, "ab", strict=True)],
    )
    assert c.issue(1)["status"] == c.issue(2)["status"] == "resolved"


def test_a_skipped_commit_resolves_nothing(c: Catalog) -> None:
    c.event("a@1")
    c.release("a@2", commits=[fixing(c, "Fixes WEB-1 #skipsentry")])
    assert c.issue(1)["status"] == "unresolved"


# Who is behind it.


def test_suspect_commits_come_from_the_release_and_the_four_before(c: Catalog) -> None:
    for number in range(7):
        author = f"dev{number}@x.y"
        patch = [{"path": f"src/{'db' if number in (1, 6) else 'other'}.py", "type": "M"}]
        c.release(
            f"a@1.{number}",
            commits=[c.commit(str(number), author_email=author, repository="r", patch_set=patch)],
        )
        c.clock.advance(10)
    event = c.event("a@1.6", frames=FRAMES)
    found = c.get(c.p(f"events/{event}/committers/"))
    assert found["order"] == "strongest_first"
    assert [entry["author"]["email"] for entry in found["committers"]] == ["dev6@x.y"]
    (commit,) = found["committers"][0]["commits"]
    assert (commit["id"], commit["score"]) == ("6" * 40, 2)
    assert commit["suspectCommitType"] == "via commit in release"
    older = c.event("a@1.5", kind="KeyError", frames=FRAMES)
    found = c.get(c.p(f"events/{older}/committers/"))
    assert [entry["author"]["email"] for entry in found["committers"]] == ["dev1@x.y"]


def test_without_commits_nobody_is_suspected(c: Catalog) -> None:
    c.get(c.p(f"events/{c.event('a@1', frames=FRAMES)}/committers/"), 404)
    c.get(c.p(f"events/{c.event(frames=FRAMES, kind='B')}/committers/"), 404)


RULES = "path:src/* ada@x.y\npath:src/db.py #storage bob@x.y"


def test_owners_are_those_of_the_rules(c: Catalog) -> None:
    c.put(c.p("ownership/"), {"raw": RULES, "codeowners": "*.py @org/python"})
    event = c.event(frames=FRAMES)
    found = c.get(c.p(f"events/{event}/owners/"))
    assert [owner["name"] for owner in found["owners"]] == [
        "python",
        "ada@x.y",
        "storage",
        "bob@x.y",
    ]
    assert found["assignees"] == ["team:storage", "user:bob@x.y"]
    assert found["rule"] == "path:src/db.py"
    assert found["everyone"] is False
    other = c.event(kind="KeyError")
    assert c.get(c.p(f"events/{other}/owners/"))["everyone"] is True
    c.put(c.p("ownership/"), {"fallthrough": False})
    assert c.get(c.p(f"events/{other}/owners/"))["everyone"] is False


def test_suggested_owners_are_suspects_and_rules(c: Catalog) -> None:
    patch = [{"path": "src/db.py", "type": "M"}]
    c.release("a@1", commits=[fixing(c, "x", patch_set=patch)])
    c.put(c.p("ownership/"), {"raw": RULES})
    c.event("a@1", frames=FRAMES)
    assert [(owner["type"], owner["owner"]) for owner in c.issue(1)["owners"]] == [
        ("suspectCommit", "user:ada@x.y"),
        ("ownershipRule", "user:ada@x.y"),
        ("ownershipRule", "team:storage"),
        ("ownershipRule", "user:bob@x.y"),
    ]


@pytest.mark.parametrize(
    ("choice", "assignee"),
    [
        ("Turn off Auto-Assignment", None),
        ("Auto Assign to Issue Owner", "team:storage"),
        ("Auto Assign to Suspect Commits", "user:carl@x.y"),
    ],
)
def test_a_new_issue_is_assigned_as_the_project_wants(choice: str, assignee: str | None) -> None:
    with catalog() as c:
        patch = [{"path": "src/db.py", "type": "M"}]
        commit = c.commit("a", author_email="carl@x.y", repository="r", patch_set=patch)
        c.release("a@1", commits=[commit])
        c.put(c.p("ownership/"), {"raw": RULES, "autoAssignment": choice})
        c.event("a@1", frames=FRAMES)
        shown = c.issue(1)["assignedTo"]
        assert (shown and f"{shown['type']}:{shown['id']}") == assignee


def test_a_manual_assignment_stays(c: Catalog) -> None:
    c.put(c.p("ownership/"), {"raw": RULES, "autoAssignment": "Auto Assign to Issue Owner"})
    c.event("a@1", frames=FRAMES)
    c.put(c.o("issues/1/"), {"assignedTo": ""})
    c.put(c.o("issues/1/"), {"status": "resolved"})
    c.clock.advance(5)
    c.event("a@1", frames=FRAMES)
    assert c.issue(1)["assignedTo"] is None
    assert c.put(c.o("issues/1/"), {"assignedTo": "#core"})["assignedTo"]["type"] == "team"
    assert c.put(c.o("issues/1/"), {"assignedTo": "nobody"}, 400) == {
        "assignedTo": ["Unknown actor input"]
    }
    assert "assigned" in c.activity(1)


def test_the_activity_of_everything_is_one_list(c: Catalog) -> None:
    c.event("a@1")
    c.clock.advance(1)
    c.release("a@1", status=208, dateReleased=rfc3339(c.clock.time()))
    c.event(project="api")
    log = c.get(c.o("activity/"))
    assert [(entry["type"], entry["project"]["slug"]) for entry in log] == [
        ("first_seen", "api"),
        ("release", "web"),
        ("first_seen", "web"),
    ]
    assert log[0]["issue"]["shortId"] == "API-1"
    assert [entry["type"] for entry in c.get(c.p("activity/", "api"))] == ["first_seen"]
