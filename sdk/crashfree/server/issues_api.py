"""The endpoints of issues and events: read, resolve, assign; who is behind them.

Threads: handlers run on any thread. Source: releases.md sections 3.6 and 6.2 to 6.5.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from crashfree._ground import json
from crashfree.server import activity, issues, releases, resolutions
from crashfree.server.endpoint import (
    Call,
    Problem,
    answer,
    api,
    cursor_of,
    find_project,
    iso,
    link,
    page,
)
from crashfree.server.engine import Selection
from crashfree.server.fields import Choice, Flag, Free, Invalid, Object, Text
from crashfree.server.frames import as_mapping, as_text, exceptions
from crashfree.server.issues import IssueRow
from crashfree.server.ownership import event_tags
from crashfree.server.ranges import MICRO, parse_range
from crashfree.server.releases import marks
from crashfree.server.releases_search import release_term
from crashfree.server.selection import Term, parse_terms
from crashfree.server.shortids import parse as parse_short_id

_STATUSES: Final = ("unresolved", "resolved", "resolvedInNextRelease", "ignored", "archived")
UPDATE: Final = Object(
    {
        "status": Choice({name: name for name in _STATUSES}, message='"{}" is not a valid choice.'),
        "statusDetails": Free(),
        "assignedTo": Text(),
        "substatus": Text(),
        "hasSeen": Flag(),
    }
)
_SORTS: Final = {
    "date": "issues.last_seen DESC, issues.id DESC",
    "new": "issues.first_seen DESC, issues.id DESC",
    "freq": "issues.times_seen DESC, issues.id DESC",
    "user": ("(SELECT count(*) FROM issue_users WHERE issue_id = issues.id) DESC, issues.id DESC"),
}
# An issue was seen within a range when one of its events was; the first and the last count although
# their events may be gone.
_SEEN_WITHIN: Final = (
    "((first_seen >= ? AND first_seen < ?) OR (last_seen >= ? AND last_seen < ?) OR EXISTS"
    " (SELECT 1 FROM events WHERE issue_id = issues.id AND timestamp >= ? AND timestamp < ?))"
)
_TERM: Final = re.compile(
    r"!?(?:is|first-release|firstRelease|last-release|release(?:\.[a-z]+)?|environment"
    r"|assigned|level|project|issue|error\.unhandled|error\.handled):"
)


# Lists.


def list_issues(call: Call) -> Response:
    """Return issues, the last seen first; `query` knows is:, release:, first-release: and more."""
    cursor = cursor_of(call)
    sort = call.query.get("sort") or "date"
    if sort not in _SORTS:
        raise Problem(400, "Invalid sort parameter")
    text = call.query.get("query")
    text = "is:unresolved" if text is None else text
    with call.store.read() as db:
        condition, values = _condition(db, call, text)
        ids = [
            int(row[0])
            for row in db.execute(
                f"SELECT issues.id FROM issues WHERE {condition} ORDER BY {_SORTS[sort]}"
                " LIMIT ? OFFSET ?",
                (*values, cursor.per_page + 1, cursor.offset),
            )
        ]
        shown = _json(call, db, issues.rows(db, ids[: cursor.per_page]))
    more = len(ids) > cursor.per_page
    return answer(shown, headers={"Link": link(call, cursor, more=more)})


def _json(call: Call, db: sqlite3.Connection, found: Sequence[IssueRow]) -> list[dict[str, Any]]:
    return issues.issue_json(
        db, found, base_url=call.base_url, organization=call.context.organization
    )


def _condition(db: sqlite3.Connection, call: Call, text: str) -> tuple[str, list[object]]:
    words = re.findall(r'(?:"[^"]*"|\[[^\]]*\]|\S)+', text)
    terms = parse_terms(" ".join(word for word in words if _TERM.match(word)))
    free = " ".join(word for word in words if not _TERM.match(word)).strip('"')
    projects = _projects(call, db)
    parts = [f"issues.project_id IN ({marks(projects)})"]
    values: list[object] = [*projects]
    for name in (name for name in call.query.getlist("environment") if name):
        terms.append(Term("environment", (name,), False))
    if any(call.query.get(name) for name in ("statsPeriod", "start", "end")):
        span = parse_range(call.query, call.now)
        parts.append(_SEEN_WITHIN)
        values += [instant / MICRO for instant in (span.start_us, span.end_us) * 3]
    for term in terms:
        part, more = _term(db, projects, term)
        parts.append(f"NOT ({part})" if term.negated else part)
        values += more
    if free:
        parts.append("(instr(lower(title), ?) OR instr(lower(culprit), ?))")
        values += [free.lower(), free.lower()]
    return " AND ".join(parts), values


def _projects(call: Call, db: sqlite3.Connection) -> tuple[int, ...]:
    if call.project.id:
        return (call.project.id,)
    wanted = set(call.query.getlist("project")) - {"-1"}
    known = call.store.projects(db)
    found = tuple(p.id for p in known if not wanted or wanted & {str(p.id), p.slug})
    if wanted and not found:
        raise Problem(400, "Invalid project parameter")
    return found


def _term(
    db: sqlite3.Connection, projects: tuple[int, ...], term: Term
) -> tuple[str, list[object]]:
    key, texts = term.key, list(term.values)
    columns = {"level": "issues.level", "issue": "issues.id"}
    if key in columns:
        return f"{columns[key]} IN ({marks(texts)})", [*texts]
    if key == "is":
        return _is(texts)
    if key == "project":
        return (
            "issues.project_id IN (SELECT id FROM projects WHERE"
            f" slug IN ({marks(texts)}) OR CAST(id AS TEXT) IN ({marks(texts)}))",
            [*texts, *texts],
        )
    if key == "environment":
        return (
            "EXISTS (SELECT 1 FROM issue_releases JOIN environments ON environments.id ="
            " environment_id WHERE issue_id = issues.id"
            f" AND environments.name IN ({marks(texts)}))",
            [*texts],
        )
    if key == "assigned":
        wanted = [text.lstrip("#") for text in texts]
        return f"substr(assignee, instr(assignee, ':') + 1) IN ({marks(wanted)})", [*wanted]
    if key in ("error.unhandled", "error.handled"):
        return "issues.unhandled = ?", [int((key == "error.unhandled") == (texts[0] != "0"))]
    ids = _release_ids(db, projects, term)
    if key in ("first-release", "firstRelease"):
        return f"issues.first_release_id IN ({marks(ids)})", [*ids]
    if key == "last-release":
        return f"issues.last_release_id IN ({marks(ids)})", [*ids]
    return (
        "EXISTS (SELECT 1 FROM issue_releases WHERE issue_id = issues.id"
        f" AND release_id IN ({marks(ids)}))",
        [*ids],
    )


def _is(texts: Sequence[str]) -> tuple[str, list[object]]:
    tests = {
        "unresolved": "issues.status = 'unresolved'",
        "resolved": "issues.status = 'resolved'",
        "ignored": "issues.status = 'ignored'",
        "archived": "issues.status = 'ignored'",
        "new": "issues.substatus = 'new'",
        "regressed": "issues.substatus = 'regressed'",
        "ongoing": "issues.substatus = 'ongoing'",
        "assigned": "issues.assignee IS NOT NULL",
        "unassigned": "issues.assignee IS NULL",
    }
    for text in texts:
        if text not in tests:
            raise Problem(400, f"Invalid value for is: {text!r}; one of {', '.join(tests)}")
    return "(" + " OR ".join(tests[text] for text in texts) + ")", []


def _release_ids(db: sqlite3.Connection, projects: tuple[int, ...], term: Term) -> list[int]:
    key = term.key if term.key.startswith("release") else "release"
    found = release_term(db, Selection(projects), Term(key, term.values, False))
    if found is not None:
        return sorted(found)
    return [
        int(row[0])
        for row in db.execute(
            f"SELECT id FROM releases WHERE version IN ({marks(term.values)})", term.values
        )
    ]


# One issue.


def _found(db: sqlite3.Connection, call: Call) -> IssueRow:
    """Return the issue that the path names, by number or short id; Problem(404)."""
    named = call.path["issue"]
    found: IssueRow | None = None
    if named.isascii() and named.isdigit() and len(named) < 19:
        found = issues.get(db, int(named))
    else:
        short = parse_short_id(named)
        if short is not None:
            found = issues.find(db, *short)
    if found is None:
        raise Problem(404)
    return found


def get_issue(call: Call) -> Response:
    """Return an issue with its activity and suggested owners."""
    with call.store.read() as db:
        issue = _found(db, call)
        shown = _json(call, db, [issue])[0]
        shown["activity"] = activity.entries(db, issue_id=issue.id, limit=100)
        payload = _latest_payload(db, issue.id)
        if payload is not None:
            shown["owners"] = issues.suggested_owners(db, issue, payload)
        return answer(shown)


def update_issue(call: Call) -> Response:
    """Resolve, reopen, ignore or assign an issue."""
    try:
        body = UPDATE.read(call.json())
    except Invalid as refusal:
        raise Problem(400, refusal.errors) from None
    with call.store.write() as db:
        issue = _found(db, call)
        _update(db, call, issue, body)
        return answer(_json(call, db, [_found(db, call)])[0])


def update_issues(call: Call) -> Response:
    """Change the issues whose `id`s are given, like one."""
    try:
        body = UPDATE.read(call.json())
    except Invalid as refusal:
        raise Problem(400, refusal.errors) from None
    ids = [int(text) for text in call.query.getlist("id") if text.isdigit() and len(text) < 19]
    with call.store.write() as db:
        projects = set(_projects(call, db))
        found = [issue for issue in issues.rows(db, ids) if issue.project_id in projects]
        if not found:
            return answer(None, 204)
        for issue in found:
            _update(db, call, issue, body)
        after = issues.get(db, found[0].id)
        assert after is not None
        shown = _json(call, db, [after])[0]
    changed = {
        name: shown[name] for name in ("status", "statusDetails", "assignedTo") if name in body
    }
    return answer(changed)


def _update(db: sqlite3.Connection, call: Call, issue: IssueRow, body: Mapping[str, Any]) -> None:
    status = body.get("status")
    details = as_mapping(body.get("statusDetails"))
    if status == "resolvedInNextRelease" or (
        status == "resolved" and details.get("inNextRelease") is True
    ):
        resolutions.resolve(
            db,
            issue_id=issue.id,
            project_id=issue.project_id,
            kind="in_next_release",
            release_id=_current_release(db, issue),
            at=call.now,
        )
    elif status == "resolved" and details.get("inRelease"):
        resolutions.resolve(
            db,
            issue_id=issue.id,
            project_id=issue.project_id,
            kind="in_release",
            release_id=_named_release(db, issue, details["inRelease"]),
            at=call.now,
        )
    elif status == "resolved":
        resolutions.resolve(
            db, issue_id=issue.id, project_id=issue.project_id, kind="now", at=call.now
        )
    elif status == "unresolved" and issue.status != resolutions.UNRESOLVED:
        resolutions.reopen(db, issue_id=issue.id, project_id=issue.project_id, at=call.now)
    elif status in ("ignored", "archived"):
        _ignore(db, call, issue)
    if "assignedTo" in body:
        issues.assign(db, issue, _assignee(body["assignedTo"]), by="manual", at=call.now)


def _ignore(db: sqlite3.Connection, call: Call, issue: IssueRow) -> None:
    db.execute("DELETE FROM resolutions WHERE issue_id = ?", (issue.id,))
    db.execute(
        "UPDATE issues SET status = ?, substatus = 'archived_forever' WHERE id = ?",
        (resolutions.IGNORED, issue.id),
    )
    activity.log(db, "set_ignored", project_id=issue.project_id, issue_id=issue.id, at=call.now)


def _current_release(db: sqlite3.Connection, issue: IssueRow) -> int | None:
    """Return the release of the project that is the newest now."""
    return releases.latest(db, issue.project_id)


def _named_release(db: sqlite3.Connection, issue: IssueRow, named: object) -> int:
    if named == "latest":
        found = releases.latest(db, issue.project_id)
    else:
        release = releases.find(db, str(named))
        known = release is not None and issue.project_id in releases.project_ids(db, release.id)
        found = release.id if known and release is not None else None
    if found is None:
        raise Problem(
            400,
            {"statusDetails": {"inRelease": ["Unable to find a release with the given version."]}},
        )
    return found


def _assignee(text: str | None) -> str | None:
    """Read `user:a@b`, `team:x`, a bare address or `#team`; blank takes an assignment away."""
    if not text:
        return None
    kind, colon, name = text.partition(":")
    if colon and kind in ("user", "team") and name:
        return text
    if text.startswith("#") and len(text) > 1:
        return f"team:{text[1:]}"
    if "@" in text:
        return f"user:{text.lower()}"
    raise Problem(400, {"assignedTo": ["Unknown actor input"]})


def delete_issue(call: Call) -> Response:
    """Delete an issue with its events."""
    with call.store.write() as db:
        issues.forget(db, _found(db, call).id)
    return answer(None, 202)


def list_activities(call: Call) -> Response:
    """Return what happened to an issue, newest first."""
    with call.store.read() as db:
        found = activity.entries(db, issue_id=_found(db, call).id)
    return answer({"activity": found})


def list_hashes(call: Call) -> Response:
    """Return the groups of events that an issue stands for."""
    with call.store.read() as db:
        issue = _found(db, call)
        rows = db.execute(
            "SELECT hash FROM issue_hashes WHERE issue_id = ? ORDER BY hash", (issue.id,)
        ).fetchall()
    return page(call, [{"id": row[0]} for row in rows])


def get_short_id(call: Call) -> Response:
    """Return the issue behind a short id."""
    with call.store.read() as db:
        issue = _found(db, call)
        shown = _json(call, db, [issue])[0]
    return answer(
        {
            "organizationSlug": call.context.organization,
            "projectSlug": shown["project"]["slug"],
            "groupId": shown["id"],
            "shortId": shown["shortId"],
            "group": shown,
        }
    )


# Events.

_EVENT: Final = (
    "SELECT events.id, events.project_id, events.event_id, events.received, events.timestamp,"
    " releases.version, environments.name, events.dist, events.level, events.platform,"
    " events.issue_id, events.payload FROM events"
    " LEFT JOIN releases ON releases.id = events.release_id"
    " LEFT JOIN environments ON environments.id = events.environment_id"
)


def _payload(data: object) -> Mapping[str, Any]:
    try:
        return as_mapping(json.decode(data if isinstance(data, bytes) else str(data).encode()))
    except ValueError:
        return {}


def _latest_payload(db: sqlite3.Connection, issue_id: int) -> Mapping[str, Any] | None:
    row = db.execute(
        "SELECT payload FROM events WHERE issue_id = ? ORDER BY timestamp DESC, id DESC LIMIT 1",
        (issue_id,),
    ).fetchone()
    return None if row is None else _payload(row[0])


def _event_json(row: Sequence[Any], *, full: bool) -> dict[str, Any]:
    payload = _payload(row[11])
    errors = exceptions(payload)
    main: Mapping[str, Any] = errors[-1] if errors else {}
    message = as_text(payload.get("message")) or as_text(
        as_mapping(payload.get("logentry")).get("formatted")
    )
    title = ": ".join(
        part for part in (as_text(main.get("type")), as_text(main.get("value"))) if part
    )
    shown: dict[str, Any] = {
        "id": row[2],
        "eventID": row[2],
        "projectID": str(row[1]),
        "groupID": None if row[10] is None else str(row[10]),
        "title": title.partition("\n")[0][:200] or message or "<unlabeled event>",
        "message": message or "",
        "type": "error" if errors else "default",
        "platform": row[9],
        "dateCreated": iso(row[4]),
        "dateReceived": iso(row[3]),
        "release": row[5],
        "environment": row[6] or None,
        "dist": row[7],
        "level": row[8],
        "user": payload.get("user"),
        "culprit": as_text(payload.get("transaction")) or "",
        "tags": [{"key": key, "value": value} for key, value in event_tags(payload)],
    }
    if full:
        shown["entries"] = [
            {"type": name, "data": payload[name]}
            for name in ("exception", "threads", "breadcrumbs", "request")
            if payload.get(name)
        ]
        for name in ("contexts", "extra", "sdk", "modules"):
            shown[name] = payload.get(name) or {}
        shown["payload"] = dict(payload)
    return shown


def list_issue_events(call: Call) -> Response:
    """Return the events of an issue, newest first; `full=1` with their contents."""
    with call.store.read() as db:
        issue = _found(db, call)
        return _events_page(
            db, call, "events.issue_id = ?", [issue.id], "events.timestamp DESC, events.id DESC"
        )


def list_project_events(call: Call) -> Response:
    """Return the events of a project, newest first; `full=1` with their contents."""
    with call.store.read() as db:
        return _events_page(
            db,
            call,
            "events.project_id = ?",
            [call.project.id],
            "events.timestamp DESC, events.id DESC",
        )


def _events_page(
    db: sqlite3.Connection, call: Call, condition: str, values: list[object], order: str
) -> Response:
    cursor = cursor_of(call)
    rows = db.execute(
        f"{_EVENT} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
        (*values, cursor.per_page + 1, cursor.offset),
    ).fetchall()
    full = call.query.get("full") in ("1", "true")
    shown = [_event_json(row, full=full) for row in rows[: cursor.per_page]]
    more = len(rows) > cursor.per_page
    return answer(shown, headers={"Link": link(call, cursor, more=more)})


def get_issue_event(call: Call) -> Response:
    """Return one event of an issue: `latest`, `oldest` or by id."""
    named = call.path["event"]
    orders = {"latest": "DESC", "recommended": "DESC", "oldest": "ASC"}
    with call.store.read() as db:
        issue = _found(db, call)
        if named in orders:
            row = db.execute(
                f"{_EVENT} WHERE events.issue_id = ? ORDER BY events.timestamp {orders[named]},"
                f" events.id {orders[named]} LIMIT 1",
                (issue.id,),
            ).fetchone()
        else:
            row = db.execute(
                f"{_EVENT} WHERE events.issue_id = ? AND events.event_id = ?",
                (issue.id, _event_id(named)),
            ).fetchone()
        if row is None:
            raise Problem(404)
        return answer(_event_json(row, full=True) | _neighbours(db, issue.id, row))


def _neighbours(db: sqlite3.Connection, issue_id: int, row: Sequence[Any]) -> dict[str, Any]:
    """Return the ids of the events of an issue right before and after one of them."""
    found: dict[str, Any] = {}
    for name, order, sign in (("previousEventID", "DESC", "<"), ("nextEventID", "ASC", ">")):
        other = db.execute(
            "SELECT event_id FROM events WHERE issue_id = ?"
            f" AND (timestamp, id) {sign} (?, ?) ORDER BY timestamp {order}, id {order} LIMIT 1",
            (issue_id, row[4], row[0]),
        ).fetchone()
        found[name] = None if other is None else other[0]
    return found


def get_event(call: Call) -> Response:
    """Return one event of a project."""
    with call.store.read() as db:
        return answer(_event_json(_event_row(db, call), full=True))


def _event_row(db: sqlite3.Connection, call: Call) -> Sequence[Any]:
    row: Sequence[Any] | None = db.execute(
        f"{_EVENT} WHERE events.project_id = ? AND events.event_id = ?",
        (call.project.id, _event_id(call.path["event"])),
    ).fetchone()
    if row is None:
        raise Problem(404)
    return row


def _event_id(text: str) -> str:
    return text.replace("-", "").lower()


def get_committers(call: Call) -> Response:
    """Return the authors whose commits the event's stack suggests, strongest first."""
    with call.store.read() as db:
        issue, payload = _issue_of_event(db, call)
        ranked = issues.committers(db, issue, payload)
        if not ranked:
            raise Problem(404, "No committers found")
        shown = issues.committers_json(db, issue, payload, ranked)
    return answer({"committers": shown, "order": issues.ORDER})


