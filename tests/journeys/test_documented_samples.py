"""The requests that Sentry's documents show, sent as they stand: only host and token differ.

Two `curl` commands, and the Python sample that pushes `git log`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crashfree.server import LocalServer
from tests.support.program import run
from tests.support.serving import call, envelope, send
from tests.support.vectors import ROOT

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

WITH_REFS = """
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
WITH_COMMITS = """
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
PYTHON_SAMPLE = """
import subprocess
import requests

SENTRY_API_TOKEN = {token!r}
sha_of_previous_release = {previous!r}

log = subprocess.Popen([
    'git',
    '--no-pager',
    'log',
    '--no-merges',
    '--no-color',
    '--pretty=%H',
    '%s..HEAD' % (sha_of_previous_release,),
], stdout=subprocess.PIPE, universal_newlines=True)

commits = log.stdout.read().strip().split('\\n')

data = {{
    'commits': [{{'id': c, 'repository': 'my-repo-name'}} for c in commits],
    'version': commits[0],
    'projects': ['my-project', 'my-other-project'],
}}

res = requests.post(
    {url!r},
    json=data,
    headers={{'Authorization': 'Bearer {{}}'.format(SENTRY_API_TOKEN)}},
)
print(res.status_code)
"""
# What the sample needs of the library of that name.
REQUESTS = """
import json as _json
import urllib.error
import urllib.request


class Response:
    def __init__(self, status_code):
        self.status_code = status_code


def post(url, json, headers):
    headers = dict(headers, **{"Content-Type": "application/json"})
    request = urllib.request.Request(url, _json.dumps(json).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return Response(answer.status)
    except urllib.error.HTTPError as error:
        return Response(error.code)
"""


@pytest.fixture
def server() -> Iterator[LocalServer]:
    projects = ("my-project", "my-other-project", "project-1", "project-2", "sentry")
    with LocalServer(organization="my-org", projects=projects) as running:
        yield running


def curl(server: LocalServer, body: str) -> Any:
    done = subprocess.run(
        [
            "curl",
            f"{server.url}/api/0/organizations/my-org/releases/",
            "-X",
            "POST",
            "-H",
            f"Authorization: Bearer {server.token}",
            "-H",
            "Content-Type: application/json",
            "-d",
            body,
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--write-out",
            "\\n%{http_code}",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answer, _, status = done.stdout.rpartition("\n")
    assert status == "201", done.stdout
    return json.loads(answer)


def get(server: LocalServer, path: str) -> Any:
    answer = call(server, "GET", f"/api/0/organizations/my-org/{path}")
    assert answer.status == 200, answer.body
    return answer.json


@needs_curl
def test_a_release_with_refs(server: LocalServer) -> None:
    made = curl(server, WITH_REFS)
    assert made["version"] == "2da95dfb052f477380608d59d32b4ab9"
    assert made["versionInfo"]["description"] == "2da95dfb052f"
    assert [project["slug"] for project in made["projects"]] == ["my-other-project", "my-project"]
    assert made["lastCommit"]["id"] == "2da95dfb052f477380608d59d32b4ab9"
    assert made["lastCommit"]["repository"]["name"] == "owner-name/repo-name"


@needs_curl
def test_a_release_with_commits(server: LocalServer) -> None:
    made = curl(server, WITH_COMMITS)
    assert made["authors"] == [{"name": "Author Name", "email": "author_email@example.com"}]
    assert made["lastCommit"]["dateCreated"] == "2018-09-20T08:50:22.000000Z"
    files = get(server, "releases/2.0rc2/commitfiles/")
    assert {(file["filename"], file["type"]) for file in files} == {
        ("path/to/added-file.html", "A"),
        ("path/to/modified-file.html", "M"),
        ("path/to/deleted-file.html", "D"),
    }


@needs_git
def test_the_python_sample_pushes_the_log(server: LocalServer, tmp_path: Path) -> None:
    """Ids alone, newest first: without timestamps that order is kept."""
    repository = tmp_path / "widgets"
    script = str(ROOT / "make_widgets_repo.sh")
    subprocess.run(["bash", script, str(repository)], check=True, capture_output=True)
    library = tmp_path / "library"
    library.mkdir()
    (library / "requests.py").write_text(REQUESTS)
    source = PYTHON_SAMPLE.format(
        token=server.token,
        previous="v1.0.0~3",
        url=f"{server.url}/api/0/organizations/my-org/releases/",
    )
    done = run(source, env={"PYTHONPATH": str(library)}, cwd=repository)
    assert done.stdout.strip() == "201", done.stderr
    log = subprocess.run(
        ["git", "log", "--no-merges", "--pretty=%H", "v1.0.0~3..HEAD"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    shown = get(server, f"releases/{log[0]}/commits/")
    assert [commit["id"] for commit in shown] == log
    assert {commit["repository"]["name"] for commit in shown} == {"my-repo-name"}


@needs_curl
def test_a_fix_names_its_issue(server: LocalServer) -> None:
    """`Fixes SENTRY-1` references the issue and resolves it in the release."""
    event_id = "a" * 32
    event = {"event_id": event_id, "release": "sentry@1", "message": "empty query"}
    send(server, envelope(("event", event), header={"event_id": event_id}), project="sentry")
    body = {
        "version": "sentry@2",
        "projects": ["sentry"],
        "commits": [
            {"id": "b" * 40, "message": "Prevent empty queries on users\n\nFixes SENTRY-1"}
        ],
    }
    curl(server, json.dumps(body))
    issue = get(server, "issues/SENTRY-1/")
    assert issue["status"] == "resolved"
    assert issue["statusDetails"]["inRelease"] == "sentry@2"
    types = [entry["type"] for entry in get(server, "issues/SENTRY-1/activities/")["activity"]]
    assert types == ["set_resolved_in_release", "referenced_in_commit", "first_seen"]
