"""`crashfree server …` on the file of a server."""

from __future__ import annotations

import json
import sqlite3
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
    with LocalServer(database=database) as server, server.store.write() as db:
        day = int(time.time() // 86_400)
        for category, quantity in (("error", 1), ("session", 5)):
            db.execute(
                "INSERT INTO tallies VALUES (1, ?, 'filtered', ?, 'release-version', ?)",
                (day, category, quantity),
            )
    assert run(["server", "filters", "--db", str(database)]) == 0
    told = capsys.readouterr().out
    assert "cannot see sessions" in told
    assert "1 error, 5 sessions" in told


def test_a_refused_filter_is_named_as_its_option(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["server", "filters", "--db", str(database), "--ip-addresses", "home"]) == 2
    assert "--ip-addresses: cannot read 'home'" in capsys.readouterr().err


def test_help_begins_with_the_words_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["server", "prune", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: crashfree server prune [-h]")


@pytest.mark.parametrize(
    "words",
    [
        ["prune", "--days", "3", "--db", "missing.db"],
        ["export", "--db", "missing.db"],
        ["filters", "--db", "{db}", "--project", "nobody"],
        ["filters", "--db", "{db}", "--releases", "[a"],
        ["export", "--db", "{db}", "--format", "csv"],
        ["backup", "--db", "{db}", "missing/copy.db"],
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


@pytest.mark.parametrize(
    "words",
    [
        ["prune", "--days", "3"],
        ["filters", "--localhost", "on"],
    ],
)
def test_a_database_that_somebody_else_holds_is_no_traceback(
    database: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert run(["server", *words, "--db", str(database)]) == 1
    finally:
        other.close()
    told = capsys.readouterr().err
    assert f"error: --db {database}: " in told
    assert "try again" in told
