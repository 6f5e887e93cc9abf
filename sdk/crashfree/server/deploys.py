"""Deploys: which release went where, and the letters that say so.

A release is announced once per deploy. While its commits are still to come the announcement waits
for them, because it is addressed to those who wrote them.

Threads: the transaction's. Source: releases.md sections 4.4 and 6.1.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from crashfree._ground import json
from crashfree.errors import InvalidRelease
from crashfree.release import Release
from crashfree.server import activity, resolutions
from crashfree.server.endpoint import iso
from crashfree.server.outbox import Letter, post
from crashfree.server.releases import ReleaseRow

_COLUMNS: Final = (
    "deploys.id, deploys.release_id, environments.name, deploys.name, deploys.url,"
    " deploys.date_started, deploys.date_finished, deploys.notified"
)
_MOST_COMMITS_SHOWN: Final = 100


class DeployRow(NamedTuple):
    """One deploy; times in seconds since the epoch."""

    id: int
    release_id: int
    environment: str
    name: str | None
    url: str | None
    date_started: float | None
    date_finished: float
    notified: int

    def json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "id": str(self.id),
            "environment": self.environment,
            "name": self.name,
            "url": self.url,
            "dateStarted": iso(self.date_started),
            "dateFinished": iso(self.date_finished),
        }


def of_release(db: sqlite3.Connection, release_id: int) -> list[DeployRow]:
    """Return all deploys of a release, the last finished first."""
    return [
        DeployRow(*row)
        for row in db.execute(
            f"SELECT {_COLUMNS} FROM deploys JOIN environments ON environments.id = environment_id"
            " WHERE release_id = ? ORDER BY date_finished DESC, deploys.id DESC",
            (release_id,),
        )
    ]


def get(db: sqlite3.Connection, deploy_id: int) -> DeployRow:
    """Return a deploy that is known to exist."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM deploys JOIN environments ON environments.id = environment_id"
        " WHERE deploys.id = ?",
        (deploy_id,),
    ).fetchone()
    return DeployRow(*row)


def make(
    db: sqlite3.Connection,
    release: ReleaseRow,
    body: Mapping[str, Any],
    *,
    environment_id: int,
    project_ids: Sequence[int],
    at: float,
) -> DeployRow:
    """Store a checked deploy of a release to some of its projects, and log it."""
    started, finished = body.get("dateStarted"), body.get("dateFinished")
    ended = at if finished is None else finished.timestamp()
    cursor = db.execute(
        "INSERT INTO deploys (release_id, environment_id, name, url, date_started, date_finished,"
        " date_created) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            release.id,
            environment_id,
            body.get("name") or None,
            body.get("url") or None,
            None if started is None else started.timestamp(),
            ended,
            at,
        ),
    )
    deploy_id = int(cursor.lastrowid or 0)
    for project_id in project_ids:
        db.execute(
            "INSERT INTO deploy_projects (deploy_id, project_id) VALUES (?, ?)",
            (deploy_id, project_id),
        )
        db.execute(
            "INSERT OR IGNORE INTO release_environments (release_id, project_id, environment_id)"
            " VALUES (?, ?, ?)",
            (release.id, project_id, environment_id),
        )
        activity.log(
            db,
            "deploy",
            project_id=project_id,
            release_id=release.id,
            data={
                "version": release.version,
                "deploy_id": deploy_id,
                "environment": body["environment"],
            },
            at=ended,
        )
    return get(db, deploy_id)


# Announcing.


def announce_waiting(
    db: sqlite3.Connection, release: ReleaseRow, *, base_url: str, organization: str, at: float
) -> int:
    """Write the letters of a release's deploys that nobody has heard of; return how many.

    Nothing happens while commits of the release are still to come.
    """
    pending = db.execute(
        "SELECT 1 FROM release_heads WHERE release_id = ? AND pending LIMIT 1", (release.id,)
    ).fetchone()
    if pending is not None:
        return 0
    written = 0
    for deploy in reversed(of_release(db, release.id)):
        if deploy.notified:
            continue
        db.execute("UPDATE deploys SET notified = 1 WHERE id = ?", (deploy.id,))
        for letter in _letters(db, release, deploy, base_url=base_url, organization=organization):
            post(db, letter, at=at)
            written += 1
    return written


class _Commit(NamedTuple):
    key: str
    message: str
    repository: str
    author: str | None
    email: str | None


