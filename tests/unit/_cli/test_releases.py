"""What the release commands print, and what they refuse. Source: releases.md sections 5 and 8."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crashfree._cli import run
from crashfree.management import channel
from tests.unit._cli.replay import Replay
from tests.unit.management import repositories

TOKEN = "0123456789abcdef" * 4
ORG = "/api/0/organizations/acme"
RELEASE = {
    "version": "w@1",
    "dateCreated": "2026-01-15T10:00:00Z",
    "dateReleased": None,
    "newGroups": 3,
    "projects": [{"id": 1, "slug": "web"}],
}


class Shell:
    """Runs command lines against a server, in a directory, with an environment."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.script: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.out = ""
        self.err = ""

    def answer(self, method: str, path: str, body: Any = None, status: int = 200) -> None:
        self.script.append(
            {
                "request": {"method": method, "path": path, "query": "", "body": None},
                "response": {"status": status, "headers": {}, "body": body},
            }
        )

    def run(self, *argv: str) -> int:
        with Replay(self.script, lenient=True) as server:
            code = run(["--url", server.url, *argv])
            self.requests = server.requests
        told = self.capsys.readouterr()
        self.out = told.out.replace(server.url, "SERVER")
        self.err = told.err.replace(server.url, "SERVER")
        assert "Traceback" not in self.err
        assert TOKEN not in self.out + self.err
        return code

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Shell]:
    monkeypatch.setenv("CRASHFREE_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("CRASHFREE_ORG", "acme")
    monkeypatch.setenv("CRASHFREE_PROJECT", "web")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(channel, "_wait", lambda seconds: None)
    return Shell(capsys)


@pytest.fixture
def widgets(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> Path:
    path = repositories.relatives(tmp_path_factory) / "widgets"
    monkeypatch.chdir(path)
    return path


def test_every_command_answers_in_json(shell: Shell) -> None:
    """Standard output is one JSON value, whatever the command."""
    path = f"{ORG}/releases/w@1/"
    for argv in (
        ("releases", "new", "w@1"),
        ("releases", "finalize", "w@1"),
        ("releases", "list"),
        ("releases", "info", "w@1", "-C"),
        ("releases", "archive", "w@1"),
        ("releases", "restore", "w@1"),
        ("releases", "delete", "w@1"),
        ("releases", "files", "w@1", "list"),
        ("releases", "deploys", "w@1", "list"),
        ("deploys", "new", "-r", "w@1", "-e", "production"),
        ("deploys", "list", "-r", "w@1"),
        ("files", "-r", "w@1", "list"),
        ("artifacts", "list"),
        ("artifacts", "delete", "x"),
        ("repos", "list"),
        ("login-check",),
        ("info",),
        ("config",),
        ("config", "--explain"),
    ):
        shell.answer("GET", path, RELEASE)
        assert shell.run(*argv, "--json") == 0, (argv, shell.err)
        json.loads(shell.out)


def test_set_commits_answers_in_json(shell: Shell, widgets: Path) -> None:
    assert shell.run("releases", "set-commits", "w@1", "--initial-depth", "2", "--json") == 0
    assert shell.json["kind"] == "commits"
    assert shell.json["commits"] == [repositories.HEAD, repositories.EXECUTABLE]
    assert shell.json["files"] == 2
    assert shell.json["append"] is False


class TestDryRun:
    """Prints the exact requests, sends none that changes something."""

    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (("releases", "new", "w@1"), [("POST", "/releases/")]),
            (("releases", "finalize", "w@1"), [("PUT", "/releases/w@1/")]),
            (("releases", "archive", "w@1"), [("POST", "/releases/")]),
            (("releases", "restore", "w@1"), [("POST", "/releases/")]),
            (("releases", "delete", "w@1"), [("DELETE", "/releases/w@1/")]),
            (
                ("deploys", "new", "-r", "w@1", "-e", "qa"),
                [("POST", "/releases/w@1/deploys/")],
            ),
            (("releases", "new", "w@1", "--finalize"), [("POST", "/releases/")]),
        ],
    )
    def test_a_command_shows_what_it_would_send(
        self, shell: Shell, argv: tuple[str, ...], expected: list[tuple[str, str]]
    ) -> None:
        assert shell.run(*argv, "--dry-run", "--json") == 0
        shown = [
            (request["method"], request["url"].removeprefix("SERVER" + ORG))
            for request in shell.json["requests"]
        ]
        assert shown == expected
        assert [r for r in shell.requests if r["method"] != "GET"] == []

    def test_the_shown_body_is_the_one_that_is_sent(self, shell: Shell, widgets: Path) -> None:
        argv = ("releases", "set-commits", "w@1", "--initial-depth", "3")
        assert shell.run(*argv, "--dry-run", "--json") == 0
        shown = shell.json["requests"]
        assert {request["method"] for request in shell.requests} == {"GET"}
        assert shell.run(*argv) == 0
        sent = [request for request in shell.requests if request["method"] != "GET"]
        assert [request["body"] for request in sent] == [request["body"] for request in shown]

    def test_text_has_a_line_for_the_request_and_one_for_the_body(self, shell: Shell) -> None:
        assert shell.run("releases", "archive", "w@1", "--dry-run") == 0
        first, second = shell.out.splitlines()
        assert first == f"POST SERVER{ORG}/releases/"
        assert json.loads(second) == {"version": "w@1", "projects": [], "status": "archived"}


