"""The endpoints of repositories, members, activity and the outbox.

Threads: handlers run on any thread. Source: releases.md sections 4.3, 4.4, 6.1 and 6.7.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Final

from starlette.responses import Response

from crashfree._ground import json
from crashfree.server import activity, commits, outbox
from crashfree.server.commits import Repository
from crashfree.server.endpoint import Call, Problem, answer, api, page
from crashfree.server.fields import NO_URL, Choice, Invalid, ListOf, Object, Text
from crashfree.server.frames import as_list

_PROVIDERS: Final = (
    "unknown",
    "manual",
    "git",
    "github",
    "gitlab",
    "bitbucket",
    "visualstudio",
    "google",
    "integrations:github",
    "integrations:github_enterprise",
    "integrations:gitlab",
    "integrations:bitbucket",
    "integrations:bitbucket_server",
    "integrations:vsts",
)
_PROVIDER: Final = Choice(
    {name: name for name in _PROVIDERS}, message='"{}" is not a known provider.'
)
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@]*:[^/@]*@")


def _remote(text: str) -> str:
    """Any address that git takes, without a password in it."""
    if any(char <= " " for char in text):
        raise Invalid([NO_URL])
    return _CREDENTIALS.sub("", text)


REPOSITORY: Final = Object(
    {
        "name": Text(most=200, blank=False, nullable=False, required=True),
        "url": Text(most=1024, check=_remote),
        "provider": _PROVIDER,
        "localPath": Text(most=4096),
    }
)
REPOSITORY_CHANGE: Final = Object(
    {
        "name": Text(most=200, blank=False, nullable=False),
        "url": Text(most=1024, check=_remote),
        "provider": _PROVIDER,
        "localPath": Text(most=4096),
        "status": Choice(
            {"active": "active", "visible": "active", "disabled": "disabled", "hidden": "hidden"},
            message='"{}" is not a valid choice.',
        ),
    }
)
MEMBER: Final = Object(
    {
        "email": Text(most=200, blank=False, nullable=False, required=True),
        "name": Text(most=200),
        "teams": ListOf(Text(most=100, blank=False, nullable=False)),
        "deploys": Choice(
            {name: name for name in ("all", "committed", "none")},
            message='"{}" is not a valid choice.',
        ),
    }
)


def read_object(call: Call, shape: Object) -> dict[str, Any]:
    """Return the checked body; Problem(400) with the errors of its fields."""
    try:
        return dict(shape.read(call.json()))
    except Invalid as refusal:
        raise Problem(400, refusal.errors) from None


# Repositories.


def list_repositories(call: Call) -> Response:
    """Return the repositories by name; `query` is a part of it, `status` active by default."""
    status = call.query.get("status", "active") or None
    if call.query.get("integration_id"):
        return page(call, [])
    with call.store.read() as db:
        found = commits.repositories(db, status=None if status == "all" else status)
    query = call.query.get("query", "").lower()
    return page(call, [each.json() for each in found if query in each.name.lower()])


def create_repository(call: Call) -> Response:
    """Link a repository by hand; `localPath` is a checkout that ranges are read from."""
    body = read_object(call, REPOSITORY)
    with call.store.write() as db:
        known = commits.find_repository(db, body["name"])
        repository_id = commits.repository_id(db, body["name"], call.now)
        _change(
            db,
            repository_id,
            # Without an address, `git` would make clients look for one and fail.
            {"provider": "git" if body.get("url") else "manual", "status": "active"}
            | {name: value for name, value in body.items() if name != "name"},
        )
        made = commits.get_repository(db, repository_id)
        assert made is not None
    return answer(made.json(), 201 if known is None else 200)


def update_repository(call: Call) -> Response:
    """Change a repository."""
    body = read_object(call, REPOSITORY_CHANGE)
    with call.store.write() as db:
        repository = _found_repository(db, call)
        try:
            _change(db, repository.id, body)
        except sqlite3.IntegrityError:
            raise Problem(409, "A repository with this name already exists.") from None
        changed = commits.get_repository(db, repository.id)
        assert changed is not None
    return answer(changed.json())


def delete_repository(call: Call) -> Response:
    """Delete a repository; one that has commits is only hidden, because releases show them."""
    with call.store.write() as db:
        repository = _found_repository(db, call)
        used = db.execute(
            "SELECT 1 FROM commits WHERE repository_id = ? LIMIT 1", (repository.id,)
        ).fetchone()
        if used is None:
            db.execute("DELETE FROM release_heads WHERE repository_id = ?", (repository.id,))
            db.execute("DELETE FROM repositories WHERE id = ?", (repository.id,))
        else:
            db.execute("UPDATE repositories SET status = 'deleted' WHERE id = ?", (repository.id,))
    return answer(None, 204)


def list_repository_commits(call: Call) -> Response:
    """Return the commits of a repository, newest first."""
    with call.store.read() as db:
        repository = _found_repository(db, call)
        ids = [
            int(row[0])
            for row in db.execute(
                "SELECT id FROM commits WHERE repository_id = ? ORDER BY date DESC, id",
                (repository.id,),
            )
        ]
        shown = commits.commit_json(db, ids)
    return page(call, [shown[commit] for commit in ids])


def _found_repository(db: sqlite3.Connection, call: Call) -> Repository:
    named = call.path["repository"]
    found = commits.get_repository(db, int(named)) if _is_number(named) else None
    if found is None:
        raise Problem(404)
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


_COLUMNS: Final = {"localPath": "local_path"}


def _change(db: sqlite3.Connection, repository_id: int, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name == "provider" and value == "unknown":
            value = None
        db.execute(
            f"UPDATE repositories SET {_COLUMNS.get(name, name)} = ? WHERE id = ?",
            (value or None, repository_id),
        )


# Members.


def _member_json(row: Any) -> dict[str, Any]:
    return {
        "id": str(row[0]),
        "email": row[1],
        "name": row[2],
        "teams": as_list(json.decode(str(row[3]).encode())),
        "deploys": row[4],
    }


_MEMBER: Final = "SELECT id, email, name, teams, deploys FROM members"


def list_members(call: Call) -> Response:
    """Return who is told about deploys; without members the authors of commits are."""
    with call.store.read() as db:
        rows = db.execute(f"{_MEMBER} ORDER BY email").fetchall()
    return page(call, [_member_json(row) for row in rows])


def create_member(call: Call) -> Response:
    """Add a member, or change the one with that address."""
    body = read_object(call, MEMBER)
    email = body["email"].strip()
    if "@" not in email or any(char.isspace() for char in email):
        raise Problem(400, {"email": ["Enter a valid email address."]})
    with call.store.write() as db:
        known = db.execute("SELECT 1 FROM members WHERE email = ?", (email,)).fetchone()
        db.execute(
            "INSERT INTO members (email, name, teams, deploys) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (email) DO UPDATE SET name = excluded.name, teams = excluded.teams,"
            " deploys = excluded.deploys",
            (
                email,
                body.get("name") or email,
                json.encode(body.get("teams") or []).decode(),
                body.get("deploys") or "committed",
            ),
        )
        row = db.execute(f"{_MEMBER} WHERE email = ?", (email,)).fetchone()
    return answer(_member_json(row), 201 if known is None else 200)


def delete_member(call: Call) -> Response:
    """Remove a member."""
    named = call.path["member"]
    with call.store.write() as db:
        cursor = db.execute(
            "DELETE FROM members WHERE id = ?", (int(named) if _is_number(named) else 0,)
        )
        if cursor.rowcount == 0:
            raise Problem(404)
    return answer(None, 204)


# Activity and outbox.


def list_activity(call: Call) -> Response:
    """Return what happened lately, newest first."""
    with call.store.read() as db:
        found = activity.entries(db, project_id=call.project.id or None)
    return page(call, found)


def list_outbox(call: Call) -> Response:
    """Return the letters written so far, newest first, and whether they went out."""
    with call.store.read() as db:
        found = outbox.entries(db)
    return page(call, found)


def get_outbox_settings(call: Call) -> Response:
    """Return where letters go; a password is not shown."""
    return answer(outbox.shown_settings(call.store))


def set_outbox_settings(call: Call) -> Response:
    """Say where letters go besides the files: `smtp`, `webhook`; null switches one off."""
    body = read_object(call, outbox.SETTINGS)
    smtp = body.get("smtp")
    if smtp is not None and not str(smtp.get("port", "25")).isdigit():
        raise Problem(400, {"smtp": {"port": ["A valid integer is required."]}})
    current = outbox.settings(call.store)
    call.store.set_meta(outbox.SETTINGS_NAME, json.encode(current | body).decode())
    return answer(outbox.shown_settings(call.store))


_ORGANIZATION: Final = "/api/0/organizations/{organization}/"

ROUTES: Final = [
    api(_ORGANIZATION + "repos/", GET=list_repositories, POST=create_repository),
    api(_ORGANIZATION + "repos/{repository}/", PUT=update_repository, DELETE=delete_repository),
    api(_ORGANIZATION + "repos/{repository}/commits/", GET=list_repository_commits),
    api(_ORGANIZATION + "members/", GET=list_members, POST=create_member),
    api(_ORGANIZATION + "members/{member}/", DELETE=delete_member),
    api(_ORGANIZATION + "activity/", GET=list_activity),
    api("/api/0/projects/{organization}/{project}/activity/", GET=list_activity),
    api(_ORGANIZATION + "outbox/", GET=list_outbox),
    api(_ORGANIZATION + "outbox/settings/", GET=get_outbox_settings, PUT=set_outbox_settings),
]

BODIES: Final = {
    ("POST", _ORGANIZATION + "repos/"): REPOSITORY,
    ("PUT", _ORGANIZATION + "repos/{repository}/"): REPOSITORY_CHANGE,
    ("POST", _ORGANIZATION + "members/"): MEMBER,
    ("PUT", _ORGANIZATION + "outbox/settings/"): outbox.SETTINGS,
}
