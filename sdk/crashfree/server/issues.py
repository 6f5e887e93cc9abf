"""Issues: what the events of a project are grouped into.

Counts here are the facts of stored events; numbers of sessions are elsewhere. An event meets its
issue inside the transaction that stores it. Whatever an odd payload holds, `record_event` does not
raise for it.

Threads: the transaction's. Source: releases.md sections 3.6, 6.2 to 6.4 and 6.7.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from crashfree._ground import json
from crashfree.server import activity, commits, releases, resolutions
from crashfree.server.endpoint import iso
from crashfree.server.frames import as_mapping
from crashfree.server.grouping import Group, group
from crashfree.server.ownership import Ownership, OwnershipError, parse, parse_code_owners
from crashfree.server.recording import MetEvent
from crashfree.server.releases import marks
from crashfree.server.shortids import short_id
from crashfree.server.suspects import (
    RELEASES_LOOKED_AT,
    Change,
    Committer,
    base_name,
    best_files,
    frame_paths,
    suggested,
    suspects,
)

_COLUMNS: Final = (
    "issues.id, issues.project_id, issues.number, issues.type, issues.title, issues.culprit,"
    " issues.metadata, issues.level, issues.platform, issues.unhandled, issues.status,"
    " issues.substatus, issues.first_seen, issues.last_seen, issues.times_seen,"
    " issues.first_release_id, issues.last_release_id, issues.assignee, issues.assigned_by,"
    " issues.assigned_at"
)
ORDER: Final = "strongest_first"
"""How committers are listed; the original lists them the other way round."""


class IssueRow(NamedTuple):
    """One issue; times in seconds since the epoch."""

    id: int
    project_id: int
    number: int
    type: str
    title: str
    culprit: str
    metadata: str
    level: str
    platform: str
    unhandled: int
    status: str
    substatus: str | None
    first_seen: float
    last_seen: float
    times_seen: int
    first_release_id: int | None
    last_release_id: int | None
    assignee: str | None
    assigned_by: str | None
    assigned_at: float | None


def get(db: sqlite3.Connection, issue_id: int) -> IssueRow | None:
    """Return an issue."""
    row = db.execute(f"SELECT {_COLUMNS} FROM issues WHERE id = ?", (issue_id,)).fetchone()
    return None if row is None else IssueRow(*row)


def find(db: sqlite3.Connection, project_slug: str, number: int) -> IssueRow | None:
    """Return the issue that a short id names."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM issues JOIN projects ON projects.id = issues.project_id"
        " WHERE lower(slug) = ? AND number = ?",
        (project_slug.lower(), number),
    ).fetchone()
    return None if row is None else IssueRow(*row)


def rows(db: sqlite3.Connection, issue_ids: Sequence[int]) -> list[IssueRow]:
    """Return issues in the order of their ids given."""
    found: dict[int, IssueRow] = {}
    for start in range(0, len(issue_ids), 500):
        chunk = issue_ids[start : start + 500]
        for row in db.execute(f"SELECT {_COLUMNS} FROM issues WHERE id IN ({marks(chunk)})", chunk):
            found[int(row[0])] = IssueRow(*row)
    return [found[issue_id] for issue_id in issue_ids if issue_id in found]


# Recording.


def record_event(db: sqlite3.Connection, event: MetEvent) -> int:
    """Add a new event to its issue, made when new; return the issue."""
    described = group(event.payload)
    row = db.execute(
        "SELECT issue_id, status FROM issue_hashes JOIN issues ON issues.id = issue_id"
        " WHERE issue_hashes.project_id = ? AND hash = ?",
        (event.project_id, described.hash),
    ).fetchone()
    if row is None:
        issue_id = _make(db, event, described)
    else:
        issue_id = int(row[0])
        _seen_again(db, event, described, issue_id, status=row[1])
    if event.release_id is not None:
        db.execute(
            "INSERT INTO issue_releases"
            " (issue_id, release_id, environment_id, first_seen, last_seen, times_seen)"
            " VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET times_seen = times_seen + 1,"
            " first_seen = min(first_seen, excluded.first_seen),"
            " last_seen = max(last_seen, excluded.last_seen)",
            (
                issue_id,
                event.release_id,
                event.environment_id,
                event.timestamp,
                event.timestamp,
            ),
        )
    user = _user(event.payload)
    if user is not None:
        db.execute(
            "INSERT OR IGNORE INTO issue_users (issue_id, hash) VALUES (?, ?)", (issue_id, user)
        )
    return issue_id


