from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.catalog import Catalog, catalog
from tests.support.serving import call, request, rfc3339


@pytest.fixture
def c() -> Iterator[Catalog]:
    with catalog() as made:
        yield made


# Making.


def test_a_new_release_has_every_field_of_the_original(c: Catalog) -> None:
    made = c.release("shop@1.2.3+45", "web", "api", ref="abc", url="https://x.y/z")
    assert made["version"] == made["shortVersion"] == "shop@1.2.3+45"
    assert made["versionInfo"] == {
        "package": "shop",
        "version": {
            "raw": "1.2.3+45",
            "major": 1,
            "minor": 2,
            "patch": 3,
            "pre": None,
            "buildCode": "45",
            "components": 3,
        },
        "description": "1.2.3 (45)",
        "buildHash": None,
    }
    assert made["dateCreated"] == rfc3339(c.clock.time()).replace("Z", ".000000Z")
    assert (made["dateReleased"], made["status"]) == (None, "open")
    assert (made["ref"], made["url"]) == ("abc", "https://x.y/z")
    assert [project["slug"] for project in made["projects"]] == ["api", "web"]
    for name, value in {
        "commitCount": 0,
        "deployCount": 0,
        "newGroups": 0,
        "lastCommit": None,
        "lastDeploy": None,
        "firstEvent": None,
        "lastEvent": None,
        "authors": [],
        "data": {},
        "owner": None,
    }.items():
        assert made[name] == value
    assert isinstance(made["id"], int)
    assert c.get(c.of("shop@1.2.3+45")) == made


def test_a_repeated_release_is_208_and_a_new_project_201(c: Catalog) -> None:
    c.release("a@1")
    c.release("a@1", status=208)
    assert [p["slug"] for p in c.release("a@1", "api")["projects"]] == ["api", "web"]
    number = c.get(c.p("releases/a@1/"))["projects"][0]["id"]
    c.post(c.o("releases/"), {"version": "a@1", "projects": [number]}, 208)


def test_unknown_projects_and_bad_bodies_are_refused_in_the_original_words(c: Catalog) -> None:
    body: Any = {"version": "a@1", "projects": ["web", "nope"]}
    assert c.post(c.o("releases/"), body, 400) == {"projects": ["Invalid project slugs"]}
    assert c.post(c.o("releases/"), {"projects": ["web"]}, 400) == {
        "version": ["This field is required."]
    }
    assert c.versions() == []
    broken = request(
        c.server.url,
        "POST",
        c.o("releases/"),
        headers=[("Authorization", f"Bearer {c.server.token}")],
        body=b"{",
    )
    assert broken.status == 400


def test_a_second_post_fills_what_is_empty_and_changes_nothing_else(c: Catalog) -> None:
    """`new --finalize` on a release that exists finalizes it; the original forgets to."""
    c.release("a@1", ref="one")
    again = c.release("a@1", status=208, ref="two", url="https://u/", dateReleased="2026-09-01")
    assert (again["ref"], again["url"]) == ("one", "https://u/")
    assert again["dateReleased"] == "2026-09-01T00:00:00.000000Z"


def test_a_release_without_projects_is_legal(c: Catalog) -> None:
    made = c.post(c.o("releases/"), {"version": "a@1", "projects": [], "status": "archived"})
    assert (made["projects"], made["status"]) == ([], "archived")
    assert c.get(c.of("a@1", "previous-with-commits/")) == {}


def test_the_first_event_and_the_first_session_make_a_release(c: Catalog) -> None:
    c.event("seen@1")
    c.session("seen@2")
    assert set(c.versions()) == {"seen@1", "seen@2"}
    assert c.release("seen@1", status=208)["firstEvent"] is not None
    assert c.release("seen@1", "api")["projects"][0]["slug"] == "api"


@pytest.mark.parametrize("version", ["a b@1", "ü@1", "a?b#c%d+e&f=g", "-x", "a%2Eb", "x;y,z"])
def test_any_legal_name_can_be_addressed(c: Catalog, version: str) -> None:
    c.release(version)
    assert c.get(c.of(version))["version"] == version


# Changing.


def test_an_update_sets_keeps_and_clears(c: Catalog) -> None:
    c.release("a@1", ref="r", url="https://u/")
    changed = c.put(c.of("a@1"), {"url": None, "dateReleased": "2026-09-01T10:00:00Z"})
    assert (changed["ref"], changed["url"]) == ("r", None)
    assert changed["dateReleased"] == "2026-09-01T10:00:00.000000Z"
    assert c.put(c.of("a@1"), {"dateReleased": None})["dateReleased"] is None
    assert c.put(c.of("a@1"), {"status": "archived"})["status"] == "archived"
    assert c.versions() == []
    assert c.put(c.of("a@1"), {"status": "open"})["status"] == "open"
    assert c.put(c.of("nope@1"), {}, 404)["detail"] == "The requested resource does not exist"


