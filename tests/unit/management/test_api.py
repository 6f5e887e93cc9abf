"""`ReleaseApi`, call by call. Source: releases.md sections 4.3 to 4.6."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from crashfree._ground.http import HttpClient, HttpSettings
from crashfree.errors import ApiError, ConfigurationError, InvalidRelease
from crashfree.management.api import ReleaseApi, user_agent
from crashfree.management.merging import descending, merged
from crashfree.management.models import Change, Commit, Ref, ReleaseInfo
from crashfree.management.settings import MissingSetting, resolve
from tests.support.clock import FakeClock
from tests.support.vectors import load
from tests.unit._cli.replay import Replay

ORG = "/api/0/organizations/acme"
RELEASE = f"{ORG}/releases/w@1/"
NOW = "2026-09-21T14:13:20.000000Z"  # FakeClock's wall


class Bench:
    def __init__(self) -> None:
        self.http = HttpClient(HttpSettings(connect_timeout=5.0, timeout=5.0))
        self.script: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []

    def answer(
        self, method: str, path: str, body: Any = None, status: int = 200, query: str = ""
    ) -> None:
        self.script.append(
            {
                "request": {"method": method, "path": path, "query": query, "body": None},
                "response": {"status": status, "headers": {}, "body": body},
            }
        )

    def call(self, name: str, *args: Any, own: tuple[str, ...] = ("web",), **more: Any) -> Any:
        clock = FakeClock()
        with Replay(self.script, lenient=True) as server:
            api = ReleaseApi(
                organization="acme",
                token="t",
                url=server.url,
                projects=own,
                http=self.http,
                clock=clock,
                pause=clock.advance,
            )
            try:
                found = getattr(api, name)(*args, **more)
                return list(found) if isinstance(found, Iterator) else found
            finally:
                self.requests = server.requests

    @property
    def lines(self) -> list[str]:
        return [f"{request['method']} {request['path']}" for request in self.requests]

    @property
    def body(self) -> Any:
        return self.requests[-1]["body"]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.http.close()


def test_creating_sends_name_and_projects(bench: Bench) -> None:
    bench.call("create_release", " w@1 ", own=("web", "4500001", "-0"))
    assert bench.lines == [f"POST {ORG}/releases/"]
    assert bench.body == {"version": "w@1", "projects": ["web", 4500001, "-0"]}


def test_creating_an_existing_release_sets_what_the_server_ignored(bench: Bench) -> None:
    """On an existing release url, ref and date of the POST do nothing (4.4)."""
    bench.answer("POST", f"{ORG}/releases/", {"version": "w@1", "url": "https://x"}, 208)
    bench.call("create_release", "w@1", url="https://x", ref="main", released=0.0)
    assert bench.lines == [f"POST {ORG}/releases/", f"PUT {RELEASE}"]
    assert bench.body == {"ref": "main", "dateReleased": "1970-01-01T00:00:00.000000Z"}


def test_creating_needs_a_project(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="project"):
        bench.call("create_release", "w@1", own=())
    assert bench.requests == []


def test_an_empty_list_of_projects_is_legal_when_asked_for(bench: Bench) -> None:
    clock = FakeClock()
    with Replay([], lenient=True) as server:
        api = ReleaseApi(
            organization="acme", token="t", url=server.url, http=bench.http, clock=clock
        )
        api.create_release("w@1", projects=[])
    assert server.requests[0]["body"]["projects"] == []


@pytest.mark.parametrize("name", ["a/b", "latest", "", "x" * 201, "a\nb", ".."])
def test_a_bad_name_never_leaves_the_machine(bench: Bench, name: str) -> None:
    for call in ("create_release", "finalize", "archive", "restore", "list_deploys"):
        with pytest.raises(InvalidRelease):
            bench.call(call, name)
    assert bench.requests == []


@pytest.mark.parametrize("name", ["a\x01b", "é" * 101, "latest", "a\\b"])
def test_a_bad_name_that_a_server_holds_can_be_read_and_deleted(bench: Bench, name: str) -> None:
    bench.call("get_release", name)
    assert bench.call("delete_release", name)
    assert len(bench.requests) == 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_no_address_can_hold_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidRelease):
        bench.call("delete_release", name)


def test_finalizing_sets_the_date(bench: Bench) -> None:
    bench.call("finalize", "w@1")
    assert bench.body == {"projects": ["web"], "dateReleased": NOW}
    bench.call("finalize", "w@1", released=datetime(2026, 1, 2, tzinfo=timezone.utc), url="u")
    assert bench.body["dateReleased"] == "2026-01-02T00:00:00.000000Z"
    assert bench.body["url"] == "u"


def test_a_date_without_zone_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="time zone"):
        bench.call("finalize", "w@1", released=datetime(2026, 1, 2))
    assert bench.requests == []


def test_restoring_posts_because_a_put_would_be_ignored(bench: Bench) -> None:
    bench.call("restore", "w@1")
    assert bench.lines == [f"POST {ORG}/releases/"]
    assert bench.body == {"version": "w@1", "projects": [], "status": "open"}
    bench.call("archive", "w@1")
    assert bench.body["status"] == "archived"


def test_deleting_what_is_not_there_is_no_error(bench: Bench) -> None:
    bench.answer("DELETE", RELEASE, {"detail": "no"}, 404)
    assert bench.call("delete_release", "w@1") is False
    assert bench.call("delete_release", "w@2") is True


def test_a_refused_deletion_is_an_error_in_the_servers_words(bench: Bench) -> None:
    words = "This release has health data and cannot be removed."
    bench.answer("DELETE", RELEASE, {"detail": words}, 400)
    with pytest.raises(ApiError, match="health data"):
        bench.call("delete_release", "w@1")


def test_lists_are_asked_for_by_project_or_organization(bench: Bench) -> None:
    bench.call("list_releases", project="web")
    assert bench.lines == ["GET /api/0/projects/acme/web/releases/"]
    bench.call("list_releases", query="w", status="all", sort="semver", environments=["prod", "qa"])
    assert bench.lines == [f"GET {ORG}/releases/"]
    query = bench.requests[0]["query"]
    assert query == "query=w&sort=semver&status=&environment=prod&environment=qa"


def test_a_deploy_carries_environment_and_times(bench: Bench) -> None:
    bench.call("create_deploy", "w@1", " production ", started=0.0, projects=["web"])
    assert bench.lines == [f"POST {RELEASE}deploys/"]
    assert bench.body == {
        "environment": "production",
        "name": None,
        "url": None,
        "dateStarted": "1970-01-01T00:00:00.000000Z",
        "dateFinished": NOW,
        "projects": ["web"],
    }


def test_a_deploy_is_told_once_when_the_server_may_have_taken_it(bench: Bench) -> None:
    bench.answer("POST", f"{RELEASE}deploys/", {"detail": "busy"}, 503)
    with pytest.raises(ApiError):
        bench.call("create_deploy", "w@1", "production")
    assert len(bench.requests) == 1


@pytest.mark.parametrize("name", ["", "  ", "a/b", "None", "x" * 65, "a\nb"])
def test_a_bad_environment_is_refused_before_any_request(bench: Bench, name: str) -> None:
    with pytest.raises(ConfigurationError):
        bench.call("create_deploy", "w@1", name)
    assert bench.requests == []


def test_commits_go_as_the_server_wants_them(bench: Bench) -> None:
    commit = Commit("a" * 40, "acme/w", changes=(Change("x.py", "M"),))
    bench.call("set_commits", "w@1", [commit, Commit("b" * 40, changes=())])
    assert bench.body == {
        "commits": [
            {
                "id": "a" * 40,
                "message": "",
                "repository": "acme/w",
                "patch_set": [{"path": "x.py", "type": "M"}],
            },
            {"id": "b" * 40, "message": "", "patch_set": []},
        ]
    }


def test_refs_name_range_ends(bench: Bench) -> None:
    bench.call("set_refs", "w@1", [Ref("acme/w", "a" * 40, "b" * 40), Ref("acme/x", "c")])
    assert bench.body["refs"][0] == {
        "repository": "acme/w",
        "commit": "a" * 40,
        "previousCommit": "b" * 40,
    }
    assert bench.body["refs"][1]["previousCommit"] is None


def test_a_previous_release_that_is_none_is_none(bench: Bench) -> None:
    path = f"{RELEASE}previous-with-commits/"
    bench.answer("GET", path, {})
    assert bench.call("previous_release", "w@1") is None
    bench.script.clear()
    bench.answer("GET", path, {"detail": "no"}, 404)
    assert bench.call("previous_release", "w@1") is None
    bench.script.clear()
    bench.answer("GET", path, {"detail": "broken"}, 500)
    with pytest.raises(ApiError):
        bench.call("previous_release", "w@1")


def test_a_file_that_is_there_already_is_no_error(bench: Bench) -> None:
    path = "/api/0/projects/acme/web/releases/w@1/files/"
    bench.answer("POST", path, {"detail": "A file matching this name already exists"}, 409)
    assert bench.call("upload_file", "w@1", "~/a.js", b"x", project="web") is None


def test_a_file_goes_with_name_dist_and_headers(bench: Bench) -> None:
    path = f"{RELEASE}files/"
    bench.answer("POST", path, {"id": "1", "name": "~/a.js", "size": 1}, 201)
    made = bench.call(
        "upload_file", "w@1", "~/a.js", b"x", dist="7", headers=[("Sourcemap", "a.map")]
    )
    assert made.name == "~/a.js"
    parts = {part["field"]: part.get("value") for part in bench.body["_multipart"]}
    assert parts == {"file": None, "name": "~/a.js", "dist": "7", "header": "Sourcemap:a.map"}


def test_repositories_that_a_server_does_not_have_are_none(bench: Bench) -> None:
    bench.answer("GET", f"{ORG}/repos/", {"detail": "no"}, 404)
    assert bench.call("repositories") == []


@pytest.mark.parametrize("value", ["", " ", "a/b", "my org", "..", "a\tb"])
def test_an_organization_is_a_slug_or_an_id(value: str) -> None:
    with pytest.raises(ConfigurationError):
        ReleaseApi(organization=value, token="t", http=HttpClient())


def test_a_client_is_made_from_the_environment() -> None:
    variables = {
        "CRASHFREE_AUTH_TOKEN": "a" * 64,
        "SENTRY_ORG": "acme",
        "SENTRY_PROJECT": "web,api",
        "SENTRY_URL": "https://s.example/",
    }
    with ReleaseApi.from_settings(resolve(variables=variables, directory="/", home="/x")) as api:
        assert (api.organization, api.projects) == ("acme", ("web", "api"))
        assert api.channel.base == "https://s.example"
    del variables["SENTRY_ORG"]
    with pytest.raises(MissingSetting, match="organization"):
        ReleaseApi.from_settings(resolve(variables=variables, directory="/", home="/x"))


def test_a_pipeline_stands_behind_our_name() -> None:
    assert user_agent("action/1").endswith(" action/1")
    assert "\n" not in user_agent("a\nb")


def test_every_recorded_release_can_be_read() -> None:
    seen = 0
    for entry in load("sentry_cli_traffic.json")["entries"]:
        for exchange in entry["exchanges"]:
            value = (exchange["response"] or {}).get("body")
            for body in value if isinstance(value, list) else [value]:
                if isinstance(body, dict) and "dateReleased" in body:
                    info = ReleaseInfo.of(body)
                    assert info.version == body["version"]
                    assert (info.released is None) == (body["dateReleased"] is None)
                    seen += 1
    assert seen > 50


@pytest.mark.parametrize(
    "value", [None, 5, [], "x", {"version": 7, "lastCommit": "x", "projects": 3}]
)
def test_anything_can_be_read_as_a_release(value: object) -> None:
    assert ReleaseInfo.of(value).projects == ()


def test_merged_lists_descend_and_hold_every_commit_once() -> None:
    newer = [Commit("b", "r", timestamp="2026-01-03T00:00:00Z")]
    existing = [
        Commit("b", "r", timestamp="2026-01-03T00:00:00Z"),
        Commit("b", "other", timestamp="2026-01-03T00:00:00Z"),
        Commit("a", "r", timestamp=None),
    ]
    both = merged(newer, existing)
    assert [(entry.id, entry.repository) for entry in both] == [
        ("b", "r"),
        ("b", "other"),
        ("a", "r"),
    ]
    assert len({entry.timestamp for entry in both}) == 3
    assert merged(newer, []) == newer


def test_descending_changes_no_timestamp_that_is_right() -> None:
    right = [
        Commit("a", timestamp="2026-01-03T00:00:00+05:30"),
        Commit("b", timestamp="2026-01-01T00:00:00Z"),
    ]
    assert descending(right) == right
