"""Releases as the API shows them.

A page of releases costs a fixed number of queries, however many releases are on it.

Threads: any, each with its own connection. Source: releases.md section 4.3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from crashfree.errors import InvalidRelease
from crashfree.release import Release
from crashfree.server import commits
from crashfree.server.deploys import DeployRow
from crashfree.server.endpoint import iso
from crashfree.server.engine import CountReader, Selection
from crashfree.server.release_health import NO_HEALTH, Adoption, Key, ReleaseHealth
from crashfree.server.releases import ReleaseRow, marks

_CHUNK: Final = 500


class Extras(NamedTuple):
    """What is shown only when asked for."""

    health: Mapping[Key, ReleaseHealth] | None = None
    stages: Mapping[Key, Adoption] | None = None
    base_url: str = ""
    organization: str = ""


class _Project(NamedTuple):
    id: int
    slug: str
    name: str
    platform: str | None
    new_groups: int
    has_health: bool
    first_seen: float | None
    last_seen: float | None


def release_json(
    db: sqlite3.Connection,
    reader: CountReader,
    rows: Sequence[ReleaseRow],
    extras: Extras,
    *,
    selection: Selection | None = None,
) -> list[dict[str, Any]]:
    """Return releases as the API shows them, with the projects of the selection (None: all)."""
    shown: list[dict[str, Any]] = []
    for start in range(0, len(rows), _CHUNK):
        shown += _chunk(db, reader, rows[start : start + _CHUNK], extras, selection)
    return shown


def _chunk(
    db: sqlite3.Connection,
    reader: CountReader,
    rows: Sequence[ReleaseRow],
    extras: Extras,
    selection: Selection | None,
) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    projects = _projects(db, reader, ids, selection)
    counts, newest = _commits(db, ids)
    last_commits = commits.commit_json(db, sorted(set(newest.values())))
    authors = _authors(db, ids)
    deploys = _deploys(db, ids)
    pending = {
        int(row[0])
        for row in db.execute(
            "SELECT DISTINCT release_id FROM release_heads"
            f" WHERE pending AND release_id IN ({marks(ids)})",
            ids,
        )
    }
    shown: list[dict[str, Any]] = []
    for row in rows:
        own = projects.get(row.id, [])
        number, last_deploy = deploys.get(row.id, (0, None))
        entry: dict[str, Any] = {
            "id": row.id,
            "version": row.version,
            "shortVersion": row.version,
            "versionInfo": version_info(row.version),
            "status": row.status,
            "ref": row.ref,
            "url": row.url,
            "dateCreated": iso(row.date_created),
            "dateStarted": iso(row.date_started),
            "dateReleased": iso(row.date_released),
            "data": {"commitsPending": True} if row.id in pending else {},
            "newGroups": sum(project.new_groups for project in own),
            "owner": None if row.owner is None else {"name": row.owner},
            "commitCount": counts.get(row.id, 0),
            "lastCommit": last_commits.get(newest.get(row.id, 0)),
            "deployCount": number,
            "lastDeploy": None if last_deploy is None else last_deploy.json(),
            "authors": authors.get(row.id, []),
            "projects": [_project_json(project, row.id, extras) for project in own],
            "firstEvent": iso(min((p.first_seen for p in own if p.first_seen), default=None)),
            "lastEvent": iso(max((p.last_seen for p in own if p.last_seen), default=None)),
            "currentProjectMeta": {},
            "userAgent": row.user_agent,
        }
        if extras.stages is not None:
            entry["adoptionStages"] = {
                project.slug: extras.stages[project.id, row.id].json()
                for project in own
                if (project.id, row.id) in extras.stages
            }
        shown.append(entry)
    return shown


def version_info(version: str) -> dict[str, Any] | None:
    """Return a release name taken apart; None for one that ingestion would refuse."""
    try:
        return dict(Release.parse(version).version_info())
    except InvalidRelease:
        return None


def _project_json(project: _Project, release_id: int, extras: Extras) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": project.id,
        "slug": project.slug,
        "name": project.name,
        "newGroups": project.new_groups,
        "platform": project.platform,
        "platforms": [] if project.platform is None else [project.platform],
        "hasHealthData": project.has_health,
    }
    if extras.health is not None:
        health = extras.health.get((project.id, release_id), NO_HEALTH)
        shown["healthData"] = health.json() | {"hasHealthData": project.has_health}
    return shown


def _projects(
    db: sqlite3.Connection, reader: CountReader, ids: Sequence[int], selection: Selection | None
) -> dict[int, list[_Project]]:
    rows = [
        row
        for row in db.execute(
            "SELECT release_id, projects.id, slug, name, platform, new_groups, first_seen,"
            " last_seen FROM release_projects JOIN projects ON projects.id = project_id"
            f" WHERE release_id IN ({marks(ids)}) ORDER BY slug",
            ids,
        )
        if selection is None or row[1] in selection.projects
    ]
    have = reader.have_sessions([(row[1], row[0]) for row in rows])
    found: dict[int, list[_Project]] = {}
    for row, has_health in zip(rows, have, strict=True):
        project = _Project(row[1], row[2], row[3], row[4], row[5], has_health, row[6], row[7])
        found.setdefault(int(row[0]), []).append(project)
    return found


def _commits(db: sqlite3.Connection, ids: Sequence[int]) -> tuple[dict[int, int], dict[int, int]]:
    """Return how many commits each release has, and which is its newest."""
    counts: dict[int, int] = {}
    newest: dict[int, int] = {}
    for row in db.execute(
        "SELECT release_id, count(*) FROM release_commits"
        f" WHERE release_id IN ({marks(ids)}) GROUP BY release_id",
        ids,
    ):
        counts[int(row[0])] = int(row[1])
    for row in db.execute(
        "SELECT release_id, commit_id FROM release_commits"
        f" WHERE position = 0 AND release_id IN ({marks(ids)})",
        ids,
    ):
        newest[int(row[0])] = int(row[1])
    return counts, newest


def _authors(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in db.execute(
        "SELECT release_id, email, name FROM release_commits"
        " JOIN commits ON commits.id = commit_id"
        " JOIN commit_authors ON commit_authors.id = author_id"
        f" WHERE release_id IN ({marks(ids)})"
        " GROUP BY release_id, commit_authors.id ORDER BY min(position)",
        ids,
    ):
        found.setdefault(int(row[0]), []).append(commits.author_json(row[1], row[2]))
    return found


def _deploys(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, tuple[int, DeployRow]]:
    """Return how many deploys each release has, and the one that finished last."""
    found: dict[int, tuple[int, DeployRow]] = {}
    for row in db.execute(
        "SELECT deploys.id, release_id, environments.name, deploys.name, url, date_started,"
        " date_finished, notified FROM deploys JOIN environments ON environments.id ="
        f" environment_id WHERE release_id IN ({marks(ids)}) ORDER BY date_finished, deploys.id",
        ids,
    ):
        deploy = DeployRow(*row)
        number = found[deploy.release_id][0] if deploy.release_id in found else 0
        found[deploy.release_id] = (number + 1, deploy)
    return found