def test_finalizing_is_logged_once_per_project(c: Catalog) -> None:
    c.release("a@1", "web", "api")
    for day in ("2026-09-01", "2026-09-02"):
        c.put(c.of("a@1"), {"dateReleased": day})
    entries = c.get(c.of("a@1", "activity/"))
    assert sorted((entry["type"], entry["project"]["slug"]) for entry in entries) == [
        ("release", "api"),
        ("release", "web"),
    ]
    assert entries[0]["data"] == {"version": "a@1"}


def test_a_release_of_another_project_does_not_exist_there(c: Catalog) -> None:
    c.release("a@1", "web")
    c.get(c.p("releases/a@1/", "api"), 404)
    c.put(c.p("releases/a@1/", "api"), {}, 404)
    c.delete(c.p("releases/a@1/", "api"), 404)
    made = c.post(c.p("releases/", "api"), {"version": "a@1"})
    assert len(made["projects"]) == 1
    assert made["projects"][0]["slug"] == "api"


# Deleting.


def test_a_release_with_traces_cannot_be_deleted(c: Catalog) -> None:
    c.event("e@1")
    c.session("s@1")
    assert c.delete(c.of("e@1"), 400) == {
        "detail": "This release is referenced by active issues and cannot be removed."
    }
    assert c.delete(c.of("s@1"), 400) == {
        "detail": "This release has health data and cannot be removed."
    }


def test_a_deleted_release_is_gone_and_comes_back_new(c: Catalog) -> None:
    first = c.release("a@1", commits=[c.commit("a")])
    c.post(c.of("a@1", "deploys/"), {"environment": "prod"})
    c.delete(c.of("a@1"))
    c.get(c.of("a@1"), 404)
    c.delete(c.of("a@1"), 404)
    c.session("a@1")
    again = c.get(c.of("a@1"))
    assert again["commitCount"] == again["deployCount"] == 0
    assert again["dateCreated"] >= first["dateCreated"]


# Commits.


def keys(c: Catalog, version: str) -> list[str]:
    return [entry["id"][0] for entry in c.get(c.of(version, "commits/"))]


def test_dated_commits_are_sorted_and_undated_ones_stay_in_order(c: Catalog) -> None:
    now = c.clock.time()
    c.release("dated@1", commits=[c.commit("a", at=now - 50), c.commit("b", at=now - 10)])
    assert keys(c, "dated@1") == ["b", "a"]
    c.release("plain@1", commits=[c.commit("c"), c.commit("d")])
    assert keys(c, "plain@1") == ["c", "d"]
    c.release("mixed@1", commits=[c.commit("e", at=now - 50), c.commit("f"), c.commit("1", at=now)])
    assert keys(c, "mixed@1") == ["e", "f", "1"]


def test_a_commit_is_shown_with_author_repository_and_releases(c: Catalog) -> None:
    commit = c.commit(
        "a",
        at=c.clock.time(),
        repository="owner/repo",
        author_name="Ada",
        author_email="ada@x.y",
        message="Add\n\nbody",
        patch_set=[{"path": "src/b.py", "type": "A"}, {"path": "src\\a.py", "type": "M"}],
    )
    made = c.release("a@1", commits=[commit])
    assert made["commitCount"] == 1
    assert made["authors"] == [{"name": "Ada", "email": "ada@x.y"}]
    assert made["lastCommit"]["message"] == "Add\n\nbody"
    (shown,) = c.get(c.of("a@1", "commits/"))
    assert shown["repository"]["name"] == "owner/repo"
    assert shown["repository"]["provider"]["id"] == "unknown"
    assert [release["version"] for release in shown["releases"]] == ["a@1"]
    files = c.get(c.of("a@1", "commitfiles/"))
    assert [(file["filename"], file["type"]) for file in files] == [
        ("src/b.py", "A"),
        ("src\\a.py", "M"),
    ]
    meta = c.get(c.of("a@1", "meta/"))
    assert (meta["commitCount"], meta["commitFilesChanged"], meta["deployCount"]) == (1, 2, 0)
    assert [each["name"] for each in c.get(c.of("a@1", "repositories/"))] == ["owner/repo"]


