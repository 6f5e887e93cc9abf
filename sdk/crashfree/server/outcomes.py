"""`GET …/stats_v2/`: what came of everything that was sent: taken, filtered, refused, discarded.

    ?field=sum(quantity)&groupBy=outcome&groupBy=reason&groupBy=category&statsPeriod=14d

Three outcomes are ours: `skipped` (taken, and of a kind that is not kept), `noted` (sessions that
count, with something odd about them: `duplicate_init`, `missing_init`, `late_update`) and
`not_forwarded` (envelopes that never reached the upstream server). `outcome` narrows to some.

Kept by project and UTC day, so the range is widened to whole days, and the answer says to which.
Sessions that were taken are not counted here: `…/sessions/` counts those.

Threads: handlers run on any thread.
Source: ingest.md section 2.3, wire.md section 6, sessions.md section 5.3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from crashfree.server import ranges
from crashfree.server.endpoint import Call, Problem, answer, api, iso
from crashfree.server.ranges import MICRO, Range
from crashfree.server.releases import marks
from crashfree.server.selection import select

_DAY: Final = 86_400
_FIELD: Final = "sum(quantity)"
_GROUPS: Final = ("project", "outcome", "category", "reason")
_OUTCOMES: Final = {
    "stored": "accepted",
    "filtered": "filtered",
    "refused": "invalid",
    "discarded": "client_discard",
    "skipped": "skipped",
    "sessions": "noted",
    "not_forwarded": "not_forwarded",
}


class Outcome(NamedTuple):
    """How many items of a category met the same end."""

    project: int
    outcome: str
    category: str
    reason: str
    quantity: int


def days_of(span: Range) -> tuple[int, int]:
    """Return the first and the last UTC day that a range touches, in days since the epoch."""
    return span.start_us // MICRO // _DAY, (span.end_us - 1) // MICRO // _DAY


def outcomes(db: sqlite3.Connection, projects: Sequence[int], span: Range) -> list[Outcome]:
    """Return what came of the items of the days that a range touches."""
    kinds = tuple(_OUTCOMES)
    return [
        Outcome(row[0], _OUTCOMES[row[1]], row[2], row[3], row[4])
        for row in db.execute(
            "SELECT project_id, what, category, reason, sum(quantity) FROM tallies"
            f" WHERE project_id IN ({marks(projects)}) AND what IN ({marks(kinds)})"
            " AND day BETWEEN ? AND ? GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
            (*projects, *kinds, *days_of(span)),
        )
        if row[4]
    ]


def get_outcomes(call: Call) -> Response:
    """Return how many items were taken, filtered, refused, or discarded by clients."""
    if call.query.getlist("field") not in ([_FIELD], []):
        raise Problem(400, f'Invalid field; only "{_FIELD}" is kept')
    groups = call.query.getlist("groupBy") or ["outcome", "category", "reason"]
    for name in groups:
        if name not in _GROUPS:
            raise Problem(400, f'Invalid groupBy: "{name[:60]}"')
    wanted = call.query.getlist("outcome") or [*_OUTCOMES.values()]
    for name in wanted:
        if name not in _OUTCOMES.values():
            raise Problem(400, f'Invalid outcome: "{name[:60]}"')
    span = ranges.parse_range(call.query, call.now)
    with call.store.read() as db:
        selection = select(db, call.query, call.store.projects(db), ())
        found = outcomes(db, selection.projects, span)
    category = call.query.get("category")
    sums: dict[tuple[Any, ...], int] = {}
    for each in found:
        if each.outcome in wanted and category in (None, "", each.category):
            key = tuple(getattr(each, name) for name in groups)
            sums[key] = sums.get(key, 0) + each.quantity
    first, last = days_of(span)
    return answer(
        {
            "start": iso(first * _DAY),
            "end": iso((last + 1) * _DAY),
            "groups": [
                {"by": dict(zip(groups, key, strict=True)), "totals": {_FIELD: quantity}}
                for key, quantity in sums.items()
            ],
        }
    )


ROUTES: Final = [api("/api/0/organizations/{organization}/stats_v2/", GET=get_outcomes)]
