"""The real sentry-cli, two versions of it, against the local server.

The binaries come from the package index through pip; without a network these tests are skipped.
Source: releases.md section 5.1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.management import repositories

from crashfree.server import LocalServer

pytest.importorskip("starlette", reason="the local server needs the extra 'server'")
pytest.importorskip("uvicorn", reason="the local server needs the extra 'server'")

VERSIONS = ("3.8.2", "2.58.6")
TOKEN = "f" * 64

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=VERSIONS)
def binary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install one version of the tool; skip where that cannot be done."""
    target = tmp_path_factory.mktemp(f"sentry-cli-{request.param}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    options = ["--disable-pip-version-check", "--retries", "1", "--timeout", "10"]
    try:
        ended = subprocess.run(
            [*command, *options, "--target", str(target), f"sentry-cli=={request.param}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("sentry-cli could not be downloaded in time")
    path = target / "bin" / ("sentry-cli.exe" if os.name == "nt" else "sentry-cli")
    if ended.returncode or not path.exists():
        pytest.skip(f"sentry-cli {request.param} cannot be installed here")
    return str(path)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(token=TOKEN, organization="acme", projects=("web", "api")) as running:
        yield running


class Tool:
    def __init__(self, binary: str, server: LocalServer, directory: Path) -> None:
        self.binary = binary
        self.server = server
        self.directory = directory
        self.is_old = "2." in Path(binary).parts[-3].rpartition("-")[2][:2]

    def __call__(self, *argv: str, code: int = 0) -> str:
        home = str(self.directory.parent)
        ended = subprocess.run(
            [self.binary, *argv],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": home,
                "SENTRY_URL": self.server.url,
                "SENTRY_AUTH_TOKEN": TOKEN,
                "SENTRY_ORG": "acme",
                "SENTRY_PROJECT": "web",
                "SENTRY_HTTP_MAX_RETRIES": "0",
                "GIT_CONFIG_GLOBAL": os.devnull,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == code, f"{argv}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def get(self, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.server.url}/api/0/organizations/acme/{path}",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)


@pytest.fixture
def tool(binary: str, server: LocalServer, tmp_path: Path) -> Tool:
    return Tool(binary, server, repositories.widgets(tmp_path / "widgets"))


def named(tool: Tool, name: str) -> str:
    return f"{name}@{'2' if tool.is_old else '3'}"


def test_it_knows_who_it_is(tool: Tool) -> None:
    assert tool.server.url in tool("info")


def test_a_release_goes_out(tool: Tool) -> None:
    version = named(tool, "out")
    tool("releases", "new", "-p", "web", "-p", "api", version)
    tool("releases", "set-commits", "--auto", version)
    tool("releases", "finalize", version)
    tool("releases", "deploys", version, "new", "-e", "production")
    assert "production" in tool("releases", "deploys", version, "list")
    release = tool.get(f"releases/{version}/")
    assert {project["slug"] for project in release["projects"]} == {"web", "api"}
    assert release["dateReleased"] is not None
    assert release["lastDeploy"]["environment"] == "production"
    assert release["commitCount"] == 8  # all but the one that says #skipsentry


def test_the_commits_of_the_next_release_start_behind_the_last(tool: Tool) -> None:
    first, second = named(tool, "range-a"), named(tool, "range-b")
    tool("releases", "new", "--finalize", first)
    tool("releases", "set-commits", "--local", first)
    (tool.directory / "new.py").write_text("new")
    made = repositories.commit(tool.directory, "More work", at="2026-02-01T00:00:00Z")
    tool("releases", "new", second)
    tool("releases", "set-commits", "--local", second)
    commits = tool.get(f"releases/{second}/commits/")
    assert [commit["id"] for commit in commits] == [made]


def test_references_are_taken_for_a_repository_that_is_known(tool: Tool) -> None:
    version = named(tool, "refs")
    tool("releases", "new", version)
    tool("releases", "set-commits", "--local", version)
    name = tool("repos", "list").splitlines()[3].split("|")[1].strip()
    tool("releases", "set-commits", "--commit", f"{name}@v1.0.0..v1.1.0", version)
    tool("releases", "set-commits", "--clear", version)
    assert tool.get(f"releases/{version}/commits/") == []


def test_a_release_is_listed_archived_restored_and_deleted(tool: Tool) -> None:
    version = named(tool, "life")
    tool("releases", "new", "--url", "https://example.com/r", "--finalize", version)
    assert version in tool("releases", "list")
    assert version in tool("releases", "info", "-P", "-C", version)
    tool("releases", "archive", version)
    assert tool.get(f"releases/{version}/")["status"] == "archived"
    tool("releases", "restore", version)
    assert tool.get(f"releases/{version}/")["status"] == "open"
    tool("releases", "delete", version)
    tool("releases", "info", version, code=1)


def test_deploys_have_times_names_and_projects(tool: Tool) -> None:
    version = named(tool, "deploys")
    tool("releases", "new", "-p", "web", "-p", "api", version)
    tool("deploys", "new", "-r", version, "-e", "qa", "-n", "blue", "-t", "90", "-p", "api")
    (deploy,) = tool.get(f"releases/{version}/deploys/")
    assert (deploy["environment"], deploy["name"]) == ("qa", "blue")
    assert "blue" in tool("deploys", "list", "-r", version)


def test_source_maps_go_up_as_a_bundle(tool: Tool, tmp_path: Path) -> None:
    version = named(tool, "maps")
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "app.min.js").write_text("var a=1;\n//# sourceMappingURL=app.min.js.map\n")
    (folder / "app.min.js.map").write_text(
        '{"version":3,"sources":["app.js"],"names":[],"mappings":"AAAA"}'
    )
    tool("releases", "new", version)
    argv = ("sourcemaps", "upload", "-r", version, "-d", "7", "--wait", str(folder))
    assert "bundle" in tool(*argv).lower()


def test_files_of_a_release_with_the_older_tool(tool: Tool, tmp_path: Path) -> None:
    if not tool.is_old:
        pytest.skip("3.x has no such command")
    version = named(tool, "files")
    file = tmp_path / "app.js"
    file.write_text("var a;\n")
    tool("releases", "new", version)
    tool("releases", "files", version, "upload", str(file), "~/app.js")
    assert "~/app.js" in tool("releases", "files", version, "list")
    tool("releases", "files", version, "delete", "~/app.js")
    assert "~/app.js" not in tool("releases", "files", version, "list")


def test_refusals_end_in_its_exit_codes(tool: Tool) -> None:
    tool("releases", "new", "-p", "no-such-project", named(tool, "refused"), code=1)
    tool("releases", "new", "bad/name", code=2)
    tool("--auth-token", "0" * 64, "releases", "list", code=1)