def test_commits_and_files_come_in_pages(c: Catalog) -> None:
    patch = [{"path": "a", "type": "M"}]
    c.release("a@1", commits=[c.commit(key, patch_set=patch) for key in "abc"])
    for path in ("commits/", "commitfiles/"):
        first = call(c.server, "GET", c.of("a@1", path, per_page="2"))
        assert len(first.json) == 2
        assert 'rel="next"; results="true"' in first.headers["Link"]
        last = call(c.server, "GET", c.of("a@1", path, per_page="2", cursor="2:1:0"))
        assert len(last.json) == 1
        assert 'rel="next"; results="false"' in last.headers["Link"]


def test_authors_are_found_by_address_or_made_of_the_name(c: Catalog) -> None:
    commits = [
        c.commit("a", author_name="Jörg Müller"),
        c.commit("b", author_email="x@y.z", author_name="X"),
        c.commit("c"),
        c.commit("d", author_email="x@y.z", author_name="Xaver"),
    ]
    assert c.release("a@1", commits=commits)["authors"] == [
        {"name": "Jörg Müller", "email": "jrgmller@localhost"},
        {"name": "Xaver", "email": "x@y.z"},
    ]
    shown = c.get(c.of("a@1", "commits/"))
    assert shown[2]["author"] == {}
    assert shown[0]["repository"]["name"] == "organization-1"


def test_a_push_replaces_its_own_repositories_only(c: Catalog) -> None:
    """The original wipes the other repositories; two jobs could not share a release."""
    c.release("a@1", commits=[c.commit("a", repository="one"), c.commit("b", repository="two")])
    c.put(c.of("a@1"), {"commits": [c.commit("c", repository="one")]})
    assert keys(c, "a@1") == ["c", "b"]
    c.put(c.of("a@1"), {"commits": []})
    assert keys(c, "a@1") == ["c", "b"]
    c.put(c.of("a@1"), {"refs": []})
    assert keys(c, "a@1") == []


def test_skipped_commits_do_not_count(c: Catalog) -> None:
    made = c.release("a@1", commits=[c.commit("a", message="x #skipsentry"), c.commit("b")])
    assert made["commitCount"] == 1
    made = c.release("a@2", commits=[c.commit("a", message="x #skipsentry")])
    assert (made["commitCount"], made["lastCommit"]) == (0, None)


def test_ids_alone_do_not_take_back_what_an_earlier_push_said(c: Catalog) -> None:
    c.release("a@1", commits=[c.commit("a", message="why", author_email="a@b.c", at=1_700_000_000)])
    made = c.release("a@2", commits=[c.commit("a")])
    assert made["lastCommit"]["message"] == "why"
    assert made["lastCommit"]["author"]["email"] == "a@b.c"
    assert made["lastCommit"]["dateCreated"].startswith("2023-11-14")


# Refs.


def test_without_linked_repositories_a_ref_stores_its_head(c: Catalog) -> None:
    made = c.release(
        "a@1", refs=[{"repository": "owner/repo", "commit": "abc", "previousCommit": "def"}]
    )
    assert made["lastCommit"]["id"] == "abc"
    assert made["data"] == {"commitsPending": True}
    assert c.put(c.of("a@1"), {"commits": [c.commit("abc", repository="owner/repo")]})["data"] == {}


def test_with_linked_repositories_an_unknown_name_is_a_mistake(c: Catalog) -> None:
    c.post(c.o("repos/"), {"name": "owner/repo"})
    body = {"refs": [{"repository": "x", "commit": "a"}, {"repository": "y", "commit": "b"}]}
    c.release("a@1")
    assert c.put(c.of("a@1"), body, 400) == {"refs": ["Invalid repository names: x, y"]}
    c.put(c.of("a@1"), {"refs": [{"repository": "Owner/Repo", "commit": "a..b"}]})
    assert c.get(c.of("a@1"))["lastCommit"]["id"] == "b"


def test_older_clients_name_heads(c: Catalog) -> None:
    body = {"headCommits": [{"currentId": "abc", "repository": "r", "previousId": None}]}
    c.release("a@1")
    assert c.put(c.of("a@1"), body)["lastCommit"]["id"] == "abc"


