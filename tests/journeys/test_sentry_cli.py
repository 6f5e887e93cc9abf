"""The real sentry-cli, two major versions of it, against `crashfree serve`.

The binaries come from the package registry into a folder of pytest's cache, never into the
environment of the suite; without them these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.support.program import environment
from tests.support.serving import Answer, request
from tests.support.vectors import ROOT, load
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed"),
]

TRAFFIC = load("sentry_cli_traffic.json")["entries"]
TOKEN = "0123456789abcdef" * 4
RELEASE = "widgets@1.0.0"
VERSIONS = ("3.8.2", "2.58.6")


class Server:
    """A `crashfree serve` process."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: object = None) -> Answer:
        headers = [("Authorization", f"Bearer {TOKEN}")]
        data = b"" if body is None else json.dumps(body).encode()
        return request(self.url, method, f"/api/0/{path}", headers=headers, body=data)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "crashfree", "serve", "--port", "0", "--token", TOKEN]
    command += ["--db", str(folder / "x.db"), "--ready-file", str(ready)]
    command += ["--organization", "acme", "--project", "web", "--project", "api"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None, timeout=30.0)
            assert process.poll() is None
            yield Server(json.loads(ready.read_text())["url"])
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def binaries(request: pytest.FixtureRequest) -> Mapping[str, Path]:
    cache = request.config.cache
    assert cache is not None
    found: dict[str, Path] = {}
    for version in VERSIONS:
        folder = cache.mkdir(f"sentry-cli-{version}")
        name = "sentry-cli.exe" if os.name == "nt" else "sentry-cli"
        binary = folder / "bin" / name
        if not binary.exists():
            _install(version, folder)
        if not binary.exists():
            pytest.skip(f"sentry-cli {version} cannot be installed here")
        found[version] = binary
    return found


