"""A release from a build, against the local server: our command line, examples, curl, a script.

Source: releases.md sections 4 to 6 and 7.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import types
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree.server import LocalServer
from tests.unit.management import repositories

pytest.importorskip("starlette", reason="the local server needs the extra 'server'")
pytest.importorskip("uvicorn", reason="the local server needs the extra 'server'")

TOKEN = "f" * 64
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    projects = ("web", "api", "my-project", "my-other-project", "project-1", "project-2")
    with LocalServer(token=TOKEN, organization="acme", projects=projects) as running:
        yield running


@pytest.fixture
def widgets(tmp_path: Path) -> Path:
    return repositories.widgets(tmp_path / "widgets")


@pytest.fixture
def environment(server: LocalServer, tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CI")}
    for name in ("GITHUB_SHA", "GITHUB_ACTIONS"):
        kept.pop(name, None)
    return {
        **kept,
        "CRASHFREE_URL": server.url,
        "CRASHFREE_AUTH_TOKEN": TOKEN,
        "CRASHFREE_ORG": "acme",
        "CRASHFREE_PROJECT": "web",
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


class Shell:
    def __init__(self, environment: dict[str, str], directory: Path, server: LocalServer) -> None:
        self.environment = environment
        self.directory = directory
        self.server = server

    def __call__(self, *argv: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [sys.executable, "-m", "crashfree", *argv],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == code, ended.stderr
        return ended

    def json(self, *argv: str) -> Any:
        return json.loads(self(*argv, "--json").stdout)

    def get(self, path: str) -> Any:
        """Ask the server itself, past our own client."""
        request = urllib.request.Request(
            f"{self.server.url}/api/0/{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)


@pytest.fixture
def shell(environment: dict[str, str], widgets: Path, server: LocalServer) -> Shell:
    return Shell(environment, widgets, server)


@pytest.mark.slow
def test_release_commits_finalize_deploy_in_four_commands(shell: Shell) -> None:
    shell("releases", "new", "-p", "web", "-p", "api", "journey@1")
    shell("releases", "set-commits", "--auto", "journey@1")
    shell("releases", "finalize", "journey@1")
    shell("deploys", "new", "-r", "journey@1", "-e", "production", "-n", "blue")
    release = shell.get("organizations/acme/releases/journey@1/")
    assert {project["slug"] for project in release["projects"]} == {"web", "api"}
    assert release["dateReleased"] is not None
    assert release["lastDeploy"]["environment"] == "production"
    assert release["lastDeploy"]["name"] == "blue"
    commits = shell.get("organizations/acme/releases/journey@1/commits/")
    # The newest says #skipsentry, which servers leave out.
    assert [commit["id"] for commit in commits] == list(repositories.PATCHES)[1:]
    assert {commit["repository"]["name"] for commit in commits} == {"acme/widgets"}
    files = shell.get("organizations/acme/releases/journey@1/commitfiles/")
    assert {file["filename"] for file in files} >= {"src/app.py", "docs/read me.txt"}


@pytest.mark.slow
def test_repeating_every_step_changes_nothing_but_adds_a_deploy(shell: Shell) -> None:
    for _ in range(2):
        shell("releases", "new", "--finalize", "journey@2")
        shell("releases", "set-commits", "--local", "--from", repositories.CHANGE, "journey@2")
        shell("deploys", "new", "-r", "journey@2", "-e", "qa")
    commits = shell.get("organizations/acme/releases/journey@2/commits/")
    assert len(commits) == len({commit["id"] for commit in commits}) == 6
    assert len(shell.json("deploys", "list", "-r", "journey@2")) == 2


@pytest.mark.slow
def test_the_next_release_starts_where_the_last_one_ended(shell: Shell) -> None:
    shell("releases", "new", "--finalize", "-p", "api", "journey@3")
    shell("releases", "set-commits", "journey@3", "--local", "-c", "v1.0.0")
    told = shell("releases", "set-commits", "-p", "api", "journey@4")
    assert f"base: {repositories.EXECUTABLE[:12]}" in told.stderr
    (shell.directory / "new.py").write_text("new")
    made = repositories.commit(shell.directory, "New work", at="2026-02-01T00:00:00Z")
    shell("releases", "set-commits", "-p", "api", "journey@4")
    commits = shell.get("organizations/acme/releases/journey@4/commits/")
    assert [commit["id"] for commit in commits] == [made]


@pytest.mark.slow
def test_a_release_lives_from_archive_to_delete(shell: Shell) -> None:
    shell("releases", "new", "journey@5")
    shell("releases", "archive", "journey@5")
    assert shell.json("releases", "info", "journey@5")["status"] == "archived"
    shell("releases", "restore", "journey@5")
    assert shell.json("releases", "info", "journey@5")["status"] == "open"
    shell("releases", "delete", "journey@5")
    shell("releases", "info", "journey@5", code=1)


@pytest.mark.slow
def test_files_and_bundles_go_up_and_come_back(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "app.js").write_text("var a;\n")
    shell("releases", "new", "journey@6")
    argv = ("artifacts", "upload", "-r", "journey@6", "-d", "7", "--wait", str(folder))
    first, again = shell.json(*argv), shell.json(*argv)
    assert (first["state"], first["sent"], again["sent"]) == ("ok", 1, 0)
    bundles = shell.json("artifacts", "list", "--query", "journey@6")
    assert [bundle["bundleId"] for bundle in bundles] == [first["bundleId"]]
    shell("files", "-r", "journey@6", "upload", str(folder / "app.js"), "~/single.js")
    told = shell("files", "-r", "journey@6", "upload", str(folder / "app.js"), "~/single.js")
    assert "there already" in told.stdout
    assert "~/single.js" in [f["name"] for f in shell.json("files", "-r", "journey@6", "list")]


@pytest.mark.slow
def test_wrong_answers_have_their_exit_codes(shell: Shell) -> None:
    shell("releases", "new", "-p", "no-such-project", "journey@7", code=1)
    shell("releases", "new", "bad/name", code=2)
    shell("--url", "http://127.0.0.1:9", "releases", "list", code=3)
    shell("--auth-token", "0" * 64, "releases", "list", code=1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell here")
def test_the_example_for_the_shell_runs(shell: Shell) -> None:
    ended = subprocess.run(
        ["sh", str(EXAMPLES / "release_from_ci.sh"), "staging"],
        cwd=shell.directory,
        env={**shell.environment, "CRASHFREE": f"{sys.executable} -m crashfree"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    version = re.search(r"^Finalized release (\S+)$", ended.stdout, re.MULTILINE)
    assert version is not None
    release = shell.get(f"organizations/acme/releases/{version.group(1)}/")
    assert release["lastDeploy"]["environment"] == "staging"


@pytest.mark.slow
def test_the_example_for_python_runs(shell: Shell) -> None:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / "release_from_ci.py"), "journey@8", "staging"],
        cwd=shell.directory,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "deployed to staging" in ended.stdout
    assert shell.get("organizations/acme/releases/journey@8/")["dateReleased"] is not None


REFS_BODY = """
 {
 "version": "2da95dfb052f477380608d59d32b4ab9",
 "refs": [{
 "repository":"owner-name/repo-name",
 "commit":"2da95dfb052f477380608d59d32b4ab9",
 "previousCommit":"1e6223108647a7bfc040ef0ca5c92f68ff0dd993"
 }],
 "projects":["my-project","my-other-project"]
}
"""
COMMITS_BODY = """
 {
 "version": "2.0rc2",
 "projects":["project-1","project-2"],
 "commits":[
     {
        "patch_set": [
            {"path": "path/to/added-file.html", "type": "A"},
            {"path": "path/to/modified-file.html", "type": "M"},
            {"path": "path/to/deleted-file.html", "type": "D"}
        ],
        "repository": "owner-name/repo-name",
        "author_name": "Author Name",
        "author_email": "author_email@example.com",
        "timestamp": "2018-09-20T11:50:22+03:00",
        "message": "This is the commit message.",
        "id": "8371445ab8a9facd271df17038ff295a48accae7"
    }
 ]
 }
