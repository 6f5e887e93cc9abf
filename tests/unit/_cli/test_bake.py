"""`crashfree releases bake`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crashfree._cli import run
from crashfree._resolve.baked import FILE_NAME
from crashfree._resolve.program import Program
from crashfree._resolve.release import resolve_release
from tests.support.repository import commit, git, needs_git, repository

COMMAND = ["releases", "bake"]


def read(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_text())
    return found


@needs_git
def test_what_is_baked_is_what_init_finds_when_git_is_gone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".git").unlink()
    wanted = git(repository(folder), "rev-parse", "HEAD")
    (folder / "dist").mkdir()
    assert run([*COMMAND, "-o", "dist"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"Baked {wanted} (git) into dist/{FILE_NAME}" in err
    found = resolve_release(
        None,
        environ={"PATH": ""},
        directory=str(folder / "dist"),
        program=Program(),
        memory={},
    )
    assert found.release is not None
    assert found.release.raw == wanted
    assert found.source == f"file:{folder / 'dist' / FILE_NAME}"


@needs_git
def test_a_file_of_an_earlier_build_is_replaced_and_not_believed(folder: Path) -> None:
    (folder / ".git").unlink()
    repository(folder)
    assert run(COMMAND) == 0
    newer = commit(folder)
    assert run(COMMAND) == 0
    assert read(folder / FILE_NAME)["release"] == newer
    assert [path.name for path in folder.iterdir() if "partial" in path.name] == []


def test_the_name_can_be_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "--release", " app@1.0 ", "-o", "x.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "release": "app@1.0",
        "source": "argument",
        "path": "x.json",
    }
    assert read(folder / "x.json")["release"] == "app@1.0"


def test_a_bad_name_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND, "--release", "a/b"]) == 2
    assert "'a-b'" in capsys.readouterr().err
    assert not (folder / FILE_NAME).exists()


def test_nothing_found_writes_nothing(folder: Path) -> None:
    assert run(COMMAND) == 1
    assert not (folder / FILE_NAME).exists()


def test_standard_output_will_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "--release", "app@1", "-o", "-"]) == 0
    assert capsys.readouterr().out == '{"release":"app@1","source":"argument"}\n'


def test_a_place_that_cannot_be_written_is_a_failure_with_a_remedy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND, "--release", "app@1", "-o", "no/such/place.json"]) == 1
    err = capsys.readouterr().err
    assert "no/such/place.json cannot be written" in err
    assert "-o FILE" in err