def test_previous_with_commits_is_the_newest_up_to_this_one(c: Catalog) -> None:
    c.release("a@1", commits=[c.commit("a")])
    c.clock.advance(10)
    c.release("a@2")
    assert c.get(c.of("a@2", "previous-with-commits/"))["version"] == "a@1"
    c.clock.advance(10)
    c.release("a@3", commits=[c.commit("b")])
    assert c.get(c.of("a@2", "previous-with-commits/"))["version"] == "a@1"
    assert c.get(c.of("a@3", "previous-with-commits/"))["version"] == "a@3"
    c.put(c.of("a@1"), {"dateReleased": rfc3339(c.clock.time() + 100)})
    assert c.get(c.of("a@2", "previous-with-commits/")) == {}
    c.release("b@1", "api")
    assert c.get(c.of("b@1", "previous-with-commits/")) == {}
    c.get(c.of("nope", "previous-with-commits/"), 404)


# Deploys.


def test_deploys_are_listed_all_the_last_finished_first(c: Catalog) -> None:
    c.release("a@1", "web", "api")
    now = c.clock.time()
    first = c.post(c.of("a@1", "deploys/"), {"environment": "prod", "name": "blue", "url": None})
    assert first == {
        "id": "1",
        "environment": "prod",
        "name": "blue",
        "url": None,
        "dateStarted": None,
        "dateFinished": rfc3339(now).replace("Z", ".000000Z"),
    }
    body = {"environment": "prod", "dateStarted": rfc3339(now), "dateFinished": rfc3339(now + 9)}
    c.post(c.of("a@1", "deploys/"), body)
    assert [deploy["id"] for deploy in c.get(c.of("a@1", "deploys/"))] == ["2", "1"]
    shown = c.get(c.of("a@1"))
    assert (shown["deployCount"], shown["lastDeploy"]["id"]) == (2, "2")
    assert c.versions(environment="prod") == ["a@1"]
    assert c.versions(environment="dev") == []
    log = [entry for entry in c.get(c.of("a@1", "activity/")) if entry["type"] == "deploy"]
    assert len(log) == 4
    assert log[0]["data"] == {"version": "a@1", "deploy_id": 2, "environment": "prod"}


def test_a_deploy_to_a_project_that_the_release_lacks_is_refused(c: Catalog) -> None:
    c.release("a@1", "web")
    body = {"environment": "prod", "projects": ["web", "api"]}
    refused = c.post(c.of("a@1", "deploys/"), body, 400)
    assert refused["detail"]["message"] == "Invalid projects (api) for release a@1"
    c.post(c.of("nope", "deploys/"), {"environment": "prod"}, 404)
    c.post(c.of("a@1", "deploys/"), {"environment": "a/b"}, 400)


# Lists.


def test_lists_are_by_date_made_or_by_date_released(c: Catalog) -> None:
    for version in ("a@1", "a@2", "a@3"):
        c.release(version)
        c.clock.advance(10)
    c.put(c.of("a@1"), {"dateReleased": rfc3339(c.clock.time())})
    assert c.versions() == ["a@3", "a@2", "a@1"]
    assert [entry["version"] for entry in c.get(c.p("releases/"))] == ["a@1", "a@3", "a@2"]


def test_versions_and_builds_have_orders_of_their_own(c: Catalog) -> None:
    for version in ("a@1.0.0-rc.9", "a@1.0.0-rc.10", "a@1.10+3", "a@1.9+20", "deadbeef", "a@1.0.0"):
        c.release(version)
    assert c.versions(sort="semver") == [
        "a@1.10+3",
        "a@1.9+20",
        "a@1.0.0",
        "a@1.0.0-rc.9",
        "a@1.0.0-rc.10",
        "deadbeef",
    ]
    assert c.versions(sort="semver", semverPrecedence="1")[3:5] == [
        "a@1.0.0-rc.10",
        "a@1.0.0-rc.9",
    ]
    assert c.versions(sort="build") == ["a@1.9+20", "a@1.10+3"]


def test_a_part_of_the_name_and_search_words_narrow_the_list(c: Catalog) -> None:
    for version in ("shop@1.0", "shop@2.0+7", "cart@1.5"):
        c.release(version)
    assert set(c.versions(query="SHOP")) == {"shop@1.0", "shop@2.0+7"}
    assert c.versions(query="release.version:>1.5") == ["shop@2.0+7"]
    assert c.versions(query="release.package:shop release.version:<2") == ["shop@1.0"]
    assert c.versions(query="release.build:7") == ["shop@2.0+7"]
    assert c.versions(query="release:latest") == ["shop@2.0+7"]
    assert c.versions(query='release.package:shop "@1"') == ["shop@1.0"]
    c.get(c.o("releases/", query="release.version:>x"), 400)


