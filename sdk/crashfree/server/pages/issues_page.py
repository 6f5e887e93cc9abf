"""The issues: what was seen in the chosen range, searched, sorted and in tabs by state.

Threads: handlers run on any thread. Source: releases.md section 3.6.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import RedirectResponse, Response

from crashfree.server.endpoint import Call, Problem
from crashfree.server.issues_api import list_issues
from crashfree.server.pages.acting import reason
from crashfree.server.pages.asking import Answer, ask
from crashfree.server.pages.layout import chosen
from crashfree.server.pages.site import render, view

API: Final = "/api/0/organizations/{organization}/issues/"
UNRESOLVED: Final = "is:unresolved"
TABS: Final = (
    ("Unresolved", UNRESOLVED),
    ("New", "is:new"),
    ("Regressed", "is:regressed"),
    ("Unhandled", "is:unresolved error.unhandled:1"),
    ("Resolved", "is:resolved"),
    ("Ignored", "is:ignored"),
)
SORTS: Final = (
    ("date", "Last seen"),
    ("new", "First seen"),
    ("freq", "Events"),
    ("user", "Users"),
)
_ON_A_PAGE: Final = 50


def show(call: Call) -> Response:
    """Show the issues."""
    choice = chosen(call)
    text = call.query.get("query")
    text = UNRESOLVED if text is None else text.strip()
    sort = call.query.get("sort") or "date"
    number = call.query.get("page") or "1"
    if not (number.isascii() and number.isdigit() and 0 < int(number[:9]) < 10**6):
        raise Problem(400, "Invalid page")
    at = int(number)
    found = Answer([], "", more=False)
    wrong = ""
    query = [
        *choice.where,
        *choice.range,
        ("query", text),
        ("sort", sort),
        ("per_page", str(_ON_A_PAGE)),
        ("cursor", f"{_ON_A_PAGE}:{at - 1}:0"),
    ]
    try:
        found = ask(call, list_issues, API, query=query)
    except Problem as problem:
        wrong = reason(problem)
    # An empty search is all there is, which is not the default: it must stay in the address.
    kept = [*choice.query, *([] if text == UNRESOLVED else [("query", text)])]
    return render(
        call,
        "issues.html",
        title="Issues",
        choice=choice,
        json_address=found.address or None,
        issues=found.data,
        more=found.more,
        at=at,
        text=text,
        sort=sort,
        wrong=wrong,
        kept=kept,
        tabs=TABS,
        sorts=SORTS,
        default=UNRESOLVED,
    )


def moved(call: Call) -> Response:
    """Go on from the address that the API and Sentry's tools give for an issue."""
    return RedirectResponse(f"/issues/{call.path['issue']}", 303)


ROUTES: Final = [
    view("/issues", GET=show),
    view("/organizations/{organization}/issues/{issue:int}", GET=moved),
]
