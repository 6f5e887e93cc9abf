"""`crashfree releases propose-version`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crashfree._cli import run
from tests.support.repository import git, needs_git, repository

COMMAND = ["releases", "propose-version"]


@needs_git
def test_only_the_name_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".git").unlink()
    wanted = git(repository(folder), "rev-parse", "HEAD")
    assert run(COMMAND) == 0
    assert capsys.readouterr() == (f"{wanted}\n", "")


@needs_git
def test_another_directory_can_be_meant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = git(repository(folder / "other"), "rev-parse", "HEAD")
    assert run([*COMMAND, "--directory", "other"]) == 0
    assert capsys.readouterr().out == f"{wanted}\n"
    assert run([*COMMAND, "--directory", "no-such"]) == 2


def test_json_gives_version_and_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Source: releases.md section 2.2."""
    monkeypatch.setenv("SENTRY_RELEASE", " app@1.0 ")
    assert run([*COMMAND, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": "app@1.0",
        "source": "env:SENTRY_RELEASE",
    }


def test_explain_tells_on_standard_error_what_was_asked_and_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_SHA", "main")
    assert run([*COMMAND, "--explain"]) == 0
    out, err = capsys.readouterr()
    assert out == "main\n"
    assert "GITHUB_SHA says that this is a build: variables come before git" in err
    assert "- env:SENTRY_RELEASE: not set" in err
    assert "+ env:GITHUB_SHA: set" in err
    assert "hint: 'main' is usually the result of a look-up that failed" in err


def test_explain_in_json_holds_the_attempts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("K_REVISION", "app-00001")
    assert run([*COMMAND, "--explain", "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert err == ""
    assert "order of init" in answer["order"]
    assert answer["tried"][0] == {
        "source": "env:CRASHFREE_RELEASE",
        "outcome": "absent",
        "detail": "not set",
    }
    assert answer["tried"][-1]["outcome"] == "found"
    assert len(answer["hints"]) == 1


def test_nothing_found_is_a_failure_that_lists_the_attempts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Source: releases.md section 2.2: exit 1."""
    assert run(COMMAND) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no release could be found here" in err
    assert "CRASHFREE_RELEASE" in err
    assert "- host: none is set of HEROKU_BUILD_COMMIT" in err
    assert run([*COMMAND, "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == "no_release"


def test_a_bad_variable_does_not_end_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENTRY_RELEASE", "a/b")
    monkeypatch.setenv("K_REVISION", "app-00001")
    assert run([*COMMAND, "--explain"]) == 0
    out, err = capsys.readouterr()
    assert out == "app-00001\n"
    assert "! env:SENTRY_RELEASE" in err


def test_package_and_distribution_can_be_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "app"\nversion = "3.0"\n')
    assert run([*COMMAND, "--from-package"]) == 0
    assert capsys.readouterr().out == "app@3.0\n"
    assert run([*COMMAND, "--distribution", "hypothesis"]) == 0
    assert capsys.readouterr().out.startswith("hypothesis@")
    assert run([*COMMAND, "--from-package", "--distribution", "hypothesis"]) == 2
