"""What git knows of a checkout. Source: releases.md section 5.4."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from crashfree.management.commits import read_log
from crashfree.management.git import Checkout, GitError
from tests.unit.management import repositories
from tests.unit.management.repositories import commit, git, new


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repositories.relatives(tmp_path_factory)


@pytest.fixture(autouse=True)
def no_git_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def at(directory: Path) -> Checkout:
    return Checkout.at(str(directory))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("widgets", repositories.HEAD),
        ("detached", repositories.EXECUTABLE),
        ("worktree", repositories.MERGE),
        ("bare.git", repositories.HEAD),
        ("shallow", repositories.HEAD),
        ("widgets/src", repositories.HEAD),
    ],
)
def test_the_head_is_found_in_every_kind_of_checkout(base: Path, name: str, head: str) -> None:
    assert at(base / name).head() == head


def test_tags_branches_and_short_ids_are_resolved_to_commits(base: Path) -> None:
    checkout = at(base / "widgets")
    for revision in ("v1.1.0", "main", repositories.HEAD[:7], "HEAD", "HEAD^{commit}"):
        assert checkout.resolve(revision) == repositories.HEAD
    for revision in ("nope", "HEAD:src", "", "-h", "--all", "a\0b"):
        assert checkout.resolve(revision) is None


def test_a_directory_without_repository_is_told_with_a_remedy(base: Path) -> None:
    with pytest.raises(GitError, match="no git repository") as caught:
        at(base / "nogit")
    assert "--checkout" in caught.value.remedy
    with pytest.raises(GitError, match="no directory"):
        at(base / "nowhere")


def test_a_repository_without_commits_has_no_head(base: Path) -> None:
    with pytest.raises(GitError, match="no commit yet"):
        at(base / "empty").head()


def test_a_machine_without_git_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(base))
    with pytest.raises(GitError, match="not installed"):
        at(base / "widgets")


def test_remotes_have_the_address_that_git_would_use(base: Path, tmp_path: Path) -> None:
    repository = new(tmp_path / "r", remote="gh:acme/widgets")
    git(repository, "config", "url.git@github.com:.insteadOf", "gh:")
    checkout = at(repository)
    assert checkout.remotes() == ["origin"]
    assert checkout.remote_url("origin") == "git@github.com:acme/widgets"
    assert checkout.remote_url("upstream") is None
    assert checkout.remote_url("--all") is None


def test_submodules_have_an_address_and_the_commit_that_the_head_names(base: Path) -> None:
    found = at(base / "sub").submodules()
    assert [(s.path, s.url, s.commit) for s in found] == [
        ("vendor/w", "git@github.com:acme/sub.git", repositories.HEAD)
    ]
    assert at(base / "widgets").submodules() == []


def test_a_submodule_that_is_not_checked_out_is_not_mistaken_for_its_outer_repository(
    base: Path, tmp_path: Path
) -> None:
    outer = at(base / "sub")
    (submodule,) = outer.submodules()
    inner = outer.inside(submodule)
    assert inner is not None
    assert inner.head() == repositories.HEAD
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(base / "sub"), str(copy))
    assert at(copy).inside(submodule) is None


def test_shallow_clones_know_where_they_end(base: Path) -> None:
    assert at(base / "shallow").is_shallow()
    assert at(base / "shallow").boundary() == {repositories.EXECUTABLE}
    assert not at(base / "widgets").is_shallow()
    assert at(base / "widgets").boundary() == frozenset()


def test_related_commits_share_an_ancestor(base: Path, tmp_path: Path) -> None:
    checkout = at(base / "widgets")
    assert checkout.related(repositories.HEAD, repositories.FEATURE)
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(base / "widgets"), str(copy))
    git(copy, "checkout", "-q", "--orphan", "other")
    other = commit(copy, "other history")
    assert not at(copy).related(repositories.HEAD, other)


def test_stopping_early_leaves_no_git_behind(base: Path) -> None:
    checkout = at(base / "thirty")
    stream = checkout.stream(["log", "-z", "--format=%H"])
    next(stream)
    stream.close()


def test_a_failing_git_is_an_error_with_its_words(base: Path) -> None:
    with pytest.raises(GitError, match="git log failed"):
        list(at(base / "widgets").stream(["log", "nope"]))


def test_a_name_for_a_checkout_without_remote(base: Path) -> None:
    assert at(base / "noremote").name == "noremote"
    assert at(base / "bare.git").name == "bare"
    assert at(base / "widgets" / "src").name == "widgets"


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root can give a directory away"
)
class TestForeignOwner:
    """In a container the checkout often belongs to another user."""

    @pytest.fixture
    def foreign(self, base: Path, tmp_path: Path) -> Path:
        copy = tmp_path / "foreign"
        shutil.copytree(base / "thirty", copy)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, 12345, 12345)
        return copy

    def test_it_is_read_all_the_same(self, foreign: Path) -> None:
        checkout = at(foreign)
        assert checkout.foreign
        assert len(read_log(checkout, head=checkout.head()).commits) == 30

    def test_its_configuration_can_run_nothing(self, foreign: Path, tmp_path: Path) -> None:
        """A stranger's fsmonitor, pager, hook, signature check or transport must not start."""
        trap = tmp_path / "trap"
        fired = tmp_path / "fired"
        trap.write_text(f"#!/bin/sh\necho $0 $* >> {fired}\n")
        trap.chmod(0o755)
        settings = (
            ("core.fsmonitor", str(trap)),
            ("core.pager", str(trap)),
            ("pager.log", str(trap)),
            ("gpg.program", str(trap)),
            ("log.showSignature", "true"),
            ("diff.external", str(trap)),
            ("core.sshCommand", str(trap)),
            ("core.hooksPath", str(tmp_path)),
            ("core.alternateRefsCommand", str(trap)),
            ("remote.origin.promisor", "true"),
            ("remote.origin.uploadpack", str(trap)),
            ("remote.origin.url", f"ext::{trap}"),
            ("extensions.partialClone", "origin"),
            ("protocol.ext.allow", "always"),
            ("diff.trap.textconv", str(trap)),
        )
        for key, value in settings:
            git(foreign, "-c", "safe.directory=*", "config", key, value)
        (foreign / ".git" / "info" / "attributes").write_text("* diff=trap\n")
        checkout = at(foreign)
        read_log(checkout, head=checkout.head())
        checkout.submodules()
        checkout.remotes()
        checkout.resolve("f" * 40)
        assert not fired.exists()
