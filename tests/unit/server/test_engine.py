"""Another engine for sessions than SQLite: the same questions, over HTTP, have the same answers."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import crashfree.server
from crashfree.server import LocalServer
from crashfree.server.engine import Busy, Unavailable
from crashfree.server.release_health import refresh_stages
from crashfree.server.release_list import SORTS
from crashfree.server.sessions_api import FIELDS
from tests.support.clock import FakeClock
from tests.support.memory_engine import MemoryEngine
from tests.support.serving import Answer, ask, call, envelope, rfc3339, send, session

_DAY = 86_400
_START = 1_790_000_000.0 // _DAY * _DAY
_DAYS = 9
_RELEASES = ("shop@1.0", "shop@1.1+7", "shop@2.0-rc.1", "other", "web@3.0")


class _Pair(NamedTuple):
    """Two servers that were told the same."""

    sqlite: LocalServer
    memory: LocalServer
    clock: FakeClock

    def both(self, path: str, **query: Any) -> Any:
        """Return what both answer; it must be the same."""
        mine, other = (ask(server, path, **query) for server in (self.memory, self.sqlite))
        assert mine.status == other.status
        found = _without_address(mine, self.memory)
        assert found == _without_address(other, self.sqlite)
        return found


def _without_address(answer: Answer, server: LocalServer) -> Any:
    text = answer.body.decode().replace(server.url, "http://server")
    return type(answer)(answer.status, answer.headers, text.encode()).json


def _history(dice: random.Random) -> Iterator[tuple[float, str, tuple[str, object]]]:
    """Yield what is sent: when it comes, to which project, kind and payload."""
    sent: list[tuple[float, str, tuple[str, object]]] = []
    for _ in range(500):
        started = round(_START + dice.random() * (_DAYS - 1) * _DAY, 3)
        project = dice.choice(("app", "web"))
        attributes: dict[str, Any] = {
            "release": dice.choice(_RELEASES),
            "environment": dice.choice((None, "production", "staging")),
            "did": dice.choice((None, *(f"user-{n}" for n in range(30)))),
            "sid": str(uuid.UUID(int=dice.getrandbits(128), version=4)),
        }
        end = dice.choice(("exited", "exited", "crashed", "unhandled", "abnormal", "odd", "ok"))
        states: list[dict[str, Any]] = [
            {"status": "ok", "init": True, "seq": 0},
            {"status": "ok", "errors": dice.choice((0, 0, 3)), "seq": 1},
            {"status": end, "duration": round(dice.random() * 900, 2), "seq": 2},
        ]
        if end == "abnormal":
            states[2]["abnormal_mechanism"] = dice.choice(("anr_foreground", "anr_background"))
        for state in states * 2:
            if dice.random() < 0.8:
                update = session(started, **attributes, **state)
                late = dice.choice((1, 3600, 3 * _DAY)) * dice.random()
                sent.append((started + 5 + late, project, ("session", update)))
    for _ in range(150):
        started = _START + dice.randrange((_DAYS - 1) * 1440) * 60
        bucket: dict[str, Any] = {
            "started": rfc3339(started),
            **{name: dice.choice((0, 1, 6)) for name in ("exited", "errored", "crashed")},
        }
        if dice.random() < 0.5:
            bucket["did"] = f"user-{dice.randrange(40)}"
        payload = {"attrs": {"release": dice.choice(_RELEASES)}, "aggregates": [bucket] * 2}
        sent.append((started + 70, dice.choice(("app", "web")), ("sessions", payload)))
    for number in range(30):
        at = _START + dice.random() * (_DAYS - 1) * _DAY
        event = {
            "event_id": f"{number:032x}",
            "message": f"kind {number % 4}",
            "release": dice.choice(_RELEASES),
            "timestamp": at,
        }
        sent.append((at, "app", ("event", event)))
    return iter(sorted(sent, key=lambda each: each[0]))


def _judge(server: LocalServer, now: float) -> None:
    """Judge adoption as the upkeep does, at the same hours whenever its own turns came."""
    with server.store.write() as db:
        db.execute("UPDATE release_environments SET adopted = NULL, unadopted = NULL")
        for hours in range(72, -1, -6):
            refresh_stages(db, server.store.counts(db), now=now - hours * 3600)


@pytest.fixture(scope="module")
def pair() -> Iterator[_Pair]:
    clock = FakeClock(_START)
    projects = ("app", "web", "empty")
    with (
        LocalServer(clock=clock, projects=projects) as sqlite,
        LocalServer(clock=clock, projects=projects, engine=MemoryEngine()) as memory,
    ):
        told = _history(random.Random(5))
        while several := [*islice(told, 20)]:
            clock.set_wall(several[-1][0])
            for project in ("app", "web"):
                items = [item for _, where, item in several if where == project]
                together = [item for item in items if item[0] != "event"]
                for body in (together, *([item] for item in items if item[0] == "event")):
                    for server in (sqlite, memory):
                        assert send(server, envelope(*body), project=project).status == 200
        clock.set_wall(_START + (_DAYS - 1) * _DAY)
        for server in (sqlite, memory):
            _judge(server, clock.time())
        yield _Pair(sqlite, memory, clock)


def test_the_second_engine_alone_has_the_sessions(pair: _Pair) -> None:
    """Else the rest of this file would compare SQLite with itself."""
    with pair.memory.store.read() as db:
        for table in ("sessions", "session_keys", "aggregates", "counts_day", "user_recent"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
        assert db.execute("SELECT count(*) FROM events").fetchone()[0] == 30
    engine = pair.memory.store.engine
    assert len(engine.sessions) > 400
    updates = [update for each in engine.sessions.values() for update in each]
    assert {update.fact.did for update in updates} == {None}, "users are numbers by now"


_GROUPS = (
    (),
    ("release",),
    ("project", "environment"),
    ("release", "session.status"),
    ("project", "release", "environment"),
)


@pytest.mark.parametrize("group", _GROUPS, ids=",".join)
@pytest.mark.parametrize(
    "span",
    [
        {"statsPeriod": "24h", "interval": "1h"},
        {"statsPeriod": "7d", "interval": "1d"},
        {
            "start": rfc3339(_START + 12_345.678),
            "end": rfc3339(_START + 6 * _DAY + 1.5),
            "interval": "6h",
        },
    ],
    ids=lambda span: span["interval"],
)
def test_sessions_are_the_same(pair: _Pair, group: tuple[str, ...], span: dict[str, str]) -> None:
    fields = ("sum(session)", "count_unique(user)") if "session.status" in group else (*FIELDS,)
    found = pair.both("sessions/", field=fields, groupBy=group, **span)
    assert sum(each["totals"]["sum(session)"] for each in found["groups"]) > 50


@pytest.mark.parametrize(
    "query",
    [
        {"query": "release.version:>1.0"},
        {"query": "release.stage:adopted"},
        {"query": "release.package:shop !environment:staging"},
        {"query": "release:latest"},
        {"project": "web", "environment": "production"},
        {"project": "empty"},
    ],
    ids=str,
)
def test_searched_sessions_are_the_same(pair: _Pair, query: dict[str, str]) -> None:
    pair.both("sessions/", field=(*FIELDS,), groupBy="release", statsPeriod="9d", **query)


@pytest.mark.parametrize("sort", SORTS)
def test_the_release_list_is_the_same_in_any_order(pair: _Pair, sort: str) -> None:
    query = {"health": 1, "adoptionStages": 1, "flatten": 1, "sort": sort}
    found = pair.both("releases/", **query, healthStatsPeriod="7d")
    assert any(each["projects"][0]["hasHealthData"] for each in found)


def test_releases_and_projects_are_the_same(pair: _Pair) -> None:
    for version in _RELEASES:
        found = pair.both(f"releases/{version.replace('+', '%2B')}/", health=1, adoptionStages=1)
        assert found["version"] == version
    found = pair.both("releases/", health=1, adoptionStages=1, environment="production")
    stages = {stage["stage"] for each in found for stage in each["adoptionStages"].values()}
    assert len(stages) > 1
    has_sessions = {each["slug"]: each["hasSessions"] for each in pair.both("projects/")}
    assert has_sessions == {"app": True, "web": True, "empty": False}
    pair.both("issues/")


def test_a_release_with_sessions_cannot_be_deleted(pair: _Pair) -> None:
    path = "/api/0/organizations/crashfree/releases/web@3.0/"
    answers = [call(server, "DELETE", path) for server in (pair.memory, pair.sqlite)]
    assert [answer.status for answer in answers] == [400, 400]
    assert answers[0].body == answers[1].body


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


def _both_kinds(server: LocalServer, release: str) -> Answer:
    update = session(1_790_000_000.0, init=True, release=release)
    bucket = {"attrs": {"release": release}, "aggregates": []}
    return send(server, envelope(("session", update), ("sessions", bucket), ("event", {})))


def _events(server: LocalServer) -> int:
    with server.store.read() as db:
        return int(db.execute("SELECT count(*) FROM events").fetchone()[0])


@pytest.mark.parametrize(
    ("error", "status"),
    [(Unavailable("full"), 503), (RuntimeError("a bug"), 500)],
    ids=["503", "500"],
)
def test_what_the_engine_cannot_write_is_written_nowhere(
    engine: MemoryEngine, error: Exception, status: int
) -> None:
    clock = FakeClock()
    with LocalServer(engine=engine, clock=clock) as server:
        engine.failing = [error]
        assert _both_kinds(server, "app@1").status == status
        assert (_events(server), len(engine.sessions)) == (0, 0)
        assert _both_kinds(server, "app@1").status == 200
        assert (_events(server), len(engine.sessions)) == (1, 1)


def test_an_engine_that_is_busy_is_asked_again(engine: MemoryEngine) -> None:
    with LocalServer(engine=engine, clock=FakeClock()) as server:
        engine.failing = [Busy(), Busy()]
        assert _both_kinds(server, "app@1").status == 200
        assert (_events(server), len(engine.sessions)) == (1, 1)


def test_a_name_that_the_engine_has_seen_keeps_its_number(engine: MemoryEngine) -> None:
    """A failure after the engine was asked must not free the number for another release."""
    with LocalServer(engine=engine, clock=FakeClock()) as server:
        engine.failing = [RuntimeError("perhaps written, perhaps not")]
        assert _both_kinds(server, "app@1").status == 500
        assert _both_kinds(server, "app@2").status == 200
        with server.store.read() as db:
            numbers = dict(db.execute("SELECT version, id FROM releases").fetchall())
    assert len(set(numbers.values())) == len(numbers) == 2
    assert numbers["app@2"] == next(iter(engine.sessions.values()))[0].release_id


_TABLES = (
    "sessions",
    "session_keys",
    "aggregates",
    "counts_hour",
    "counts_day",
    "user_recent",
    "user_sets",
    "user_stale",
    "duration_days",
    "duration_stale",
)
_OF_SQLITE = {
    "catalog_schema.py",
    "counting.py",
    "durations.py",
    "pending.py",
    "recording.py",
    "schema.py",
    "store.py",
    "transfer.py",
    "upkeep.py",
    "users.py",
}


def test_only_the_first_engine_knows_its_tables() -> None:
    """Ingest, health, API and pages ask `engine`; else another engine would be asked in vain."""
    words = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE) (?:{'|'.join(_TABLES)})\b")
    folder = Path(crashfree.server.__file__).parent
    found = {file.name for file in folder.rglob("*.py") if words.search(file.read_text("utf-8"))}
    assert found
    assert found <= _OF_SQLITE


@pytest.mark.parametrize("name", ["intake", "ingest", "quick", "usual", "writer", "health"])
def test_ingest_and_health_know_no_database(name: str) -> None:
    source = (Path(crashfree.server.__file__).parent / f"{name}.py").read_text("utf-8")
    assert not re.search(
        r"^(?:import|from) .*\b(?:sqlite3|counting|recording)\b", source, re.MULTILINE
    )