def _letters(
    db: sqlite3.Connection,
    release: ReleaseRow,
    deploy: DeployRow,
    *,
    base_url: str,
    organization: str,
) -> list[Letter]:
    commits = [
        _Commit(*row)
        for row in db.execute(
            "SELECT commits.key, commits.message, repositories.name,"
            " coalesce(commit_authors.name, commit_authors.email), commit_authors.email"
            " FROM release_commits JOIN commits ON commits.id = commit_id"
            " JOIN repositories ON repositories.id = repository_id"
            " LEFT JOIN commit_authors ON commit_authors.id = author_id"
            " WHERE release_id = ? ORDER BY position",
            (release.id,),
        )
    ]
    recipients = _recipients(db, {commit.email for commit in commits if commit.email})
    if not recipients:
        return []
    facts = _facts(db, release, deploy, commits, base_url=base_url, organization=organization)
    subject = f"Deployed version {_short(release.version)} to {deploy.environment}"
    text = _text(facts, commits)
    return [
        Letter("deploy", recipient, subject, text, json.encode(facts).decode())
        for recipient in recipients
    ]


def _recipients(db: sqlite3.Connection, authors: set[str]) -> list[str]:
    """Return who is told: members by their wish, or the authors where there are no members."""
    members = db.execute("SELECT email, deploys FROM members ORDER BY id").fetchall()
    if not members:
        return sorted(email for email in authors if not email.endswith("@localhost"))
    wrote = {email.lower() for email in authors}
    return [
        str(email)
        for email, wish in members
        if wish == "all" or (wish == "committed" and str(email).lower() in wrote)
    ]


def _facts(
    db: sqlite3.Connection,
    release: ReleaseRow,
    deploy: DeployRow,
    commits: Sequence[_Commit],
    *,
    base_url: str,
    organization: str,
) -> dict[str, Any]:
    files = db.execute(
        "SELECT count(DISTINCT path) FROM commit_files"
        " JOIN release_commits USING (commit_id) WHERE release_id = ?",
        (release.id,),
    ).fetchone()[0]
    name = quote(release.version, safe="@")
    projects: list[dict[str, Any]] = []
    for row in db.execute(
        "SELECT id, slug FROM deploy_projects JOIN projects ON projects.id = project_id"
        " WHERE deploy_id = ? ORDER BY slug",
        (deploy.id,),
    ).fetchall():
        projects.append(
            {
                "slug": row[1],
                "url": f"{base_url}/organizations/{organization}/releases/{name}/?project={row[0]}",
                "resolvedIssues": len(resolutions.resolved_in(db, release.id, int(row[0]))),
            }
        )
    repositories: dict[str, int] = {}
    for commit in commits:
        repositories[commit.repository] = repositories.get(commit.repository, 0) + 1
    return {
        "version": release.version,
        "shortVersion": _short(release.version),
        "environment": deploy.environment,
        "deploy": deploy.json(),
        "commitCount": len(commits),
        "authorCount": len({commit.email for commit in commits if commit.email}),
        "fileCount": int(files),
        "repositories": repositories,
        "projects": projects,
        "commits": [
            {
                "id": commit.key,
                "subject": commit.message.partition("\n")[0],
                "repository": commit.repository,
                "author": commit.author,
            }
            for commit in commits[:_MOST_COMMITS_SHOWN]
        ],
    }


def _text(facts: Mapping[str, Any], commits: Sequence[_Commit]) -> str:
    lines = [
        f"Version {facts['shortVersion']} was deployed to {facts['environment']}"
        f" at {facts['deploy']['dateFinished']}.",
        "",
        f"{_count(facts['commitCount'], 'commit')} by {_count(facts['authorCount'], 'author')},"
        f" {_count(facts['fileCount'], 'file')} changed.",
    ]
    for project in facts["projects"]:
        resolved = _count(project["resolvedIssues"], "issue")
        lines += ["", f"{project['slug']}: {resolved} resolved", f"  {project['url']}"]
    for repository in facts["repositories"]:
        lines += ["", f"{repository}:"]
        for commit in facts["commits"]:
            if commit["repository"] == repository:
                author = f" ({commit['author']})" if commit["author"] else ""
                lines.append(f"  {commit['id'][:12]} {commit['subject'][:100]}{author}")
    if len(commits) > _MOST_COMMITS_SHOWN:
        lines += ["", f"... and {len(commits) - _MOST_COMMITS_SHOWN} more"]
    return "\n".join(lines) + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(version: str) -> str:
    try:
        return Release.parse(version).short
    except InvalidRelease:
        return version
