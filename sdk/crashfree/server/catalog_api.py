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
    thresholds,
)
from crashfree.server.endpoint import Call, answer, api
from crashfree.server.fields import Object
from crashfree.server.release_list import SORTS

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
    *thresholds.ROUTES,
]

BODIES: Final[Mapping[tuple[str, str], Object]] = {
    **releases_api.BODIES,
    **artifacts_api.BODIES,
    **issues_api.BODIES,
    **repositories_api.BODIES,
    **rules_api.BODIES,
    **thresholds.BODIES,
}
"""The bodies of requests, for the description of the API: (method, path) -> shape."""

_PAGE: Final = {
    "per_page": "Entries on a page, 1 to 100 (100).",
    "cursor": "Which page; the `Link` header of an answer names the next one.",
}
_PERIOD: Final = {
    "statsPeriod": "A period up to now: `24h`, `14d`.",
    "start": "Begin of the period, instead.",
    "end": "End of the period.",
}
_RELEASE_HEALTH: Final = {
    "health": "`1`: with the health of each project.",
    "summaryStatsPeriod": "What period the health is about (24h).",
    "summaryStart": "Begin of that period, instead.",
    "summaryEnd": "End of that period.",
    "environment": "Name; may be repeated.",
    "adoptionStages": "`1`: with the stage of adoption in each project.",
}
_RELEASES: Final = {
    "query": (
        "A part of the name, and words: `release.version:>1.2`, `release.package:`,"
        " `release.build:`, `release.stage:`, `release:latest`, `environment:`, `project:`."
    ),
    "status": "`open` (default), `archived`, or nothing for all.",
    "sort": f"One of {', '.join(SORTS)}.",
    "flatten": "`1`: an entry for each project of a release; needed to sort by health.",
    "semverPrecedence": "`1` with `sort=semver`: rc.10 after rc.9, as people read versions.",
    "project": "Slug or number; may be repeated.",
    "environment": "Name; may be repeated.",
    **_RELEASE_HEALTH,
    **_PERIOD,
    **_PAGE,
}
_ISSUES: Final = {
    "query": (
        "A part of the title, and words: `is:unresolved|resolved|ignored|new|regressed|assigned`,"
        " `release:`, `first-release:`, `last-release:`, `environment:`, `level:`, `assigned:`,"
        " `error.unhandled:`, `project:` (is:unresolved)."
    ),
    "sort": "One of date (default), new, freq, user.",
    "environment": "Name; may be repeated.",
    "statsPeriod": "Seen within a period up to now: `24h`, `14d` (any time).",
    "start": "Begin of the period, instead.",
    "end": "End of the period.",
    **_PAGE,
}
_FILES: Final = {"query": "A part of the name.", "checksum": "A SHA-1; may be repeated.", **_PAGE}
_O: Final = "/api/0/organizations/{organization}/"
_P: Final = "/api/0/projects/{organization}/{project}/"

QUERIES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("GET", _O + "releases/"): _RELEASES,
    ("GET", _P + "releases/"): _RELEASES,
    ("GET", _O + "releases/{version}/"): {"project": "Slug or number.", **_RELEASE_HEALTH},
    ("GET", _P + "releases/{version}/"): _RELEASE_HEALTH,
    ("GET", _O + "releases/{version}/commits/"): {"repo_name": "Of this repository.", **_PAGE},
    ("GET", _O + "releases/{version}/files/"): _FILES,
    ("GET", _P + "releases/{version}/files/"): _FILES,
    ("GET", _O + "releases/{version}/files/{file}/"): {"download": "The content itself."},
    ("GET", _P + "releases/{version}/files/{file}/"): {"download": "The content itself."},
    ("GET", _P + "files/artifact-bundles/"): {
        "query": "A part of a release, a distribution or a bundle id.",
        "sortBy": "`date_added` or `date_modified`, with `-` the newest first.",
        **_PAGE,
    },
    ("DELETE", _P + "files/artifact-bundles/"): {"bundleId": "Which bundle."},
    ("DELETE", _P + "files/source-maps/"): {"name": "Which release."},
    ("GET", _O + "issues/"): {"project": "Slug or number; may be repeated.", **_ISSUES},
    ("GET", _P + "issues/"): _ISSUES,
    ("PUT", _O + "issues/"): {"id": "Which issue; repeated."},
    ("PUT", _P + "issues/"): {"id": "Which issue; repeated."},
    ("GET", _P + "events/"): {"full": "`1`: with the contents.", **_PAGE},
    ("GET", _O + "repos/"): {
        "query": "A part of the name.",
        "status": "`active` (default), `deleted`, `all`.",
        **_PAGE,
    },
}
"""What the parameters of a query mean, for the description of the API."""