class TestRefusals:
    """One sentence with the remedy, and the exit code."""

    @pytest.mark.parametrize(
        ("status", "body", "sentence", "remedy"),
        [
            (401, {"detail": "Invalid token"}, "does not accept the token", "CRASHFREE_AUTH_TOKEN"),
            (403, {"detail": "You do not have permission"}, "may not do this", "project:releases"),
            (404, {"detail": "no"}, "organization 'acme', project 'web'", "spelled"),
            (400, {"projects": ["Invalid project slugs"]}, "projects: Invalid", ""),
            (500, {"detail": "Internal Error", "errorId": "x"}, "refused (500)", ""),
            (200, "<html>login</html>", "SERVER: the server's answer is not JSON", ""),
        ],
    )
    def test_the_servers_refusal_is_told(
        self, shell: Shell, status: int, body: object, sentence: str, remedy: str
    ) -> None:
        shell.answer("POST", f"{ORG}/releases/", body, status)
        assert shell.run("releases", "new", "w@1") == 1
        assert sentence in shell.err
        assert remedy in shell.err
        assert len(shell.err.strip().splitlines()) == (2 if remedy else 1)

    def test_as_json_it_carries_status_and_detail(self, shell: Shell) -> None:
        shell.answer("POST", f"{ORG}/releases/", {"projects": ["Invalid"]}, 400)
        assert shell.run("releases", "new", "w@1", "--json") == 1
        error = json.loads(shell.err)["error"]
        assert (error["code"], error["status"]) == ("refused", 400)
        assert error["detail"] == {"projects": ["Invalid"]}

    def test_as_json_standard_error_holds_nothing_but_json(self, shell: Shell) -> None:
        shell.answer("POST", f"{ORG}/releases/", {"detail": "busy"}, 503)
        shell.answer("POST", f"{ORG}/releases/", {"detail": "no"}, 400)
        argv = ("--auth-token", "junk", "releases", "new", "HEAD", "--json")
        assert shell.run(*argv) == 1
        lines = [json.loads(line) for line in shell.err.splitlines()]
        assert [list(line) for line in lines] == [["warning"], ["error"]]

    def test_nobody_listening_is_exit_code_3(
        self, shell: Shell, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["--url", "http://127.0.0.1:9", "releases", "list"]) == 3
        told = capsys.readouterr().err
        assert "http://127.0.0.1:9 does not answer" in told
        assert "--url" in told

    @pytest.mark.parametrize(
        ("variable", "argv"),
        [
            ("CRASHFREE_AUTH_TOKEN", ("releases", "list")),
            ("CRASHFREE_ORG", ("releases", "list")),
            ("CRASHFREE_PROJECT", ("releases", "new", "w@1")),
        ],
    )
    def test_a_missing_setting_names_the_ways_to_give_it(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str, argv: tuple[str, ...]
    ) -> None:
        monkeypatch.delenv(variable)
        assert shell.run(*argv) == 2
        assert variable in shell.err
        assert shell.requests == []

    def test_the_users_token_is_not_sent_where_the_project_says(
        self, shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project = tmp_path / "project"
        project.mkdir()
        os.chdir(project)
        with Replay([], lenient=True) as server:
            (project / ".sentryclirc").write_text(f"[defaults]\nurl={server.url}\n")
            assert run(["releases", "list"]) == 2
        assert server.requests == []
        assert "is not sent to" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("argv", "word"),
        [
            (("releases", "new", "@scope/pkg@1.0"), "@scope-pkg@1.0"),
            (("releases", "new", "latest"), "newest release"),
            (("releases", "new", "x" * 201), "201 bytes"),
            (("releases", "new", "  "), "blank"),
            (("releases", "new", "-o", "my org", "w@1"), "my org"),
            (("releases", "new", "-p", "a/b", "w@1"), "a/b"),
            (("deploys", "new", "-r", "w@1", "-e", "a/b"), "a/b"),
            (("deploys", "new", "-r", "w@1"), "-e/--env"),
            (("deploys", "new", "-r", "w@1", "-e", "x", "--started", "yesterday"), "yesterday"),
            (("releases", "finalize", "w@1", "--released", "soon"), "soon"),
            (("releases", "list", "-D", ","), "--raw"),
            (("releases", "set-commits", "w@1", "--auto", "--local"), "--local"),
            (("releases", "set-commits", "w@1", "--auto", "-c", "a@b"), "--commit"),
            (("releases", "set-commits", "w@1", "--initial-depth", "-1"), "-1"),
            (("files", "-r", "w@1", "delete"), "--all"),
            (("files", "-r", "w@1", "upload", "nowhere.js"), "nowhere.js"),
            (("artifacts", "upload", "-r", "w@1", "nowhere"), "nowhere"),
        ],
    )
    def test_bad_input_is_refused_before_any_request(
        self, shell: Shell, argv: tuple[str, ...], word: str
    ) -> None:
        assert shell.run(*argv) == 2
        assert word in shell.err
        assert shell.requests == []


