"""`crashfree._resolve.git` against repositories that real git has made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from crashfree._resolve.git import find_commit
from tests.support.repository import commit, git, needs_git, repository, surroundings

pytestmark = needs_git
Made = tuple[Path, dict[str, str]]
"""Where to look, and with which variables."""


def simple(root: Path) -> Made:
    return repository(root / "r", commits=2), {}


def sub_folder(root: Path) -> Made:
    deep = repository(root / "r") / "a" / "b"
    deep.mkdir(parents=True)
    return deep, {}


def packed(root: Path) -> Made:
    made = repository(root / "r", commits=3)
    git(made, "tag", "-a", "v1", "-m", "a tag, so that packed-refs has a ^ line")
    git(made, "branch", "mainly")
    git(made, "pack-refs", "--all", "--prune")
    assert not (made / ".git/refs/heads/main").exists()
    return made, {}


def loose_over_packed(root: Path) -> Made:
    made, _ = packed(root)
    commit(made, "newer than what is packed")
    return made, {}


def detached(root: Path) -> Made:
    made = repository(root / "r", commits=3)
    git(made, "checkout", "-q", "--detach", "HEAD~1")
    return made, {}


def branch_with_a_slash(root: Path) -> Made:
    made = repository(root / "r")
    git(made, "checkout", "-q", "-b", "feature/login/ünï")
    commit(made)
    return made, {}


def worktree(root: Path) -> Made:
    made = repository(root / "r", commits=2)
    git(made, "worktree", "add", "-q", str(root / "w"), "-b", "other", "HEAD~1")
    return root / "w", {}


def worktree_with_packed_refs(root: Path) -> Made:
    made, _ = worktree(root)
    git(made, "pack-refs", "--all", "--prune")
    return made, {}


def detached_worktree(root: Path) -> Made:
    made = repository(root / "r", commits=2)
    git(made, "worktree", "add", "-q", "--detach", str(root / "w"), "HEAD~1")
    return root / "w", {}


def submodule(root: Path) -> Made:
    inner = repository(root / "inner", commits=2)
    outer = repository(root / "outer")
    allowed = ("-c", "protocol.file.allow=always")
    git(outer, *allowed, "submodule", "--quiet", "add", str(inner), "sub")
    assert (outer / "sub/.git").is_file()
    return outer / "sub", {}


def bare(root: Path) -> Made:
    made = repository(root / "r", commits=2)
    git(root, "clone", "-q", "--bare", str(made), "bare.git")
    return root / "bare.git", {}


def inside_a_bare_one(root: Path) -> Made:
    made, _ = bare(root)
    return made / "objects", {}


def shallow(root: Path) -> Made:
    made = repository(root / "r", commits=4)
    git(root, "clone", "-q", "--depth", "1", made.as_uri(), "shallow")
    return root / "shallow", {}


def separate_git_dir(root: Path) -> Made:
    made = repository(root / "r", "--separate-git-dir", str(root / "elsewhere"))
    assert (made / ".git").is_file()
    return made, {}


def git_dir_variable(root: Path) -> Made:
    made = repository(root / "r")
    (root / "empty").mkdir()
    return root / "empty", {"GIT_DIR": str(made / ".git")}


def relative_git_dir_variable(root: Path) -> Made:
    repository(root / "r")
    (root / "empty").mkdir()
    return root / "empty", {"GIT_DIR": "../r/.git"}


def git_dir_variable_names_a_file(root: Path) -> Made:
    made, _ = worktree(root)
    return root, {"GIT_DIR": str(made / ".git")}


def git_dir_variable_wins(root: Path) -> Made:
    other = repository(root / "other", commits=2)
    return repository(root / "r"), {"GIT_DIR": str(other / ".git")}


def common_dir_variable(root: Path) -> Made:
    made = repository(root / "r")
    split = root / "split"
    split.mkdir()
    shutil.copy(made / ".git/HEAD", split / "HEAD")
    return root, {"GIT_DIR": str(split), "GIT_COMMON_DIR": str(made / ".git")}


def sha256(root: Path) -> Made:
    return repository(root / "r", "--object-format=sha256"), {}


def sha256_packed(root: Path) -> Made:
    made, _ = sha256(root)
    git(made, "pack-refs", "--all", "--prune")
    return made, {}


def nested(root: Path) -> Made:
    outer = repository(root / "outer", commits=2)
    return repository(outer / "inner"), {}


def empty_dot_git_below(root: Path) -> Made:
    below = repository(root / "r") / "sub"
    (below / ".git").mkdir(parents=True)
    return below, {}


def through_a_link(root: Path) -> Made:
    deep, _ = sub_folder(root)
    (root / "link").symlink_to(deep)
    return root / "link", {}


def symbolic_branch(root: Path) -> Made:
    made = repository(root / "r")
    git(made, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git(made, "symbolic-ref", "HEAD", "refs/heads/alias")
    return made, {}


def ceiling_is_the_repository(root: Path) -> Made:
    deep, _ = sub_folder(root)
    # Not looked into: the walk stops below a ceiling.
    return deep, {"GIT_CEILING_DIRECTORIES": str(root / "r")}


def ceiling_above_the_repository(root: Path) -> Made:
    deep, _ = sub_folder(root)
    return deep, {"GIT_CEILING_DIRECTORIES": f"/nowhere{os.pathsep}{root}"}


def ceiling_is_the_folder_itself(root: Path) -> Made:
    deep, _ = sub_folder(root)
    return deep, {"GIT_CEILING_DIRECTORIES": str(deep)}


def ceiling_is_a_link(root: Path) -> Made:
    deep, _ = sub_folder(root)
    (root / "link").symlink_to(root / "r")
    return deep, {"GIT_CEILING_DIRECTORIES": str(root / "link")}


def ceiling_is_a_link_that_must_not_be_resolved(root: Path) -> Made:
    deep, variables = ceiling_is_a_link(root)
    return deep, {"GIT_CEILING_DIRECTORIES": os.pathsep + variables["GIT_CEILING_DIRECTORIES"]}


def without_commits(root: Path) -> Made:
    return repository(root / "r", commits=0), {}


def orphan_branch(root: Path) -> Made:
    made = repository(root / "r")
    git(made, "checkout", "-q", "--orphan", "new")
    return made, {}


def no_repository(root: Path) -> Made:
    return root, {"GIT_CEILING_DIRECTORIES": str(root.parent)}


def git_dir_variable_leads_nowhere(root: Path) -> Made:
    return repository(root / "r"), {"GIT_DIR": "/nowhere/at/all"}


def dot_git_file_leads_nowhere(root: Path) -> Made:
    below = repository(root / "r") / "sub"
    below.mkdir()
    (below / ".git").write_text("gitdir: ../nowhere\n")
    return below, {}


def dot_git_file_is_no_such_file(root: Path) -> Made:
    below = repository(root / "r") / "sub"
    below.mkdir()
    (below / ".git").write_text("hello\n")
    return below, {}


@pytest.mark.parametrize(
    "make",
    [
        simple, sub_folder, packed, loose_over_packed, detached, branch_with_a_slash, worktree,
        worktree_with_packed_refs, detached_worktree, submodule, bare, inside_a_bare_one, shallow,
        separate_git_dir, git_dir_variable, relative_git_dir_variable,
        git_dir_variable_names_a_file, git_dir_variable_wins, common_dir_variable, sha256,
        sha256_packed, nested, empty_dot_git_below, through_a_link, symbolic_branch,
        ceiling_is_the_repository, ceiling_above_the_repository, ceiling_is_the_folder_itself,
        ceiling_is_a_link, ceiling_is_a_link_that_must_not_be_resolved, without_commits,
        orphan_branch, no_repository, git_dir_variable_leads_nowhere, dot_git_file_leads_nowhere,
        dot_git_file_is_no_such_file,
    ],
)  # fmt: skip
def test_files_say_the_same_as_git_itself(
    make: Callable[[Path], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source: releases.md section 2.3."""
    directory, variables = make(tmp_path)
    environ = surroundings(**variables)
    said = subprocess.run(
        ("git", "rev-parse", "--verify", "--quiet", "HEAD^{commit}"),
        cwd=directory, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wanted = said.stdout.strip() if said.returncode == 0 else None
    monkeypatch.setattr(subprocess, "Popen", None)

    found = find_commit(str(directory), environ)

    assert found.conclusive
    assert found.commit == wanted, found.detail
    assert found.detail


def test_a_repository_without_commits_is_not_called_head(tmp_path: Path) -> None:
    """What `git rev-parse HEAD` prints there is the word HEAD, with an exit code nobody reads."""
    made, _ = without_commits(tmp_path)
    found = find_commit(str(made), surroundings())
    assert found.commit is None
    assert "no commit yet on refs/heads/main" in found.detail


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)
def test_a_repository_of_another_owner_is_read_although_git_refuses_it(tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    wanted = git(made, "rev-parse", "HEAD")
    for path in (made, *made.rglob("*")):
        os.chown(path, 12_345, 12_345, follow_symlinks=False)
    refused = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=made, env=surroundings(), capture_output=True, check=False
    )
    assert refused.returncode != 0
    assert find_commit(str(made), surroundings()).commit == wanted


