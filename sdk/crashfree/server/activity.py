"""The activity log: what happened to issues and releases, and who did it.

Entries are only ever added. Types are Sentry's, plus `referenced_in_commit`.

Threads: the transaction's. Source: releases.md sections 6.1, 6.2 and 7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from crashfree._ground import json
from crashfree.server.endpoint import iso
from crashfree.server.shortids import short_id

ActivityType = Literal[
    "first_seen",
    "set_resolved",
    "set_resolved_in_release",
    "set_resolved_in_commit",
    "referenced_in_commit",
    "set_unresolved",
    "set_regression",
    "set_ignored",
    "assigned",
    "unassigned",
    "release",
    "deploy",
]
_MOST: Final = 1000


class Activity(NamedTuple):
    """One entry."""

    id: int
    project_id: int
    issue_id: int | None
    release_id: int | None
    type: str
    actor: str | None
    data: str
    date: float


def log(
    db: sqlite3.Connection,
    type: ActivityType,
    *,
    project_id: int,
    at: float,
    issue_id: int | None = None,
    release_id: int | None = None,
    actor: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry."""
    db.execute(
        "INSERT INTO activities (project_id, issue_id, release_id, type, actor, data, date)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (project_id, issue_id, release_id, type, actor, json.encode(data or {}).decode(), at),
    )


def happened(
    db: sqlite3.Connection, type: ActivityType, *, project_id: int, release_id: int
) -> bool:
    """Say whether a release already has an entry of that type in a project."""
    row = db.execute(
        "SELECT 1 FROM activities WHERE release_id = ? AND type = ? AND project_id = ?",
        (release_id, type, project_id),
    ).fetchone()
    return row is not None


def entries(
    db: sqlite3.Connection,
    *,
    project_id: int | None = None,
    issue_id: int | None = None,
    release_id: int | None = None,
    limit: int = _MOST,
) -> list[dict[str, Any]]:
    """Return entries, newest first, as the API shows them."""
    where: list[str] = []
    values: list[object] = []
    for column, value in (
        ("project_id", project_id),
        ("issue_id", issue_id),
        ("release_id", release_id),
    ):
        if value is not None:
            where.append(f"activities.{column} = ?")
            values.append(value)
    condition = " AND ".join(where) or "1"
    return [
        _entry(Activity(*row[:8]), slug=row[8], number=row[9], title=row[10], version=row[11])
        for row in db.execute(
            "SELECT activities.id, activities.project_id, activities.issue_id,"
            " activities.release_id, activities.type, activities.actor, activities.data,"
            " activities.date, projects.slug, issues.number, issues.title, releases.version"
            " FROM activities JOIN projects ON projects.id = activities.project_id"
            " LEFT JOIN issues ON issues.id = activities.issue_id"
            " LEFT JOIN releases ON releases.id = activities.release_id"
            f" WHERE {condition} ORDER BY activities.date DESC, activities.id DESC LIMIT ?",
            (*values, limit),
        )
    ]


def _entry(
    entry: Activity, *, slug: str, number: int | None, title: str | None, version: str | None
) -> dict[str, Any]:
    issue = None
    if entry.issue_id is not None and number is not None:
        issue = {"id": str(entry.issue_id), "shortId": short_id(slug, number), "title": title}
    return {
        "id": str(entry.id),
        "type": entry.type,
        "user": None if entry.actor is None else {"email": entry.actor, "name": entry.actor},
        "data": json.decode(entry.data.encode()),
        "dateCreated": iso(entry.date),
        "project": {"id": str(entry.project_id), "slug": slug},
        "issue": issue,
        "release": version,
    }
