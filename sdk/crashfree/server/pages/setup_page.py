"""Setup: the DSN of a project, what to write for each framework, and whether anything came.

Threads: handlers run on any thread. Source: releases.md section 7.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from crashfree.server.endpoint import Call, Problem
from crashfree.server.issues_api import list_project_events
from crashfree.server.pages import snippets
from crashfree.server.pages.acting import SAID, act, back, form, reason
from crashfree.server.pages.asking import ask
from crashfree.server.pages.layout import address
from crashfree.server.pages.site import render, view
from crashfree.server.projects_api import create_project, get_project, list_keys, list_projects
from crashfree.server.sessions_api import get_sessions

_PROJECTS: Final = "/api/0/organizations/{organization}/projects/"
_PROJECT: Final = "/api/0/projects/{organization}/{project}/"
_SESSIONS: Final = "/api/0/organizations/{organization}/sessions/"
_PERIOD: Final = "24h"


def show(call: Call) -> Response:
    """Show how to set up a project, and what has arrived of it."""
    return _page(call)


def _page(call: Call, *, wrong: str = "", typed: str = "") -> Response:
    projects: list[dict[str, Any]] = ask(call, list_projects, _PROJECTS).data
    wanted = call.query.get("project", "") or (projects[0]["slug"] if projects else "")
    project = ask(call, get_project, _PROJECT, project=wanted)
    slug = str(project.data["slug"])
    keys: list[dict[str, Any]] = ask(call, list_keys, _PROJECT + "keys/", project=slug).data
    active = [key for key in keys if key["isActive"]]
    snippet = snippets.find(call.query.get("for", ""))
    if snippet is None:
        raise Problem(404, "There is no snippet for that.")
    dsn = active[0]["dsn"]["public"] if active else ""
    values = {
        "dsn": dsn,
        "package": slug,
        "url": call.base_url,
        "organization": call.context.organization,
        "project": slug,
    }
    events = ask(
        call, list_project_events, _PROJECT + "events/", query=[("per_page", "3")], project=slug
    )
    return render(
        call,
        "setup.html",
        title="Setup",
        json_address=project.address,
        projects=projects,
        project=project.data,
        dsn=dsn,
        more_keys=len(active) - 1,
        snippets=snippets.SNIPPETS,
        snippet=snippet,
        code=snippet.filled(values),
        events=events.data,
        sessions=_sessions(call, slug),
        address=address,
        wrong=wrong,
        typed=typed,
        made=call.query.get(SAID, "") == "made",
    )


def _sessions(call: Call, project: str) -> list[dict[str, Any]]:
    """Return the sessions of the last day, by release."""
    query = [
        ("field", "sum(session)"),
        ("field", "crash_free_rate(session)"),
        ("groupBy", "release"),
        ("statsPeriod", _PERIOD),
        ("interval", "1d"),
        ("project", project),
    ]
    found = ask(call, get_sessions, _SESSIONS, query=query)
    groups: list[dict[str, Any]] = [
        {"release": group["by"]["release"], **group["totals"]} for group in found.data["groups"]
    ]
    seen = [group for group in groups if group["sum(session)"]]
    return sorted(seen, key=lambda group: -int(group["sum(session)"]))[:5]


def make(call: Call) -> Response:
    """Make a project, and go to its setup."""
    sent = form(call)
    name = sent.text("name")
    try:
        made = act(call, create_project, {"name": name})
    except Problem as problem:
        return _page(call, wrong=reason(problem), typed=name)
    call = call._replace(query=call.query.__class__([("project", made["slug"])]))
    return back(call, said="made")


ROUTES: Final = [view("/setup", GET=show, POST=make)]