def test_wrong_parameters_are_refused_in_the_original_words(c: Catalog) -> None:
    assert c.get(c.o("releases/", sort="beauty"), 400) == {"detail": "invalid sort"}
    assert c.get(c.o("releases/", status="x"), 400) == {"detail": "invalid value for status"}
    assert "flatten=1" in c.get(c.o("releases/", sort="sessions"), 400)["detail"]
    c.get(c.o("releases/", per_page="101"), 400)


def test_status_chooses_open_archived_or_all(c: Catalog) -> None:
    c.release("a@1")
    c.release("a@2", status=201)
    c.put(c.of("a@2"), {"status": "archived"})
    assert c.versions() == ["a@1"]
    assert c.versions(status="archived") == ["a@2"]
    assert set(c.versions(status="")) == {"a@1", "a@2"}


def test_pages_follow_the_cursor(c: Catalog) -> None:
    for number in range(5):
        c.release(f"a@{number}")
    first = call(c.server, "GET", c.o("releases/", per_page="2"))
    assert [entry["version"] for entry in first.json] == ["a@4", "a@3"]
    assert 'rel="next"; results="true"; cursor="2:1:0"' in first.headers["Link"]
    last = call(c.server, "GET", c.o("releases/", per_page="2", cursor="2:2:0"))
    assert [entry["version"] for entry in last.json] == ["a@0"]
    assert 'rel="next"; results="false"' in last.headers["Link"]


def test_projects_narrow_the_list_and_each_entry(c: Catalog) -> None:
    c.release("a@1", "web", "api")
    c.release("a@2", "api")
    web = c.get(c.o("releases/", project="web"))
    assert [entry["version"] for entry in web] == ["a@1"]
    assert [project["slug"] for project in web[0]["projects"]] == ["web"]
    flat = c.get(c.o("releases/", flatten="1"))
    assert [(entry["version"], entry["projects"][0]["slug"]) for entry in flat] == [
        ("a@2", "api"),
        ("a@1", "web"),
        ("a@1", "api"),
    ]
    c.get(c.o("releases/", project="nope"), 400)


def test_a_period_narrows_the_list(c: Catalog) -> None:
    c.release("a@1")
    c.clock.advance(3 * 86_400)
    c.release("a@2")
    assert c.versions(statsPeriod="24h") == ["a@2"]
    assert c.versions(statsPeriod="7d") == ["a@2", "a@1"]


def test_health_comes_on_demand_and_sorts(c: Catalog) -> None:
    for did, status in (("u1", "crashed"), ("u2", "exited"), ("u3", "exited")):
        c.session("a@1", did=did, status=status)
    c.session("a@2", did="u1")
    c.release("a@3")
    assert "healthData" not in c.get(c.of("a@1"))["projects"][0]
    (project,) = c.get(c.of("a@1", health="1"))["projects"]
    assert project["hasHealthData"] is True
    health = project["healthData"]
    assert (health["totalSessions"], health["totalUsers"], health["sessionsCrashed"]) == (3, 3, 1)
    assert health["crashFreeSessions"] == pytest.approx(200 / 3)
    assert health["sessionsAdoption"] == pytest.approx(75)
    (bare,) = c.get(c.of("a@3", health="1"))["projects"]
    assert bare["hasHealthData"] is False
    assert bare["healthData"]["crashFreeSessions"] is None
    for sort, order in (
        ("sessions", ["a@1", "a@2", "a@3"]),
        ("users_24h", ["a@1", "a@2", "a@3"]),
        ("adoption", ["a@1", "a@2", "a@3"]),
        ("crash_free_sessions", ["a@1", "a@2", "a@3"]),
    ):
        assert c.versions(sort=sort, flatten="1") == order, sort
    c.session("a@2", status="crashed")
    c.session("a@2", status="crashed")
    assert c.versions(sort="crash_free_sessions", flatten="1", per_page="1") == ["a@2"]


def test_the_neighbours_of_a_release_are_named_for_one_project(c: Catalog) -> None:
    for version in ("a@1", "a@2", "a@3"):
        c.release(version)
    meta = c.get(c.of("a@2"))["currentProjectMeta"]
    assert (meta["prevReleaseVersion"], meta["nextReleaseVersion"]) == ("a@1", "a@3")
    assert (meta["firstReleaseVersion"], meta["lastReleaseVersion"]) == ("a@1", "a@3")


def test_events_of_a_release_are_counted_by_the_hour(c: Catalog) -> None:
    c.event("a@1")
    c.event("a@1")
    stats = c.get(c.p("releases/a@1/stats/"))
    assert len(stats) == 24
    assert stats[-1][1] == 2
    assert sum(count for _, count in stats) == 2
