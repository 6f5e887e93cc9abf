"""What the release list says about the health of each release.

Adoption is always over the last 24 hours; the rest over the period that was asked for, computed
over the period as a whole.

Threads: any, each with its own connection. Source: sessions.md sections 5.3 and 5.6, releases.md
section 6.6.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from crashfree._protocol.timestamps import rfc3339
from crashfree.server import counting
from crashfree.server.engine import Cell, CountReader, Intervals, Selection
from crashfree.server.health import (
    Counts,
    Durations,
    Stage,
    UserCounts,
    adoption,
    percent,
    stage_after,
)
from crashfree.server.ranges import Range
from crashfree.server.sessions import CRASH, SEEN, UNHANDLE

MICRO: Final = 1_000_000
DAY_US: Final = 86_400 * MICRO
HOUR: Final = 3600
_STAGE_WINDOW: Final = 6 * HOUR


class ReleaseHealth(NamedTuple):
    """The health of one release in one project."""

    counts: Counts
    users: UserCounts
    counts_24h: Counts
    users_24h: UserCounts
    project_sessions_24h: int
    project_users_24h: int
    durations: Durations
    has_data: bool

    @property
    def sessions_adoption(self) -> float | None:
        """Its share of the project's sessions, in percent."""
        return adoption(self.counts_24h.total, self.project_sessions_24h)

    @property
    def users_adoption(self) -> float | None:
        """Its share of the project's users, in percent."""
        return adoption(self.users_24h.seen, self.project_users_24h)

    def json(self) -> dict[str, Any]:
        """Return Sentry's `healthData`."""
        p50, p90 = self.durations.quantile(0.5), self.durations.quantile(0.9)
        return {
            "hasHealthData": self.has_data,
            "adoption": self.users_adoption,
            "sessionsAdoption": self.sessions_adoption,
            "crashFreeSessions": percent(self.counts.crash_free_rate),
            "crashFreeUsers": percent(self.users.crash_free_rate),
            "unhandledSessionRate": percent(self.counts.unhandled_rate),
            "unhandledUserRate": percent(self.users.unhandled_rate),
            "totalSessions": self.counts.total,
            "totalUsers": self.users.seen,
            "totalSessions24h": self.counts_24h.total,
            "totalUsers24h": self.users_24h.seen,
            "totalProjectSessions24h": self.project_sessions_24h,
            "totalProjectUsers24h": self.project_users_24h,
            "sessionsHealthy": self.counts.healthy,
            "sessionsErrored": self.counts.errored,
            "sessionsCrashed": self.counts.crashed,
            "sessionsAbnormal": self.counts.abnormal,
            "sessionsUnhandled": self.counts.unhandled,
            "durationP50": None if p50 is None else p50 / 1000,
            "durationP90": None if p90 is None else p90 / 1000,
            "stats": {},
        }


NO_HEALTH: Final = ReleaseHealth(
    Counts(), UserCounts(), Counts(), UserCounts(), 0, 0, Durations(), False
)
Key = tuple[int, int]
"""Project and release."""


def release_health(
    reader: CountReader,
    selection: Selection,
    *,
    now: float,
    period: Range | None = None,
    with_users: bool = True,
    with_durations: bool = True,
) -> dict[Key, ReleaseHealth]:
    """Return the health of every release in the selection that has any session in the period.

    `period` None: the last 24 hours. Users in the database that wait for a recount are not
    settled here; call `Store.settle_users` before.
    """
    if not selection.projects:
        return {}
    end = int(now * MICRO) + 1
    day = Range(end - DAY_US, end)
    whole = period or day
    group = ("project_id", "release_id")
    found_counts = _by_release(reader, selection, whole)
    counts_24h = found_counts if whole == day else _by_release(reader, selection, day)
    everyone = selection._replace(releases=None)
    projects = reader.session_counts(everyone, Intervals.whole(*day), ("project_id",))
    users: Mapping[Cell, UserCounts] = {}
    users_24h: Mapping[Cell, UserCounts] = {}
    project_users: Mapping[Cell, UserCounts] = {}
    if with_users:
        kinds = SEEN | CRASH | UNHANDLE
        users = reader.user_counts(selection, Intervals.whole(*whole), group, kinds=kinds)
        users_24h = (
            users
            if whole == day
            else reader.user_counts(selection, Intervals.whole(*day), group, kinds=kinds)
        )
        project_users = reader.user_counts(
            everyone, Intervals.whole(*day), ("project_id",), kinds=SEEN
        )
    times: Mapping[Cell, Durations] = {}
    if with_durations:
        times = reader.durations(selection, Intervals.whole(*whole), group)
    found: dict[Key, ReleaseHealth] = {}
    for key in {*found_counts, *counts_24h}:
        project = key[0]
        cell = (key, 0)
        found[key] = ReleaseHealth(
            found_counts.get(key, Counts()),
            users.get(cell, UserCounts()),
            counts_24h.get(key, Counts()),
            users_24h.get(cell, UserCounts()),
            projects.get(((project,), 0), Counts()).total,
            project_users.get(((project,), 0), UserCounts()).seen,
            times.get(cell, Durations()),
            True,
        )
    return found