def get_owners(call: Call) -> Response:
    """Return who owns the code of the event's stack, by the project's rules."""
    with call.store.read() as db:
        issue, payload = _issue_of_event(db, call)
        ownership = issues.ownership(db, issue.project_id).rules()
        found = ownership.owners(payload)
        assigned = ownership.assignees(payload)
    return answer(
        {
            "owners": [
                {"type": owner.type, "id": owner.identifier, "name": owner.identifier}
                for _, owner in found
            ],
            "rule": None if not assigned else str(assigned[0][0]),
            "rules": [rule.to_json() for rule in ownership.matching(payload)],
            "assignees": [f"{owner.type}:{owner.identifier}" for _, owner in assigned],
            "everyone": not found and ownership.fallthrough,
        }
    )


def _issue_of_event(db: sqlite3.Connection, call: Call) -> tuple[IssueRow, Mapping[str, Any]]:
    row = _event_row(db, call)
    issue = None if row[10] is None else issues.get(db, int(row[10]))
    if issue is None:
        raise Problem(404)
    return issue, _payload(row[11])


def get_event_id(call: Call) -> Response:
    """Return where an event of any project is."""
    with call.store.read() as db:
        row = db.execute(
            f"{_EVENT} WHERE events.event_id = ? LIMIT 1", (_event_id(call.path["event"]),)
        ).fetchone()
        if row is None:
            raise Problem(404)
        project = find_project(call.store, str(row[1]))
    return answer(
        {
            "organizationSlug": call.context.organization,
            "projectSlug": project.slug,
            "groupId": None if row[10] is None else str(row[10]),
            "eventId": row[2],
            "event": _event_json(row, full=True),
        }
    )


