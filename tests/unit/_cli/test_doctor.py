"""`crashfree doctor`: the same answers as `init`, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crashfree._cli import run
from crashfree._resolve.baked import FILE_NAME
from tests.support.repository import git, needs_git, repository


@pytest.fixture
def report(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def read(*arguments: str) -> dict[str, Any]:
        assert run(["doctor", "--json", *arguments]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return read


def test_a_healthy_folder_has_no_problems(
    report: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENTRY_RELEASE", "app@1.0")
    monkeypatch.setenv("SENTRY_ENVIRONMENT", "staging")
    monkeypatch.setenv("CRASHFREE_DSN", "https://key@sentry.example.com/3")
    found = report()
    assert found["release"]["name"] == "app@1.0"
    assert found["release"]["source"] == "env:SENTRY_RELEASE"
    assert found["release"]["kind"] == "semver"
    assert found["deployment"]["environment"] == "staging"
    assert found["deployment"]["environment_source"] == "env:SENTRY_ENVIRONMENT"
    assert found["destination"]["dsn"] == "https://key@sentry.example.com/3"
    assert found["sessions"] == {"on": True, "why_not": [], "problems": [], "hints": []}
    for name in ("release", "deployment", "destination"):
        assert (found[name]["problems"], found[name]["hints"]) == ([], [])
    monkeypatch.setenv("CRASHFREE_DISABLED", "1")
    assert report()["sessions"]["why_not"] == ["CRASHFREE_DISABLED is set"]
    monkeypatch.setenv("CRASHFREE_DISABLED", "0")
    assert run(["doctor", "--strict"]) == 0
    text = capsys.readouterr().out
    for part in ("app@1.0", "env:SENTRY_RELEASE", "staging", "sentry.example.com/api/3/envelope/"):
        assert part in text


def test_nothing_set_is_told_with_the_remedy(
    report: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report()
    assert found["release"]["name"] is None
    assert found["release"]["source"] == "none"
    assert len(found["release"]["tried"]) == 6
    assert "init(release=" in found["release"]["problems"][0]
    assert found["sessions"]["on"] is False
    assert found["sessions"]["why_not"] == ["no release", "no DSN in the environment"]
    assert run(["doctor", "--strict"]) == 1
    assert "off: no release, no DSN in the environment" in capsys.readouterr().out


def test_what_is_wrong_in_the_environment_is_a_problem(
    report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTRY_RELEASE", "feature/x")
    monkeypatch.setenv("K_REVISION", "app-00001")
    monkeypatch.setenv("SENTRY_ENVIRONMENT", "none")
    monkeypatch.setenv("SENTRY_DSN", "sentry.example.com")
    found = report()
    assert found["release"]["name"] == "app-00001"
    assert "feature-x" in found["release"]["problems"][0]
    assert "SENTRY_ENVIRONMENT" in found["deployment"]["problems"][0]
    assert found["deployment"]["environment"] == "production"
    assert "SENTRY_DSN" in found["destination"]["problems"][0]
    assert found["sessions"]["why_not"] == ["no DSN in the environment"]


def test_no_secret_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for dsn in ("https://key:hush@sentry.example.com/3", "ftp://key:hush@host/3", "key:hush"):
        monkeypatch.setenv("SENTRY_DSN", dsn)
        for arguments in (["doctor"], ["doctor", "--json"]):
            assert run(arguments) == 0
            assert "hush" not in "".join(capsys.readouterr())


def test_names_that_are_poor_are_hinted_at(report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_RELEASE", "undefined")
    hints = " ".join(report()["release"]["hints"])
    assert "look-up that failed" in hints
    assert "no package" in hints


@needs_git
def test_a_baked_file_that_was_left_behind_is_hinted_at(report: Any, folder: Path) -> None:
    (folder / ".git").unlink()
    wanted = git(repository(folder), "rev-parse", "HEAD")
    (folder / FILE_NAME).write_text("app@0.9")
    found = report()["release"]
    assert found["name"] == "app@0.9"
    assert any("left behind" in hint and wanted in hint for hint in found["hints"])
    (folder / FILE_NAME).write_text(wanted)
    assert "left behind" not in str(report())


@needs_git
def test_a_build_that_proposes_another_name_is_hinted_at(
    report: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".git").unlink()
    repository(folder)
    monkeypatch.setenv("GITHUB_SHA", "a86d127c4b2f23a0a862620280427dcc01c78676")
    hints = report()["release"]["hints"]
    assert any("propose-version" in hint and "a86d127c" in hint for hint in hints)


def test_another_directory_can_be_meant(report: Any, folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other" / FILE_NAME).write_text("other@1")
    assert report("--directory", "other")["release"]["name"] == "other@1"
    assert run(["doctor", "--directory", "no-such"]) == 2