def _install(version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    command += ["--disable-pip-version-check", "--target", str(folder), f"sentry-cli=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"sentry-cli {version} cannot be installed here: {error}")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        pytest.skip(f"sentry-cli {version} cannot be installed here: {last}")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The folders that the recorded commands ran in."""
    base = tmp_path_factory.mktemp("places")
    widgets, nogit, dist = base / "widgets", base / "nogit", base / "dist"
    script = str(ROOT / "make_widgets_repo.sh")
    subprocess.run(["bash", script, str(widgets)], check=True, capture_output=True)
    nogit.mkdir()
    assets = dist / "assets"
    assets.mkdir(parents=True)
    (assets / "app.min.js").write_text("a();\n//# sourceMappingURL=app.min.js.map\n")
    (assets / "app.min.js.map").write_text(
        '{"version":3,"sources":["a.js"],"names":[],"mappings":"AAAA","file":"app.min.js"}'
    )
    return {"widgets": widgets, "nogit": nogit, "dist": dist}


class Cli(NamedTuple):
    """One version of the tool, pointed at the server."""

    binary: Path
    server: Server
    home: Path

    def run(
        self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        settings = {
            "SENTRY_URL": self.server.url,
            "SENTRY_AUTH_TOKEN": TOKEN,
            "SENTRY_ORG": "acme",
            "SENTRY_PROJECT": "web",
        }
        settings = settings if env is None else dict(env)
        return subprocess.run(
            [str(self.binary), *arguments],
            cwd=cwd,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "SENTRY_LOAD_DOTENV": "0",
                **settings,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(params=VERSIONS)
def cli(
    request: pytest.FixtureRequest,
    binaries: Mapping[str, Path],
    server: Server,
    tmp_path: Path,
) -> Cli:
    _forget(server)
    return Cli(binaries[request.param], server, tmp_path)


def _forget(server: Server) -> None:
    """Take the server back to where it began."""
    for release in server.call("GET", "organizations/acme/releases/?status=").json:
        name = quote(release["version"], safe="@")
        gone = server.call("DELETE", f"organizations/acme/releases/{name}/")
        assert gone.status == 204, gone.body
    for repository in server.call("GET", "organizations/acme/repos/?status=all").json:
        server.call("DELETE", f"organizations/acme/repos/{repository['id']}/")


# The flow of the documents.


def test_the_documented_flow(cli: Cli, places: Mapping[str, Path]) -> None:
    """New, set-commits, finalize, deploy, in both spellings of deploy."""
    widgets = places["widgets"]

    def done(*arguments: str) -> str:
        process = cli.run(*arguments, cwd=widgets)
        assert process.returncode == 0, (arguments, process.stdout, process.stderr)
        return process.stdout.strip()

    version = done("releases", "propose-version")
    assert len(version) == 40
    done("releases", "new", "-p", "web", "-p", "api", version)
    done("releases", "set-commits", "--local", version)
    done("releases", "finalize", version)
    done("releases", "deploys", version, "new", "-e", "production")
    done("deploys", "new", "-r", version, "-e", "staging", "-n", "blue", "-t", "90")
    assert "blue" in done("deploys", "list", "-r", version)
    assert version in done("releases", "list", "--raw")
    assert "543dce754575" in done("releases", "info", "-C", version)
    shown = cli.server.call("GET", f"organizations/acme/releases/{version}/").json
    assert [project["slug"] for project in shown["projects"]] == ["api", "web"]
    # Nine commits, of which the newest asks to be skipped.
    assert (shown["commitCount"], shown["deployCount"]) == (8, 2)
    assert shown["dateReleased"] is not None
    assert shown["lastCommit"]["message"].strip() == "Make app executable"
    assert {author["name"] for author in shown["authors"]} == {"Ada Lovelace", "Jörg Müller"}
    done("releases", "archive", version)
    assert done("releases", "list", "--raw") == ""
    done("releases", "restore", version)
    assert done("releases", "list", "--raw") == version


def test_commits_of_linked_repositories(cli: Cli, places: Mapping[str, Path]) -> None:
    widgets = places["widgets"]
    link = {"name": "acme/widgets", "url": "git@github.com:acme/widgets.git"}
    cli.server.call("POST", "organizations/acme/repos/", {**link, "localPath": str(widgets)})
    for version, arguments, count in (
        ("w@1", ["--commit", "acme/widgets@v1.0.0~3..v1.0.0~2"], 1),
        ("w@2", ["--auto"], 3),
    ):
        cli.run("releases", "new", version, cwd=widgets)
        process = cli.run("releases", "set-commits", *arguments, version, cwd=widgets)
        assert process.returncode == 0, process.stderr
        shown = cli.server.call("GET", f"organizations/acme/releases/{version}/").json
        # The head of w@1 is the base of --auto; the newest commit asks to be skipped.
        assert shown["commitCount"] == count
    assert cli.run("releases", "set-commits", "--clear", "w@1", cwd=widgets).returncode == 0
    shown = cli.server.call("GET", "organizations/acme/releases/w@1/").json
    assert shown["commitCount"] == 0


def test_a_commit_message_resolves_an_issue(cli: Cli, places: Mapping[str, Path]) -> None:
    """`Fixes WIDGETS-12` stands in the sample repository; the project does not exist: ignored."""
    process = cli.run("releases", "set-commits", "--local", "w@3", cwd=places["widgets"])
    assert process.returncode == 0, process.stderr
    commits = cli.server.call("GET", "organizations/acme/releases/w@3/commits/").json
    assert any("Fixes WIDGETS-12" in commit["message"] for commit in commits)


def test_source_maps_are_uploaded_once(cli: Cli, places: Mapping[str, Path]) -> None:
    dist = places["dist"]
    command = ["sourcemaps", "upload", "--release", "s@1", "--dist", "7", "--wait", "assets"]
    first = cli.run(*command, "--url-prefix", "~/static", cwd=dist)
    assert first.returncode == 0, first.stderr
    assert "File processing complete" in first.stdout + first.stderr
    again = cli.run(*command, "--url-prefix", "~/static", cwd=dist)
    assert "Nothing to upload" in again.stdout + again.stderr
    files = cli.server.call("GET", "projects/acme/web/releases/s@1/files/").json
    assert [(file["name"], file["dist"]) for file in files] == [
        ("~/static/app.min.js", "7"),
        ("~/static/app.min.js.map", "7"),
    ]


# Every recorded command line ends as it did when it was recorded.

_GROUPS = ("new", "finalize", "list", "info", "deploys", "status", "delete", "repos", "auth",
           "set-commits", "artifacts", "2.x")  # fmt: skip

DIFFERENT = {
    # The recording stub took any name; Sentry's own API refuses these, and so do we.
    "new-name-backslash": 1,
    "new-name-latest": 1,
    "new-name-201": 1,
    "new-name-cr": 1,
    "new-name-nul-less-ctrl": 1,
    # These files belong to the releases of one project; all of them can be deleted here.
    "2x-files-delete-all": 0,
}

PROVIDERS = ("git", "github", "integrations:github", "integrations:gitlab")

SCRIPTED = {
    "delete-active": "needs an issue of the release",
    "delete-health": "needs sessions of the release",
    "new-numeric-project": "the recorded project number is the stub's",
    "new-mixed-projects": "the recorded project number is the stub's",
    "repos-404": "the server has the list of repositories",
    "token-junk-flag": "the server has one token",
    "token-flag-beats-env": "the server has one token",
}


def _replayable() -> list[Any]:
    found: list[Any] = []
    for entry in TRAFFIC:
        if entry["group"] not in _GROUPS or entry["cwd"] not in ("widgets", "nogit", "dist"):
            continue
        if entry["name"] in SCRIPTED or entry["exit_code"] is None:
            continue
        settings = entry["env"]
        if settings.get("SENTRY_AUTH_TOKEN", TOKEN) != TOKEN or "PORT" not in settings.get(
            "SENTRY_URL", ""
        ):
            continue
        statuses = {exchange["response"].get("status") for exchange in entry["exchanges"]}
        if statuses & {None, 401, 403, 409, 429, 500, 502, 503, 504, 507}:
            continue
        found.append(pytest.param(entry, id=f"{entry['tool'][11:]}-{entry['name']}"))
    return found


REPLAYABLE = _replayable()


def test_most_of_the_recording_is_replayed() -> None:
    assert len(REPLAYABLE) > 100


@pytest.mark.parametrize("entry", REPLAYABLE)
def test_a_recorded_command_ends_as_recorded(
    entry: dict[str, Any],
    binaries: Mapping[str, Path],
    server: Server,
    places: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    _forget(server)
    _prepare(server, entry)
    settings = {
        name: value.replace("http://127.0.0.1:PORT", server.url)
        for name, value in entry["env"].items()
    }
    cli = Cli(binaries[entry["tool"][11:]], server, tmp_path)
    process = cli.run(*entry["argv"][1:], cwd=places[entry["cwd"]], env=settings)
    expected = DIFFERENT.get(entry["name"], entry["exit_code"])
    assert process.returncode == expected, (process.stdout, process.stderr)


def _prepare(server: Server, entry: dict[str, Any]) -> None:
    """Give the server the state that the recorded answers speak of."""
    for exchange in entry["exchanges"]:
        path, answered = exchange["request"]["path"], exchange["response"]
        if path.endswith("/repos/") and exchange["request"]["method"] == "GET":
            for repository in answered.get("body") or []:
                provider = repository["provider"]["id"]
                body = {"name": repository["name"], "url": repository["url"]}
                known = {"provider": provider if provider in PROVIDERS else "unknown"}
                made = server.call("POST", "organizations/acme/repos/", {**body, **known})
                assert made.status in (200, 201), made.body
    missing = any("nope@1" in argument for argument in entry["argv"])
    if not missing and not entry["name"].startswith(("list-empty", "list-raw-empty")):
        commits: list[Any] = []
        for exchange in entry["exchanges"]:
            if exchange["request"]["path"].endswith("previous-with-commits/"):
                last = (exchange["response"].get("body") or {}).get("lastCommit")
                commits = [{"id": last["id"]}] if last else []
        for version in {RELEASE, *(text for text in entry["argv"] if text.startswith("a?b"))}:
            body = {"version": version, "projects": ["web", "api"], "commits": commits}
            assert server.call("POST", "organizations/acme/releases/", body).status == 201
        if "files" in entry["argv"] and "delete" in entry["argv"]:
            _upload(server)


def _upload(server: Server) -> None:
    body = (
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.js"\r\n\r\nx\r\n'
        b'--X\r\nContent-Disposition: form-data; name="name"\r\n\r\n~/static/app.min.js\r\n--X--'
    )
    headers = [
        ("Authorization", f"Bearer {TOKEN}"),
        ("Content-Type", "multipart/form-data; boundary=X"),
    ]
    path = f"/api/0/projects/acme/web/releases/{RELEASE}/files/"
    assert request(server.url, "POST", path, headers=headers, body=body).status == 201
