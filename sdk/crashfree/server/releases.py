"""Releases as rows: find, make, change, delete, compare.

A release is one row per organization, joined to each project it was made for or seen in. Its
*date* is when it was finalized, else when it was made; comparisons for resolutions use the day it
was made only.

Every function takes the connection of a running transaction.
Threads: the transaction's. Source: releases.md sections 3.3 to 3.6, 4.4 and 6.7.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from crashfree.server.engine import CountReader
from crashfree.server.recording import insert_release

_COLUMNS: Final = (
    "id, version, date_created, date_started, date_released, ref, url, status, owner, user_agent,"
    " package, major, minor, patch, revision, prerelease, build_code, build_number"
)
DATE: Final = "coalesce(releases.date_released, releases.date_created)"
SEMVER_ORDER: Final = (
    "releases.major DESC, releases.minor DESC, releases.patch DESC, releases.revision DESC,"
    " releases.prerelease = '' DESC, releases.prerelease DESC"
)
"""The order of the servers' own lists; text compare, so rc.9 stands above rc.10."""


class ReleaseRow(NamedTuple):
    """One release; times in seconds since the epoch."""

    id: int
    version: str
    date_created: float
    date_started: float | None
    date_released: float | None
    ref: str | None
    url: str | None
    status: str
    owner: str | None
    user_agent: str | None
    package: str | None
    major: int | None
    minor: int | None
    patch: int | None
    revision: int | None
    prerelease: str | None
    build_code: str | None
    build_number: int | None

    @property
    def date(self) -> float:
        """When it was finalized, else made."""
        return self.date_created if self.date_released is None else self.date_released

    @property
    def is_semver(self) -> bool:
        """Whether it is ordered by its version instead of its date."""
        return self.major is not None

    @property
    def version_key(self) -> tuple[Any, ...]:
        """Orders semver releases as the servers' lists do."""
        quad = (self.major or 0, self.minor or 0, self.patch or 0, self.revision or 0)
        return (*quad, self.prerelease == "", self.prerelease or "")


def marks(values: Sequence[object]) -> str:
    """Return the question marks of an SQL list."""
    return ", ".join("?" * len(values))


def find(db: sqlite3.Connection, version: str) -> ReleaseRow | None:
    """Return the release of that name."""
    row = db.execute(f"SELECT {_COLUMNS} FROM releases WHERE version = ?", (version,)).fetchone()
    return None if row is None else ReleaseRow(*row)


def get(db: sqlite3.Connection, release_id: int) -> ReleaseRow:
    """Return a release that is known to exist."""
    row = db.execute(f"SELECT {_COLUMNS} FROM releases WHERE id = ?", (release_id,)).fetchone()
    return ReleaseRow(*row)


def rows(db: sqlite3.Connection, release_ids: Sequence[int]) -> list[ReleaseRow]:
    """Return releases in the order of their ids given; unknown ids are left out."""
    found = {
        int(row[0]): ReleaseRow(*row)
        for row in db.execute(
            f"SELECT {_COLUMNS} FROM releases WHERE id IN ({marks(release_ids)})", release_ids
        )
    }
    return [found[release_id] for release_id in release_ids if release_id in found]


def find_or_make(db: sqlite3.Connection, version: str, at: float) -> tuple[ReleaseRow, bool]:
    """Return the release of that name and whether it is new; it has no project yet then."""
    known = find(db, version)
    if known is not None:
        return known, False
    return get(db, insert_release(db, version, at)), True


def project_ids(db: sqlite3.Connection, release_id: int) -> list[int]:
    """Return the projects of a release, oldest first."""
    return [
        int(row[0])
        for row in db.execute(
            "SELECT project_id FROM release_projects WHERE release_id = ? ORDER BY project_id",
            (release_id,),
        )
    ]


def change(db: sqlite3.Connection, release_id: int, values: Mapping[str, object]) -> None:
    """Set columns of a release."""
    if values:
        names = ", ".join(f"{name} = ?" for name in values)
        db.execute(f"UPDATE releases SET {names} WHERE id = ?", (*values.values(), release_id))


class Undeletable(Exception):
    """A release that something still refers to."""


