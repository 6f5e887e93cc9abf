"""Histories against a model that counts by brute force: the promise of exact numbers.

The server is fed over HTTP, in any order, with duplicates, losses and late updates, and is asked
for any range, group and interval. Its clock is moved by the test.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from crashfree._protocol.timestamps import parse_rfc3339
from crashfree.server import LocalServer
from crashfree.server.release_health import refresh_stages
from tests.support import vectors
from tests.support.clock import FakeClock
from tests.support.memory_engine import MemoryEngine
from tests.support.serving import ask, envelope, rfc3339, send, session

_DAY = 86_400
_HOUR = 3600
_START = 1_790_000_000.0 // _DAY * _DAY
_STATUSES = ("healthy", "errored", "crashed", "abnormal", "unhandled")
_PRECEDENCE = ("ok", "exited", "vanished", "unhandled", "abnormal", "crashed")
_FIELDS = (
    "sum(session)",
    "count_unique(user)",
    "crash_free_rate(session)",
    "crash_free_rate(user)",
    "crash_rate(session)",
    "unhandled_rate(session)",
    "errored_rate(user)",
    "abnormal_rate(user)",
    "anr_rate()",
    "foreground_anr_rate()",
    "p50(session.duration)",
    "p95(session.duration)",
    "avg(session.duration)",
    "max(session.duration)",
)


@dataclass
class Counted:
    """Sessions the model has counted: one of them, or a bucket of them."""

    started: float
    project: str
    release: str
    environment: str
    did: str | None
    status: str
    count: int = 1
    duration: float | None = None
    mechanism: str | None = None


@dataclass
class Truth:
    """The model: every session as it must have ended up."""

    sessions: list[Counted] = field(default_factory=list)

    def numbers(self, rows: Sequence[Counted]) -> dict[str, Any]:
        total = sum(row.count for row in rows)
        by_status = {
            status: sum(row.count for row in rows if row.status == status) for status in _STATUSES
        }
        users = {row.did for row in rows if row.did}
        hurt = {row.did for row in rows if row.did and row.status != "healthy"}
        users_of = {
            status: {row.did for row in rows if row.did and row.status == status}
            for status in _STATUSES
        }
        hung = {row.did for row in rows if row.did and row.mechanism}
        hung_in_front = {row.did for row in rows if row.did and row.mechanism == "anr_foreground"}
        times = sorted(row.duration for row in rows if row.duration is not None)

        def rate(part: int, whole: int) -> float | None:
            return part / whole if whole else None

        def free(part: int, whole: int) -> float | None:
            return 1 - part / whole if whole else None

        def quantile(share: float) -> float | None:
            if not times:
                return None
            at = (len(times) - 1) * share
            low = times[int(at)]
            high = times[min(int(at) + 1, len(times) - 1)]
            return (low + (high - low) * (at - int(at))) * 1000

        return {
            "sum(session)": total,
            "count_unique(user)": len(users),
            "crash_free_rate(session)": free(by_status["crashed"], total),
            "crash_free_rate(user)": free(len(users_of["crashed"]), len(users)),
            "crash_rate(session)": rate(by_status["crashed"], total),
            "unhandled_rate(session)": rate(by_status["crashed"] + by_status["unhandled"], total),
            "errored_rate(user)": rate(len(hurt), len(users)),
            "abnormal_rate(user)": rate(len(users_of["abnormal"]), len(users)),
            "anr_rate()": rate(len(hung), len(users)),
            "foreground_anr_rate()": rate(len(hung_in_front), len(users)),
            "p50(session.duration)": quantile(0.5),
            "p95(session.duration)": quantile(0.95),
            "avg(session.duration)": sum(times) / len(times) * 1000 if times else None,
            "max(session.duration)": times[-1] * 1000 if times else None,
        }


def _micros(seconds: float) -> float:
    return round(seconds * 1e6) / 1e6


class _World:
    """Makes sessions, what is sent of them, and what must come out."""

    def __init__(self, seed: int, days: int) -> None:
        self.dice = random.Random(seed)
        self.days = days
        self.truth = Truth()
        self.sent: list[tuple[float, str, str, dict[str, Any]]] = []
        self.counters = {"duplicate_init": 0, "missing_init": 0}

    def _send(self, at: float, project: str, kind: str, data: dict[str, Any]) -> None:
        # By the end of the history: its clock does not go back afterwards.
        self.sent.append((min(at, _START + (self.days + 1) * _DAY), project, kind, data))

    def _place(self) -> tuple[float, str, str, str, str | None]:
        dice = self.dice
        return (
            _micros(_START + dice.random() * self.days * _DAY),
            dice.choice(("app", "web")),
            dice.choice(("shop@1.0", "shop@1.1", "shop@2.0", "other")),
            dice.choice(("", "production", "staging")),
            dice.choice((None, *(f"user-{n}" for n in range(60)))),
        )

    def session(self) -> None:
        """One session with one to four updates, some of which may never arrive."""
        dice = self.dice
        started, project, release, environment, did = self._place()
        sid = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        states: list[dict[str, Any]] = [{"status": "ok", "errors": 0, "init": True}]
        errors = 0
        if dice.random() < 0.4:
            errors = dice.randrange(1, 5)
            states.append({"status": "ok", "errors": errors})
        end = dice.choice(("exited", "exited", "exited", "crashed", "unhandled", "abnormal", None))
        if end is not None:
            final: dict[str, Any] = {"status": end, "errors": errors + (end != "exited")}
            if end == "exited" and dice.random() < 0.7:
                final["duration"] = round(dice.random() * 3000, 3)
            if end == "abnormal" and dice.random() < 0.7:
                final["abnormal_mechanism"] = dice.choice(("anr_foreground", "anr_background"))
            states.append(final)
            if end == "abnormal" and dice.random() < 0.3:
                # The recovery guessed; then the crash itself arrived.
                states.append({"status": "crashed", "errors": errors + 1})
        for number, state in enumerate(states):
            state["seq"] = number
        arriving = [state for state in states if dice.random() < 0.95]
        if not arriving:
            return
        self.truth.sessions.append(
            self._outcome(arriving, started, project, release, environment, did)
        )
        if not any(state.get("init") for state in arriving):
            self.counters["missing_init"] += 1
        for state in arriving:
            copies = dice.choice((1, 1, 1, 2, 3))
            if state.get("init"):
                self.counters["duplicate_init"] += copies - 1
            for _ in range(copies):
                delay = dice.choice((0, 1, _HOUR, _DAY, 4.9 * _DAY)) * dice.random()
                update = session(
                    started,
                    sid=dice.choice((sid, sid.replace("-", ""))),
                    release=release,
                    environment=environment or None,
                    **({"did": did} if did else {}),
                    **state,
                )
                update["timestamp"] = rfc3339(started + state["seq"])
                self._send(started + 10 + delay, project, "session", update)

    @staticmethod
    def _outcome(
        states: Sequence[dict[str, Any]],
        started: float,
        project: str,
        release: str,
        environment: str,
        did: str | None,
    ) -> Counted:
        last = max(states, key=lambda state: (_PRECEDENCE.index(state["status"]), state["seq"]))
        errors = max(state["errors"] for state in states)
        status = last["status"]
        if status in ("ok", "exited"):
            status = "errored" if errors else "healthy"
        return Counted(
            started,
            project,
            release,
            environment,
            did,
            status,
            duration=last.get("duration"),
            mechanism=last.get("abnormal_mechanism"),
        )

    def bucket(self) -> None:
        """One bucket of aggregates."""
        dice = self.dice
        started, project, release, environment, did = self._place()
        started = started // 60 * 60
        counts = {status: dice.choice((0, 0, 1, 7)) for status in _STATUSES}
        row: dict[str, Any] = {"started": rfc3339(started)}
        if did:
            row["did"] = did
        for status, count in counts.items():
            if count:
                row["exited" if status == "healthy" else status] = count
                self.truth.sessions.append(
                    Counted(started, project, release, environment, did, status, count)
                )
        attrs = {"release": release, **({"environment": environment} if environment else {})}
        late = dice.random() * 4 * _DAY
        self._send(started + 70 + late, project, "sessions", {"attrs": attrs, "aggregates": [row]})

    def deliver(self, server: LocalServer, clock: FakeClock) -> None:
        """Send everything, in the order of arrival, several items an envelope."""
        dice = self.dice
        self.sent.sort(key=lambda each: each[0])
        at = 0
        while at < len(self.sent):
            # What is sent together was made within an hour, or the oldest might be refused.
            until = self.sent[at][0] + _HOUR
            batch = [each for each in self.sent[at : at + dice.randrange(1, 60)] if each[0] < until]
            at += len(batch)
            clock.set_wall(batch[-1][0])
            for project in ("app", "web"):
                items = [(kind, data) for _, where, kind, data in batch if where == project]
                dice.shuffle(items)
                if items:
                    assert send(server, envelope(*items), project=project).status == 200
            if dice.random() < 0.1:
                server.store.fold_users(at_least=1, step=37)
            if dice.random() < 0.05:
                server.store.settle_users()
            if dice.random() < 0.05:
                server.store.seal_durations(before_day=int(clock.time() // _DAY) + 1)


_ENGINES = [pytest.param(None, id="sqlite"), pytest.param(MemoryEngine, id="memory")]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((1, None), id="1"),
        pytest.param((2, None), id="2"),
        pytest.param((3, MemoryEngine), id="3-memory"),
    ],
)
def world(request: pytest.FixtureRequest) -> Iterator[tuple[_World, LocalServer, FakeClock]]:
    clock = FakeClock(_START)
    seed, engine = request.param
    made = _World(seed, days=30)
    for _ in range(2000):
        made.session()
    for _ in range(400):
        made.bucket()
    own = engine and engine()
    with LocalServer(clock=clock, projects=("app", "web"), engine=own) as server:
        made.deliver(server, clock)
        clock.set_wall(_START + 31 * _DAY)
        yield made, server, clock


def _selected(
    truth: Truth, start: float, end: float, project: str | None, environment: str | None
) -> list[Counted]:
    return [
        row
        for row in truth.sessions
        if start <= row.started < end
        and project in (None, row.project)
        and environment in (None, row.environment)
    ]


def _same(found: dict[str, Any], expected: dict[str, Any], where: object) -> None:
    for name, value in found.items():
        wanted = expected[name]
        if wanted is None or value is None:
            assert value == wanted, (where, name)
        else:
            assert value == pytest.approx(wanted, rel=1e-9, abs=1e-9), (where, name)


@pytest.mark.slow
def test_every_range_group_and_interval_is_exact(
    world: tuple[_World, LocalServer, FakeClock],
) -> None:
    made, server, _ = world
    dice = random.Random(99)
    for _ in range(60):
        start = _START + dice.random() * 29 * _DAY
        length = dice.choice((600, _HOUR, 6 * _HOUR, _DAY, 3 * _DAY, 16 * _DAY, 30 * _DAY))
        start, end = _micros(start), _micros(start + length * (0.5 + dice.random()))
        if dice.random() < 0.3:
            start = start // _HOUR * _HOUR
        if dice.random() < 0.3:
            end = end // _DAY * _DAY + _DAY
        interval = dice.choice(
            [
                (text, step)
                for text, step in (
                    ("1m", 60),
                    ("10m", 600),
                    ("1h", _HOUR),
                    ("6h", 6 * _HOUR),
                    ("1d", _DAY),
                    ("7d", 7 * _DAY),
                )
                if (end - start) / step <= 800
            ]
        )
        project = dice.choice((None, "app", "web"))
        environment = dice.choice((None, "production"))
        group = dice.choice(
            ((), ("release",), ("environment",), ("project", "release"), ("release", "environment"))
        )
        query: dict[str, Any] = {
            "start": rfc3339(start),
            "end": rfc3339(end),
            "interval": interval[0],
            "field": _FIELDS,
            "groupBy": group,
        }
        if project:
            query["project"] = project
        if environment:
            query["environment"] = environment
        answer = ask(server, "sessions/", **query)
        assert answer.status == 200, answer.body
        _check(made.truth, answer.json, start, end, interval[1], project, environment, group)


def _check(
    truth: Truth,
    found: dict[str, Any],
    start: float,
    end: float,
    step: float,
    project: str | None,
    environment: str | None,
    group: Sequence[str],
) -> None:
    rows = _selected(truth, start, end, project, environment)
    ids = {"app": 1, "web": 2}

    def key(row: Counted) -> tuple[object, ...]:
        values = {"release": row.release, "environment": row.environment}
        return tuple(ids[row.project] if name == "project" else values[name] for name in group)

    expected: dict[tuple[object, ...], list[Counted]] = {}
    for row in rows:
        expected.setdefault(key(row), []).append(row)
    groups = {tuple(each["by"][name] for name in group): each for each in found["groups"]}
    assert set(groups) == (set(expected) or ({()} if not group else set()))
    first = start // step * step
    for name, each in groups.items():
        mine = expected.get(name, [])
        _same(each["totals"], truth.numbers(mine), (name, "totals"))
        for point in range(len(found["intervals"])):
            inside = [
                row
                for row in mine
                if first + point * step <= row.started < first + (point + 1) * step
            ]
            _same(
                {field: series[point] for field, series in each["series"].items()},
                truth.numbers(inside),
                (name, point),
            )


@pytest.mark.slow
def test_every_status_group_is_exact(world: tuple[_World, LocalServer, FakeClock]) -> None:
    made, server, _ = world
    answer = ask(
        server,
        "sessions/",
        start=rfc3339(_START),
        end=rfc3339(_START + 30 * _DAY),
        interval="1d",
        field=("sum(session)", "count_unique(user)", "crash_free_rate(session)"),
        groupBy="session.status",
    ).json
    rows = made.truth.sessions
    for each in answer["groups"]:
        status = each["by"]["session.status"]
        mine = [row for row in rows if row.status == status]
        assert each["totals"]["sum(session)"] == sum(row.count for row in mine)
        assert each["totals"]["crash_free_rate(session)"] is None
    users = {
        each["by"]["session.status"]: each["totals"]["count_unique(user)"]
        for each in answer["groups"]
    }
    everyone = {row.did for row in rows if row.did}
    hurt = {row.did for row in rows if row.did and row.status != "healthy"}
    assert users["healthy"] == len(everyone - hurt)
    assert users["crashed"] == len({r.did for r in rows if r.did and r.status == "crashed"})


@pytest.mark.slow
def test_what_was_odd_is_counted(world: tuple[_World, LocalServer, FakeClock]) -> None:
    """Source: sessions.md section 5.3: duplicate_init, missing_init, late_update."""
    made, server, _ = world
    if isinstance(server.store.engine, MemoryEngine):
        pytest.skip("these counters are SQLite's own")
    with server.store.read() as db:
        found = {
            row["reason"]: row["n"]
            for row in db.execute(
                "SELECT reason, sum(quantity) AS n FROM tallies WHERE what = 'sessions'"
                " GROUP BY reason"
            )
        }
    assert found["duplicate_init"] == made.counters["duplicate_init"]
    assert found["missing_init"] == made.counters["missing_init"]
    assert found["late_update"] > 0


@pytest.mark.slow
def test_a_replay_of_everything_changes_no_session(
    world: tuple[_World, LocalServer, FakeClock],
) -> None:
    """Aggregates have no identity and add up; session updates do not."""
    made, server, clock = world
    updates = [each for each in made.sent if each[2] == "session"]
    truth = made.truth.numbers(made.truth.sessions)
    wall = clock.time()
    recent = [each for each in updates if each[0] > wall - 4 * _DAY]
    assert recent
    for _, project, kind, data in recent:
        if wall - parse_rfc3339(data["started"]) < 5 * _DAY:
            assert send(server, envelope((kind, data)), project=project).status == 200
    answer = ask(
        server,
        "sessions/",
        start=rfc3339(_START),
        end=rfc3339(_START + 40 * _DAY),
        interval="7d",
        field=_FIELDS,
    ).json
    _same(answer["groups"][0]["totals"], truth, "after the replay")


# The examples of the specification.


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(case, id=case["name"])
        for case in vectors.load("sessions.json")
        if case["input"]["kind"] == kind
    ]


@pytest.fixture(params=_ENGINES)
def fresh(request: pytest.FixtureRequest) -> Iterator[tuple[LocalServer, FakeClock]]:
    clock = FakeClock(_START)
    with LocalServer(clock=clock, engine=request.param and request.param()) as server:
        yield server, clock


def _sessions(server: LocalServer, *fields: str, start: float, end: float) -> dict[str, Any]:
    answer = ask(
        server, "sessions/", start=rfc3339(start), end=rfc3339(end), interval="1d", field=fields
    )
    assert answer.status == 200, answer.body
    return dict(answer.json["groups"][0])


@pytest.mark.parametrize("case", _cases("range_rates"))
def test_a_week_is_not_the_average_of_its_days(
    fresh: tuple[LocalServer, FakeClock], case: dict[str, Any]
) -> None:
    """Seven users, one other of whom crashes each day: 85.7 % every day, 0 % over the week."""
    server, clock = fresh
    for each in case["input"]["sessions"]:
        started = _START + (each["day"] - 1) * _DAY + 7 * _HOUR
        clock.set_wall(started + 60)
        update = session(started, did=each["did"], status=each["status"], init=True)
        assert send(server, envelope(("session", update))).status == 200
    found = _sessions(
        server,
        "crash_free_rate(user)",
        "crash_free_rate(session)",
        start=_START,
        end=_START + 7 * _DAY,
    )
    expect = case["expect"]
    each_day = [round(rate * 100, 1) for rate in found["series"]["crash_free_rate(user)"]]
    assert each_day == expect["crash_free_users_percent_each_day"] == [85.7] * 7
    week = found["totals"]
    assert round(week["crash_free_rate(user)"] * 100, 1) == 0.0
    assert (
        round(week["crash_free_rate(session)"] * 100, 1)
        == expect["crash_free_sessions_percent_7_days"]
    )


@pytest.mark.parametrize("case", _cases("user_sets"))
def test_a_user_with_a_crash_is_one_crashed_user(
    fresh: tuple[LocalServer, FakeClock], case: dict[str, Any]
) -> None:
    server, _ = fresh
    for each in case["input"]["sessions"]:
        update = session(_START, init=True, **each)
        assert send(server, envelope(("session", update))).status == 200
    found = _sessions(
        server, "count_unique(user)", "crash_free_rate(user)", start=_START, end=_START + _DAY
    )["totals"]
    assert found["count_unique(user)"] == case["expect"]["users"]
    assert found["crash_free_rate(user)"] == case["expect"]["crash_free_user_rate"]


@pytest.mark.parametrize("case", _cases("stream_additive"))
def test_updates_of_one_session_count_once_in_any_order(
    fresh: tuple[LocalServer, FakeClock], case: dict[str, Any]
) -> None:
    """Upstream adds up without memory; ours remembers, so a repetition counts once."""
    server, _ = fresh
    updates = case["input"]["updates"]
    for update in updates:
        body = session(_START, **update)
        assert send(server, envelope(("session", body))).status == 200
    found = _sessions(
        server, "sum(session)", "crash_free_rate(session)", start=_START, end=_START + _DAY
    )["totals"]
    crashed = any(update["status"] == "crashed" for update in updates)
    assert found == {"sum(session)": 1, "crash_free_rate(session)": 0.0 if crashed else 1.0}


@pytest.mark.parametrize("case", _cases("range_bucket"))
def test_a_crash_counts_where_its_session_began(
    fresh: tuple[LocalServer, FakeClock], case: dict[str, Any]
) -> None:
    server, clock = fresh
    started = parse_rfc3339(case["input"]["started"])
    clock.set_wall(parse_rfc3339(case["input"]["crash_reported_at"]))
    update = session(started, status="crashed", init=True)
    assert send(server, envelope(("session", update))).status == 200
    hour = parse_rfc3339(case["expect"]["bucket_hour"])
    answer = ask(
        server,
        "sessions/",
        start=rfc3339(hour - _HOUR),
        end=rfc3339(hour + 12 * _HOUR),
        interval="1h",
        field="crash_rate(session)",
    ).json
    series = answer["groups"][0]["series"]["crash_rate(session)"]
    assert series[1] == 1.0
    assert all(value is None for at, value in enumerate(series) if at != 1)


def test_no_sessions_have_no_rates(fresh: tuple[LocalServer, FakeClock]) -> None:
    server, _ = fresh
    found = _sessions(server, *_FIELDS, start=_START, end=_START + _DAY)["totals"]
    assert found.pop("sum(session)") == 0
    assert found.pop("count_unique(user)") == 0
    assert set(found.values()) == {None}


def test_adoption_goes_up_down_and_up_again(fresh: tuple[LocalServer, FakeClock]) -> None:
    """9 of 100 sessions are too few, 10 are enough; then replaced, then adopted again."""

    server, clock = fresh

    def stage(new: int, old: int) -> tuple[str, bool, bool]:
        clock.advance(7 * _HOUR)
        for release, count in (("new", new), ("old", old)):
            payload = {
                "attrs": {"release": release, "environment": "production"},
                "aggregates": [{"started": rfc3339(clock.time() - 60), "exited": count}],
            }
            assert send(server, envelope(("sessions", payload))).status == 200
        with server.store.write() as db:
            refresh_stages(db, server.store.counts(db), now=clock.time())
        for release in ask(server, "releases/", health=1, adoptionStages=1).json:
            if release["version"] == "new":
                found = release["adoptionStages"]["app"]
                return found["stage"], found["adopted"] is not None, found["unadopted"] is not None
        raise AssertionError("no such release")

    assert stage(9, 91) == ("low_adoption", False, False)
    assert stage(10, 90) == ("adopted", True, False)
    assert stage(5, 95) == ("replaced", True, True)
    assert stage(50, 50) == ("adopted", True, False)
