"""The endpoints of a project's rules: inbound filters, ownership, code owners.

Threads: handlers run on any thread. Source: ingest.md section 4, releases.md sections 6.4 and 6.5.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from crashfree._ground import json
from crashfree.server import filters, issues
from crashfree.server.endpoint import Call, Problem, answer, api, iso
from crashfree.server.fields import Choice, Flag, Free, Object, Text
from crashfree.server.filters import (
    NOT_BUILT,
    ORDER,
    SESSION_NOTES,
    FilterSettings,
    InvalidFilter,
)
from crashfree.server.frames import as_list, as_mapping
from crashfree.server.issues import OwnershipSettings
from crashfree.server.ownership import MAX_TEXT, OwnershipError, parse, parse_code_owners
from crashfree.server.repositories_api import read_object
from crashfree.server.store import Store

OPTION: Final = "filters"
DAYS_SHOWN: Final = 30
_DAY: Final = 86_400
FILTER: Final = Object({"active": Flag(), "subfilters": Free(), "settings": Free()})
FILTERS: Final = Object(
    {
        name: Free()
        for name in (
            "ip_addresses",
            "releases",
            "error_messages",
            "localhost",
            "legacy_browsers",
            "web_crawlers",
        )
    },
    closed=True,
)
_SETTING_NAMES: Final = {
    "ip-address": "ip_addresses",
    "release-version": "releases",
    "error-message": "error_messages",
    "localhost": "localhost",
    "legacy-browsers": "legacy_browsers",
    "web-crawlers": "web_crawlers",
}
_AUTO_ASSIGNMENT: Final = (
    "Auto Assign to Issue Owner",
    "Auto Assign to Suspect Commits",
    "Turn off Auto-Assignment",
)
OWNERSHIP: Final = Object(
    {
        "raw": Text(),
        "fallthrough": Flag(),
        "autoAssignment": Choice(
            {name: name for name in _AUTO_ASSIGNMENT}, message='"{}" is not a valid choice.'
        ),
        "codeowners": Text(),
    }
)


# Filters. The command line uses the first three functions, too.


def filter_settings(store: Store, db: sqlite3.Connection, project_id: int) -> FilterSettings:
    """Return what a project filters."""
    return filters.load(as_mapping(store.option(db, project_id, OPTION, {}))).settings


def set_filters(
    store: Store, db: sqlite3.Connection, project_id: int, changes: Mapping[str, Any]
) -> FilterSettings:
    """Change some of a project's filters; raises InvalidFilter."""
    changed = FilterSettings.parse(filter_settings(store, db, project_id).to_json() | dict(changes))
    store.set_option(db, project_id, OPTION, changed.to_json())
    return changed