class TestReleases:
    def test_a_new_release_is_told(self, shell: Shell) -> None:
        shell.answer("POST", f"{ORG}/releases/", RELEASE, 201)
        assert shell.run("releases", "new", "w@1") == 0
        assert shell.out == "Created release w@1\n"
        assert shell.err == ""

    def test_a_poor_name_is_taken_with_a_hint(self, shell: Shell) -> None:
        assert shell.run("releases", "new", "HEAD") == 0
        assert "hint:" in shell.err
        assert shell.run("releases", "new", "HEAD", "--quiet") == 0
        assert shell.err == ""

    def test_the_list_shows_full_names(self, shell: Shell) -> None:
        long = "package-with-a-long-name@1.0.0+build." + "x" * 60
        shell.answer("GET", "/api/0/projects/acme/web/releases/", [{**RELEASE, "version": long}])
        assert shell.run("releases", "list", "-P") == 0
        assert long in shell.out
        assert "(unreleased)" in shell.out
        assert "web" in shell.out

    def test_columns_line_up_with_wide_characters(self, shell: Shell) -> None:
        names = ["日本@1.0", "e\u0301@1", "w@1"]
        listed = [{**RELEASE, "version": name} for name in names]
        shell.answer("GET", "/api/0/projects/acme/web/releases/", listed)
        assert shell.run("releases", "list") == 0
        rows = shell.out.splitlines()[3:6]
        assert rows[0].index("| 3") == rows[2].index("| 3") - 2

    def test_an_empty_list_is_empty(self, shell: Shell) -> None:
        assert shell.run("releases", "list") == 0
        assert shell.out == ""
        assert shell.run("releases", "list", "--json") == 0
        assert shell.json == []

    def test_a_missing_release_has_no_information(self, shell: Shell) -> None:
        shell.answer("GET", f"{ORG}/releases/w@9/", {"detail": "no"}, 404)
        assert shell.run("releases", "info", "w@9") == 1
        assert "release 'w@9' not found" in shell.err

    def test_deleting_is_told_either_way(self, shell: Shell) -> None:
        assert shell.run("releases", "delete", "w@1") == 0
        assert shell.out == "Deleted release w@1!\n"
        shell.answer("DELETE", f"{ORG}/releases/w@1/", None, 404)
        assert shell.run("releases", "delete", "w@1") == 0
        assert "does not exist" in shell.out


