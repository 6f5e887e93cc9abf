"""The index of releases: a row a release and project, with its health over the chosen range.

Adoption is always that of the last 24 hours; everything else is about the range.

Threads: handlers run on any thread. Source: sessions.md sections 5.3 to 5.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response

from crashfree.server import thresholds
from crashfree.server.endpoint import Call, Problem
from crashfree.server.pages.acting import reason
from crashfree.server.pages.asking import Answer, Query, ask
from crashfree.server.pages.health_table import RATES, Health, SparkData
from crashfree.server.pages.layout import Chosen, address, chosen
from crashfree.server.pages.site import render, view
from crashfree.server.release_list import list_releases
from crashfree.server.sessions_api import get_sessions

API: Final = "/api/0/organizations/{organization}/releases/"
SESSIONS_API: Final = "/api/0/organizations/{organization}/sessions/"
SORTS: Final = (
    ("date", "Date"),
    ("crash_free_users", "Crash-free users"),
    ("crash_free_sessions", "Crash-free sessions"),
    ("adoption", "Adoption"),
    ("sessions", "Sessions"),
    ("users", "Users"),
    ("semver", "Version"),
    ("build", "Build"),
)
STATUSES: Final = (("open", "Open"), ("archived", "Archived"), ("all", "All"))
WORDS: Final = (
    ("release.version:>1.2", "versions by comparison"),
    ("release.package:shop", "one package"),
    ("release.build:>100", "builds by number"),
    ("release.stage:adopted", "low, adopted or replaced"),
    ("release:latest", "the newest of each project"),
)
_ON_A_PAGE: Final = 25
_SPARK_POINTS: Final = 30
STAGES: Final = {
    "low_adoption": ("Low", "Less than a tenth of the sessions of the last hours"),
    "adopted": ("Adopted", "At least a tenth of the sessions of the last hours"),
    "replaced": ("Replaced", "Was adopted, and is no more"),
}


class Row(NamedTuple):
    """One release in one project, as the list shows it."""

    release: Mapping[str, Any]
    project: Mapping[str, Any]
    health: Mapping[str, Any]
    address: str
    counts_address: str
    adoption_address: str
    new_address: str
    stage: tuple[str, str] | None
    spark: Sequence[int]
    marks: tuple[str | None, str | None]
    """How good crash-free users and sessions are."""


def health_range(choice: Chosen) -> Query:
    """Return the parameters that ask for health over the chosen range."""
    if choice.period:
        return [("summaryStatsPeriod", choice.period)]
    return [("summaryStart", choice.start), ("summaryEnd", choice.end)]


def release_address(choice: Chosen, version: str, project: str, **more: str) -> str:
    """Return where a release of a project is shown, over the same range."""
    query = [pair for pair in choice.query if pair[0] != "project"]
    path = f"/releases/{quote(version, safe='')}"
    return address(path + more.pop("below", ""), [("project", project), *query], **more)


def show(call: Call) -> Response:
    """Show the releases."""
    choice = chosen(call)
    text = call.query.get("query", "").strip()
    sort = call.query.get("sort") or "date"
    status = call.query.get("status") or "open"
    number = call.query.get("page") or "1"
    if not (number.isascii() and number.isdigit() and 0 < int(number[:9]) < 10**6):
        raise Problem(400, "Invalid page")
    at = int(number)
    query = [
        *choice.where,
        *health_range(choice),
        ("flatten", "1"),
        ("health", "1"),
        ("adoptionStages", "1"),
        ("sort", sort),
        *([("query", text)] if text else []),
        *([] if status == "open" else [("status", "" if status == "all" else status)]),
        ("per_page", str(_ON_A_PAGE)),
        ("cursor", f"{_ON_A_PAGE}:{at - 1}:0"),
    ]
    found, wrong = Answer([], "", more=False), ""
    try:
        found = ask(call, list_releases, API, query=query)
    except Problem as problem:
        wrong = reason(problem)
    limits = thresholds.load(call.store)
    everything = ask(
        call,
        get_sessions,
        SESSIONS_API,
        query=[
            *choice.where,
            *choice.range,
            *(("field", field) for field in RATES),
            ("includeSeries", "0"),
        ],
    )
    kept = [
        *choice.query,
        *(
            (name, value)
            for name, value, usual in (
                ("query", text, ""),
                ("sort", sort, "date"),
                ("status", status, "open"),
            )
            if value != usual
        ),
    ]
    return render(
        call,
        "releases.html",
        title="Releases",
        choice=choice,
        json_address=found.address or None,
        rows=_rows(call, choice, found.data, limits),
        overall=everything.data["groups"][0]["totals"],
        overall_address=choice.address("/counts"),
        limits=limits,
        mark=thresholds.mark,
        wrong=wrong,
        text=text,
        sort=sort,
        state=status,
        at=at,
        more=found.more,
        kept=kept,
        address=address,
        sorts=SORTS,
        statuses=STATUSES,
        words=WORDS,
    )


def _rows(
    call: Call,
    choice: Chosen,
    releases: Sequence[Mapping[str, Any]],
    limits: thresholds.Thresholds,
) -> list[Row]:
    sparks = _sparks(call, choice, releases)
    rows: list[Row] = []
    for release in releases:
        for project in release["projects"]:
            health = project["healthData"]
            version, slug = release["version"], project["slug"]
            stage = release["adoptionStages"].get(slug)
            rows.append(
                Row(
                    release,
                    project,
                    health,
                    release_address(choice, version, slug),
                    release_address(choice, version, slug, below="/counts"),
                    release_address(choice, version, slug, below="/counts") + "#adoption",
                    release_address(choice, version, slug, tab="new"),
                    STAGES[stage["stage"]] if stage is not None else None,
                    sparks.get((int(project["id"]), int(release["id"])), ()),
                    (
                        thresholds.mark(health["crashFreeUsers"], limits),
                        thresholds.mark(health["crashFreeSessions"], limits),
                    ),
                )
            )
    return rows


def _sparks(call: Call, choice: Chosen, releases: Sequence[Mapping[str, Any]]) -> SparkData:
    ids = sorted({int(release["id"]) for release in releases})
    if not ids:
        return {}
    with call.store.read() as db:
        return Health(db, call, choice).sessions_by_release(ids, most=_SPARK_POINTS)


ROUTES: Final = [view("/releases", GET=show)]