def dropped(
    db: sqlite3.Connection, project_id: int, *, since: float = 0.0
) -> dict[str, dict[str, int]]:
    """Return how many items each filter dropped since a time: filter, category, number."""
    found: dict[str, dict[str, int]] = {}
    for reason, category, quantity in db.execute(
        "SELECT reason, category, sum(quantity) FROM tallies WHERE project_id = ?"
        " AND what = 'filtered' AND day >= ? GROUP BY reason, category ORDER BY reason, category",
        (project_id, int(since // _DAY)),
    ):
        found.setdefault(str(reason), {})[str(category)] = int(quantity)
    return found


def list_filters(call: Call) -> Response:
    """Return every filter: on or off, whether sessions are seen, how much it dropped in 30 days."""
    with call.store.read() as db:
        settings = filter_settings(call.store, db, call.project.id)
        counts = dropped(db, call.project.id, since=call.now - DAYS_SHOWN * _DAY)
    return answer([entry.to_json() for entry in filters.summaries(settings, counts)])


def update_filters(call: Call) -> Response:
    """Change several filters at once, by the names of their settings."""
    body = read_object(call, FILTERS)
    with call.store.write() as db:
        try:
            set_filters(call.store, db, call.project.id, body)
        except InvalidFilter as refusal:
            raise Problem(400, {refusal.name: [str(refusal)]}) from None
    return list_filters(call)


def update_filter(call: Call) -> Response:
    """Switch one filter on or off (`active`), or give it its list (`settings`, `subfilters`)."""
    name = call.path["filter"]
    if name in NOT_BUILT:
        raise Problem(400, {"detail": SESSION_NOTES[name]})
    if name not in ORDER:
        raise Problem(404)
    body = read_object(call, FILTER)
    setting = _SETTING_NAMES[name]
    value = body.get("settings", body.get("subfilters"))
    if value is None:
        if "active" not in body:
            raise Problem(400, {"active": ["This field is required."]})
        value = _switched(name, active=body["active"])
    with call.store.write() as db:
        try:
            set_filters(call.store, db, call.project.id, {setting: value})
        except InvalidFilter as refusal:
            raise Problem(400, {refusal.name: [str(refusal)]}) from None
    return answer(None, 204)


def _switched(name: str, *, active: bool) -> object:
    if name in ("localhost", "web-crawlers", "legacy-browsers"):
        return active
    if active:
        raise Problem(400, {"settings": ["This filter is a list; say what it holds."]})
    return []


# Ownership.


def get_ownership(call: Call) -> Response:
    """Return a project's ownership rules."""
    with call.store.read() as db:
        settings = issues.ownership(db, call.project.id)
    return answer(_ownership_json(settings))


def set_ownership(call: Call) -> Response:
    """Change a project's ownership rules; an empty text removes them."""
    body = read_object(call, OWNERSHIP)
    with call.store.write() as db:
        settings = issues.ownership(db, call.project.id)
        if "raw" in body:
            raw = body["raw"] or ""
            _check_rules(db, raw)
            settings = settings._replace(raw=raw)
        if "codeowners" in body:
            text = body["codeowners"] or ""
            if len(text) > MAX_TEXT:
                raise Problem(400, {"codeowners": [f"At most {MAX_TEXT} characters."]})
            settings = settings._replace(code_owners=text)
        if "fallthrough" in body:
            settings = settings._replace(fallthrough=body["fallthrough"])
        if "autoAssignment" in body:
            choice = body["autoAssignment"]
            settings = settings._replace(
                assign_owners=choice != _AUTO_ASSIGNMENT[2],
                assign_suspects=choice == _AUTO_ASSIGNMENT[1],
            )
        settings = settings._replace(date=call.now)
        call.store.set_option(db, call.project.id, "ownership", settings._asdict())
    return answer(_ownership_json(settings))


def _check_rules(db: sqlite3.Connection, raw: str) -> None:
    if len(raw) > MAX_TEXT:
        raise Problem(400, {"raw": [f"Raw needs to be <= {MAX_TEXT} characters in length"]})
    if not raw:
        return
    try:
        rules = parse(raw)
    except OwnershipError as error:
        raise Problem(400, {"raw": str(error)}) from None
    members = db.execute("SELECT email, teams FROM members").fetchall()
    if not members:
        return
    # With members known, an owner that is none of them is a slip of the pen.
    people = {str(email).lower() for email, _ in members}
    teams = {team for _, listed in members for team in _teams(str(listed))}
    unknown = sorted(
        {
            str(owner)
            for rule in rules
            for owner in rule.owners
            if owner.identifier not in (people if owner.type == "user" else teams)
        }
    )
    if unknown:
        raise Problem(400, {"raw": [f"Invalid rule owners: {', '.join(unknown)}"]})


def _teams(text: str) -> list[str]:
    return [str(team) for team in as_list(json.decode(text.encode()))]


def _ownership_json(settings: OwnershipSettings) -> dict[str, Any]:
    rules = settings.rules()
    if not settings.assign_owners:
        assignment = _AUTO_ASSIGNMENT[2]
    else:
        assignment = _AUTO_ASSIGNMENT[1 if settings.assign_suspects else 0]
    return {
        "raw": settings.raw or None,
        "codeowners": settings.code_owners or None,
        "fallthrough": settings.fallthrough,
        "autoAssignment": assignment,
        "isActive": True,
        "lastUpdated": iso(settings.date),
        "schema": {
            "$version": 1,
            "rules": [rule.to_json() for rule in rules.rules],
        },
        "codeownersRules": [rule.to_json() for rule in parse_code_owners(settings.code_owners)],
    }


_PROJECT: Final = "/api/0/projects/{organization}/{project}/"

ROUTES: Final = [
    api(_PROJECT + "filters/", GET=list_filters, PUT=update_filters),
    api(_PROJECT + "filters/{filter}/", PUT=update_filter),
    api(_PROJECT + "ownership/", GET=get_ownership, PUT=set_ownership),
]

BODIES: Final = {
    ("PUT", _PROJECT + "filters/"): FILTERS,
    ("PUT", _PROJECT + "filters/{filter}/"): FILTER,
    ("PUT", _PROJECT + "ownership/"): OWNERSHIP,
}