class TestShortNames:
    NAMES = ("web@1.0.0", "api@1.0.0", "web@1.1.0", "0123456789abcdef0123456789abcdef01234567")

    def listed(self, shell: Shell, *names: str) -> None:
        path = "/api/0/projects/acme/web/releases/"
        for query in ("", "query=1.1.0&status=", "query=1.0.0&status=", "query=0123456&status="):
            shell.answer("GET", path, [{"version": name} for name in names or self.NAMES])
            shell.script[-1]["request"]["query"] = query

    @pytest.mark.parametrize(("short", "name"), [("1.1.0", NAMES[2]), ("0123456", NAMES[3])])
    def test_a_unique_short_name_is_enough_when_asked_for(
        self, shell: Shell, short: str, name: str
    ) -> None:
        self.listed(shell)
        assert shell.run("releases", "delete", "--match", short) == 0
        assert shell.requests[-1]["path"] == f"{ORG}/releases/{name}/"

    def test_one_that_fits_several_is_refused_with_their_names(self, shell: Shell) -> None:
        self.listed(shell)
        assert shell.run("releases", "archive", "--match", "1.0.0") == 1
        assert "api@1.0.0, web@1.0.0" in shell.err
        assert {request["method"] for request in shell.requests} == {"GET"}

    def test_a_short_name_alone_is_a_name(self, shell: Shell) -> None:
        self.listed(shell)
        shell.run("releases", "delete", "1.1.0")
        assert shell.requests[-1]["path"] == f"{ORG}/releases/1.1.0/"

    def test_the_newest_by_version_knows_that_ten_is_more_than_nine(self, shell: Shell) -> None:
        self.listed(shell, "w@1.0.0-rc.9", "w@1.0.0-rc.10", "junk", "w@0.9.0")
        assert shell.run("releases", "latest", "--numeric") == 0
        assert shell.out == "w@1.0.0-rc.10\n"
        self.listed(shell, "w@2", "w@1")
        assert shell.run("releases", "latest", "--json") == 0
        shell.script.clear()
        assert shell.run("releases", "latest") == 1


