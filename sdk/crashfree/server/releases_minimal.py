"""`GET …/releases/` with health, until the catalog's own list takes this path over.

Threads: handlers run on any thread. Source: releases.md section 4.3.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from crashfree.server import ranges
from crashfree.server.endpoint import Call, api, iso, page
from crashfree.server.release_health import NO_HEALTH, adoption_stages, release_health
from crashfree.server.releases_search import release_term
from crashfree.server.selection import parse_terms, select


def list_releases(call: Call) -> Response:
    """Return the releases, newest first, with health when `health=1`."""
    period = call.query.get("summaryStatsPeriod") or call.query.get("healthStatsPeriod")
    span = ranges.parse_range({"statsPeriod": period}, call.now) if period else None
    wants_health = call.query.get("health") == "1"
    if wants_health:
        call.store.settle_users()
    with call.store.read() as db:
        projects = {project.id: project for project in call.store.projects(db)}
        selection = select(
            db,
            call.query,
            projects.values(),
            parse_terms(call.query.get("query", "")),
            release_term,
        )
        health = release_health(db, selection, now=call.now, period=span) if wants_health else {}
        stages = adoption_stages(db, selection)
        joined: dict[int, list[int]] = {}
        for release, project in db.execute(
            "SELECT release_id, project_id FROM release_projects ORDER BY project_id"
        ):
            joined.setdefault(release, []).append(project)
        rows: list[dict[str, Any]] = []
        for release, version, created, released in db.execute(
            "SELECT id, version, date_created, date_released FROM releases ORDER BY id DESC"
        ):
            mine = [number for number in joined.get(release, []) if number in selection.projects]
            if not mine or (selection.releases is not None and release not in selection.releases):
                continue
            rows.append(
                {
                    "id": release,
                    "version": version,
                    "shortVersion": version,
                    "dateCreated": iso(created),
                    "dateReleased": iso(released),
                    "adoptionStages": {
                        projects[number].slug: stages[number, release].json()
                        for number in mine
                        if (number, release) in stages
                    },
                    "projects": [
                        {
                            "id": number,
                            "slug": projects[number].slug,
                            "name": projects[number].name,
                            "platform": projects[number].platform,
                            **(
                                {
                                    "hasHealthData": (number, release) in health,
                                    "healthData": health.get((number, release), NO_HEALTH).json(),
                                }
                                if wants_health
                                else {}
                            ),
                        }
                        for number in mine
                    ],
                }
            )
    return page(call, rows)


ROUTES: Final = [api("/api/0/organizations/{organization}/releases/", GET=list_releases)]