def _user(payload: Mapping[str, Any]) -> bytes | None:
    user = as_mapping(payload.get("user"))
    for name in ("id", "email", "username", "ip_address"):
        value = user.get(name)
        if isinstance(value, (str, int)) and value != "":
            text = f"{name}:{value}".encode("utf-8", "replace")
            return hashlib.blake2b(text, digest_size=16).digest()
    return None


def _make(db: sqlite3.Connection, event: MetEvent, described: Group) -> int:
    number = db.execute(
        "SELECT coalesce(max(number), 0) + 1 FROM issues WHERE project_id = ?",
        (event.project_id,),
    ).fetchone()[0]
    cursor = db.execute(
        "INSERT INTO issues (project_id, number, type, title, culprit, metadata, level, platform,"
        " unhandled, substatus, first_seen, last_seen, times_seen, first_release_id,"
        " last_release_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'new', ?, ?, 1, ?, ?)",
        (
            event.project_id,
            number,
            described.type,
            described.title,
            described.culprit,
            json.encode(described.metadata).decode(),
            described.level,
            described.platform,
            int(described.unhandled),
            event.timestamp,
            event.timestamp,
            event.release_id,
            event.release_id,
        ),
    )
    issue_id = int(cursor.lastrowid or 0)
    db.execute(
        "INSERT INTO issue_hashes (project_id, hash, issue_id) VALUES (?, ?, ?)",
        (event.project_id, described.hash, issue_id),
    )
    if event.release_id is not None:
        db.execute(
            "UPDATE release_projects SET new_groups = new_groups + 1"
            " WHERE release_id = ? AND project_id = ?",
            (event.release_id, event.project_id),
        )
    activity.log(
        db,
        "first_seen",
        project_id=event.project_id,
        issue_id=issue_id,
        release_id=event.release_id,
        at=event.timestamp,
    )
    _assign_by_rules(db, event, issue_id)
    return issue_id


def _seen_again(
    db: sqlite3.Connection, event: MetEvent, described: Group, issue_id: int, *, status: str
) -> None:
    db.execute(
        "UPDATE issues SET times_seen = times_seen + 1, first_seen = min(first_seen, ?),"
        " last_seen = max(last_seen, ?), first_release_id = coalesce(first_release_id, ?),"
        " last_release_id = CASE WHEN ? IS NOT NULL AND ? >= last_seen THEN ?"
        " ELSE last_release_id END, unhandled = max(unhandled, ?), level = ? WHERE id = ?",
        (
            event.timestamp,
            event.timestamp,
            event.release_id,
            event.release_id,
            event.timestamp,
            event.release_id,
            int(described.unhandled),
            described.level,
            issue_id,
        ),
    )
    if status != resolutions.RESOLVED:
        return
    known = resolutions.get(db, issue_id)
    if known is not None and resolutions.holds(
        db,
        known,
        project_id=event.project_id,
        release_id=event.release_id,
        timestamp=event.timestamp,
    ):
        return
    resolutions.regress(
        db,
        issue_id=issue_id,
        project_id=event.project_id,
        release_id=event.release_id,
        at=event.timestamp,
    )
    _assign_by_rules(db, event, issue_id)


# Owners.


class OwnershipSettings(NamedTuple):
    """A project's rules as they were typed, and what they may do."""

    raw: str = ""
    code_owners: str = ""
    fallthrough: bool = True
    assign_owners: bool = False
    assign_suspects: bool = False
    date: float | None = None

    def rules(self) -> Ownership:
        """Return the rules; text that cannot be read names nobody."""
        try:
            rules = parse(self.raw) if self.raw else ()
        except OwnershipError:
            rules = ()
        return Ownership(rules, parse_code_owners(self.code_owners), self.fallthrough)


def ownership(db: sqlite3.Connection, project_id: int) -> OwnershipSettings:
    """Return the ownership settings of a project."""
    row = db.execute(
        "SELECT value FROM project_options WHERE project_id = ? AND name = 'ownership'",
        (project_id,),
    ).fetchone()
    if row is None:
        return OwnershipSettings()
    stored = as_mapping(json.decode(str(row[0]).encode()))
    known = {name: stored[name] for name in OwnershipSettings._fields if name in stored}
    return OwnershipSettings(**known)