def delete(db: sqlite3.Connection, reader: CountReader, release_id: int) -> list[str]:
    """Remove a release and what belongs to it alone; return the checksums it let go of.

    Raises Undeletable, with the words for the answer.
    """
    if _exists(
        db,
        "SELECT 1 FROM issues WHERE ? IN (first_release_id, last_release_id)"
        " OR EXISTS (SELECT 1 FROM issue_releases"
        " WHERE issue_releases.release_id = ? AND issue_releases.issue_id = issues.id) LIMIT 1",
        (release_id, release_id),
    ):
        raise Undeletable("This release is referenced by active issues and cannot be removed.")
    if any(reader.have_sessions([(each, release_id) for each in project_ids(db, release_id)])):
        raise Undeletable("This release has health data and cannot be removed.")
    freed = [
        str(row[0])
        for row in db.execute(
            "SELECT DISTINCT release_file_parts.sha1 FROM release_file_parts"
            " JOIN release_files ON release_files.id = file_id WHERE release_id = ?",
            (release_id,),
        )
    ]
    db.execute(
        "DELETE FROM release_file_parts WHERE file_id IN"
        " (SELECT id FROM release_files WHERE release_id = ?)",
        (release_id,),
    )
    db.execute(
        "DELETE FROM deploy_projects WHERE deploy_id IN"
        " (SELECT id FROM deploys WHERE release_id = ?)",
        (release_id,),
    )
    for table in (
        "release_files",
        "release_commits",
        "release_heads",
        "deploys",
        "dists",
        "bundle_releases",
        "release_projects",
        "release_environments",
    ):
        db.execute(f"DELETE FROM {table} WHERE release_id = ?", (release_id,))
    db.execute("UPDATE activities SET release_id = NULL WHERE release_id = ?", (release_id,))
    db.execute("UPDATE resolutions SET release_id = NULL WHERE release_id = ?", (release_id,))
    db.execute("UPDATE events SET release_id = NULL WHERE release_id = ?", (release_id,))
    db.execute("DELETE FROM releases WHERE id = ?", (release_id,))
    return freed


def _exists(db: sqlite3.Connection, sql: str, values: Sequence[object]) -> bool:
    return db.execute(sql, values).fetchone() is not None


# Order and comparison.


def follows_semver(db: sqlite3.Connection, project_id: int) -> bool:
    """Say whether a project's releases are ordered by version; its newest ten decide."""
    newest = [
        row[0] is not None
        for row in db.execute(
            "SELECT major FROM releases JOIN release_projects ON release_id = releases.id"
            " WHERE project_id = ? ORDER BY date_created DESC, releases.id DESC LIMIT 10",
            (project_id,),
        )
    ]
    if len(newest) < 3:
        return bool(newest) and newest[0]
    if len(newest) < 10:
        return any(newest[:3])
    return any(newest[:3]) and sum(newest) >= 3


def latest(
    db: sqlite3.Connection, project_id: int, environment_ids: Iterable[int] | None = None
) -> int | None:
    """Return a project's latest release; None when it has none.

    With environments: among those seen in, or deployed to, one of them.
    """
    where, values = "project_id = ?", [project_id]
    if environment_ids is not None:
        ids = list(environment_ids)
        where += (
            f" AND (EXISTS (SELECT 1 FROM release_environments AS seen WHERE"
            f" seen.release_id = releases.id AND seen.project_id = release_projects.project_id"
            f" AND environment_id IN ({marks(ids)})) OR EXISTS (SELECT 1 FROM deploys WHERE"
            f" deploys.release_id = releases.id AND environment_id IN ({marks(ids)})))"
        )
        values += [*ids, *ids]
    if follows_semver(db, project_id):
        order, where = f"{SEMVER_ORDER}, releases.id DESC", where + " AND major IS NOT NULL"
    else:
        order = f"{DATE} DESC, releases.id DESC"
    row = db.execute(
        "SELECT releases.id FROM releases JOIN release_projects ON release_id = releases.id"
        f" WHERE {where} ORDER BY {order} LIMIT 1",
        values,
    ).fetchone()
    return None if row is None else int(row[0])


def is_newer(
    db: sqlite3.Connection, project_id: int, release: ReleaseRow, than: ReleaseRow
) -> bool:
    """Say whether a project's `release` came after `than`: by version, else by the day made."""
    if release.is_semver and than.is_semver and follows_semver(db, project_id):
        return release.version_key > than.version_key
    return release.date_created > than.date_created


def previous_with_commits(db: sqlite3.Connection, release: ReleaseRow) -> ReleaseRow | None:
    """Return the newest release with commits among the same projects, up to this one.

    The release itself counts.
    """
    row = db.execute(
        "SELECT releases.id FROM releases WHERE"
        " EXISTS (SELECT 1 FROM release_commits WHERE release_id = releases.id)"
        f" AND {DATE} <= ? AND EXISTS (SELECT 1 FROM release_projects AS mine"
        " JOIN release_projects AS its ON its.project_id = mine.project_id"
        " WHERE mine.release_id = ? AND its.release_id = releases.id)"
        f" ORDER BY {DATE} DESC, releases.id = ? DESC, releases.id DESC LIMIT 1",
        (release.date, release.id, release.id),
    ).fetchone()
    return None if row is None else get(db, int(row[0]))


def previous(db: sqlite3.Connection, release: ReleaseRow, project_id: int) -> list[int]:
    """Return the ids of a project's releases before this one, newest first, itself included."""
    return [
        int(row[0])
        for row in db.execute(
            "SELECT id, date FROM (SELECT releases.id AS id,"
            f" {DATE} AS date FROM releases JOIN release_projects ON release_id = releases.id"
            " WHERE project_id = ? ORDER BY releases.id DESC LIMIT 100)"
            " WHERE date <= ? ORDER BY date DESC, id = ? DESC, id DESC",
            (project_id, release.date, release.id),
        )
    ]
