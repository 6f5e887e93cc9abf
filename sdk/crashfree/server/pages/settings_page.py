"""Settings: thresholds, a project's inbound filters and rate limits, retention, the token.

Threads: handlers run on any thread. Source: ingest.md sections 4, 5 and 6.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from crashfree.server import thresholds
from crashfree.server.endpoint import Call, Problem
from crashfree.server.filters import NOT_BUILT, SESSION_NOTES
from crashfree.server.frames import as_list, as_mapping
from crashfree.server.pages.acting import SAID, Form, act, back, form, reason
from crashfree.server.pages.asking import ask
from crashfree.server.pages.layout import address
from crashfree.server.pages.site import render, view
from crashfree.server.projects_api import get_project, list_projects, update_project
from crashfree.server.rules_api import DAYS_SHOWN, list_filters, update_filters
from crashfree.server.useragents import DEFAULT_RULE, LEGACY_RULES

_PROJECTS: Final = "/api/0/organizations/{organization}/projects/"
_PROJECT: Final = "/api/0/projects/{organization}/{project}/"
_THRESHOLDS: Final = "/api/0/organizations/{organization}/thresholds/"
_SAID: Final = {
    "thresholds": "Saved: releases are marked by these limits from now on.",
    "filters": "Saved: what comes from now on is filtered. What has been counted stays.",
    "limits": "Saved: what is over a limit is refused from now on.",
}
_SCOPES: Final = ("project", "key", "organization")


class _Choice(NamedTuple):
    """How a filter is shown: its name, what it asks for, and the setting behind it."""

    id: str
    name: str
    setting: str
    kind: str
    """`lines`, `switch` or `browsers`."""
    hint: str


_FILTERS: Final = (
    _Choice("release-version", "Releases", "releases", "lines", "myapp@0.*   one pattern a line"),
    _Choice(
        "error-message",
        "Error messages",
        "error_messages",
        "lines",
        "*connection reset*   one a line",
    ),
    _Choice("ip-address", "IP addresses", "ip_addresses", "lines", "192.0.2.0/24   one a line"),
    _Choice("web-crawlers", "Web crawlers", "web_crawlers", "switch", "Known crawlers and bots"),
    _Choice("localhost", "Localhost", "localhost", "switch", "What a developer's machine sends"),
    _Choice("legacy-browsers", "Legacy browsers", "legacy_browsers", "browsers", ""),
)


class Mistake(NamedTuple):
    """What was wrong with which form, and what had been typed."""

    form: str
    field: str
    text: str
    typed: Form


def show(call: Call) -> Response:
    """Show the settings."""
    return _page(call, None)


def _page(call: Call, mistake: Mistake | None) -> Response:
    projects: list[dict[str, Any]] = ask(call, list_projects, _PROJECTS).data
    wanted = call.query.get("project", "") or (projects[0]["slug"] if projects else "")
    project = ask(call, get_project, _PROJECT, project=wanted)
    slug = str(project.data["slug"])
    filters = ask(call, list_filters, _PROJECT + "filters/", project=slug)
    limits = ask(call, thresholds.get_thresholds, _THRESHOLDS)
    typed = mistake.typed if mistake is not None and mistake.form == "filters" else None
    settings = call.context.settings
    return render(
        call,
        "settings.html",
        title="Settings",
        status=200 if mistake is None else 400,
        json_address=project.address,
        projects=projects,
        project=project.data,
        filters=[_filter(each, filters.data, typed) for each in _FILTERS],
        filters_address=filters.address,
        not_built=[(name, SESSION_NOTES[name]) for name in NOT_BUILT],
        days=DAYS_SHOWN,
        limits=_limits(project.data, mistake),
        scopes=_SCOPES,
        thresholds=_thresholds(limits.data, mistake),
        thresholds_address=limits.address,
        retention=settings.retention_days,
        max_events=settings.max_events,
        database=call.store.path,
        database_size=_size(call.store.path),
        token=call.context.token,
        url=call.base_url,
        address=address,
        mistake=mistake,
        said=_SAID.get(call.query.get(SAID, ""), ""),
    )


def _filter(
    choice: _Choice, known: Sequence[Mapping[str, Any]], typed: Form | None
) -> dict[str, Any]:
    """Return a filter as the template shows it: as it is, or as it was typed."""
    summary = next(each for each in known if each["id"] == choice.id)
    settings = summary["settings"]
    shown: dict[str, Any] = {
        **choice._asdict(),
        "active": summary["active"],
        "sessions": summary["appliesTo"]["sessions"],
        "note": summary["note"],
        "dropped": summary["dropped"],
        "lines": "",
        "on": bool(settings),
        "rules": (),
    }
    if choice.kind == "lines":
        lines = "\n".join(settings)
        shown["lines"] = lines if typed is None else typed.text(choice.setting)
    elif choice.kind == "browsers":
        chosen = settings if typed is None else typed.texts(choice.setting)
        shown["rules"] = [(rule, rule in chosen) for rule in (DEFAULT_RULE, *LEGACY_RULES)]
    elif typed is not None:
        shown["on"] = typed.ticked(choice.setting)
    return shown


def _limits(project: Mapping[str, Any], mistake: Mistake | None) -> list[dict[str, Any]]:
    """Return the rate limits, and an empty one to fill in."""
    if mistake is not None and mistake.form == "limits":
        return _typed_limits(mistake.typed)
    stored = as_list(as_mapping(project["options"]).get("limits"))
    rows = [
        {
            "count": str(limit.get("count", "")),
            "seconds": str(limit.get("seconds", "")),
            "categories": ", ".join(as_list(limit.get("categories"))),
            "scope": limit.get("scope", "project"),
        }
        for limit in map(as_mapping, stored)
    ]
    return [*rows, {"count": "", "seconds": "", "categories": "", "scope": "project"}]


def _typed_limits(sent: Form) -> list[dict[str, Any]]:
    columns = [sent.texts(name) for name in ("count", "seconds", "categories", "scope")]
    names = ("count", "seconds", "categories", "scope")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=False)]


def _thresholds(known: Mapping[str, Any], mistake: Mistake | None) -> Mapping[str, str]:
    if mistake is not None and mistake.form == "thresholds":
        return {name: mistake.typed.text(name) for name in ("good", "fair")}
    return {name: f"{value:g}" for name, value in known.items()}


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


# Saving.


def change(call: Call) -> Response:
    """Save one of the forms."""
    sent = form(call)
    save = {"thresholds": _save_thresholds, "filters": _save_filters, "limits": _save_limits}
    what = sent.text("do")
    if what not in save:
        raise Problem(400, "this form does not say what to save")
    try:
        save[what](call, sent)
    except Problem as problem:
        if problem.status != 400:
            raise
        return _page(call, Mistake(what, _field(problem), reason(problem), sent))
    return back(call, said=what, anchor=what)


def _field(problem: Problem) -> str:
    """Return the field that a refusal is about."""
    return next(iter(as_mapping(problem.body)), "")


def _save_thresholds(call: Call, sent: Form) -> None:
    act(call, thresholds.set_thresholds, {"good": sent.text("good"), "fair": sent.text("fair")})


def _save_filters(call: Call, sent: Form) -> None:
    body: dict[str, Any] = {}
    for choice in _FILTERS:
        if choice.kind == "lines":
            body[choice.setting] = sent.text(choice.setting)
        elif choice.kind == "switch":
            body[choice.setting] = sent.ticked(choice.setting)
        else:
            body[choice.setting] = sent.texts(choice.setting)
    act(call, update_filters, body, project=_project(call, sent))


def _save_limits(call: Call, sent: Form) -> None:
    limits: list[dict[str, Any]] = []
    for row in _typed_limits(sent):
        if not row["count"].strip():
            continue  # an emptied line is a limit taken away
        categories = [name.strip() for name in row["categories"].split(",") if name.strip()]
        limits.append(
            {
                "count": _number(row["count"]),
                "seconds": _number(row["seconds"]),
                "categories": categories,
                "scope": row["scope"],
            }
        )
    act(call, update_project, {"limits": limits}, project=_project(call, sent))


def _number(text: str) -> object:
    """Return a whole number; what is none stays text, which the API refuses in its own words."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else text


def _project(call: Call, sent: Form) -> str:
    return sent.text("project") or call.query.get("project", "")


ROUTES: Final = [view("/settings", GET=show, POST=change)]
