"""One release in one project: its health over the range, its plots, issues, commits, deploys.

    /releases/{version}                      the view
    /releases/{version}/plots/{plot}.{kind}  one of its plots as svg, png or json (Vega-Lite)

A release of several projects is shown for one of them; the others are linked.

Threads: handlers run on any thread. Source: releases.md sections 4.3 to 4.6, sessions.md
sections 5.3 to 5.7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from crashfree._ground import json
from crashfree._protocol.timestamps import parse_timestamp
from crashfree.server import releases, releases_api, thresholds
from crashfree.server.artifacts_api import list_files
from crashfree.server.endpoint import Call, Handler, Problem
from crashfree.server.health import percent
from crashfree.server.issues_api import list_issues
from crashfree.server.pages import drawing, plots
from crashfree.server.pages.asking import Answer, Query, address_of, ask
from crashfree.server.pages.health_table import (
    CRASH_FREE_SESSIONS,
    CRASH_FREE_USERS,
    RATES,
    Health,
    step_of,
)
from crashfree.server.pages.layout import MICRO, Chosen, address, chosen
from crashfree.server.pages.plots import Marker, Plot
from crashfree.server.pages.release_plots import FIELDS, markers_of, release_plots
from crashfree.server.pages.releases_page import (
    SESSIONS_API,
    STAGES,
    health_range,
    release_address,
)
from crashfree.server.pages.site import render, view

API: Final = "/api/0/organizations/{organization}/releases/{version}/"
ISSUES: Final = "/api/0/projects/{organization}/{project}/issues/"
RESOLVED: Final = "/api/0/projects/{organization}/{project}/releases/{version}/resolved/"
TABS: Final = ("all", "new", "unhandled", "regressed", "resolved")
_MOST_PAGES: Final = 10
_SHOWN_COMMITS: Final = 100


class _Seen(NamedTuple):
    """A release as the view needs it."""

    version: str
    project: str
    choice: Chosen
    release: Mapping[str, Any]
    """As the API shows it, with this project alone."""
    address: str
    """Where the API does so."""

    @property
    def id(self) -> int:
        return int(self.release["id"])


class Drawn(NamedTuple):
    """A plot as the page carries it."""

    plot: Plot
    definition: Mapping[str, Any]
    mark: str
    """Another one when the plot is another one."""


class Difference(NamedTuple):
    """A rate beside that of something else, in percentage points."""

    name: str
    address: str
    sessions: float | None
    users: float | None


class Author(NamedTuple):
    """What one author did in a release."""

    name: str
    email: str
    commits: int
    files: int
    share: float


def _seen(call: Call) -> _Seen:
    """Return the release that the path names, in the project that is chosen, else in its first."""
    choice = chosen(call)
    version = call.path["version"]
    known = ask(call, releases_api.get_release, API, version=version)
    slugs = [project["slug"] for project in known.data["projects"]]
    project = choice.project or (slugs[0] if slugs else "")
    if project not in slugs:
        raise Problem(404, f"The release {version} is not one of project {project or '—'}.")
    choice = choice._replace(project=project)
    environment = [pair for pair in choice.where if pair[0] == "environment"]
    query = [
        ("project", project),
        *environment,
        ("health", "1"),
        ("adoptionStages", "1"),
        *health_range(choice),
    ]
    found = ask(call, releases_api.get_release, API, query=query, version=version)
    others = [each for each in known.data["projects"] if each["slug"] != project]
    return _Seen(version, project, choice, {**found.data, "others": others}, found.address)


def show(call: Call) -> Response:
    """Show a release."""
    seen = _seen(call)
    choice, version, project = seen.choice, seen.version, seen.project
    tabs = _tabs(call, seen)
    tab = call.query.get("tab", "")
    tab = tab if tab in TABS else "all"
    deploys = _all(call, releases_api.list_deploys, API + "deploys/", version=version)
    commits = _all(call, releases_api.list_commits, API + "commits/", version=version)
    files = _all(call, releases_api.list_commit_files, API + "commitfiles/", version=version)
    artifacts = _all(call, list_files, API + "files/", version=version)
    markers = markers_of(deploys.data, tabs["new"].data)
    call.store.settle_users()
    with call.store.read() as db:
        health = Health(db, call, choice)
        drawn = release_plots(health, seen.id, _first_times(tabs["new"].data))
        totals = health.totals(seen.id)
        differences = _differences(call, db, seen, health, totals)
    info = seen.release["projects"][0]
    stage = seen.release["adoptionStages"].get(project)
    here = f"/releases/{quote(version, safe='')}"
    return render(
        call,
        "release.html",
        title=version,
        choice=choice,
        json_address=seen.address,
        release=seen.release,
        health=info["healthData"],
        project=project,
        totals=totals,
        differences=differences,
        limits=thresholds.load(call.store),
        mark=thresholds.mark,
        stage=STAGES[stage["stage"]] if stage else None,
        stage_times=stage,
        plots=[_drawn(plot, markers) for plot in drawn],
        themes=plots.THEMES,
        here=here,
        plots_query=choice.query,
        counts_address=release_address(choice, version, project, below="/counts"),
        address=address,
        release_address=release_address,
        tabs=tabs,
        tab=tab,
        commits=commits,
        most_commits=_SHOWN_COMMITS,
        file_count=len({file["filename"] for file in files.data}),
        figures_address=_figures_address(call, choice, version),
        changed=_changed(files.data),
        authors=_authors(commits.data, files.data),
        artifacts=artifacts,
        deploys=deploys.data,
        kept=[],
    )


def _drawn(plot: Plot, markers: Sequence[Marker]) -> Drawn:
    definition = plot.definition(markers)
    return Drawn(plot, definition, hashlib.sha256(json.encode(definition)).hexdigest()[:12])


def _all(call: Call, handler: Handler, path: str, *, query: Query = (), **names: str) -> Answer:
    """Ask for every page of a list, up to a thousand entries."""
    first = ask(call, handler, path, query=query, **names)
    entries, answered, number = list(first.data), first, 1
    while answered.more and number < _MOST_PAGES:
        cursor = ("cursor", f"100:{number}:0")
        answered = ask(call, handler, path, query=[*query, cursor], **names)
        entries += answered.data
        number += 1
    return first._replace(data=entries, more=answered.more)


def _tabs(call: Call, seen: _Seen) -> dict[str, Answer]:
    """Return the issues of each tab; a name that no search can spell has none."""
    name = f'"{seen.version}"'
    where = [pair for pair in seen.choice.where if pair[0] == "environment"]
    words = {
        "all": f"release:{name}",
        "new": f"first-release:{name}",
        "unhandled": f"release:{name} error.unhandled:1",
        "regressed": f"release:{name} is:regressed",
    }
    found: dict[str, Answer] = {}
    for tab, text in words.items():
        query = [*where, ("query", text)]
        try:
            found[tab] = _all(call, list_issues, ISSUES, query=query, project=seen.project)
        except Problem:
            found[tab] = Answer([], "", more=False)
    found["resolved"] = _all(
        call, releases_api.list_resolved, RESOLVED, project=seen.project, version=seen.version
    )
    return found


def _first_times(issues: Sequence[Mapping[str, Any]]) -> list[float]:
    return [parse_timestamp(issue["firstSeen"]) for issue in issues]


def _differences(
    call: Call, db: Any, seen: _Seen, health: Health, mine: Mapping[str, Any]
) -> list[Difference]:
    """Return how the release stands beside all releases, and beside the one before."""
    compared = [("All releases", seen.choice.address("/releases"), health.totals(None, RATES))]
    previous = seen.release["currentProjectMeta"].get("prevReleaseVersion")
    before = releases.find(db, previous) if previous else None
    if before is not None:
        there = release_address(seen.choice, before.version, seen.project)
        compared.append((before.version, there, health.totals(before.id, RATES)))
    return [
        Difference(
            name,
            there,
            _minus(mine[CRASH_FREE_SESSIONS], its[CRASH_FREE_SESSIONS]),
            _minus(mine[CRASH_FREE_USERS], its[CRASH_FREE_USERS]),
        )
        for name, there, its in compared
    ]


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else percent(one - other)


def _figures_address(call: Call, choice: Chosen, version: str) -> str:
    """Return where the API tells the figures of the plots."""
    step = step_of(choice.span) // MICRO
    query = [
        *choice.where,
        *choice.range,
        *(("field", field) for field in FIELDS),
        ("interval", f"{step}s"),
        ("query", f'release:"{version}"'),
    ]
    return address_of(call, SESSIONS_API, query)


def _changed(files: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the changed files of each commit."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file in files:
        found.setdefault(file["commitId"], []).append(file)
    return found


def _authors(
    commits: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]
) -> list[Author]:
    """Return the authors of a release, the busiest first."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    paths: dict[str, set[str]] = {}
    for commit in commits:
        email, name = _author(commit)
        names.setdefault(email, name)
        counts[email] = counts.get(email, 0) + 1
    for file in files:
        paths.setdefault(_author(file)[0], set()).add(file["filename"])
    return [
        Author(
            names[email],
            email,
            count,
            len(paths.get(email, ())),
            count / len(commits) * 100,
        )
        for email, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def _author(entry: Mapping[str, Any]) -> tuple[str, str]:
    author: Mapping[str, str | None] = entry["author"] or {}
    return author.get("email") or "", author.get("name") or author.get("email") or "Unknown"


# Plots that can be taken away.


def take_plot(call: Call) -> Response:
    """Return one of the plots: a picture, or its definition."""
    kind = call.path["kind"]
    if kind not in (*drawing.MEDIA_TYPES, "json"):
        raise Problem(404)
    seen = _seen(call)
    plot, markers = _plot(call, seen)
    definition = plot.definition(markers, picture=True)
    headers = {"Cache-Control": "no-store"}
    if kind == "json":
        return Response(json.encode(definition), 200, headers, "application/json")
    return Response(drawing.draw(definition, kind), 200, headers, drawing.MEDIA_TYPES[kind])


def _plot(call: Call, seen: _Seen) -> tuple[Plot, list[Marker]]:
    tabs = _tabs(call, seen)
    deploys = _all(call, releases_api.list_deploys, API + "deploys/", version=seen.version)
    call.store.settle_users()
    with call.store.read() as db:
        health = Health(db, call, seen.choice)
        drawn = release_plots(health, seen.id, _first_times(tabs["new"].data))
    for plot in drawn:
        if plot.name == call.path["plot"]:
            return plot, markers_of(deploys.data, tabs["new"].data)
    raise Problem(404)


def moved(call: Call) -> Response:
    """Go on from the address that Sentry's tools give for a release."""
    return RedirectResponse(f"/releases/{quote(call.path['version'], safe='')}", 303)


ROUTES: Final = [
    view("/releases/{version}", GET=show),
    view("/releases/{version}/plots/{plot}.{kind}", GET=take_plot),
    view("/organizations/{organization}/releases/{version}", GET=moved),
]
