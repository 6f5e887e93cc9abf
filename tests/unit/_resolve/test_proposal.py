"""`crashfree._resolve.proposal`: what `init` would find, and what counts in a build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crashfree._resolve.answers import Resolved
from crashfree._resolve.baked import FILE_NAME
from crashfree._resolve.ci import SERVICES, build_service, build_variables
from crashfree._resolve.program import Program
from crashfree._resolve.proposal import foresee, propose
from crashfree._resolve.release import resolve_release
from tests.support.repository import git, needs_git, repository

COMMIT = "a86d127c4b2f23a0a862620280427dcc01c78676"


def name(resolved: Resolved) -> str | None:
    return None if resolved.release is None else resolved.release.raw


def proposed(directory: Path, **environ: str) -> str | None:
    return name(propose(environ, directory=str(directory)).resolved)


@pytest.fixture
def bare_folder(tmp_path: Path) -> Path:
    """A folder in no repository, whatever is above the temporary directory."""
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    return tmp_path


# --- outside a build --------------------------------------------------------------------------


@needs_git
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SENTRY_RELEASE": "app@1"},
        {"CRASHFREE_RELEASE": "app@2", "SENTRY_RELEASE": "app@1"},
        {"SENTRY_RELEASE": "a/b"},
        {"HEROKU_SLUG_COMMIT": "slug"},
        {"K_REVISION": "k", "GAE_DEPLOYMENT_ID": "g"},
        {"VERCEL_GIT_COMMIT_SHA": "v"},
        {"CI": "false"},
    ],
)
@pytest.mark.parametrize("folder", ["repository", "empty", "baked"])
def test_the_proposal_is_what_init_finds(
    folder: str, environ: dict[str, str], bare_folder: Path
) -> None:
    directory = bare_folder
    if folder != "empty":
        (directory / ".git").unlink()
        repository(directory)
    if folder == "baked":
        (directory / FILE_NAME).write_text("baked@1")
    init = resolve_release(
        None, environ=environ, directory=str(directory), program=Program(), memory={}
    )
    assert name(foresee(environ, directory=str(directory))) == name(init)
    assert proposed(directory, **environ) == name(init)


def test_the_installed_version_of_the_project_stands_in_for_its_program(bare_folder: Path) -> None:
    (bare_folder / "pyproject.toml").write_text('[project]\nname = "hypothesis"\n')
    init = resolve_release(
        None,
        environ={},
        directory=str(bare_folder),
        program=Program(module="hypothesis"),
        memory={},
    )
    assert init.release is not None
    assert proposed(bare_folder) == init.release.raw
    assert foresee({}, directory=str(bare_folder)).source == "distribution:hypothesis"


def test_a_project_that_is_not_installed_has_no_release(bare_folder: Path) -> None:
    (bare_folder / "pyproject.toml").write_text('[project]\nname = "never-installed-at-all"\n')
    found = propose({}, directory=str(bare_folder)).resolved
    assert found.release is None
    assert "is not installed" in str(found.tried)


# --- in a build -------------------------------------------------------------------------------


@needs_git
@pytest.mark.parametrize("variable", build_variables())
def test_in_a_build_each_services_variable_comes_before_git(variable: str, tmp_path: Path) -> None:
    """Source: releases.md sections 2.2 and 2.4."""
    repository(tmp_path)
    proposal = propose({variable: "from-the-service"}, directory=str(tmp_path))
    assert name(proposal.resolved) == "from-the-service"
    assert proposal.resolved.source == f"env:{variable}"
    assert variable in proposal.order


@needs_git
def test_in_a_build_without_a_commit_variable_git_answers(tmp_path: Path) -> None:
    repository(tmp_path)
    for value in ("true", "1", "woodpecker"):
        assert proposed(tmp_path, CI=value) == git(tmp_path, "rev-parse", "HEAD")


def test_in_a_build_variables_are_read_in_the_documented_order(bare_folder: Path) -> None:
    """Source: releases.md section 2.2: those of the usual order, Cloudflare, then the table."""
    environ = dict.fromkeys(("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT"), "late")
    environ |= {"CF_PAGES_COMMIT_SHA": "cloudflare", "HEROKU_SLUG_COMMIT": "slug"}
    assert proposed(bare_folder, **environ) == "slug"
    del environ["HEROKU_SLUG_COMMIT"]
    assert proposed(bare_folder, **environ) == "cloudflare"
    assert proposed(bare_folder, **environ, SENTRY_RELEASE="app@1") == "app@1"


def test_a_pull_request_on_github_is_named_by_its_head(bare_folder: Path) -> None:
    """Source: releases.md section 2.3, table."""
    event = bare_folder / "event.json"
    environ = {"GITHUB_SHA": "merge", "GITHUB_EVENT_PATH": str(event)}
    event.write_text(json.dumps({"pull_request": {"head": {"sha": COMMIT}}}))
    assert proposed(bare_folder, **environ) == COMMIT
    for other in (
        "not json at all",
        "",
        "[]",
        "{}",
        '{"pull_request": null}',
        '{"pull_request": {"head": {"sha": 3}}}',
        '{"pull_request": {"head": {"sha": "abc"}}}',
    ):
        event.write_text(other)
        assert proposed(bare_folder, **environ) == "merge"
    event.unlink()
    assert proposed(bare_folder, **environ) == "merge"


def test_a_build_is_known_by_any_services_variable_or_by_ci() -> None:
    assert build_service({}) is None
    assert build_service({"CI": "0"}) is None
    assert build_service({"CI": "False", "HEROKU_SLUG_COMMIT": "x", "K_REVISION": "y"}) is None
    assert build_service({"CI": "true"}) == "CI"
    assert build_service({"CI": "true", "GITHUB_SHA": "x"}) == "GITHUB_SHA"
    assert len(build_variables()) == len(set(build_variables()))
    assert {name for service in SERVICES for name in service.variables} == set(build_variables())


# --- what is asked for ------------------------------------------------------------------------


def test_what_is_asked_for_comes_first(bare_folder: Path) -> None:
    (bare_folder / "pyproject.toml").write_text('[project]\nname = "app"\nversion = "3.0"\n')
    environ = {"SENTRY_RELEASE": "variable@1"}
    directory = str(bare_folder)
    assert name(propose(environ, directory=directory, from_package=True).resolved) == "app@3.0"
    found = propose(environ, directory=directory, installed="hypothesis").resolved
    assert str(name(found)).startswith("hypothesis@")


def test_baked_files_can_be_left_out(bare_folder: Path) -> None:
    (bare_folder / FILE_NAME).write_text("left-behind@1")
    assert propose({}, directory=str(bare_folder), baked=False).resolved.release is None


def test_build_files_come_last(bare_folder: Path) -> None:
    """Source: releases.md section 2.5."""
    (bare_folder / "build.gradle").write_text("")
    (bare_folder / "app").mkdir()
    (bare_folder / "app/build.gradle").write_text(
        "android { defaultConfig {\n applicationId 'com.example'\n versionName \"1.2\"\n} }"
    )
    below = bare_folder / "app/src"
    below.mkdir()
    found = propose({}, directory=str(below)).resolved
    assert name(found) == "com.example@1.2"
    assert found.source == "gradle:../build.gradle"
    assert proposed(below, K_REVISION="k") == "k"