def test_a_broken_configuration_does_not_matter(tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    wanted = git(made, "rev-parse", "HEAD")
    (made / ".git/config").write_text("[core\n")
    assert find_commit(str(made), surroundings()).commit == wanted


def test_another_file_system_is_not_entered_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a mount, which a test cannot make: another device number below."""
    made = repository(tmp_path / "r")
    inside = made / "mounted"
    inside.mkdir()
    true_stat = os.stat

    def stat(path: str, **kwargs: bool) -> os.stat_result:
        found = true_stat(path, **kwargs)
        if str(path).startswith(str(inside)):
            return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))
        return found

    monkeypatch.setattr(os, "stat", stat)
    assert find_commit(str(inside), surroundings()).commit is None
    across = surroundings(GIT_DISCOVERY_ACROSS_FILESYSTEM="1")
    assert find_commit(str(inside), across).commit is not None


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\n",
        b"ref: \n",
        b"ref: ../../outside\n",
        b"ref: refs/../../outside\n",
        b"ref: refs/heads/loop\n",
        b"ref: refs/heads\n",
        b"ref: refs/heads/nul\x00l\n",
        b"ref: refs/heads/\xff\n",
        b"HEAD\n",
        b"0123456789abcdef\n",
        b"G" * 40,
        b"A" * 40,
        b"\xff" * 50,
        b"a" * 100_000,
    ],
)
def test_a_broken_head_is_no_commit_and_no_error(head: bytes, tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    (made / "outside").write_text("a" * 40)
    (made / ".git/refs/heads/loop").write_text("ref: refs/heads/loop\n")
    (made / ".git/HEAD").write_bytes(head)
    found = find_commit(str(made), surroundings())
    assert found.commit is None
    assert found.detail


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["HEAD", "refs/heads/main", "packed-refs", "commondir"])
def test_a_named_pipe_in_the_place_of_a_file_blocks_nothing(name: str, tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    path = made / ".git" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    find_commit(str(made), surroundings())


@pytest.mark.parametrize("directory", ["/nowhere/at/all", "", "nul\x00l"])
def test_a_directory_that_is_not_there_is_no_error(directory: str) -> None:
    found = find_commit(directory, {"GIT_CEILING_DIRECTORIES": os.path.dirname(os.getcwd())})
    assert found.detail


def test_refs_in_a_reftable_are_left_to_git(tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    (made / ".git/reftable").mkdir()
    found = find_commit(str(made), surroundings())
    assert found.commit is None
    assert not found.conclusive
