"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from crashfree._ground import log
from crashfree._resolve.ci import RUNTIME_VARIABLES, build_variables

_OTHERS = ("CI", "GITHUB_EVENT_PATH", "GIT_DIR", "CRASHFREE_RELEASE_FILE")
_SETTINGS = ("RELEASE", "ENVIRONMENT", "DSN", "SERVER_NAME")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in no repository, and an environment that names no release."""
    for name in (*RUNTIME_VARIABLES, *build_variables(), *_OTHERS):
        monkeypatch.delenv(name, raising=False)
    for name in _SETTINGS:
        monkeypatch.delenv(f"CRASHFREE_{name}", raising=False)
        monkeypatch.delenv(f"SENTRY_{name}", raising=False)
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    monkeypatch.chdir(tmp_path)
    log.forget_repeats()
    return tmp_path
