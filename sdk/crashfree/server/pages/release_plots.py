"""The plots of one release over the chosen range, and what is marked in them.

    plots = release_plots(health, release_id, firsts)
    markers = markers_of(deploys, issues)

Threads: any. Source: sessions.md sections 5.3 to 5.7.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final

from crashfree._protocol.timestamps import parse_timestamp
from crashfree.server import health as rates
from crashfree.server.pages.health_table import (
    CRASH_FREE_SESSIONS,
    CRASH_FREE_USERS,
    SESSIONS,
    USERS,
    Health,
)
from crashfree.server.pages.plots import (
    AMBER,
    AREA,
    COUNT,
    GREEN,
    INDIGO,
    LINES,
    MICRO,
    ORANGE,
    PERCENT,
    RED,
    SECONDS,
    SLATE,
    STACK,
    TEAL,
    VIOLET,
    Frame,
    Marker,
    Plot,
    Series,
)

_P50: Final = "p50(session.duration)"
_P95: Final = "p95(session.duration)"
FIELDS: Final = (SESSIONS, USERS, CRASH_FREE_SESSIONS, CRASH_FREE_USERS, _P50, _P95)
_ALL_FIELDS: Final = (SESSIONS, USERS, CRASH_FREE_SESSIONS, CRASH_FREE_USERS)
STATUS_COLORS: Final = (
    ("healthy", "Healthy", GREEN),
    ("errored", "Errored", AMBER),
    ("unhandled", "Unhandled", ORANGE),
    ("abnormal", "Abnormal", VIOLET),
    ("crashed", "Crashed", RED),
)
THIS, ALL = "This release", "All releases"
Values = Sequence["float | None"]


def release_plots(health: Health, release_id: int, first_times: Sequence[float]) -> list[Plot]:
    """Return the plots; `first_times` are when the release's new issues were seen first."""
    frame = Frame(health.intervals.bounds)
    mine = health.series(release_id, FIELDS)
    everyone = health.series(None, _ALL_FIELDS)
    by_status = health.series_by_status(release_id)

    def compared(name: str, title: str, field: str, about: str) -> Plot:
        return Plot(
            name,
            title,
            PERCENT,
            LINES,
            frame,
            (
                Series(ALL, SLATE, _percents(everyone[field]), dashed=True),
                Series(THIS, TEAL, _percents(mine[field])),
            ),
            about,
        )

    return [
        compared(
            "crash-free-sessions",
            "Crash-free sessions",
            CRASH_FREE_SESSIONS,
            "Sessions that did not end in a crash, of all sessions",
        ),
        compared(
            "crash-free-users",
            "Crash-free users",
            CRASH_FREE_USERS,
            "Users who met no crash, of all users; each point counts its interval anew",
        ),
        Plot(
            "sessions",
            "Sessions by status",
            COUNT,
            STACK,
            frame,
            tuple(Series(title, color, by_status[key]) for key, title, color in STATUS_COLORS),
            "How the sessions ended that began in each interval",
        ),
        Plot(
            "users",
            "Users",
            COUNT,
            LINES,
            frame,
            (
                Series(ALL, SLATE, everyone[USERS], dashed=True),
                Series(THIS, TEAL, mine[USERS]),
            ),
            "Different users in each interval",
        ),
        Plot(
            "durations",
            "Session duration",
            SECONDS,
            LINES,
            frame,
            (
                Series("95th percentile", INDIGO, _seconds(mine[_P95])),
                Series("Median", TEAL, _seconds(mine[_P50])),
            ),
            "Of sessions that ended well and told how long they lasted",
        ),
        Plot(
            "adoption",
            "Adoption",
            PERCENT,
            AREA,
            frame,
            (
                Series("Sessions", INDIGO, _shares(mine[SESSIONS], everyone[SESSIONS])),
                Series("Users", TEAL, _shares(mine[USERS], everyone[USERS])),
            ),
            "This release's part of the project's sessions and users",
        ),
        Plot(
            "new-issues",
            "New issues",
            COUNT,
            STACK,
            frame,
            (Series("New issues", RED, _counted(frame, first_times)),),
            "Issues that this release was the first to show",
        ),
    ]


def _percents(values: Values) -> list[float | None]:
    return [rates.percent(value) for value in values]


def _seconds(values: Values) -> list[float | None]:
    return [None if value is None else value / 1000 for value in values]


def _shares(parts: Values, wholes: Values) -> list[float | None]:
    return [
        rates.percent(rates.share(int(part or 0), int(whole or 0)))
        for part, whole in zip(parts, wholes, strict=True)
    ]


def _counted(frame: Frame, times: Sequence[float]) -> list[float | None]:
    """Return how many of the times are in each interval."""
    starts = [start for start, _ in frame.bounds]
    counts: list[float | None] = [0] * len(starts)
    for at in times:
        at_us = int(at * MICRO)
        place = bisect_right(starts, at_us) - 1
        if place >= 0 and at_us < frame.bounds[place][1]:
            counts[place] = (counts[place] or 0) + 1
    return counts


def markers_of(
    deploys: Sequence[Mapping[str, Any]], issues: Sequence[Mapping[str, Any]]
) -> list[Marker]:
    """Return the deploys and the first times of new issues, as the API tells them."""
    found = [
        Marker(
            "deploy",
            parse_timestamp(deploy["dateFinished"]),
            "Deploy",
            " · ".join(text for text in (deploy["environment"], deploy["name"]) if text),
        )
        for deploy in deploys
    ]
    found += [
        Marker(
            "issue",
            parse_timestamp(issue["firstSeen"]),
            "First seen",
            f"{issue['shortId']} {issue['title']}"[:120],
        )
        for issue in issues
    ]
    return found
