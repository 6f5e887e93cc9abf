"""Projects and their keys, in Sentry's form.

Threads: handlers run on any thread. Source: releases.md section 4, issue of the local server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, cast

from starlette.responses import Response

from crashfree.server import filters
from crashfree.server.endpoint import Call, Problem, answer, api, iso, page
from crashfree.server.quotas import limit_fault
from crashfree.server.store import Project

_SLUG: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_SLUG: Final = 50


def valid_slug(text: object) -> bool:
    """Return whether a text may name a project in addresses: not only digits, a-z 0-9 _ -."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= _LONGEST_SLUG
        and _SLUG.issuperset(text)
        and not text.isdigit()
    )


def list_projects(call: Call) -> Response:
    """Return all projects of the organization, by slug."""
    with call.store.read() as db:
        projects = sorted(call.store.projects(db), key=lambda project: project.slug)
        return page(call, [project_json(db, call, project) for project in projects])


def create_project(call: Call) -> Response:
    """Create a project with one key; `name` is needed, `slug` is made of it when missing."""
    body = call.json_object()
    name = body.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Problem(400, {"name": ["This field is required."]})
    name = name.strip()[:_LONGEST_SLUG]
    slug = body.get("slug") or _slug_of(name)
    if not valid_slug(slug):
        raise Problem(
            400,
            {"slug": ["1 to 50 of a-z 0-9 _ -, and not only digits."]},
        )
    platform = body.get("platform")
    if platform is not None and not isinstance(platform, str):
        raise Problem(400, {"platform": ["Not a valid string."]})
    with call.store.write() as db:
        if any(project.slug == slug for project in call.store.projects(db)):
            raise Problem(409, "A project with this slug already exists.")
        project = call.store.add_project(db, slug, at=call.now, name=name, platform=platform)
        made = project_json(db, call, project)
    return answer(made, 201)


def get_project(call: Call) -> Response:
    """Return one project with its settings."""
    with call.store.read() as db:
        return answer(
            {**project_json(db, call, call.project), "options": _options(db, call, call.project)}
        )


def update_project(call: Call) -> Response:
    """Change name, platform, `disabled`, rate limits (`limits`) and inbound filters (`options`)."""
    body = call.json_object()
    project = call.project
    name = body.get("name", project.name)
    platform = body.get("platform", project.platform)
    disabled = body.get("disabled", project.disabled)
    if not isinstance(name, str) or not name.strip():
        raise Problem(400, {"name": ["This field may not be blank."]})
    if not isinstance(disabled, bool):
        raise Problem(400, {"disabled": ["Must be a valid boolean."]})
    with call.store.write() as db:
        db.execute(
            "UPDATE projects SET name = ?, platform = ?, disabled = ? WHERE id = ?",
            (name.strip(), platform, disabled, project.id),
        )
        if "limits" in body:
            _set_limits(db, call, body["limits"])
        if "options" in body:
            _set_options(db, call, body["options"])
        changed = next(each for each in call.store.projects(db) if each.id == project.id)
        result = {**project_json(db, call, changed), "options": _options(db, call, changed)}
        call.store.catalog_changed()
    return answer(result)


def list_keys(call: Call) -> Response:
    """Return the keys of a project, with their DSNs."""
    with call.store.read() as db:
        return page(call, [_key_json(call, row) for row in _keys(db, call.project.id)])


def create_key(call: Call) -> Response:
    """Create another key for a project."""
    body = call.json_object() if call.body else {}
    label = body.get("name") or "Key"
    if not isinstance(label, str):
        raise Problem(400, {"name": ["Not a valid string."]})
    with call.store.write() as db:
        key = call.store.add_key(db, call.project.id, at=call.now, label=label[:64])
        row = next(row for row in _keys(db, call.project.id) if row["public_key"] == key)
        made = _key_json(call, row)
    return answer(made, 201)


def get_key(call: Call) -> Response:
    """Return one key of a project."""
    with call.store.read() as db:
        return answer(_key_json(call, _key(db, call)))


def update_key(call: Call) -> Response:
    """Rename a key, or switch it on and off (`isActive`)."""
    body = call.json_object()
    with call.store.write() as db:
        row = _key(db, call)
        label = body.get("name", row["label"])
        active = body.get("isActive", bool(row["active"]))
        if not isinstance(label, str) or not isinstance(active, bool):
            raise Problem(400, "name is text, isActive true or false")
        db.execute(
            "UPDATE project_keys SET label = ?, active = ? WHERE public_key = ?",
            (label[:64], active, row["public_key"]),
        )
        changed = _key_json(call, _key(db, call))
        call.store.catalog_changed()
    return answer(changed)


