"""Git repositories for tests: the recorded sample, and its odd relatives.

Nothing of the machine's own git configuration reaches them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.vectors import ROOT

HEAD = "243c957511941faaac94a85b49eb0c0469681f29"
EXECUTABLE = "543dce754575029081d461685dcaf3214d1c8f28"
MERGE = "1de178f921f1ed9feaf1ad425361913d6e554ddd"
FEATURE = "a9f0c996235d97d123f1d5b9a99f8c757d420847"
DROP = "5ffbd3a09612abca58392e3252614f1c3e9a05da"
RENAME = "fae1a3ca9bc86d80140c07b9d4910b39e277ccc3"
DOCS = "59757b62f658ae148f25e610f7296ffcb037c8c1"
CHANGE = "bd17ed32d708447afc0b6d27600cedefbd3e0e33"
ROOT_COMMIT = "785cab8231e84ad2768058b0ae260fa0fb94b63d"

PATCHES = {
    HEAD: {"src/app.py": "M"},
    EXECUTABLE: {"src/app.py": "M"},
    MERGE: {},
    FEATURE: {"src/feature.py": "A"},
    DROP: {"README.md": "D"},
    RENAME: {"src/util.py": "D", "src/helpers.py": "A"},
    DOCS: {"docs/naïve-ü.md": "A", "docs/read me.txt": "A"},
    CHANGE: {"src/app.py": "M"},
    ROOT_COMMIT: {"README.md": "A", "src/app.py": "A", "src/util.py": "A"},
}
"""What the commits of the sample changed against their first parents, by hand."""

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada Lovelace",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


def git(directory: Path, *arguments: str | bytes, **variables: str) -> str:
    """Run git in `directory`; return what it printed."""
    found = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env={**os.environ, **_ENVIRONMENT, **variables},
        check=True,
        capture_output=True,
    )
    return found.stdout.decode("utf-8", "replace").strip()


def commit(directory: Path, message: str, *, at: str = "2026-03-01T00:00:00Z", **names: str) -> str:
    """Commit everything that is there; return the id."""
    git(directory, "add", "-A")
    variables = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at, **names}
    git(directory, "commit", "-q", "--allow-empty", "-m", message, **variables)
    return git(directory, "rev-parse", "HEAD")


def new(directory: Path, *options: str, remote: str | None = None) -> Path:
    """Make an empty repository."""
    directory.mkdir(parents=True)
    git(directory, "init", "-q", "-b", "main", *options, ".")
    if remote is not None:
        git(directory, "remote", "add", "origin", remote)
    return directory


def widgets(directory: Path) -> Path:
    """Make the repository that the recorded traffic is about."""
    subprocess.run(
        ["bash", str(ROOT / "make_widgets_repo.sh"), str(directory)],
        check=True,
        capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
    )
    assert git(directory, "rev-parse", "HEAD") == HEAD
    return directory


def shallow(source: Path, directory: Path, depth: int) -> Path:
    """Clone the newest `depth` commits."""
    git(source, "clone", "-q", "--depth", str(depth), f"file://{source}", str(directory))
    git(directory, "remote", "set-url", "origin", "git@github.com:acme/widgets.git")
    return directory


def relatives(factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the sample and the variants that the recording names.

    Made once in a run; nobody changes what is in it.
    """
    base = factory.getbasetemp() / "relatives"
    return base if base.exists() else _make_relatives(base)


def _make_relatives(base: Path) -> Path:
    base.mkdir()
    source = widgets(base / "widgets")
    remote = "git@github.com:acme/widgets.git"
    git(base, "clone", "-q", "widgets", "detached")
    git(base / "detached", "remote", "set-url", "origin", remote)
    git(base / "detached", "checkout", "-q", "v1.0.0")
    git(source, "worktree", "add", "-q", str(base / "worktree"), MERGE)
    git(base, "clone", "-q", "--bare", "widgets", "bare.git")
    shallow(source, base / "shallow", 2)
    new(base / "empty", remote=remote)
    lone = new(base / "noremote")
    (lone / "a").write_text("a")
    commit(lone, "only one")
    _thirty(new(base / "thirty", remote=remote))
    _with_submodule(source, base / "sub")
    hashed = new(base / "sha256", "--object-format=sha256", remote=remote)
    (hashed / "a").write_text("a")
    commit(hashed, "one")
    (base / "nogit").mkdir()
    return base


def _thirty(directory: Path) -> None:
    for number in range(1, 31):
        (directory / f"f{number}.txt").write_text(str(number))
        commit(directory, f"commit {number}", at=f"2026-04-01T00:00:{number:02d}Z")


def _with_submodule(source: Path, directory: Path) -> None:
    git(source.parent, "clone", "-q", str(source), str(directory))
    git(directory, "remote", "set-url", "origin", "git@github.com:acme/widgets.git")
    git(
        directory,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(source),
        "vendor/w",
    )
    git(directory, "config", "-f", ".gitmodules", "submodule.vendor/w.url", "../sub.git")
    commit(directory, "Add submodule", at="2026-02-01T00:00:00Z")


def paths_of(patch_set: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return a wire patch set as path → type."""
    return {entry["path"]: entry["type"] for entry in patch_set}