def committers(
    db: sqlite3.Connection, issue: IssueRow, payload: Mapping[str, Any]
) -> list[Committer]:
    """Return the authors whose commits the stack of an event suggests, strongest first.

    Looked at are the release the issue was first seen in and the four before it.
    """
    changes, authors = _changes(db, issue, payload)
    return suspects(payload, changes, authors)


def _changes(
    db: sqlite3.Connection, issue: IssueRow, payload: Mapping[str, Any]
) -> tuple[list[Change], dict[int, int | None]]:
    """Return the changed files that may have to do with a stack, and the authors of the commits."""
    if issue.first_release_id is None:
        return [], {}
    first = releases.get(db, issue.first_release_id)
    looked_at = releases.previous(db, first, issue.project_id)[:RELEASES_LOOKED_AT]
    names = sorted({base_name(path) for path in frame_paths(payload)} - {""})
    return commits.changes_of(db, looked_at, names)


def committers_json(
    db: sqlite3.Connection, issue: IssueRow, payload: Mapping[str, Any], ranked: Sequence[Committer]
) -> list[dict[str, Any]]:
    """Return committers as the API shows them; `suspectFile` is why a commit is among them."""
    ids = [match.commit for entry in ranked for match in entry.commits]
    shown = commits.commit_json(db, ids, with_releases=True)
    changes, _ = _changes(db, issue, payload)
    reasons = best_files(frame_paths(payload)[::-1], changes)
    return [
        {
            "author": shown[entry.commits[0].commit]["author"],
            "commits": [
                shown[match.commit]
                | {
                    "score": match.score,
                    "suspectCommitType": "via commit in release",
                    "suspectFile": reasons.get(match.commit),
                }
                for match in entry.commits
            ],
        }
        for entry in ranked
    ]


def author_email(db: sqlite3.Connection, author_id: int) -> str:
    """Return the address of a commit author."""
    row = db.execute("SELECT email FROM commit_authors WHERE id = ?", (author_id,)).fetchone()
    return str(row[0])


