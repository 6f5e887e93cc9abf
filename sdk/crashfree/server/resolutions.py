"""Resolved and regressed: when an issue counts as fixed, and when it is back.

An issue is resolved now, in a release, or in the next release. A new event brings it back unless
the release it comes from is older than the fix. A commit resolves the issues its message names in
the release that has the commit.

Threads: the transaction's. Source: releases.md sections 3.6 and 6.2.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from crashfree.server import activity, releases
from crashfree.server.commit_refs import references
from crashfree.server.commits import StoredCommit
from crashfree.server.releases import ReleaseRow

Kind = Literal["now", "in_release", "in_next_release"]
UNRESOLVED: Final = "unresolved"
RESOLVED: Final = "resolved"
IGNORED: Final = "ignored"


class Resolution(NamedTuple):
    """How an issue was resolved; the release is the one it was fixed in, or current then."""

    issue_id: int
    kind: str
    release_id: int | None
    commit_id: int | None
    actor: str | None
    date: float


def get(db: sqlite3.Connection, issue_id: int) -> Resolution | None:
    """Return the resolution of an issue."""
    row = db.execute(
        "SELECT issue_id, kind, release_id, commit_id, actor, date FROM resolutions"
        " WHERE issue_id = ?",
        (issue_id,),
    ).fetchone()
    return None if row is None else Resolution(*row)


def resolve(
    db: sqlite3.Connection,
    *,
    issue_id: int,
    project_id: int,
    kind: Kind,
    at: float,
    release_id: int | None = None,
    commit_id: int | None = None,
    actor: str | None = None,
) -> None:
    """Resolve an issue.

    For `in_next_release` the release is the one current now; any newer one will do, and with none
    at all the first to come.
    """
    db.execute(
        "INSERT OR REPLACE INTO resolutions (issue_id, kind, release_id, commit_id, actor, date)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (issue_id, kind, release_id, commit_id, actor, at),
    )
    db.execute("UPDATE issues SET status = ?, substatus = NULL WHERE id = ?", (RESOLVED, issue_id))
    version = None if release_id is None else releases.get(db, release_id).version
    if kind == "in_next_release":
        # The release is the last one with the fault, so it is not named as the fix.
        data: dict[str, object] = {"version": ""}
    else:
        data = {"version": version}
    activity.log(
        db,
        "set_resolved" if kind == "now" else "set_resolved_in_release",
        project_id=project_id,
        issue_id=issue_id,
        release_id=None if kind == "now" else release_id,
        actor=actor,
        data={} if kind == "now" else data,
        at=at,
    )


def reopen(
    db: sqlite3.Connection,
    *,
    issue_id: int,
    project_id: int,
    at: float,
    actor: str | None = None,
) -> None:
    """Take a resolution back."""
    db.execute("DELETE FROM resolutions WHERE issue_id = ?", (issue_id,))
    db.execute(
        "UPDATE issues SET status = ?, substatus = 'ongoing' WHERE id = ?", (UNRESOLVED, issue_id)
    )
    activity.log(db, "set_unresolved", project_id=project_id, issue_id=issue_id, actor=actor, at=at)


def holds(
    db: sqlite3.Connection,
    resolution: Resolution,
    *,
    project_id: int,
    release_id: int | None,
    timestamp: float,
) -> bool:
    """Say whether an issue stays resolved although an event has come."""
    if resolution.kind == "now":
        return timestamp <= resolution.date
    if release_id is None:
        return True
    seen = releases.get(db, release_id)
    if resolution.release_id is None:
        return seen.date_created <= resolution.date
    fixed = releases.get(db, resolution.release_id)
    if resolution.kind == "in_release":
        if seen.id == fixed.id:
            return False
        return releases.is_newer(db, project_id, fixed, seen) or _same_age(fixed, seen)
    return not releases.is_newer(db, project_id, seen, fixed)


def _same_age(fixed: ReleaseRow, seen: ReleaseRow) -> bool:
    """Made at the same moment: ordered by date, the fix covers it."""
    both_semver = fixed.is_semver and seen.is_semver
    return not both_semver and fixed.date_created == seen.date_created


def regress(
    db: sqlite3.Connection, *, issue_id: int, project_id: int, release_id: int | None, at: float
) -> None:
    """Mark a resolved issue as back."""
    db.execute("DELETE FROM resolutions WHERE issue_id = ?", (issue_id,))
    db.execute(
        "UPDATE issues SET status = ?, substatus = 'regressed' WHERE id = ?",
        (UNRESOLVED, issue_id),
    )
    version = "" if release_id is None else releases.get(db, release_id).version
    activity.log(
        db,
        "set_regression",
        project_id=project_id,
        issue_id=issue_id,
        release_id=release_id,
        data={"version": version},
        at=at,
    )


def settle_next_release(db: sqlite3.Connection, release_id: int, project_id: int) -> None:
    """Turn "in the next release" into "in this release" for a release that has just come."""
    waiting = db.execute(
        "SELECT resolutions.issue_id, resolutions.release_id, resolutions.date FROM resolutions"
        " JOIN issues ON issues.id = resolutions.issue_id"
        " WHERE kind = 'in_next_release' AND project_id = ?",
        (project_id,),
    ).fetchall()
    if not waiting:
        return
    come = releases.get(db, release_id)
    for issue_id, current, date in waiting:
        if current is None:
            newer = come.date_created >= date
        else:
            newer = current != release_id and releases.is_newer(
                db, project_id, come, releases.get(db, current)
            )
        if newer:
            db.execute(
                "UPDATE resolutions SET kind = 'in_release', release_id = ? WHERE issue_id = ?",
                (release_id, issue_id),
            )


# Commits that name issues.


class NamedIssue(NamedTuple):
    """An issue that a commit message names."""

    id: int
    project_id: int


def refer(
    db: sqlite3.Connection,
    release: ReleaseRow,
    commits: Sequence[StoredCommit],
    *,
    before: frozenset[int],
    host: str | None,
    at: float,
) -> list[NamedIssue]:
    """Follow the issue references of commits that a release has just got.

    `before` are the commits it had already: pushed once more, they do not resolve an issue again
    that has come back since. Each link is recorded once; a link whose name is gone from an edited
    message is taken back. The issues named are resolved in the release. Returns them.
    """
    resolved: dict[int, NamedIssue] = {}
    for commit in commits:
        named = _named(db, commit.message, host)
        linked = {
            int(row[0])
            for row in db.execute(
                "SELECT issue_id FROM issue_commits WHERE commit_id = ?", (commit.id,)
            )
        }
        _unlink(db, commit, linked - {issue.id for issue in named}, at)
        for issue in named:
            if issue.id not in linked:
                _link(db, commit, issue, at)
            elif commit.id in before:
                continue
            if _settled_in(db, issue.id, release.id):
                continue
            resolve(
                db,
                issue_id=issue.id,
                project_id=issue.project_id,
                kind="in_release",
                release_id=release.id,
                commit_id=commit.id,
                actor=commit.author_email,
                at=at,
            )
            resolved[issue.id] = issue
    return list(resolved.values())


def _named(db: sqlite3.Connection, message: str, host: str | None) -> list[NamedIssue]:
    found = references(message, host=host)
    issues: dict[int, NamedIssue] = {}
    for short in found.parsed():
        row = db.execute(
            "SELECT issues.id, project_id FROM issues JOIN projects ON projects.id = project_id"
            " WHERE lower(slug) = ? AND number = ?",
            short,
        ).fetchone()
        if row is not None:
            issues[int(row[0])] = NamedIssue(int(row[0]), int(row[1]))
    for issue_id in found.issue_ids:
        row = db.execute("SELECT id, project_id FROM issues WHERE id = ?", (issue_id,)).fetchone()
        if row is not None:
            issues[int(row[0])] = NamedIssue(int(row[0]), int(row[1]))
    return list(issues.values())


def _settled_in(db: sqlite3.Connection, issue_id: int, release_id: int) -> bool:
    """Whether the issue is resolved in that release already, so that a repeated push is quiet."""
    known = get(db, issue_id)
    return known is not None and known.kind == "in_release" and known.release_id == release_id


def _link(db: sqlite3.Connection, commit: StoredCommit, issue: NamedIssue, at: float) -> None:
    db.execute(
        "INSERT INTO issue_commits (issue_id, commit_id, date) VALUES (?, ?, ?)",
        (issue.id, commit.id, at),
    )
    activity.log(
        db,
        "referenced_in_commit",
        project_id=issue.project_id,
        issue_id=issue.id,
        actor=commit.author_email,
        data={"commit": _commit_key(db, commit.id)},
        at=at,
    )


def _unlink(
    db: sqlite3.Connection, commit: StoredCommit, issue_ids: Iterable[int], at: float
) -> None:
    for issue_id in issue_ids:
        db.execute(
            "DELETE FROM issue_commits WHERE issue_id = ? AND commit_id = ?",
            (issue_id, commit.id),
        )
        known = get(db, issue_id)
        if known is not None and known.commit_id == commit.id:
            row = db.execute("SELECT project_id FROM issues WHERE id = ?", (issue_id,)).fetchone()
            reopen(db, issue_id=issue_id, project_id=int(row[0]), at=at)


def _commit_key(db: sqlite3.Connection, commit_id: int) -> str:
    return str(db.execute("SELECT key FROM commits WHERE id = ?", (commit_id,)).fetchone()[0])


def resolved_in(
    db: sqlite3.Connection, release_id: int, project_id: int | None = None
) -> list[int]:
    """Return the ids of the issues that were resolved in a release."""
    return [
        int(row[0])
        for row in db.execute(
            "SELECT issue_id FROM resolutions JOIN issues ON issues.id = issue_id"
            " WHERE kind = 'in_release' AND release_id = ? AND (? IS NULL OR project_id = ?)"
            " ORDER BY issues.last_seen DESC, issue_id DESC",
            (release_id, project_id, project_id),
        )
    ]
