"""One issue: an event of it in full, who is behind it, and the buttons that settle it.

Threads: handlers run on any thread. Source: releases.md sections 3.6 and 6.2 to 6.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response

from crashfree.server import releases
from crashfree.server.endpoint import Call, Problem
from crashfree.server.frames import as_mapping
from crashfree.server.issues_api import get_committers, get_issue, get_issue_event, update_issue
from crashfree.server.pages import event as events
from crashfree.server.pages.acting import SAID, act, back, form
from crashfree.server.pages.asking import Answer, ask
from crashfree.server.pages.figures import short_version
from crashfree.server.pages.layout import address
from crashfree.server.pages.site import render, view

_API: Final = "/api/0/organizations/{organization}/issues/{issue}/"
_EVENT_API: Final = _API + "events/{event}/"
_COMMITTERS_API: Final = "/api/0/projects/{organization}/{project}/events/{event}/committers/"
_LATEST: Final = "latest"
_OLDEST: Final = "oldest"
_HAPPENED: Final = {
    "first_seen": "First seen",
    "set_resolved": "Resolved",
    "set_unresolved": "Opened again",
    "set_regression": "Came back",
    "set_ignored": "Ignored",
    "assigned": "Assigned",
    "unassigned": "Unassigned",
}
_SAID: Final = {
    "resolved": "Resolved: an event from now on brings it back.",
    "resolved-in-release": "Resolved in this release: an event of it or of a newer one "
    "brings it back.",
    "resolved-in-next-release": "Resolved in the next release: only an event of a newer release "
    "than the current one brings it back.",
    "unresolved": "Open again.",
    "ignored": "Ignored: events are still counted, but nobody is bothered.",
    "assigned": "Assigned.",
    "unassigned": "Nobody looks after it any more.",
}


def show(call: Call) -> Response:
    """Show an issue with one of its events, the latest unless told otherwise."""
    named = call.path["issue"]
    wanted = call.path.get("event", _LATEST)
    issue = ask(call, get_issue, _API, issue=named)
    event: Answer | None
    try:
        event = ask(call, get_issue_event, _EVENT_API, issue=named, event=wanted)
    except Problem:
        if wanted not in (_LATEST, _OLDEST):
            raise
        event = None  # retention has deleted every event, the issue itself stays
    data: Mapping[str, Any] = as_mapping(None if event is None else event.data)
    project = issue.data["project"]["slug"]
    return render(
        call,
        "issue.html",
        title=f"{issue.data['title']}",
        json_address=issue.address,
        issue=issue.data,
        home=address(f"/issues/{issue.data['id']}"),
        event=data,
        event_address=None if event is None else event.address,
        shown=None if event is None else events.view(as_mapping(data.get("payload"))),
        committers=[] if event is None else _committers(call, project, data["eventID"]),
        current=_newest(call, project),
        said=_SAID.get(call.query.get(SAID, ""), ""),
        release_address=release_address,
        activity_words=activity_words,
    )


def release_address(version: str, project: str) -> str:
    """Return where a release of a project is shown."""
    return address(f"/releases/{quote(version, safe='')}", [("project", project)])


def activity_words(entry: Mapping[str, Any]) -> str:
    """Say what happened in words."""
    data = as_mapping(entry["data"])
    kind = str(entry["type"])
    words = _HAPPENED.get(kind, kind.replace("_", " ").capitalize())
    if kind == "set_resolved_in_release":
        version = data.get("version") or ""
        return (
            f"Resolved in {short_version(version)}" if version else "Resolved in the next release"
        )
    if kind == "set_regression" and data.get("version"):
        return f"Came back in {short_version(data['version'])}"
    if kind == "first_seen" and entry["release"]:
        return f"First seen in {short_version(entry['release'])}"
    if kind == "referenced_in_commit" and isinstance(data.get("commit"), str):
        return f"Named by commit {data['commit'][:8]}"
    if kind == "assigned" and isinstance(data.get("assignee"), str):
        return f"Assigned to {data['assignee']}"
    return words


def _committers(call: Call, project: str, event: str) -> list[dict[str, Any]]:
    try:
        found = ask(call, get_committers, _COMMITTERS_API, project=project, event=event)
    except Problem:
        return []
    committers: list[dict[str, Any]] = found.data["committers"]
    return committers


def _newest(call: Call, project: str) -> str | None:
    """Return the release that "this release" means: the project's newest."""
    with call.store.read() as db:
        for known in call.store.projects(db):
            if known.slug == project:
                latest = releases.latest(db, known.id)
                return None if latest is None else releases.get(db, latest).version
    return None


def change(call: Call) -> Response:
    """Do what one of the buttons says."""
    sent = form(call)
    issue = call.path["issue"]
    what = sent.text("do")
    body: dict[str, Any]
    if what == "assign":
        who = sent.text("other") or sent.text("who")
        body = {"assignedTo": who}
        said = "assigned" if who else "unassigned"
    elif what == "resolve-in-release":
        release = sent.text("release") or _LATEST
        body = {"status": "resolved", "statusDetails": {"inRelease": release}}
        said = "resolved-in-release"
    elif what == "resolve-in-next-release":
        body = {"status": "resolved", "statusDetails": {"inNextRelease": True}}
        said = "resolved-in-next-release"
    elif what in ("resolve", "unresolve", "ignore"):
        body = {"status": {"resolve": "resolved", "unresolve": "unresolved"}.get(what, "ignored")}
        said = str(body["status"])
    else:
        raise Problem(400, "this form does not say what to do")
    act(call, update_issue, body, issue=issue)
    return back(call, said=said)


ROUTES: Final = [
    view("/issues/{issue}", GET=show, POST=change),
    view("/issues/{issue}/events/{event}", GET=show, POST=change),
]
