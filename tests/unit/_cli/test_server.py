"""`crashfree server …` on the file of a server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from crashfree._cli import run
from crashfree.server import LocalServer
from tests.support.serving import envelope, send, session


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "x.db"
    with LocalServer(database=path) as server:
        body = envelope(("session", session(time.time(), did="ada", init=True)))
        assert send(server, body).status == 200
    return path


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert run(["server", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_export_can_be_taken_in_elsewhere(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "export.jsonl", tmp_path / "other.db"
    assert run(["server", "export", "--db", str(database), "--output", str(file)]) == 0
    found = _json(capsys, "import", "--db", str(other), str(file))
    assert found == {"imported": {"project": 1, "release": 1, "session": 1}}
    assert run(["server", "import", "--db", str(other), str(file)]) == 1
    assert "--again" in capsys.readouterr().err


def test_csv_goes_to_standard_output(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["server", "export", "--db", str(database), "--format", "csv", "--kind", "session"]
    assert run(words) == 0
    header, row = capsys.readouterr().out.strip().split("\n")
    assert header.startswith("project,sid,started,release")
    assert row.startswith("app,")


def test_a_backup_needs_a_new_file(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.db"
    assert _json(capsys, "backup", "--db", str(database), str(copy))["bytes"] > 0
    assert run(["server", "backup", "--db", str(database), str(copy)]) == 2


def test_pruning_tells_what_went(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _json(capsys, "prune", "--db", str(database), "--days", "30") == {"deleted": {}}
    assert run(["server", "prune", "--db", str(database), "--days", "0"]) == 2


def test_filters_are_shown_and_changed(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = _json(
        capsys,
        "filters",
        "--db",
        str(database),
        "--releases",
        "old@*",
        "dev@*",
        "--web-crawlers",
        "on",
    )
    shown = _json(capsys, "filters", "--db", str(database))
    assert shown == changed
    by_name = {entry["id"]: entry for entry in shown}
    assert by_name["release-version"]["settings"] == ["old@*", "dev@*"]
    assert by_name["web-crawlers"]["active"] is True
    assert by_name["error-message"]["appliesTo"] == {"events": True, "sessions": False}
    cleared = _json(capsys, "filters", "--db", str(database), "--releases")
    assert {entry["id"]: entry["active"] for entry in cleared}["release-version"] is False


def test_filters_are_a_table_for_people(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["server", "filters", "--db", str(database)]) == 0
    assert "cannot see sessions" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["prune", "--days", "3", "--db", "missing.db"],
        ["export", "--db", "missing.db"],
        ["filters", "--db", "{db}", "--project", "nobody"],
        ["filters", "--db", "{db}", "--releases", "[a"],
        ["export", "--db", "{db}", "--format", "csv"],
        ["export", "--db", "{db}", "--since", "tomorrow"],
        ["import", "--db", "{db}", "missing.jsonl"],
        ["import", "--db", "{db}", "{db}"],
    ],
)
def test_what_cannot_be_done_is_said(
    database: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("{db}", str(database)) for word in words]
    assert run(["server", *given]) == 2
    assert "error: " in capsys.readouterr().err