class TestSetCommits:
    def test_warnings_are_told_on_standard_error(self, shell: Shell, widgets: Path) -> None:
        shell.answer(
            "GET",
            f"{ORG}/releases/w@1/previous-with-commits/",
            {"version": "w@0", "lastCommit": {"id": "a" * 40}},
        )
        assert shell.run("releases", "set-commits", "w@1") == 0
        assert shell.out == "Success! Set commits for release w@1\n"
        assert "warning: the base aaaaaaaaaaaa" in shell.err

    def test_strict_fails_with_the_remedy(self, shell: Shell, widgets: Path) -> None:
        shell.answer(
            "GET",
            f"{ORG}/releases/w@1/previous-with-commits/",
            {"version": "w@0", "lastCommit": {"id": "a" * 40}},
        )
        assert shell.run("releases", "set-commits", "w@1", "--strict") == 2
        assert "--from" in shell.err

    def test_another_checkout_can_be_named(self, shell: Shell, widgets: Path) -> None:
        os.chdir("/")
        argv = ("releases", "set-commits", "w@1", "--checkout", str(widgets), "--from", "v1.0.0")
        assert shell.run(*argv) == 0
        assert [c["id"] for c in shell.requests[-1]["body"]["commits"]] == [repositories.HEAD]

    def test_a_terminal_sees_a_bar_and_whole_lines(
        self, shell: Shell, widgets: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        os.chdir(widgets.parent / "thirty")
        assert shell.run("releases", "set-commits", "w@1") == 0
        assert shell.err.startswith("\r\x1b[KReading commits")
        last = shell.err.rpartition("\x1b[K")[2]
        assert last.startswith("no earlier release") or last == ""

    def test_no_terminal_means_no_bar(self, shell: Shell, widgets: Path) -> None:
        shell.run("releases", "set-commits", "w@1")
        assert "\r" not in shell.err + shell.out
        assert "\x1b" not in shell.err + shell.out


class TestPrune:
    def listed(self, shell: Shell) -> None:
        def release(version: str, created: str, released: str | None = None) -> dict[str, Any]:
            return {"version": version, "dateCreated": created, "dateReleased": released}

        releases = [
            release("new", "2999-01-01T00:00:00Z"),
            release("old", "2020-01-01T00:00:00Z"),
            release("oldest", "2019-01-01T00:00:00Z"),
            release("late", "2019-01-01T00:00:00Z", "2999-01-02T00:00:00Z"),
        ]
        shell.script.append(
            {
                "request": {
                    "method": "GET",
                    "path": "/api/0/projects/acme/web/releases/",
                    "query": "status=",
                    "body": None,
                },
                "response": {"status": 200, "headers": {}, "body": releases},
            }
        )

    def test_old_releases_are_deleted_and_those_in_use_kept(self, shell: Shell) -> None:
        self.listed(shell)
        shell.answer("DELETE", f"{ORG}/releases/old/", {"detail": "has health data"}, 400)
        argv = ("releases", "prune", "--older-than", "90d", "--keep", "0", "--yes", "--json")
        assert shell.run(*argv) == 0
        assert shell.json == {"dry_run": False, "deleted": ["oldest"], "kept": ["old"]}

    def test_the_newest_are_never_deleted(self, shell: Shell) -> None:
        self.listed(shell)
        argv = ("releases", "prune", "--older-than", "1h", "--keep", "3", "--dry-run")
        assert shell.run(*argv) == 0
        assert shell.out == "oldest\n"
        assert {request["method"] for request in shell.requests} == {"GET"}

    def test_nothing_is_deleted_without_a_word(self, shell: Shell) -> None:
        assert shell.run("releases", "prune", "--older-than", "90d") == 2
        assert "--dry-run" in shell.err
        assert shell.run("releases", "prune", "--older-than", "soon", "--yes") == 2
        assert shell.requests == []


class TestDeploys:
    def test_a_deploy_is_told(self, shell: Shell) -> None:
        assert shell.run("deploys", "new", "-r", "w@1", "-e", "prod", "-n", "blue") == 0
        assert shell.out == "Created new deploy blue for 'prod'\n"

    def test_its_duration_counts_back_from_now(self, shell: Shell) -> None:
        assert shell.run("deploys", "new", "-r", "w@1", "-e", "prod", "-t", "90") == 0
        body = shell.requests[0]["body"]
        assert body["dateStarted"] < body["dateFinished"]

    def test_the_release_of_the_environment_is_taken(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CRASHFREE_RELEASE", "bad/name")
        monkeypatch.setenv("SENTRY_RELEASE", "w@1")
        assert shell.run("deploys", "list") == 0
        assert shell.requests[0]["path"] == f"{ORG}/releases/w@1/deploys/"
        assert "ignored: CRASHFREE_RELEASE" in shell.err

    def test_only_projects_of_the_command_line_are_sent(self, shell: Shell) -> None:
        shell.run("deploys", "new", "-r", "w@1", "-e", "prod")
        assert "projects" not in shell.requests[0]["body"]
        shell.run("deploys", "new", "-r", "w@1", "-e", "prod", "-p", "api")
        assert shell.requests[0]["body"]["projects"] == ["api"]


class TestFiles:
    def test_a_file_is_uploaded_under_its_name(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "a.js").write_text("x")
        path = "/api/0/projects/acme/web/releases/w@1/files/"
        shell.answer("POST", path, {"id": "1", "name": "~/a.js"}, 201)
        assert shell.run("releases", "files", "w@1", "upload", "a.js", "~/a.js") == 0
        assert shell.out.startswith("A 11f6ad8ec52a2984abaafd7c3b516503785c2072  (1 bytes)")

    def test_repeating_an_upload_is_no_failure(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "a.js").write_text("x")
        path = "/api/0/projects/acme/web/releases/w@1/files/"
        shell.answer("POST", path, {"detail": "exists"}, 409)
        assert shell.run("files", "-r", "w@1", "upload", "a.js") == 0
        assert "there already" in shell.out

    def test_files_are_deleted_by_name_and_all_at_once(self, shell: Shell) -> None:
        path = "/api/0/projects/acme/web/releases/w@1/files/"
        listed = [{"id": "1", "name": "~/a.js"}, {"id": "2", "name": "~/b.js"}]
        shell.answer("GET", path, listed)
        assert shell.run("files", "-r", "w@1", "delete", "~/a.js", "~/c.js") == 1
        assert shell.out == "D ~/a.js\n"
        assert "~/c.js" in shell.err
        shell.answer("GET", path, listed)
        assert shell.run("files", "-r", "w@1", "delete", "--all") == 0
        assert [r["path"] for r in shell.requests[1:]] == [f"{path}1/", f"{path}2/"]


class TestArtifacts:
    def test_without_release_and_debug_ids_nothing_is_uploaded(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        (tmp_path / "a.js").write_text("x")
        assert shell.run("artifacts", "upload", "a.js") == 2
        assert "release is required" in shell.err

    def test_a_dry_run_lists_the_files(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "a.js").write_text("x")
        argv = ("artifacts", "upload", "-r", "w@1", "--dry-run", "--json", ".")
        assert shell.run(*argv) == 0
        assert [file["url"] for file in shell.json["files"]] == ["~/a.js"]
        assert shell.requests == []

    def test_nothing_to_upload_is_a_warning_or_with_strict_an_error(self, shell: Shell) -> None:
        assert shell.run("artifacts", "upload", "-r", "w@1", ".") == 0
        assert "no file was found" in shell.err
        assert shell.run("artifacts", "upload", "-r", "w@1", "--strict", ".") == 2


IDENTITY = {"version": "0", "auth": {"scopes": ["project:releases"]}, "user": None}


class TestWhoWeAre:
    def test_the_check_names_token_and_scopes(self, shell: Shell) -> None:
        shell.answer("GET", "/api/0/", IDENTITY)
        assert shell.run("login-check") == 0
        assert "CRASHFREE_AUTH_TOKEN" in shell.out
        assert "project:releases" in shell.out

    def test_a_refused_token_is_exit_code_1(self, shell: Shell) -> None:
        shell.answer("GET", "/api/0/", {"detail": "Invalid token"}, 401)
        assert shell.run("login-check") == 1
        assert "Invalid token" in shell.err

    def test_no_organization_is_needed(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CRASHFREE_ORG")
        shell.answer("GET", "/api/0/", IDENTITY)
        assert shell.run("login-check") == 0

    def test_the_status_form_tells_of_a_refusal(self, shell: Shell) -> None:
        shell.answer("GET", "/api/0/", {"detail": "Invalid token"}, 401)
        assert shell.run("info", "--config-status-json") == 1
        assert shell.json["auth"] == {"type": "token", "successful": False}


class TestConfig:
    def test_every_setting_has_its_origin_and_no_secret(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / ".sentryclirc").write_text("[defaults]\norg=other\n")
        assert shell.run("config", "--explain", "-o", "flagged") == 0
        assert "01234567***" in shell.out
        assert "CRASHFREE_AUTH_TOKEN" in shell.out
        for word in ("flagged", "--org", "CRASHFREE_ORG (overruled)", "other"):
            assert word in shell.out
        assert "would be sent to SERVER, organization flagged" in shell.out

    def test_a_token_that_must_not_go_is_told(
        self, shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project = tmp_path / "project"
        project.mkdir()
        (project / ".sentryclirc").write_text("[defaults]\nurl=https://evil.example\n")
        os.chdir(project)
        assert run(["config", "--explain"]) == 0
        told = capsys.readouterr().out
        assert "Refused:" in told
        assert "--url https://evil.example" in told

    def test_json_has_the_winner_or_with_explain_all(self, shell: Shell) -> None:
        assert shell.run("config", "--json", "-o", "x") == 0
        assert shell.json["org"] == {"value": "x", "from": "--org"}
        assert shell.run("config", "--json", "--explain", "-o", "x") == 0
        assert [entry["from"] for entry in shell.json["org"]] == ["--org", "CRASHFREE_ORG"]


class TestSetup:
    def test_the_four_steps_are_done_and_the_build_file_shown(
        self, shell: Shell, widgets: Path
    ) -> None:
        assert shell.run("setup", "--release", "w@1", "--yes", "--ci", "both") == 0
        writes = [r for r in shell.requests if r["method"] != "GET"]
        assert [(r["method"], r["path"].rpartition("/acme/")[2]) for r in writes] == [
            ("POST", "releases/"),
            ("POST", "releases/"),
            ("PUT", "releases/w@1/"),
            ("PUT", "releases/w@1/"),
            ("POST", "releases/w@1/deploys/"),
        ]
        for word in ("[4/4] deploy to production recorded", "9 sent from this checkout"):
            assert word in shell.err
        for word in (".github/workflows/release.yml", ".gitlab-ci.yml", "fetch-depth: 0"):
            assert word in shell.out
        assert "secrets.CRASHFREE_AUTH_TOKEN" in shell.out

    def test_the_release_is_proposed_from_the_checkout(self, shell: Shell, widgets: Path) -> None:
        assert shell.run("setup", "--json", "--no-deploy") == 0
        assert shell.json["version"]
        assert len(shell.json["steps"]) == 3

    def test_a_dry_run_changes_nothing(self, shell: Shell, widgets: Path) -> None:
        assert shell.run("setup", "--release", "w@1", "--dry-run") == 0
        assert {request["method"] for request in shell.requests} == {"GET"}
        assert shell.out.count("POST SERVER") == 3


class TestSending:
    DSN = "http://0123456789abcdef0123456789abcdef@127.0.0.1:{port}/42"

    def send(self, shell: Shell, *argv: str, status: int = 200) -> tuple[int, list[Any]]:
        with RawServer(status) as server:
            code = run([*argv, "--dsn", self.DSN.format(port=server.port)])
        told = shell.capsys.readouterr()
        shell.out, shell.err = told.out, told.err
        return code, server.bodies

    def test_an_event_is_sent_as_an_envelope(self, shell: Shell) -> None:
        argv = ("send-event", "-m", "hello", "-r", "w@1", "-t", "a:b", "-E", "qa", "-l", "error")
        code, bodies = self.send(shell, *argv)
        assert code == 0
        header, item, payload = bodies[0].split(b"\n")[:3]
        event = json.loads(payload)
        assert json.loads(item)["type"] == "event"
        assert json.loads(header)["event_id"] == event["event_id"]
        assert event["release"] == "w@1"
        assert (event["environment"], event["level"]) == ("qa", "error")
        assert event["tags"] == {"a": "b"}
        assert event["event_id"] in shell.out

    def test_an_event_of_a_file_is_completed(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "e.json").write_text('{"message": "x", "tags": {"k": "v"}}')
        code, bodies = self.send(shell, "send-event", "e.json", "-t", "a:b")
        assert code == 0
        event = json.loads(bodies[0].split(b"\n")[2])
        assert (event["message"], event["tags"]) == ("x", {"k": "v", "a": "b"})
        assert event["timestamp"]

    def test_an_envelope_is_checked_before_it_is_sent(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "good").write_bytes(b'{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc"}\n')
        (tmp_path / "bad").write_bytes(b"nonsense\n")
        assert self.send(shell, "send-envelope", "good")[0] == 0
        code, bodies = self.send(shell, "send-envelope", "bad")
        assert (code, bodies) == (1, [])
        code, bodies = self.send(shell, "send-envelope", "bad", "--raw")
        assert (code, bodies) == (0, [b"nonsense\n"])

    def test_a_refusal_is_exit_code_1(self, shell: Shell) -> None:
        code, _ = self.send(shell, "send-event", "-m", "x", status=403)
        assert code == 1

    def test_a_bad_release_is_refused(self, shell: Shell) -> None:
        code, bodies = self.send(shell, "send-event", "-m", "x", "-r", "a/b")
        assert (code, bodies) == (2, [])

    def test_a_dsn_is_needed(self, shell: Shell) -> None:
        assert run(["send-event", "-m", "x"]) == 2
        assert "CRASHFREE_DSN" in shell.capsys.readouterr().err


class RawServer:
    """Takes any body and keeps it."""

    def __init__(self, status: int) -> None:
        bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.bodies = bodies
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
