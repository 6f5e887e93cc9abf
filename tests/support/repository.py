"""Real git repositories for tests, made by real git with a configuration of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

_SEPARATE = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A. Uthor",
    "GIT_AUTHOR_EMAIL": "author@example.com",
    "GIT_COMMITTER_NAME": "C. Ommitter",
    "GIT_COMMITTER_EMAIL": "committer@example.com",
    "LC_ALL": "C",
}


def surroundings(**more: str) -> dict[str, str]:
    """Return an environment in which git sees only what the test made."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    return {**kept, **_SEPARATE, **more}


def git(directory: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """Run git in `directory`; return what it printed."""
    done = subprocess.run(
        ("git", *arguments),
        cwd=directory,
        env=surroundings(**(environ or {})),
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def repository(directory: Path, *options: str, commits: int = 1) -> Path:
    """Make a repository on branch `main` with that many commits."""
    directory.mkdir(parents=True, exist_ok=True)
    git(directory, "init", "-q", "-b", "main", *options)
    for number in range(commits):
        commit(directory, f"commit {number}")
    return directory


def commit(directory: Path, message: str = "more") -> str:
    """Add an empty commit; return its id."""
    git(directory, "commit", "-q", "--allow-empty", "-m", message)
    return git(directory, "rev-parse", "HEAD")
