"""Which commits belong to a release, end to end against a small server that keeps releases.

Source: releases.md sections 5.4 and 8.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree._ground.http import HttpClient, HttpSettings
from crashfree.errors import ConfigurationError
from crashfree.management.api import ReleaseApi
from crashfree.management.association import Plan, UnknownRepository, Wish, associate
from crashfree.management.git import GitError
from tests.unit._cli.replay import Replay
from tests.unit.management import repositories
from tests.unit.management.repositories import commit, git

GITHUB = {"id": "integrations:github", "name": "GitHub"}
LINKED = {"id": "1", "name": "Acme/Widgets", "url": "https://github.com/acme/widgets"}
ORG = "/api/0/organizations/acme"


class Scene:
    """A server with releases and repositories, and a client for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repositories: list[dict[str, Any]] = []
        self.previous: dict[str, Any] = {}
        self.existing: list[dict[str, Any]] = []
        self.releases: list[dict[str, Any]] = []
        self.deploys: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[dict[str, Any]] = []
        self.http = HttpClient(HttpSettings(connect_timeout=5.0, timeout=5.0))

    def link(self, **more: Any) -> None:
        self.repositories.append({**LINKED, "provider": GITHUB, **more})

    def after(self, version: str, commit: str, count: int = 1) -> None:
        """Say what the previous release with commits is."""
        self.previous = {
            "version": version,
            "commitCount": count,
            "lastCommit": {"id": commit, "repository": {"name": "acme/widgets"}},
        }

    def associate(self, *, projects: tuple[str, ...] = ("web",), **wish: Any) -> Plan:
        script = [
            self.get(f"{ORG}/repos/", self.repositories),
            self.get(f"{ORG}/releases/v@2/previous-with-commits/", self.previous),
            self.get(f"{ORG}/releases/v@2/commits/", self.existing),
            self.get("/api/0/projects/acme/web/releases/", self.releases),
            *(self.get(f"{ORG}/releases/{v}/deploys/", list_) for v, list_ in self.deploys.items()),
        ]
        wish.setdefault("directory", str(self.directory))
        with Replay(script, lenient=True) as server:
            api = ReleaseApi(
                organization="acme", token="t", url=server.url, projects=projects, http=self.http
            )
            try:
                return associate(api, "v@2", Wish(**wish))
            finally:
                self.requests = server.requests

    @staticmethod
    def get(path: str, body: Any) -> dict[str, Any]:
        return {
            "request": {"method": "GET", "path": path, "query": "", "body": None},
            "response": {"status": 200, "headers": {}, "body": body},
        }

    @property
    def put(self) -> dict[str, Any]:
        (request,) = [r for r in self.requests if r["method"] == "PUT"]
        body: dict[str, Any] = request["body"]
        return body

    @property
    def ids(self) -> list[str]:
        return [entry["id"] for entry in self.put["commits"]]


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return repositories.relatives(tmp_path_factory)


@pytest.fixture
def scene(base: Path) -> Iterator[Scene]:
    made = Scene(base / "widgets")
    yield made
    made.http.close()


class TestAuto:
    def test_a_linked_repository_is_read_by_the_server(self, scene: Scene) -> None:
        scene.link()
        plan = scene.associate(auto=True)
        assert plan.kind == "refs"
        assert scene.put == {
            "refs": [
                {
                    "repository": "Acme/Widgets",
                    "commit": repositories.HEAD,
                    "previousCommit": None,
                }
            ]
        }

    def test_the_linked_one_among_others_is_found(self, scene: Scene) -> None:
        scene.link(name="acme/other", url="https://github.com/acme/other")
        scene.link(name="odd", url="ssh://git@host:122/")
        scene.link()
        assert [ref.repository for ref in scene.associate(auto=True).refs] == ["Acme/Widgets"]

    def test_without_a_match_the_checkout_is_sent_and_the_reason_told(self, scene: Scene) -> None:
        scene.link(name="acme/other", url="https://github.com/acme/other")
        plan = scene.associate(auto=True)
        assert plan.kind == "commits"
        assert "github.com/acme/widgets" in plan.notes[0]
        assert "acme/other" in plan.notes[0]

    def test_a_repository_without_address_is_skipped_with_a_warning(self, scene: Scene) -> None:
        scene.link(name="broken", url=None)
        scene.link()
        plan = scene.associate(auto=True)
        assert [ref.repository for ref in plan.refs] == ["Acme/Widgets"]
        assert "broken" in plan.warnings[0]

    def test_a_provider_that_cannot_be_read_counts_as_none(self, scene: Scene) -> None:
        scene.link(provider={"id": "unknown", "name": "Unknown Provider"})
        assert scene.associate(auto=True).kind == "commits"

    def test_the_last_deploy_of_an_environment_is_the_base(self, scene: Scene) -> None:
        scene.link()
        scene.releases = releases_with_deploys()
        plan = scene.associate(auto=True, since_deploy="production")
        assert plan.refs[0].previous == repositories.DROP

    def test_outside_a_checkout_nothing_is_created(self, scene: Scene, base: Path) -> None:
        scene.link()
        with pytest.raises(GitError):
            scene.associate(auto=True, directory=str(base / "nogit"))
        assert {request["method"] for request in scene.requests} == {"GET"}


