"""Commits of releases: what a push stores, and how it is shown again.

A push replaces the commits of the repositories it names and leaves those of others alone. Position
0 is the newest. Commits that ask to be skipped are; a commit without any author has none.

Threads: the transaction's. Source: releases.md sections 4.5, 4.6 and 6.2.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from crashfree.server import releases
from crashfree.server.commit_refs import ignored
from crashfree.server.endpoint import iso
from crashfree.server.release_requests import ref_range
from crashfree.server.releases import ReleaseRow, marks
from crashfree.server.suspects import Change, base_name

ORGANIZATION_ID: Final = 1
MAX_COMMITS: Final = 10_000
_AUTHOR_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
)
_MAX_MESSAGE: Final = 65_536
_CHUNK: Final = 500
_PROVIDER_NAMES: Final = {"unknown": "Unknown Provider", "git": "Git", "manual": "Manual"}


class UnknownRepositories(Exception):
    """Names in refs that no linked repository has."""

    names: list[str]

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class StoredCommit(NamedTuple):
    """A commit that has just been stored."""

    id: int
    message: str
    author_email: str | None
    date: float


class Repository(NamedTuple):
    """A repository; `provider` None means that commits named it and nobody linked it."""

    id: int
    name: str
    url: str | None
    provider: str | None
    status: str
    local_path: str | None
    date_created: float

    def json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        provider = self.provider or "unknown"
        name = _PROVIDER_NAMES.get(provider, provider)
        return {
            "id": str(self.id),
            "name": self.name,
            "url": self.url,
            "provider": {"id": provider, "name": name},
            "status": self.status,
            "dateCreated": iso(self.date_created),
            "integrationId": None,
            "externalSlug": self.name,
            "externalId": None,
            "localPath": self.local_path,
        }


# Repositories.

_REPOSITORY: Final = "id, name, url, provider, status, local_path, date_created"


def repositories(db: sqlite3.Connection, *, status: str | None = "active") -> list[Repository]:
    """Return the repositories by name; `status` None means all."""
    return [
        Repository(*row)
        for row in db.execute(
            f"SELECT {_REPOSITORY} FROM repositories WHERE ? IS NULL OR status = ? ORDER BY name",
            (status, status),
        )
    ]


def find_repository(db: sqlite3.Connection, name: str) -> Repository | None:
    """Return a repository by name; where none is written exactly so, case does not count."""
    row = db.execute(
        f"SELECT {_REPOSITORY} FROM repositories WHERE lower(name) = lower(?)"
        " ORDER BY name = ? DESC, id LIMIT 1",
        (name, name),
    ).fetchone()
    return None if row is None else Repository(*row)


def get_repository(db: sqlite3.Connection, repository_id: int) -> Repository | None:
    """Return a repository by id."""
    row = db.execute(
        f"SELECT {_REPOSITORY} FROM repositories WHERE id = ?", (repository_id,)
    ).fetchone()
    return None if row is None else Repository(*row)


def repository_id(db: sqlite3.Connection, name: str | None, at: float) -> int:
    """Return the id of a repository, made when new; blank is the organization's own."""
    name = (name or "").strip() or f"organization-{ORGANIZATION_ID}"
    row = db.execute("SELECT id FROM repositories WHERE name = ?", (name,)).fetchone()
    if row is not None:
        return int(row[0])
    cursor = db.execute("INSERT INTO repositories (name, date_created) VALUES (?, ?)", (name, at))
    return int(cursor.lastrowid or 0)


# Storing.


