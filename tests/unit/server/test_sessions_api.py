from __future__ import annotations

import time
from typing import Any

import pytest

from crashfree.server import LocalServer
from tests.support.serving import ask, envelope, send, session


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({}, 'Request is missing a "field"'),
        ({"field": "sum(x)"}, 'Invalid field: "sum(x)"'),
        ({"field": "sum(session)", "groupBy": "weather"}, 'Invalid groupBy: "weather"'),
        ({"field": "sum(session)", "statsPeriod": "2x"}, "Invalid statsPeriod: '2x'"),
        ({"field": "sum(session)", "statsPeriod": "0h"}, "Invalid statsPeriod: '0h'"),
        ({"field": "sum(session)", "interval": "5s"}, "Interval cannot be smaller than a minute"),
        ({"field": "sum(session)", "interval": "x"}, "Invalid interval: 'x'"),
        ({"field": "sum(session)", "start": "2026-01-01"}, "start and end are both required"),
        (
            {"field": "sum(session)", "start": "2026-01-02", "end": "2026-01-01"},
            "start must be before end",
        ),
        (
            {"field": "sum(session)", "start": "soon", "end": "later"},
            "start or end date not in a valid format: 'soon'",
        ),
        (
            {"field": "sum(session)", "statsPeriod": "90d", "interval": "1m"},
            "Your interval and date range would create too many results; ask for a larger one",
        ),
        ({"field": "sum(session)", "project": "99"}, "Invalid project: '99'"),
        ({"field": "sum(session)", "query": "weather:fine"}, "Invalid query field: 'weather'"),
        (
            {"field": "sum(session)", "query": "fine"},
            "Invalid query: 'fine' is not of the form key:value",
        ),
        (
            {"field": "sum(session)", "orderBy": "p50(session.duration)"},
            'Invalid orderBy: "p50(session.duration)" is not among the fields',
        ),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(
    server: LocalServer, query: dict[str, Any], detail: str
) -> None:
    answer = ask(server, "sessions/", **query)
    assert (answer.status, answer.json) == (400, {"detail": detail})


@pytest.fixture(scope="module")
def filled() -> Any:
    """A server with sessions of three releases in two environments and two projects."""
    with LocalServer(projects=("app", "web")) as server:
        now = time.time()
        for project, release, environment, count in (
            ("app", "shop@1.0", "production", 3),
            ("app", "shop@1.1", "production", 2),
            ("app", "shop@1.1", "staging", 1),
            ("web", "site@9", None, 4),
        ):
            items = [
                ("session", session(now, release=release, environment=environment, init=True))
                for _ in range(count)
            ]
            assert send(server, envelope(*items), project=project).status == 200
        yield server


def _sum(server: LocalServer, **query: Any) -> int:
    answer = ask(server, "sessions/", field="sum(session)", statsPeriod="1h", **query)
    assert answer.status == 200, answer.body
    return sum(group["totals"]["sum(session)"] for group in answer.json["groups"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, 10),
        ({"project": "app"}, 6),
        ({"project": "-1"}, 10),
        ({"project": ["1", "2"]}, 10),
        ({"environment": "production"}, 5),
        ({"environment": ["production", "staging"]}, 6),
        ({"environment": "unknown"}, 0),
        ({"query": "release:shop@1.1"}, 3),
        ({"query": '!release:"shop@1.1"'}, 7),
        ({"query": "release:shop@*"}, 6),
        ({"query": "release:[shop@1.0,site@9]"}, 7),
        ({"query": "release:shop@1.1 environment:staging"}, 1),
        ({"query": "environment:staging AND project:app"}, 1),
        ({"query": "!project:web"}, 6),
        ({"query": 'environment:""'}, 4),
        ({"query": "release:nothing"}, 0),
    ],
)
def test_the_search_picks_the_right_sessions(
    filled: LocalServer, query: dict[str, Any], expected: int
) -> None:
    assert _sum(filled, **query) == expected


def test_groups_come_in_the_order_asked_for(filled: LocalServer) -> None:
    answer = ask(
        filled,
        "sessions/",
        field=["sum(session)", "crash_free_rate(user)"],
        groupBy="release",
        orderBy="-sum(session)",
        statsPeriod="1h",
        per_page=2,
    ).json
    assert [group["by"]["release"] for group in answer["groups"]] == ["site@9", "shop@1.0"] or [
        group["totals"]["sum(session)"] for group in answer["groups"]
    ] == [4, 3]


def test_totals_and_series_can_be_left_out(filled: LocalServer) -> None:
    query = {"field": "sum(session)", "statsPeriod": "1h"}
    without = ask(filled, "sessions/", includeSeries="0", **query).json["groups"][0]
    assert set(without) == {"by", "totals"}
    without = ask(filled, "sessions/", includeTotals="0", **query).json["groups"][0]
    assert set(without) == {"by", "series"}


def test_a_server_without_sessions_has_zeros_and_nulls(server: LocalServer) -> None:
    answer = ask(
        server,
        "sessions/",
        field=["sum(session)", "crash_free_rate(session)"],
        statsPeriod="2h",
        interval="1h",
    ).json
    (group,) = answer["groups"]
    assert group["totals"] == {"sum(session)": 0, "crash_free_rate(session)": None}
    assert len(group["series"]["sum(session)"]) == len(answer["intervals"])
    assert ask(server, "sessions/", field="sum(session)", groupBy="release").json["groups"] == []