def releases_with_deploys() -> list[dict[str, Any]]:
    """Production runs v@0 again: it was deployed after v@1."""

    def release(version: str, commit: str, environment: str, finished: str) -> dict[str, Any]:
        deploy = {"environment": environment, "dateFinished": finished}
        return {
            "version": version,
            "deployCount": 1,
            "lastDeploy": deploy,
            "lastCommit": {"id": commit},
        }

    return [
        release("v@2", repositories.HEAD, "production", "2026-02-09T00:00:00Z"),
        release("v@1.5", repositories.HEAD, "staging", "2026-02-08T00:00:00Z"),
        release("v@1", repositories.MERGE, "production", "2026-02-01T00:00:00Z"),
        release("v@0", repositories.DROP, "production", "2026-02-03T00:00:00Z"),
        {"version": "v@x", "deployCount": 0, "lastDeploy": None},
    ]


class TestLocal:
    def test_without_a_previous_release_the_newest_are_sent(self, scene: Scene) -> None:
        plan = scene.associate(initial_depth=3)
        assert scene.ids == list(repositories.PATCHES)[:3]
        assert "newest 3 commits" in plan.notes[0]
        assert scene.put["commits"][0]["repository"] == "acme/widgets"

    def test_with_one_the_range_starts_behind_its_last_commit(self, scene: Scene) -> None:
        scene.after("v@1", repositories.MERGE)
        plan = scene.associate()
        assert scene.ids == [repositories.HEAD, repositories.EXECUTABLE]
        assert plan.notes == [f"base: {repositories.MERGE[:12]}, the last commit of release v@1"]

    def test_a_short_id_is_resolved(self, scene: Scene) -> None:
        scene.after("v@1", repositories.EXECUTABLE[:8])
        scene.associate()
        assert scene.ids == [repositories.HEAD]

    def test_the_servers_spelling_of_the_repository_is_kept(self, scene: Scene) -> None:
        scene.link()
        scene.associate(initial_depth=1)
        assert scene.put["commits"][0]["repository"] == "Acme/Widgets"

    def test_a_name_can_be_given(self, scene: Scene) -> None:
        scene.associate(initial_depth=1, repository="my/name")
        assert scene.put["commits"][0]["repository"] == "my/name"

    def test_a_remote_can_be_named_or_given_as_an_address(self, scene: Scene) -> None:
        scene.associate(initial_depth=1, remote="https://gitlab.com/group/sub/proj.git")
        assert scene.put["commits"][0]["repository"] == "group/sub/proj"

    def test_a_remote_that_is_not_there_is_a_warning(self, scene: Scene) -> None:
        plan = scene.associate(initial_depth=1, remote="upstream")
        assert "upstream" in plan.warnings[0]
        assert scene.put["commits"][0]["repository"] == "acme/widgets"

    def test_without_remote_the_directory_names_it_with_a_warning(
        self, scene: Scene, base: Path
    ) -> None:
        plan = scene.associate(directory=str(base / "noremote"))
        assert scene.put["commits"][0]["repository"] == "noremote"
        assert "no remote" in plan.warnings[0]

    def test_a_base_that_was_squashed_is_a_warning_and_the_depth_taken(self, scene: Scene) -> None:
        scene.after("v@1", "a" * 40)
        plan = scene.associate(initial_depth=2)
        assert len(scene.ids) == 2
        assert "squashed" in plan.warnings[0]

    def test_ignore_missing_makes_it_a_note(self, scene: Scene) -> None:
        scene.after("v@1", "a" * 40)
        plan = scene.associate(initial_depth=2, ignore_missing=True)
        assert plan.warnings == []
        assert len(scene.ids) == 2

    def test_strict_makes_it_an_error(self, scene: Scene) -> None:
        scene.after("v@1", "a" * 40)
        with pytest.raises(GitError, match="squashed"):
            scene.associate(strict=True)
        assert not [r for r in scene.requests if r["method"] == "PUT"]

    def test_a_base_outside_a_shallow_clone_names_the_fix(self, scene: Scene, base: Path) -> None:
        scene.after("v@1", repositories.ROOT_COMMIT)
        plan = scene.associate(directory=str(base / "shallow"))
        assert "fetch-depth: 0" in plan.warnings[0]
        assert scene.ids == [repositories.HEAD, repositories.EXECUTABLE]

    def test_a_base_of_another_history_is_a_warning(self, scene: Scene, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        git(tmp_path, "clone", "-q", str(scene.directory), str(copy))
        git(copy, "checkout", "-q", "--orphan", "other")
        commit(copy, "rewritten")
        scene.after("v@1", repositories.HEAD)
        plan = scene.associate(directory=str(copy))
        assert any("no history in common" in warning for warning in plan.warnings)
        assert len(scene.ids) == 1

    def test_a_base_that_is_no_commit_id_counts_as_none(self, scene: Scene) -> None:
        scene.after("v@1", "r1234-svn")
        assert scene.associate(initial_depth=1).warnings == []
        assert scene.ids == [repositories.HEAD]

    def test_nothing_new_leaves_the_release_alone_and_says_why(self, scene: Scene) -> None:
        scene.after("v@1", repositories.HEAD)
        plan = scene.associate()
        assert plan.kind == "nothing"
        assert plan.notes == [
            f"the checked out commit {repositories.HEAD[:12]} is the last one of release v@1"
        ]

    def test_a_second_run_says_that_they_are_there_already(self, scene: Scene) -> None:
        scene.after("v@2", repositories.HEAD, count=7)
        plan = scene.associate()
        assert plan.kind == "nothing"
        assert plan.notes == [f"v@2 already has 7 commits up to {repositories.HEAD[:12]}"]

    def test_a_second_run_after_new_commits_adds_them(self, scene: Scene) -> None:
        """Sending only the new ones would wipe out what the first run sent."""
        scene.after("v@2", repositories.MERGE)
        scene.existing = [
            {
                "id": repositories.MERGE,
                "message": None,
                "dateCreated": "2026-01-06T09:00:00Z",
                "repository": {"name": "acme/widgets"},
                "author": {"name": "Ada", "email": "ada@example.com"},
            }
        ]
        plan = scene.associate()
        assert plan.append
        assert scene.ids == [repositories.HEAD, repositories.EXECUTABLE, repositories.MERGE]
        assert scene.put["commits"][2]["message"] == ""
        assert all(entry["timestamp"] for entry in scene.put["commits"])

    def test_append_keeps_another_repositorys_commits(self, scene: Scene) -> None:
        """One push replaces the list of the other on Sentry."""
        scene.existing = [
            {
                "id": "f" * 40,
                "message": "other",
                "dateCreated": "2026-01-07T12:00:00Z",
                "repository": {"name": "acme/backend"},
                "author": {},
            }
        ]
        scene.associate(append=True, initial_depth=2)
        assert scene.ids == [repositories.HEAD, "f" * 40, repositories.EXECUTABLE]

    def test_a_base_can_be_given(self, scene: Scene) -> None:
        scene.associate(base="v1.0.0")
        assert scene.ids == [repositories.HEAD]
        assert not any("previous-with-commits" in r["path"] for r in scene.requests)

    def test_a_path_limits_commits_and_files(self, scene: Scene) -> None:
        scene.associate(base=repositories.ROOT_COMMIT, paths=("docs",))
        # Paths are relative to the directory the checkout was opened in.
        assert scene.ids == [repositories.DOCS]

    def test_the_last_deploy_of_an_environment_is_the_base(self, scene: Scene) -> None:
        scene.releases = releases_with_deploys()
        plan = scene.associate(since_deploy="production")
        assert plan.notes[0] == "last deployed to 'production': v@0"
        assert repositories.MERGE in scene.ids
        assert repositories.DROP not in scene.ids

    def test_an_environment_never_deployed_to_has_no_base(self, scene: Scene) -> None:
        scene.releases = releases_with_deploys()
        plan = scene.associate(since_deploy="qa", initial_depth=1)
        assert "'qa'" in plan.notes[0]
        assert scene.ids == [repositories.HEAD]

    def test_older_deploys_of_a_release_count_too(self, scene: Scene) -> None:
        release = releases_with_deploys()[1]
        release["deployCount"] = 2
        scene.releases = [release]
        scene.deploys = {
            "v@1.5": [
                {"environment": "staging", "dateFinished": "2026-02-08T00:00:00Z"},
                {"environment": "production", "dateFinished": "2026-02-07T00:00:00Z"},
            ]
        }
        assert scene.associate(since_deploy="production").kind == "nothing"

    def test_without_projects_no_release_is_made_beforehand(self, scene: Scene) -> None:
        scene.associate(projects=(), initial_depth=1)
        assert not [r for r in scene.requests if r["method"] == "POST"]


class TestSpecs:
    def test_named_ranges_of_linked_repositories_are_resolved(self, scene: Scene) -> None:
        scene.link()
        plan = scene.associate(specs=("acme/widgets@v1.0.0..v1.1.0",))
        assert [(ref.commit, ref.previous) for ref in plan.refs] == [
            (repositories.HEAD, repositories.EXECUTABLE)
        ]

    def test_a_range_is_split_at_its_last_dots(self, scene: Scene) -> None:
        scene.link(name="else", url="https://github.com/acme/else")
        plan = scene.associate(specs=(f"else@{'a' * 40}..{'b' * 40}",))
        assert (plan.refs[0].previous, plan.refs[0].commit) == ("a" * 40, "b" * 40)
        assert plan.warnings == []

    def test_what_cannot_be_resolved_goes_as_it_is_with_a_warning(self, scene: Scene) -> None:
        scene.link(name="Acme / Gadgets", url="https://github.com/acme/gadgets")
        plan = scene.associate(specs=("Acme / Gadgets@def456",))
        assert plan.refs[0].commit == "def456"
        assert "def456" in plan.warnings[0]

    def test_a_submodule_is_resolved_in_its_own_checkout(self, scene: Scene, base: Path) -> None:
        scene.link(name="acme/sub", url="https://github.com/acme/sub")
        plan = scene.associate(specs=("acme/sub@v1.0.0",), directory=str(base / "sub"))
        assert plan.refs[0].commit == repositories.EXECUTABLE

    def test_a_checkout_can_be_named_in_the_spec(self, scene: Scene, base: Path) -> None:
        scene.link(name="else", url="https://github.com/acme/else")
        plan = scene.associate(specs=(f"else#{base / 'detached'}@HEAD",))
        assert plan.refs[0].commit == repositories.EXECUTABLE

    def test_an_unknown_repository_is_told_with_those_that_are_known(self, scene: Scene) -> None:
        scene.link(name="acme/zzz")
        scene.link()
        with pytest.raises(UnknownRepository) as caught:
            scene.associate(specs=("acme/widget@abc",))
        assert caught.value.remedy == "the server knows: Acme/Widgets, acme/zzz"
        assert {r["method"] for r in scene.requests} == {"GET"}

    def test_without_linked_repositories_the_way_out_is_named(self, scene: Scene) -> None:
        with pytest.raises(UnknownRepository) as caught:
            scene.associate(specs=("acme/widgets@abc",))
        assert "--local" in caught.value.remedy

    @pytest.mark.parametrize("spec", ["@abc", "", "a/b@x...y", "a/b@..x", "a/b@x..", "#x@y"])
    def test_a_spec_that_is_none_is_refused(self, scene: Scene, spec: str) -> None:
        scene.link(name="a/b")
        with pytest.raises(ConfigurationError):
            scene.associate(specs=(spec,))

    def test_local_specs_choose_exactly_those_commits(self, scene: Scene) -> None:
        scene.associate(
            local=True, specs=(repositories.DROP[:9], "acme/other@v1.0.0", "HEAD~1..HEAD")
        )
        assert scene.ids == [repositories.DROP, repositories.EXECUTABLE, repositories.HEAD]
        names = [entry["repository"] for entry in scene.put["commits"]]
        assert names == ["acme/widgets", "acme/other", "acme/widgets"]
        stamps = [entry["timestamp"] for entry in scene.put["commits"]]
        assert len(set(stamps)) == 3


def test_clear_clears_with_or_without_repositories(scene: Scene) -> None:
    assert scene.associate(clear=True).kind == "clear"
    assert scene.put == {"refs": []}
    scene.link()
    scene.associate(clear=True)
    assert scene.put == {"refs": []}


def test_auto_and_clear_together_is_auto(scene: Scene) -> None:
    scene.link()
    assert scene.associate(clear=True, auto=True).kind == "refs"