def suggested_owners(
    db: sqlite3.Connection, issue: IssueRow, payload: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return who may look after the issue: suspect committers first, then rules."""
    found: list[dict[str, Any]] = [
        {
            "type": "suspectCommit",
            "owner": f"user:{author_email(db, author)}",
            "date_added": iso(issue.first_seen),
        }
        for author in suggested(committers(db, issue, payload))
    ]
    settings = ownership(db, issue.project_id)
    for rule, owner in settings.rules().owners(payload):
        found.append(
            {
                "type": "codeowners" if rule.type == "codeowners" else "ownershipRule",
                "owner": f"{owner.type}:{owner.identifier}",
                "rule": str(rule),
                "date_added": iso(settings.date),
            }
        )
    return found


def _assign_by_rules(db: sqlite3.Connection, event: MetEvent, issue_id: int) -> None:
    """Assign an issue that nobody has, if the project wants that."""
    settings = ownership(db, event.project_id)
    if not settings.assign_owners and not settings.assign_suspects:
        return
    issue = get(db, issue_id)
    if issue is None or issue.assignee is not None or issue.assigned_by == "manual":
        return
    who, why = None, ""
    if settings.assign_suspects:
        authors = suggested(committers(db, issue, event.payload))
        if authors:
            who, why = f"user:{author_email(db, authors[0])}", "suspectCommit"
    if who is None and settings.assign_owners:
        chosen = settings.rules().assignees(event.payload)
        if chosen:
            rule, owner = chosen[0]
            who = f"{owner.type}:{owner.identifier}"
            why = "codeowners" if rule.type == "codeowners" else "projectOwnership"
    if who is not None:
        assign(db, issue, who, by=why, at=event.timestamp)


def assign(db: sqlite3.Connection, issue: IssueRow, who: str | None, *, by: str, at: float) -> None:
    """Give an issue to `user:ADDRESS` or `team:SLUG`; None takes it away."""
    if who == issue.assignee:
        return
    db.execute(
        "UPDATE issues SET assignee = ?, assigned_by = ?, assigned_at = ? WHERE id = ?",
        (who, by, at, issue.id),
    )
    activity.log(
        db,
        "unassigned" if who is None else "assigned",
        project_id=issue.project_id,
        issue_id=issue.id,
        data={"assignee": who, "integration": None if by == "manual" else by},
        at=at,
    )


def forget(db: sqlite3.Connection, issue_id: int) -> None:
    """Remove an issue with its events."""
    db.execute(
        "UPDATE release_projects SET new_groups = max(0, new_groups - 1) WHERE (release_id,"
        " project_id) = (SELECT first_release_id, project_id FROM issues WHERE id = ?)",
        (issue_id,),
    )
    for table in (
        "events",
        "issue_hashes",
        "issue_releases",
        "issue_users",
        "resolutions",
        "issue_commits",
        "activities",
    ):
        db.execute(f"DELETE FROM {table} WHERE issue_id = ?", (issue_id,))
    db.execute("DELETE FROM issues WHERE id = ?", (issue_id,))


# Showing.


def issue_json(
    db: sqlite3.Connection, found: Sequence[IssueRow], *, base_url: str, organization: str
) -> list[dict[str, Any]]:
    """Return issues as the API shows them."""
    projects = {
        int(row[0]): {"id": str(row[0]), "slug": row[1], "name": row[2], "platform": row[3]}
        for row in db.execute("SELECT id, slug, name, platform FROM projects")
    }
    users = _user_counts(db, [issue.id for issue in found])
    versions = _versions(db, found)
    shown: list[dict[str, Any]] = []
    for issue in found:
        project = projects[issue.project_id]
        shown.append(
            {
                "id": str(issue.id),
                "shortId": short_id(str(project["slug"]), issue.number),
                "title": issue.title,
                "culprit": issue.culprit,
                "permalink": f"{base_url}/organizations/{organization}/issues/{issue.id}/",
                "type": issue.type,
                "metadata": json.decode(issue.metadata.encode()),
                "level": issue.level,
                "platform": issue.platform,
                "isUnhandled": bool(issue.unhandled),
                "status": issue.status,
                "substatus": issue.substatus,
                "statusDetails": _status_details(db, issue),
                "project": project,
                "count": str(issue.times_seen),
                "userCount": users.get(issue.id, 0),
                "firstSeen": iso(issue.first_seen),
                "lastSeen": iso(issue.last_seen),
                "firstRelease": versions.get(issue.first_release_id or 0),
                "lastRelease": versions.get(issue.last_release_id or 0),
                "assignedTo": assignee_json(issue.assignee),
                "logger": None,
                "numComments": 0,
                "annotations": [],
            }
        )
    return shown


def assignee_json(assignee: str | None) -> dict[str, Any] | None:
    """Return an assignee as the API shows one."""
    if assignee is None:
        return None
    kind, _, name = assignee.partition(":")
    shown: dict[str, Any] = {"type": kind, "id": name, "name": name}
    return shown | {"email": name} if kind == "user" else shown


def _user_counts(db: sqlite3.Connection, issue_ids: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for start in range(0, len(issue_ids), 500):
        chunk = issue_ids[start : start + 500]
        found.update(
            (int(row[0]), int(row[1]))
            for row in db.execute(
                "SELECT issue_id, count(*) FROM issue_users"
                f" WHERE issue_id IN ({marks(chunk)}) GROUP BY issue_id",
                chunk,
            )
        )
    return found


def _versions(db: sqlite3.Connection, found: Sequence[IssueRow]) -> dict[int, dict[str, Any]]:
    ids = sorted(
        {
            release
            for issue in found
            for release in (issue.first_release_id, issue.last_release_id)
            if release is not None
        }
    )
    return {
        release.id: {
            "id": release.id,
            "version": release.version,
            "shortVersion": release.version,
            "dateCreated": iso(release.date_created),
            "dateReleased": iso(release.date_released),
        }
        for release in releases.rows(db, ids)
    }


def _status_details(db: sqlite3.Connection, issue: IssueRow) -> dict[str, Any]:
    if issue.status != resolutions.RESOLVED:
        return {}
    known = resolutions.get(db, issue.id)
    if known is None:
        return {}
    details: dict[str, Any] = {}
    if known.actor is not None:
        details["actor"] = {"name": known.actor, "email": known.actor}
    if known.kind == "in_next_release":
        details["inNextRelease"] = True
    elif known.kind == "in_release" and known.release_id is not None:
        details["inRelease"] = releases.get(db, known.release_id).version
    if known.commit_id is not None:
        shown = commits.commit_json(db, [known.commit_id]).get(known.commit_id)
        if shown is not None:
            details["inCommit"] = shown
    return details