def _by_release(reader: CountReader, selection: Selection, span: Range) -> dict[Key, Counts]:
    cells = reader.session_counts(selection, Intervals.whole(*span), ("project_id", "release_id"))
    return {(key[0], key[1]): counts for (key, _), counts in cells.items()}


class Adoption(NamedTuple):
    """The stage of one release in one project and environment; times in seconds."""

    stage: Stage
    adopted: float | None
    unadopted: float | None

    def json(self) -> dict[str, Any]:
        """Return Sentry's entry of `adoptionStages`."""
        return {
            "stage": self.stage,
            "adopted": None if self.adopted is None else rfc3339(self.adopted),
            "unadopted": None if self.unadopted is None else rfc3339(self.unadopted),
        }


def refresh_stages(db: sqlite3.Connection, reader: CountReader, *, now: float) -> None:
    """Judge adoption anew, from the sessions of the last six hours; inside `write`.

    The server does so once an hour. Source: sessions.md section 5.6.
    """
    end = int(now * MICRO) + 1
    span = Intervals.whole(end - _STAGE_WINDOW * MICRO, end)
    projects = tuple(row[0] for row in db.execute("SELECT id FROM projects"))
    if not projects:
        return
    group = ("project_id", "environment_id", "release_id")
    cells = reader.session_counts(Selection(projects), span, group)
    totals: dict[tuple[int, int], int] = {}
    for (key, _), counts in cells.items():
        place = (key[0], key[1])
        totals[place] = totals.get(place, 0) + counts.total
    for row in db.execute(
        "SELECT project_id, environment_id, release_id, adopted, unadopted, name"
        " FROM release_environments JOIN environments ON environments.id = environment_id"
    ).fetchall():
        project, environment, release, adopted, unadopted, name = row
        before = stage_of(adopted, unadopted)
        counts = cells.get(((project, environment, release), 0), Counts())
        after = stage_after(
            before,
            environment=name,
            release_sessions=counts.total,
            total_sessions=totals.get((project, environment), 0),
        )
        if after == before:
            continue
        if after == "adopted":
            adopted, unadopted = adopted or now, None
        else:
            unadopted = now
        db.execute(
            "UPDATE release_environments SET adopted = ?, unadopted = ? WHERE project_id = ?"
            " AND environment_id = ? AND release_id = ?",
            (adopted, unadopted, project, environment, release),
        )


def stage_of(adopted: float | None, unadopted: float | None) -> Stage:
    """Return the stage that the two stored times mean."""
    if adopted is None:
        return "low_adoption"
    return "adopted" if unadopted is None else "replaced"


def adoption_stages(db: sqlite3.Connection, selection: Selection) -> dict[Key, Adoption]:
    """Return the stage of each release in each project.

    Over several environments the best stage counts: adopted in one of them is adopted.
    """
    where, values = counting.where_of(selection)
    order: dict[Stage, int] = {"low_adoption": 0, "replaced": 1, "adopted": 2}
    found: dict[Key, Adoption] = {}
    for project, release, adopted, unadopted in db.execute(
        "SELECT project_id, release_id, adopted, unadopted FROM release_environments"
        f" WHERE {where}",
        values,
    ):
        each = Adoption(stage_of(adopted, unadopted), adopted, unadopted)
        best = found.get((project, release))
        if best is None or order[each.stage] > order[best.stage]:
            found[project, release] = each
    return found
