"""How a rate comes about: the sessions, users, filters and drops behind it, which add up.

    /counts                        of all releases
    /releases/{version}/counts     of one

Threads: handlers run on any thread. Source: sessions.md sections 5.3 to 5.5, ingest.md section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from crashfree.server import outcomes, releases, releases_api, thresholds
from crashfree.server.endpoint import Call, Problem
from crashfree.server.pages.asking import address_of, ask
from crashfree.server.pages.health_table import (
    CRASH_FREE_SESSIONS,
    CRASH_FREE_USERS,
    RATES,
    SESSIONS,
    USERS,
    Health,
)
from crashfree.server.pages.layout import Chosen, chosen
from crashfree.server.pages.release_plots import STATUS_COLORS
from crashfree.server.pages.releases_page import SESSIONS_API, release_address
from crashfree.server.pages.site import render, view

RELEASE_API: Final = "/api/0/organizations/{organization}/releases/{version}/"
_OUTCOMES_API: Final = "/api/0/organizations/{organization}/stats_v2/"
MEANINGS: Final = {
    "healthy": "ended well, or goes on, without an error",
    "errored": "had an error that was handled",
    "unhandled": "had an error that nobody handled, and went on",
    "abnormal": "ended without a word: killed, out of memory, power lost",
    "crashed": "ended by a crash",
}
_WORDS: Final = {
    "filtered": "Filtered by this project's inbound filters",
    "invalid": "Refused, because it could not be read or was out of time",
    "client_discard": "Not sent: the clients reported that they discarded it",
    "skipped": "Taken, and of a kind that this server does not keep",
}


class Line(NamedTuple):
    """Sessions and users of one status."""

    name: str
    meaning: str
    sessions: int
    users: int


class Drop(NamedTuple):
    """What did not count."""

    words: str
    category: str
    reason: str
    quantity: int


def show(call: Call) -> Response:
    """Show what is behind the rates of a release, or of all."""
    choice = chosen(call)
    version = call.path.get("version")
    call.store.settle_users()
    with call.store.read() as db:
        release = None if version is None else releases.find(db, version)
        if version is not None and release is None:
            raise Problem(404)
        health = Health(db, call, choice)
        release_id = None if release is None else release.id
        totals = health.totals(release_id, RATES)
        by_status = health.totals_by_status(release_id)
        back = choice.address("/releases")
        if version is not None:
            slugs = {project.id: project.slug for project in call.store.projects(db)}
            own = [slugs[number] for number in releases.project_ids(db, release_id or 0)]
            back = release_address(choice, version, choice.project or (own[0] if own else ""))
    dropped = ask(call, outcomes.get_outcomes, _OUTCOMES_API, query=[*choice.where, *choice.range])
    # The same as JSON: the sessions by status, of this release alone where there is one.
    terms = [] if version is None else [("query", f'release:"{version}"')]
    fields = [("field", SESSIONS), ("field", USERS), ("groupBy", "session.status")]
    query = [*choice.where, *choice.range, *fields, *terms, ("includeSeries", "0")]
    lines = _lines(by_status)
    crashed_users = int(by_status["crashed"][USERS])
    return render(
        call,
        "counts.html",
        title="How these rates come about",
        section="/releases",
        choice=choice,
        json_address=address_of(call, SESSIONS_API, query),
        named=version,
        back=back,
        totals=totals,
        lines=lines,
        sessions=int(totals[SESSIONS]),
        crashed=int(by_status["crashed"][SESSIONS]),
        sessions_rate=totals[CRASH_FREE_SESSIONS],
        users=int(totals[USERS]),
        crashed_users=crashed_users,
        users_rate=totals[CRASH_FREE_USERS],
        projects=_projects(call, choice, version),
        drops=_drops(dropped.data),
        drops_address=dropped.address,
        dropped=dropped.data,
        limits=thresholds.load(call.store),
        mark=thresholds.mark,
    )


def _projects(call: Call, choice: Chosen, version: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the projects of a release with what their adoption is made of."""
    if version is None:
        return ()
    query = [*choice.where, ("health", "1")]
    found = ask(call, releases_api.get_release, RELEASE_API, query=query, version=version)
    projects: list[Mapping[str, Any]] = found.data["projects"]
    return projects


def _lines(by_status: Mapping[str, Mapping[str, Any]]) -> list[Line]:
    return [
        Line(title, MEANINGS[key], int(by_status[key][SESSIONS]), int(by_status[key][USERS]))
        for key, title, _ in STATUS_COLORS
    ]


def _drops(data: Mapping[str, Any]) -> list[Drop]:
    found = [
        Drop(
            _WORDS[group["by"]["outcome"]],
            group["by"]["category"],
            group["by"]["reason"],
            group["totals"]["sum(quantity)"],
        )
        for group in data["groups"]
        if group["by"]["outcome"] in _WORDS
    ]
    # Sessions first: they are what the rates are made of.
    return sorted(found, key=lambda drop: (drop.category != "session", -drop.quantity))


ROUTES: Final = [
    view("/counts", GET=show),
    view("/releases/{version}/counts", GET=show),
]