def delete_key(call: Call) -> Response:
    """Delete a key: whoever sends with it is refused from now on."""
    with call.store.write() as db:
        row = _key(db, call)
        db.execute("DELETE FROM project_keys WHERE public_key = ?", (row["public_key"],))
        call.store.catalog_changed()
    return answer(status=204)


def project_json(db: sqlite3.Connection, call: Call, project: Project) -> dict[str, Any]:
    """Return a project as the API shows it."""
    first = db.execute(
        "SELECT min(timestamp) FROM events WHERE project_id = ?", (project.id,)
    ).fetchone()
    (has_sessions,) = call.store.counts(db).have_sessions([(project.id, None)])
    return {
        "id": str(project.id),
        "slug": project.slug,
        "name": project.name,
        "platform": project.platform,
        "status": "disabled" if project.disabled else "active",
        "dateCreated": iso(project.date_created),
        "firstEvent": iso(first[0]),
        "hasSessions": has_sessions,
        "isMember": True,
        "hasAccess": True,
        "organization": {"id": "1", "slug": call.context.organization},
        "teams": [],
        "features": ["releases"],
    }


def _options(db: sqlite3.Connection, call: Call, project: Project) -> dict[str, Any]:
    return {
        "filters": call.store.option(db, project.id, "filters", {}),
        "limits": call.store.option(db, project.id, "limits", []),
    }


def _set_limits(db: sqlite3.Connection, call: Call, limits: object) -> None:
    if not isinstance(limits, list):
        raise Problem(400, {"limits": ["Expected a list."]})
    for number, limit in enumerate(cast("list[object]", limits)):
        fault = limit_fault(limit)
        if fault is not None:
            raise Problem(400, {"limits": {str(number): [fault]}})
    call.store.set_option(db, call.project.id, "limits", limits)


def _set_options(db: sqlite3.Connection, call: Call, options: object) -> None:
    if not isinstance(options, dict):
        raise Problem(400, {"options": ["Expected a dictionary."]})
    kept = call.store.option(db, call.project.id, "filters", {})
    try:
        settings = filters.from_project_options(
            filters.load(kept).settings, cast("dict[str, object]", options)
        )
    except ValueError as error:
        raise Problem(400, {"options": [str(error)]}) from None
    call.store.set_option(db, call.project.id, "filters", settings.to_json())


def _keys(db: sqlite3.Connection, project_id: int) -> list[sqlite3.Row]:
    return db.execute(
        "SELECT public_key, label, active, date_created FROM project_keys WHERE project_id = ?"
        " ORDER BY date_created, public_key",
        (project_id,),
    ).fetchall()


def _key(db: sqlite3.Connection, call: Call) -> sqlite3.Row:
    for row in _keys(db, call.project.id):
        if row["public_key"] == call.path["key"]:
            return row
    raise Problem(404)


def _key_json(call: Call, row: Mapping[str, Any] | sqlite3.Row) -> dict[str, Any]:
    key = row["public_key"]
    public = dsn_of(call.base_url, key, call.project.id)
    return {
        "id": key,
        "name": row["label"],
        "label": row["label"],
        "public": key,
        "secret": "",
        "projectId": call.project.id,
        "isActive": bool(row["active"]),
        "rateLimit": None,
        "dateCreated": iso(row["date_created"]),
        "dsn": {
            "public": public,
            "secret": public,
            "csp": "",
            "security": "",
            "minidump": "",
            "unreal": "",
            "cdn": "",
        },
    }


def dsn_of(base_url: str, key: str, project_id: int) -> str:
    """Return the DSN of a key at a server."""
    scheme, _, address = base_url.partition("://")
    return f"{scheme}://{key}@{address}/{project_id}"


def _slug_of(name: str) -> str:
    slug = "".join(char if char in _SLUG else "-" for char in name.lower())
    return "-".join(part for part in slug.split("-") if part)[:_LONGEST_SLUG]


ROUTES: Final = [
    api("/api/0/organizations/{organization}/projects/", GET=list_projects, POST=create_project),
    api("/api/0/projects/{organization}/{project}/", GET=get_project, PUT=update_project),
    api("/api/0/projects/{organization}/{project}/keys/", GET=list_keys, POST=create_key),
    api(
        "/api/0/projects/{organization}/{project}/keys/{key}/",
        GET=get_key,
        PUT=update_key,
        DELETE=delete_key,
    ),
]