"""


def curl(server: LocalServer, body: str) -> Any:
    """POST as the documentation's command lines do; only host, organization and token differ."""
    ended = subprocess.run(
        [
            "curl",
            "-sS",
            f"{server.url}/api/0/organizations/acme/releases/",
            "-X",
            "POST",
            "-H",
            f"Authorization: Bearer {TOKEN}",
            "-H",
            "Content-Type: application/json",
            "-d",
            body,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(ended.stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
class TestDocumentedRequests:
    """The documentation's own examples, word for word."""

    def test_commits_without_a_linked_repository(self, shell: Shell) -> None:
        made = curl(shell.server, COMMITS_BODY)
        assert made["version"] == "2.0rc2"
        assert made["commitCount"] == 1
        (commit,) = shell.get("organizations/acme/releases/2.0rc2/commits/")
        assert commit["message"] == "This is the commit message."
        assert commit["author"]["email"] == "author_email@example.com"
        files = shell.get("organizations/acme/releases/2.0rc2/commitfiles/")
        assert {(file["filename"], file["type"]) for file in files} == {
            ("path/to/added-file.html", "A"),
            ("path/to/modified-file.html", "M"),
            ("path/to/deleted-file.html", "D"),
        }

    def test_references_into_a_repository_the_server_knows(self, shell: Shell) -> None:
        curl(shell.server, COMMITS_BODY)
        made = curl(shell.server, REFS_BODY)
        assert made["version"] == "2da95dfb052f477380608d59d32b4ab9"
        assert {project["slug"] for project in made["projects"]} == {
            "my-project",
            "my-other-project",
        }


SCRIPT = """
import subprocess
import requests

SENTRY_API_TOKEN = <my_api_token>
sha_of_previous_release = <previous_sha>

log = subprocess.Popen([
    'git',
    '--no-pager',
    'log',
    '--no-merges',
    '--no-color',
    '--pretty=%H',
    '%s..HEAD' % (sha_of_previous_release,),
], stdout=subprocess.PIPE)

commits = log.stdout.read().strip().split('\\n')

data = {
    'commits': [{'id': c, 'repository': 'my-repo-name'} for c in commits],
    'version': commits[0],
    'projects': ['my-project', 'my-other-project'],
}

res = requests.post(
    'https://sentry.io/api/0/organizations/my-org/releases/',
    json=data,
    headers={'Authorization': 'Bearer {}'.format(SENTRY_API_TOKEN)},
)
"""


def test_the_documented_script_keeps_the_order_of_its_commits(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids only, newest first, no timestamps: the order given stands.

    The script is from the days of Python 2: its `subprocess` is one that answers in text.
    """
    monkeypatch.chdir(shell.directory)
    text = SCRIPT.replace("<my_api_token>", repr(TOKEN))
    text = text.replace("<previous_sha>", repr(repositories.CHANGE))
    text = text.replace(
        "https://sentry.io/api/0/organizations/my-org/",
        f"{shell.server.url}/api/0/organizations/acme/",
    )
    names: dict[str, Any] = {}
    exec(compile(text, "documented.py", "exec"), {"__builtins__": {"__import__": imported}}, names)
    assert names["res"].status == 201
    commits = shell.get(f"organizations/acme/releases/{names['commits'][0]}/commits/")
    expected = [commit for commit in list(repositories.PATCHES)[:7] if commit != repositories.MERGE]
    assert names["commits"] == expected
    assert [commit["id"] for commit in commits] == expected
    assert {commit["repository"]["name"] for commit in commits} == {"my-repo-name"}


def imported(name: str, *rest: Any) -> Any:
    """Import for the documented script: text from processes, and the one call of `requests`."""
    if name == "subprocess":

        def popen(*args: Any, **more: Any) -> Any:
            process = subprocess.Popen(*args, text=True, **more)
            output, _ = process.communicate()
            process.stdout = io.StringIO(output)
            return process

        return types.SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE)
    assert name == "requests"
    return types.SimpleNamespace(post=post)


def post(url: str, *, json: Any, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(
        url,
        data=encoded(json),
        headers={**headers, "Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return types.SimpleNamespace(status=reply.status, body=reply.read())


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
