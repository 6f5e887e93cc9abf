"""Our command line against what sentry-cli was recorded to send, command line by command line.

Requests must be the same in method, path, query and body, times of the recording aside, unless the
command line stands in `DIFFERENT`, with the reason and with what ours does instead. Commits are
compared commit by commit against the truth about the sample repository, since the recorded patch
sets are the faults that releases.md section 5.4 lists.

What is left out is in `LEFT_OUT`, with where it is tested. Source: releases.md section 5.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest

from crashfree._cli import run
from crashfree.management import channel
from tests.support.vectors import load
from tests.unit._cli.replay import Replay, query_of
from tests.unit.management import repositories

ENTRIES: list[dict[str, Any]] = load("sentry_cli_traffic.json")["entries"]
ORG = "/api/0/organizations/acme"
RELEASE = f"{ORG}/releases/widgets@1.0.0"
POST_NEW = f"POST {ORG}/releases/"
PUT = f"PUT {RELEASE}/"
REPOS = f"GET {ORG}/repos/"
PREVIOUS = f"GET {RELEASE}/previous-with-commits/"


class Different(NamedTuple):
    """Why and what ours does instead."""

    why: str
    exit: int
    requests: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    """What the last request must hold."""


REFUSED_NAME = "a name that servers or ingestion refuse never leaves this machine (1.2)"
TRIMMED = "blanks around a name are cut with a note (1.2)"
FULL_SHA = "revisions are resolved in the checkout; full ids are sent (5.4)"
LOCAL_PATH = "without a linked repository the checkout's commits are sent, right ones (5.4)"
DIFFERENT = {
    **{
        name: Different(REFUSED_NAME, 2)
        for name in (
            "new-name-backslash",
            "new-name-latest",
            "new-name-201",
            "new-name-cr",
            "new-name-nul-less-ctrl",
        )
    },
    **{
        name: Different(TRIMMED, 0, (POST_NEW,), {"version": version})
        for name, version in (
            ("new-name-trailing-space", "widgets@1.0.0"),
            ("new-name-leading-space", "widgets@1.0.0"),
            ("new-name-nbsp", "a"),
        )
    },
    "new-finalize-existing": Different(
        "an existing release is finalized by a second request (4.4)",
        0,
        (POST_NEW, PUT),
        {"url": "https://example.com/r", "dateReleased": "<now>"},
    ),
    "finalize-dateonly": Different(
        "a date is an instant, its midnight in UTC (5.1)",
        0,
        (PUT,),
        {"dateReleased": "2023-11-14T00:00:00Z"},
    ),
    "finalize-3x-started": Different(
        "the old flag is ignored with a warning, as 2.x did", 0, (PUT,), {"dateReleased": "<now>"}
    ),
    "list-json-flag": Different("there is JSON here", 0, (f"GET {ORG}/releases/",)),
    "set-commits-commit-case": Different(
        FULL_SHA + "; the name in the server's spelling",
        0,
        (REPOS, POST_NEW, PUT),
        {
            "refs": [
                {
                    "repository": "acme/widgets",
                    "commit": repositories.HEAD,
                    "previousCommit": None,
                }
            ]
        },
    ),
    **{
        name: Different(
            FULL_SHA,
            0,
            (REPOS, POST_NEW, PUT),
            {
                "refs": [
                    {"repository": "acme/widgets", "commit": commit, "previousCommit": previous}
                ]
            },
        )
        for name, commit, previous in (
            ("set-commits-commit-tag-range", repositories.HEAD, repositories.EXECUTABLE),
            ("2x-set-commits-commit", repositories.HEAD, repositories.EXECUTABLE),
            ("set-commits-commit-nosha", repositories.HEAD, None),
            ("2x-set-commits-commit-short", repositories.MERGE, None),
        )
    },
    "set-commits-commit-norepos": Different(
        "--commit is not silently dropped: without a linked repository it is an error (5.4)",
        2,
        (REPOS,),
    ),
    "set-commits-clear-norepos": Different(
        "--clear clears, linked repositories or not (5.4)",
        0,
        (REPOS, POST_NEW, PUT),
        {"refs": []},
    ),
    "set-commits-local-prev-missing": Different(
        "a base that is not here is a warning, and the newest commits are sent (5.4)",
        0,
        (REPOS, POST_NEW, PREVIOUS, PUT),
    ),
    "set-commits-local-prev-short": Different(
        "a short id is resolved (5.4)", 0, (REPOS, POST_NEW, PREVIOUS, PUT)
    ),
    "local-shallow-prev-outside": Different(
        "a base outside a shallow clone is a warning (5.4)", 0, (REPOS, POST_NEW, PREVIOUS, PUT)
    ),
    "local-empty-repo": Different(
        "a repository without commits is noticed before a release is made", 2, (REPOS,)
    ),
    "auto-sha256": Different("repositories with SHA-256 ids are read", 0, (REPOS, POST_NEW, PUT)),
    "auto-repo-no-url": Different(
        "a linked repository without address is skipped with a warning (5.4)",
        0,
        (REPOS, POST_NEW, PREVIOUS, PUT),
    ),
    "auto-duplicate-repo-names": Different(
        "the same reference is sent once",
        0,
        (REPOS, POST_NEW, PUT),
        {
            "refs": [
                {
                    "repository": "acme/widgets",
                    "commit": repositories.HEAD,
                    "previousCommit": None,
                }
            ]
        },
    ),
    "repos-403": Different(
        "commits of the checkout need no list of repositories: a warning",
        0,
        (REPOS, POST_NEW, PREVIOUS, PUT),
    ),
    "err-409": Different(
        "another job at the same release is waited for (4.1)",
        0,
        (REPOS, POST_NEW, PREVIOUS, PUT, PUT),
    ),
    **{
        name: Different(why, 0, (POST_NEW, POST_NEW))
        for name, why in (
            ("err-429-retry-after", "Retry-After is honoured (4.1)"),
            ("err-429-json", "429 is waited for (4.1)"),
            ("err-reset", "a lost connection is tried again (4.1)"),
            ("err-truncated", "half an answer is none (4.1)"),
            ("err-hang", "a silent server is tried again, within a time budget (4.1)"),
        )
    },
    "sm-upload-no-release": Different("the missing release is noticed before any request", 2),
    "cfg-empty-org-env": Different("blank counts as not set (5.2)", 2),
    "cfg-empty-project-env": Different("blank counts as not set (5.2)", 2),
    "cfg-empty-token-env": Different("blank counts as not set (5.2)", 2),
    "cfg-bad-org": Different("the same, as exit code 2", 2),
    "2x-files-delete-all": Different(
        "all files are listed and deleted one by one; none here",
        0,
        (f"GET {RELEASE}/files/",),
    ),
    "3x-files-gone": Different("the command is kept (5.1)", 0, (f"GET {RELEASE}/files/",)),
    "3x-files-gone2": Different("the command is kept (5.1)", 0, (f"GET {RELEASE}/files/",)),
}
# Exit codes where nothing but the code differs: 1 there means 2 or 3 here (DESIGN section 10).
EXIT_CODES = {
    "err-refused": 3,
    **dict.fromkeys(
        (
            "new-no-project",
            "new-no-org",
            "new-no-token",
            "deploy-new-norelease",
            "deploy-new-blank-env-release",
            "set-commits-auto-nogit",
            "set-commits-commit-unknown",
            "set-commits-commit-toolong",
            "set-commits-commit-prevtoolong",
            "set-commits-commit-badspec",
            "cfg-properties-missing",
            "cfg-dotenv-off",
            "cfg-deploy-invalid-env-release",
            "err-bad-url",
            "err-url-path",
        ),
        2,
    ),
}
LEFT_OUT = {
    "propose-version": "tests/unit/_resolve, tests/unit/_cli/test_propose.py",
    "local-odd-names": "the repository cannot be rebuilt; its oddities: test_commits.py",
    "local-badpath": "the same",
    "local-badmsg": "the same",
    "local-foreign-owner": "needs a second user: test_git.py",
    "auto-foreign-owner": "needs a second user: test_git.py",
    "cfg-empty-url-env": "blank counts as not set, which leaves sentry.io: test_settings.py",
    "new-name-empty": "argparse takes the empty word, release.py refuses it: test_releases.py",
}
# Names of commands that are called otherwise here.
RENAMED = {"sourcemaps": "artifacts"}
TOOK_FROM_TOKEN = re.compile(r"sntrys_([A-Za-z0-9+/=]+)_")


def chosen() -> Iterator[dict[str, Any]]:
    for entry in ENTRIES:
        if entry["group"] not in LEFT_OUT and entry["name"] not in LEFT_OUT:
            yield entry


@pytest.fixture(scope="session")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = repositories.relatives(tmp_path_factory)
    assets = base / "dist" / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "app.min.js").write_text("var a=1;\n//# sourceMappingURL=app.min.js.map\n")
    (assets / "app.min.js.map").write_text('{"version":3,"sources":["a.js"],"mappings":""}')
    for name in ("er", "cfgdir2", "cfgdir3", "cfgdir4", "home"):
        (base / name).mkdir(exist_ok=True)
    return base


@pytest.fixture
def surroundings(
    checkouts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.MonkeyPatch:
    """A home without configuration, a git without the machine's, and no waiting."""
    monkeypatch.setenv("HOME", str(checkouts / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for name in ("CUSTOM_HEADER", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(channel, "_wait", lambda seconds: None)
    return monkeypatch


@pytest.mark.parametrize("entry", list(chosen()), ids=lambda entry: entry["name"])
def test_a_recorded_command_line_makes_the_same_requests(
    entry: dict[str, Any],
    checkouts: Path,
    surroundings: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    different = DIFFERENT.get(entry["name"])
    where = checkouts / entry["cwd"]
    surroundings.chdir(where)
    with Replay(entry["exchanges"], lenient=different is not None, path_of=plain_path) as server:
        files = written(where, entry, server)
        for name, value in entry["env"].items():
            surroundings.setenv(name, at_server(value, server))
        argv = [RENAMED.get(word, word) for word in entry["argv"][1:]]
        code = run([at_server(word, server) for word in argv])
        for path in files:
            path.unlink()
    told = capsys.readouterr()
    if different is not None:
        assert code == different.exit, told.err
        assert [f"{r['method']} {plain_path(r['path'])}" for r in server.requests] == list(
            different.requests
        )
        if different.body is not None:
            sent = comparable(server.requests[-1]["body"])
            assert {key: sent[key] for key in different.body} == different.body
        return
    assert [shape(request) for request in server.requests] == [
        shape(exchange["request"]) for exchange in entry["exchanges"] if not_theirs(exchange)
    ]
    assert code == EXIT_CODES.get(entry["name"], entry["exit_code"]), told.err
    assert "Traceback" not in told.err
    check_headers(entry, server)


def check_headers(entry: dict[str, Any], server: Replay) -> None:
    """Token and extra headers arrive as recorded; the pipeline stands behind our own name."""
    for request, exchange in zip(server.requests, entry["exchanges"], strict=False):
        wanted = exchange["request"]["headers"]
        assert request["headers"]["Authorization"] == at_server(wanted["Authorization"], server)
        assert request["headers"].get("X-Test") == wanted.get("X-Test")
        pipeline = wanted["User-Agent"].partition(" ")[2]
        assert request["headers"]["User-Agent"].partition(" ")[2] == pipeline


def written(where: Path, entry: dict[str, Any], server: Replay) -> list[Path]:
    """Write the configuration files of a recorded command line."""
    files = dict(entry.get("files") or {})
    rc = next(e for e in ENTRIES if e["name"] == "cfg-rc-parent")["files"][".sentryclirc"]
    lines = "SENTRY_URL=http://127.0.0.1:PORT\nSENTRY_AUTH_TOKEN=" + "0123456789abcdef" * 4
    if entry["cwd"] == "er":
        files.setdefault(".sentryclirc", rc)
    elif entry["cwd"] == "cfgdir2":
        files.setdefault("sentrycli.ini", rc)
    elif entry["cwd"] == "cfgdir4":
        files.setdefault(".env", f"{lines}\nSENTRY_ORG=dotenvorg\nSENTRY_PROJECT=web\n")
    for name, text in files.items():
        (where / name).write_text(at_server(text, server))
    return [where / name for name in files]


def at_server(text: str, server: Replay) -> str:
    """Put this server's port into a recorded value, also inside an organization's token."""

    def moved(found: re.Match[str]) -> str:
        claims = json.loads(base64.b64decode(found.group(1)))
        for key in ("url", "region_url"):
            if claims.get(key):
                claims[key] = server.url
        return f"sntrys_{base64.b64encode(json.dumps(claims).encode()).decode()}_"

    return TOOK_FROM_TOKEN.sub(moved, text).replace("127.0.0.1:PORT", f"127.0.0.1:{server.port}")


def not_theirs(exchange: dict[str, Any]) -> bool:
    """2.x asks for the terms of chunked uploads before it uploads a single file; ours does not."""
    request = exchange["request"]
    agent = request["headers"]["User-Agent"]
    return not (agent.startswith("sentry-cli/2") and request["path"].endswith("/chunk-upload/"))


def shape(request: dict[str, Any]) -> tuple[object, ...]:
    return (
        request["method"],
        plain_path(request["path"]),
        query_of(request["query"]),
        comparable(request["body"]),
    )


def plain_path(path: str) -> str:
    """Decoded; and one form for the two that 2.x and 3.x use when there is one project."""
    path = unquote(path).replace("/projects/acme/web/releases/", "/organizations/acme/releases/")
    return re.sub(r"/projects/acme/\w+/releases/$", "/organizations/acme/releases/", path)


def comparable(value: Any) -> Any:
    """Return a body without the moment of the recording, and with commits as they truly are."""
    if isinstance(value, dict):
        if "_multipart" in value:
            return {(part["field"], part["filename"] and "file") for part in value["_multipart"]}
        if "patch_set" in value:
            return comparable_commit(value)
        return {
            key: "<digest>" if key in ("checksum", "chunks") else comparable(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [comparable(entry) for entry in value]
    if isinstance(value, str):
        if re.match(r"20\d\d-\d\d-\d\dT", value) and value[:10] not in KNOWN_DAYS:
            return "<now>"
        if re.fullmatch("[0-9a-f]{40}", value) and value not in repositories.PATCHES:
            return "<other commit>"
        return re.sub(r"\.0+Z$", "Z", value)
    return value


KNOWN_DAYS = frozenset(("2023-11-14",))


def comparable_commit(commit: dict[str, Any]) -> dict[str, Any]:
    """A commit of the sample by id, with its true changes; one of another by what it says."""
    known = repositories.PATCHES.get(commit["id"])
    own = commit["repository"] not in ("origin", "upstream")
    changes = repositories.paths_of(commit["patch_set"])
    if own and known is not None and SHALLOW.get(commit["id"]) != len(changes):
        assert changes == known, commit["id"]
    return {
        "id": commit["id"] if known is not None else None,
        "message": commit["message"],
        "author": (commit["author_name"], commit["author_email"]),
        "timestamp": commit["timestamp"],
        "paths": None if known is not None else changes,
    }


# The boundary of the shallow clone, whose changes nobody can know.
SHALLOW = {repositories.EXECUTABLE: 0}


def test_every_listed_difference_is_a_recorded_command_line() -> None:
    names = {entry["name"] for entry in ENTRIES} | {entry["group"] for entry in ENTRIES}
    assert (set(DIFFERENT) | set(EXIT_CODES) | set(LEFT_OUT)) <= names


def test_hardly_anything_is_left_out() -> None:
    listed = list(chosen())
    assert len(listed) > 220
    assert sum(entry["name"] not in DIFFERENT for entry in listed) > 170