def store_commits(
    db: sqlite3.Connection, release_id: int, commits: Sequence[Mapping[str, Any]], at: float
) -> list[StoredCommit]:
    """Give a release these checked commits; return those that were stored, newest first."""
    wanted = _newest_first([commit for commit in commits if not ignored(commit.get("message"))])
    repository_ids: dict[str | None, int] = {}
    authors: dict[tuple[str, str], int] = {}
    stored: list[StoredCommit] = []
    heads: dict[int, str] = {}
    files: list[tuple[int, str, str, str]] = []
    for commit in wanted:
        name = commit.get("repository")
        repository = repository_ids.get(name)
        if repository is None:
            repository = repository_ids[name] = repository_id(db, name, at)
        heads.setdefault(repository, commit["id"])
        entry = _store_commit(db, commit, repository, authors, at)
        stored.append(entry)
        for file in commit.get("patch_set") or ():
            files.append((entry.id, file["path"], file["type"], base_name(file["path"])))
    db.executemany(
        "INSERT OR REPLACE INTO commit_files (commit_id, path, type, base_name)"
        " VALUES (?, ?, ?, ?)",
        files,
    )
    for name in {commit.get("repository") for commit in commits} - repository_ids.keys():
        repository_ids[name] = repository_id(db, name, at)
    _link(db, release_id, [entry.id for entry in stored], set(repository_ids.values()))
    for repository, key in heads.items():
        _set_head(db, release_id, repository, key, None, pending=False)
    return stored


