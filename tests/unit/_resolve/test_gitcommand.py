"""`crashfree._resolve.gitcommand`: git is asked once, bounded, and believed when it is sure."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from crashfree._resolve.gitcommand import TIMEOUT, ask_git
from tests.support.repository import git, needs_git, repository, surroundings

COMMIT = "a86d127c4b2f23a0a862620280427dcc01c78676"
needs_scripts = pytest.mark.skipif(
    sys.platform == "win32", reason="stands a shell script in for git"
)


def stand_in(directory: Path, script: str) -> dict[str, str]:
    """Put a program called git onto a PATH of its own."""
    directory.mkdir()
    program = directory / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin"}


@needs_git
def test_git_says_the_commit_of_a_repository(tmp_path: Path) -> None:
    made = repository(tmp_path / "r", commits=2)
    assert ask_git(str(made), surroundings()).commit == git(made, "rev-parse", "HEAD")


@needs_git
def test_git_says_the_commit_of_a_reftable_repository(tmp_path: Path) -> None:
    try:
        made = repository(tmp_path / "r", "--ref-format=reftable")
    except Exception:
        pytest.skip("this git knows no reftable")
    from crashfree._resolve.git import find_commit

    assert not find_commit(str(made), surroundings()).conclusive
    assert ask_git(str(made), surroundings()).commit == git(made, "rev-parse", "HEAD")


@needs_git
def test_a_repository_without_commits_has_none(tmp_path: Path) -> None:
    made = repository(tmp_path / "r", commits=0)
    assert ask_git(str(made), surroundings()).commit is None


@needs_scripts
@pytest.mark.parametrize(
    "script",
    [
        "echo HEAD",
        f"echo {COMMIT}; exit 1",
        f"echo {COMMIT}1",
        f"echo {COMMIT.upper()}",
        f"echo {COMMIT}; echo {COMMIT}",
        "printf '\\377\\376'",
        "kill -9 $$",
        "",
    ],
)
def test_only_a_commit_and_a_clean_exit_are_believed(script: str, tmp_path: Path) -> None:
    found = ask_git(str(tmp_path), stand_in(tmp_path / "bin", script))
    assert found.commit is None
    assert found.detail


@needs_scripts
def test_git_may_not_ask_fetch_lock_or_read_our_input(tmp_path: Path) -> None:
    script = (
        'test "$GIT_TERMINAL_PROMPT$GIT_OPTIONAL_LOCKS$GIT_NO_LAZY_FETCH" = 001 || exit 1\n'
        'test -z "$(cat)" || exit 1\n'
        'test "$*" = "rev-parse --verify --quiet HEAD^{commit}" || exit 1\n'
        "echo noise >&2\n"
        f"echo {COMMIT}"
    )
    assert ask_git(str(tmp_path), stand_in(tmp_path / "bin", script)).commit == COMMIT


@needs_scripts
@pytest.mark.slow
def test_a_git_that_hangs_is_left_after_its_time(tmp_path: Path) -> None:
    environ = stand_in(tmp_path / "bin", "exec sleep 60")
    started = time.monotonic()
    found = ask_git(str(tmp_path), environ)
    assert found.commit is None
    assert "did not answer" in found.detail
    assert time.monotonic() - started < TIMEOUT + 5


def test_without_git_on_the_path_nothing_is_started(tmp_path: Path) -> None:
    found = ask_git(str(tmp_path), {"PATH": str(tmp_path)})
    assert (found.commit, found.detail) == (None, "git is not on the PATH")


@needs_scripts
@pytest.mark.parametrize("path", ["", ".", "bin"])
def test_a_program_called_git_in_the_working_directory_is_not_run(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", f"echo {COMMIT}")
    os.link(tmp_path / "bin/git", tmp_path / "git")
    monkeypatch.chdir(tmp_path)
    assert ask_git(str(tmp_path), {"PATH": path}).commit is None


@needs_scripts
def test_a_program_that_cannot_be_run_is_no_error(tmp_path: Path) -> None:
    environ = stand_in(tmp_path / "bin", "")
    (tmp_path / "bin/git").write_bytes(b"\x7fnonsense")
    found = ask_git(str(tmp_path), environ)
    assert found.commit is None
    assert "cannot be run" in found.detail
    found = ask_git(str(tmp_path / "gone"), environ)
    assert found.commit is None
