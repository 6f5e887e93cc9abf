"""All routes of the release catalog, and the one that says who is asking.

Threads: handlers run on any thread. Source: releases.md section 4.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from crashfree._version import __version__
from crashfree.server import (
    artifacts_api,
    issues_api,
    releases_api,
    repositories_api,
    rules_api,
)
from crashfree.server.endpoint import Call, answer, api
from crashfree.server.fields import Object

_SCOPES: Final = (
    "event:admin",
    "event:read",
    "event:write",
    "member:read",
    "org:ci",
    "org:read",
    "org:write",
    "project:admin",
    "project:read",
    "project:releases",
    "project:write",
    "team:read",
)


def get_root(call: Call) -> Response:
    """Return what the token may do; clients check their settings with it."""
    return answer(
        {
            "version": "0",
            "server": f"crashfree {__version__}",
            "auth": {"scopes": list(_SCOPES)},
            "user": None,
        }
    )


def list_organizations(call: Call) -> Response:
    """Return the one organization."""
    return answer([_organization(call)])


def get_organization(call: Call) -> Response:
    """Return the organization."""
    return answer(_organization(call))


def _organization(call: Call) -> dict[str, object]:
    slug = call.context.organization
    return {"id": "1", "slug": slug, "name": slug, "status": {"id": "active", "name": "active"}}


def list_environments(call: Call) -> Response:
    """Return the environments that something was seen in or deployed to."""
    condition, values = (
        ("AND seen.project_id = ?", (call.project.id,)) if call.project.id else ("", ())
    )
    with call.store.read() as db:
        rows = db.execute(
            "SELECT id, name FROM environments WHERE EXISTS (SELECT 1 FROM release_environments"
            f" AS seen WHERE seen.environment_id = environments.id {condition}) ORDER BY name",
            values,
        ).fetchall()
    return answer([{"id": str(row[0]), "name": row[1], "isHidden": False} for row in rows])


ROUTES: Final[list[Route]] = [
    api("/api/0/", GET=get_root),
    api("/api/0/organizations/", GET=list_organizations),
    api("/api/0/organizations/{organization}/", GET=get_organization),
    api("/api/0/organizations/{organization}/environments/", GET=list_environments),
    api("/api/0/projects/{organization}/{project}/environments/", GET=list_environments),
    *releases_api.ROUTES,
    *artifacts_api.ROUTES,
    *issues_api.ROUTES,
    *repositories_api.ROUTES,
    *rules_api.ROUTES,
]

BODIES: Final[Mapping[tuple[str, str], Object]] = {
    **releases_api.BODIES,
    **artifacts_api.BODIES,
    **issues_api.BODIES,
    **repositories_api.BODIES,
    **rules_api.BODIES,
}
"""The bodies of requests, for the description of the API: (method, path) -> shape."""