def _newest_first(commits: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort by time; where any commit has none, the order given is kept."""
    if any(commit.get("timestamp") is None for commit in commits):
        return commits
    return sorted(commits, key=lambda commit: -commit["timestamp"].timestamp())


def _store_commit(
    db: sqlite3.Connection,
    commit: Mapping[str, Any],
    repository: int,
    authors: dict[tuple[str, str], int],
    at: float,
) -> StoredCommit:
    author, email = _author(db, commit, authors)
    message = (commit.get("message") or "")[:_MAX_MESSAGE]
    moment = commit.get("timestamp")
    date = at if moment is None else moment.timestamp()
    known = db.execute(
        "SELECT id, message, author_id, date FROM commits WHERE repository_id = ? AND key = ?",
        (repository, commit["id"]),
    ).fetchone()
    if known is None:
        cursor = db.execute(
            "INSERT INTO commits (repository_id, key, author_id, message, date)"
            " VALUES (?, ?, ?, ?, ?)",
            (repository, commit["id"], author, message, date),
        )
        return StoredCommit(int(cursor.lastrowid or 0), message, email, date)
    # What a later push does not say (ids only) does not take away what an earlier one said.
    message = message if commit.get("message") is not None else known[1]
    date = date if moment is not None else known[3]
    author = author if author is not None else known[2]
    db.execute(
        "UPDATE commits SET author_id = ?, message = ?, date = ? WHERE id = ?",
        (author, message, date, known[0]),
    )
    return StoredCommit(int(known[0]), message, email, date)


def _author(
    db: sqlite3.Connection, commit: Mapping[str, Any], authors: dict[tuple[str, str], int]
) -> tuple[int | None, str | None]:
    name = (commit.get("author_name") or "").strip()
    email = (commit.get("author_email") or "").strip()
    if not email:
        letters = "".join(char for char in name if char in _AUTHOR_CHARACTERS).lower()
        if not letters:
            return None, None
        email = f"{letters}@localhost"
    known = authors.get((email, name))
    if known is not None:
        return known, email
    row = db.execute("SELECT id, name FROM commit_authors WHERE email = ?", (email,)).fetchone()
    if row is None:
        cursor = db.execute(
            "INSERT INTO commit_authors (email, name) VALUES (?, ?)", (email, name or None)
        )
        found = int(cursor.lastrowid or 0)
    else:
        found = int(row[0])
        if name and name != row[1]:
            db.execute("UPDATE commit_authors SET name = ? WHERE id = ?", (name, found))
    authors[email, name] = found
    return found, email


def _link(
    db: sqlite3.Connection, release_id: int, commit_ids: Sequence[int], replaced: set[int]
) -> None:
    """Put the commits before those of other repositories, in place of their own's old ones."""
    others = [
        int(row[0])
        for row in db.execute(
            "SELECT commit_id, repository_id FROM release_commits"
            " JOIN commits ON commits.id = commit_id WHERE release_id = ? ORDER BY position",
            (release_id,),
        )
        if row[1] not in replaced
    ]
    db.execute("DELETE FROM release_commits WHERE release_id = ?", (release_id,))
    for repository in replaced:
        db.execute(
            "DELETE FROM release_heads WHERE release_id = ? AND repository_id = ?",
            (release_id, repository),
        )
    # A commit listed twice keeps its first, newest place.
    ordered = dict.fromkeys([*commit_ids, *others])
    db.executemany(
        "INSERT INTO release_commits (release_id, commit_id, position) VALUES (?, ?, ?)",
        [(release_id, commit_id, position) for position, commit_id in enumerate(ordered)],
    )


def _set_head(
    db: sqlite3.Connection,
    release_id: int,
    repository: int,
    key: str,
    previous: str | None,
    *,
    pending: bool,
) -> None:
    db.execute(
        "INSERT OR REPLACE INTO release_heads"
        " (release_id, repository_id, commit_key, previous_key, pending) VALUES (?, ?, ?, ?, ?)",
        (release_id, repository, key, previous, int(pending)),
    )


def clear_commits(db: sqlite3.Connection, release_id: int) -> None:
    """Take all commits, authors and heads from a release."""
    db.execute("DELETE FROM release_commits WHERE release_id = ?", (release_id,))
    db.execute("DELETE FROM release_heads WHERE release_id = ?", (release_id,))


# Refs.


class Range(NamedTuple):
    """Commits of a repository that somebody has to fetch; `base` None when there is none."""

    repository: Repository
    base: str | None
    head: str


def ranges(
    db: sqlite3.Connection, release: ReleaseRow, refs: Sequence[Mapping[str, Any]], at: float
) -> list[Range]:
    """Return what checked refs ask for.

    As long as nobody has linked a repository any name is taken; from then on an unknown one is a
    mistake. Raises UnknownRepositories.
    """
    linked = db.execute(
        "SELECT 1 FROM repositories WHERE provider IS NOT NULL AND status = 'active' LIMIT 1"
    ).fetchone()
    unknown: list[str] = []
    found: list[Range] = []
    for ref in refs:
        repository = find_repository(db, ref["repository"])
        if repository is None and linked is not None:
            unknown.append(ref["repository"])
            continue
        if repository is None:
            repository = get_repository(db, repository_id(db, ref["repository"], at))
            assert repository is not None
        base, head = ref_range(dict(ref))
        if base is None:
            base = _head_before(db, release, repository.id)
        found.append(Range(repository, base, head))
    if unknown:
        raise UnknownRepositories(unknown)
    return found


def _head_before(db: sqlite3.Connection, release: ReleaseRow, repository: int) -> str | None:
    """Return the repository's head in the newest other release of the same projects."""
    row = db.execute(
        "SELECT commit_key FROM release_heads JOIN releases ON releases.id = release_id"
        " WHERE repository_id = ? AND release_id != ? AND EXISTS ("
        "SELECT 1 FROM release_projects AS mine JOIN release_projects AS its"
        " ON its.project_id = mine.project_id"
        " WHERE mine.release_id = ? AND its.release_id = releases.id)"
        f" ORDER BY {releases.DATE} DESC, releases.id DESC LIMIT 1",
        (repository, release.id, release.id),
    ).fetchone()
    return None if row is None else str(row[0])


def store_range(
    db: sqlite3.Connection,
    release_id: int,
    wanted: Range,
    commits: Sequence[Mapping[str, Any]] | None,
    at: float,
) -> list[StoredCommit]:
    """Give a release the commits of a range; None stands for those nobody could fetch.

    Then only the head is known, and the release is marked as waiting for the rest.
    """
    pending = commits is None
    given: Sequence[Mapping[str, Any]] = (
        [{"id": wanted.head, "repository": wanted.repository.name}] if commits is None else commits
    )
    stored = store_commits(db, release_id, given, at)
    # What was fetched knows the full id of a head that was named by tag or branch.
    head = wanted.head if not commits else str(commits[0]["id"])
    _set_head(db, release_id, wanted.repository.id, head, wanted.base, pending=pending)
    return stored


# Showing.


def author_json(email: str | None, name: str | None) -> dict[str, Any]:
    """Return an author as the API shows one; empty when there is none."""
    return {} if email is None else {"name": name or email, "email": email}


def commit_json(
    db: sqlite3.Connection, commit_ids: Sequence[int], *, with_releases: bool = False
) -> dict[int, dict[str, Any]]:
    """Return commits as the API shows them, by id."""
    found: dict[int, dict[str, Any]] = {}
    shown_repositories = {
        repository.id: repository.json() for repository in repositories(db, status=None)
    }
    for start in range(0, len(commit_ids), _CHUNK):
        chunk = commit_ids[start : start + _CHUNK]
        for row in db.execute(
            "SELECT commits.id, key, message, date, repository_id, email, name FROM commits"
            " LEFT JOIN commit_authors ON commit_authors.id = author_id"
            f" WHERE commits.id IN ({marks(chunk)})",
            chunk,
        ):
            found[int(row[0])] = {
                "id": row[1],
                "message": row[2],
                "dateCreated": iso(row[3]),
                "repository": shown_repositories.get(row[4], {}),
                "author": author_json(row[5], row[6]),
                "pullRequest": None,
                "suspectCommitType": "",
            }
        if with_releases:
            _add_releases(db, chunk, found)
    return found


def _add_releases(
    db: sqlite3.Connection, commit_ids: Sequence[int], found: Mapping[int, dict[str, Any]]
) -> None:
    for commit in commit_ids:
        if commit in found:
            found[commit]["releases"] = []
    for row in db.execute(
        "SELECT commit_id, version, ref, url, date_released, date_created FROM release_commits"
        " JOIN releases ON releases.id = release_id"
        f" WHERE commit_id IN ({marks(commit_ids)}) ORDER BY releases.id",
        commit_ids,
    ):
        found[int(row[0])]["releases"].append(
            {
                "version": row[1],
                "shortVersion": row[1],
                "ref": row[2],
                "url": row[3],
                "dateReleased": iso(row[4]),
                "dateCreated": iso(row[5]),
            }
        )


def release_commit_ids(
    db: sqlite3.Connection, release_id: int, *, repository: int | None = None
) -> list[int]:
    """Return the commits of a release, newest first."""
    return [
        int(row[0])
        for row in db.execute(
            "SELECT commit_id FROM release_commits JOIN commits ON commits.id = commit_id"
            " WHERE release_id = ? AND (? IS NULL OR repository_id = ?) ORDER BY position",
            (release_id, repository, repository),
        )
    ]


def release_files(
    db: sqlite3.Connection, release_id: int, *, limit: int, offset: int
) -> list[dict[str, Any]]:
    """Return files that a release's commits changed, by path, as the API shows them."""
    rows = db.execute(
        "SELECT commit_id, path, type FROM release_commits JOIN commit_files USING (commit_id)"
        " WHERE release_id = ? ORDER BY path, commit_id LIMIT ? OFFSET ?",
        (release_id, limit, offset),
    ).fetchall()
    shown = commit_json(db, sorted({int(row[0]) for row in rows}))
    return [
        {
            "id": f"{row[0]}:{row[1]}",
            "orgId": ORGANIZATION_ID,
            "author": shown[row[0]]["author"],
            "commitMessage": shown[row[0]]["message"],
            "commitId": shown[row[0]]["id"],
            "filename": row[1],
            "type": row[2],
            "repoName": shown[row[0]]["repository"].get("name"),
        }
        for row in rows
    ]


def changes_of(
    db: sqlite3.Connection, release_ids: Sequence[int], names: Sequence[str]
) -> tuple[list[Change], dict[int, int | None]]:
    """Return the changed files with one of these base names, and the authors of their commits."""
    changes: list[Change] = []
    authors: dict[int, int | None] = {}
    if not release_ids or not names:
        return changes, authors
    for row in db.execute(
        "SELECT DISTINCT commit_files.commit_id, path, author_id, commits.date FROM commit_files"
        " JOIN release_commits ON release_commits.commit_id = commit_files.commit_id"
        " JOIN commits ON commits.id = commit_files.commit_id"
        f" WHERE base_name IN ({marks(names)}) AND release_id IN ({marks(release_ids)})"
        " ORDER BY commits.date DESC, commit_files.commit_id",
        (*names, *release_ids),
    ):
        changes.append(Change(int(row[0]), row[1]))
        authors[int(row[0])] = row[2]
    return changes, authors