_ORGANIZATION: Final = "/api/0/organizations/{organization}/"
_PROJECT: Final = "/api/0/projects/{organization}/{project}/"

ROUTES: Final = [
    api(_ORGANIZATION + "issues/", GET=list_issues, PUT=update_issues),
    api(_PROJECT + "issues/", GET=list_issues, PUT=update_issues),
    *(
        route
        for base in (_ORGANIZATION + "issues/{issue}/", "/api/0/issues/{issue}/")
        for route in (
            api(base, GET=get_issue, PUT=update_issue, DELETE=delete_issue),
            api(base + "activities/", GET=list_activities),
            api(base + "hashes/", GET=list_hashes),
            api(base + "events/", GET=list_issue_events),
            api(base + "events/{event}/", GET=get_issue_event),
        )
    ),
    api(_ORGANIZATION + "shortids/{issue}/", GET=get_short_id),
    api(_ORGANIZATION + "eventids/{event}/", GET=get_event_id),
    api(_PROJECT + "events/", GET=list_project_events),
    api(_PROJECT + "events/{event}/", GET=get_event),
    api(_PROJECT + "events/{event}/committers/", GET=get_committers),
    api(_PROJECT + "events/{event}/owners/", GET=get_owners),
]

BODIES: Final = {
    ("PUT", _ORGANIZATION + "issues/"): UPDATE,
    ("PUT", _PROJECT + "issues/"): UPDATE,
    ("PUT", _ORGANIZATION + "issues/{issue}/"): UPDATE,
    ("PUT", "/api/0/issues/{issue}/"): UPDATE,
}
