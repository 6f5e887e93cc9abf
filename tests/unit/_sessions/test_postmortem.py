"""How a dead run ended, and what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crashfree._protocol.timestamps import parse_rfc3339, rfc3339
from crashfree._sessions import evidence as machine
from crashfree._sessions.evidence import Evidence
from crashfree._sessions.journal import Journal
from crashfree._sessions.postmortem import PostMortem, examine
from tests.support.desk import Desk
from tests.support.units import ATTRIBUTES, Shop, totals
from tests.support.vectors import load

THEN = Evidence("boot-1", 0, "/app")
SEGFAULT = (
    b"Fatal Python error: Segmentation fault\n\n"
    b"Current thread 0x00007f2d3c5b1740 (most recent call first):\n"
    b'  File "/app/native.py", line 12 in call\n'
    b'  File "/app/main.py", line 3 in <module>\n'
)
DAY = 86_400.0


class Run:
    """An application that runs, and dies when the test says so."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.desk = Desk(open_journal=self._journal, **options)
        self.started = self.desk.clock.time()
        self.record = machine.run_record(
            ATTRIBUTES, THEN, started=self.started, defaults={"server_name": "web-1", "dist": "7"}
        )
        self.fault = b""

    def _journal(self) -> Journal | None:
        return Journal.create(str(self.directory / "session"))

    def died(
        self,
        *,
        now: Evidence = THEN,
        crashed_at: float | None = None,
        later: float = 60.0,
    ) -> PostMortem:
        path = self.directory / "session"
        files = {"run": self.record, "fault": self.fault}
        if path.exists():
            files["session"] = path.read_bytes()
        found = examine(
            files,
            now=self.desk.clock.time() + later,
            evidence=now,
            modified={} if crashed_at is None else {"fault": crashed_at},
        )
        assert found is not None
        return found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_nothing_readable_says_nothing() -> None:
    for files in ({}, {"run": b"{", "session": b"x", "ledger": b"y", "fault": b"z"}):
        assert examine(files, now=0.0, evidence=Evidence()) is None


# --- application mode ----------------------------------------


def test_a_killed_run_was_abnormal_when_it_was_last_seen(run: Run) -> None:
    """W32: SIGKILL 40 s in; the last heartbeat was at 30 s; an update had gone out at 10 s."""
    run.desk.sessions.begin()
    run.desk.wait(10)
    run.desk.sessions.delivered(run.desk.last)
    run.desk.wait(30)
    found = run.died()
    (update,) = found.updates
    assert found.ending.cause == "killed"
    assert update["sid"] == run.desk.sids[0]
    assert update["status"] == "abnormal"
    assert update["errors"] == 0
    assert update["started"] == rfc3339(run.started)
    assert update["timestamp"] == rfc3339(run.started + 30)
    assert update["duration"] == 30
    assert "init" not in update
    assert update["seq"] == 1


def test_init_is_said_if_no_update_went_through(run: Run) -> None:
    run.desk.sessions.begin()
    run.desk.wait(15)
    (update,) = run.died().updates
    assert update["init"] is True


def test_a_crash_is_at_the_time_of_the_crash(run: Run) -> None:
    """W33: a crash marker at started + 12 s."""
    run.desk.sessions.begin()
    run.desk.wait(12)
    run.fault = SEGFAULT
    found = run.died(crashed_at=run.started + 12)
    (update,) = found.updates
    assert (found.ending.cause, found.ending.signal) == ("crashed", "SIGSEGV")
    assert found.ending.crashed
    assert (update["status"], update["errors"], update["duration"]) == ("crashed", 1, 12)


def test_a_crash_right_after_the_start_is_not_older_than_the_session(run: Run) -> None:
    """The clock of files goes in steps, and lags behind the one that the session began by."""
    run.desk.sessions.begin()
    run.fault = SEGFAULT
    (update,) = run.died(crashed_at=run.started - 0.004).updates
    assert (update["status"], update["errors"], update["duration"]) == ("crashed", 1, 0.0)


def test_a_crash_older_than_the_session_is_not_its_own(run: Run) -> None:
    """W34."""
    run.desk.sessions.begin()
    run.desk.wait(10)
    run.fault = SEGFAULT
    (update,) = run.died(crashed_at=run.started - 5).updates
    assert update["status"] == "abnormal"


def test_killed_in_the_background_it_had_exited_when_it_was_left(run: Run) -> None:
    """W37."""
    run.desk.sessions.begin()
    run.desk.wait(100)
    run.desk.sessions.enter_background()
    run.desk.wait(10)
    (update,) = run.died().updates
    assert update["status"] == "exited"
    assert update["timestamp"] == rfc3339(run.started + 100)
    assert update["duration"] == 100


def test_back_in_the_foreground_a_kill_is_abnormal_again(run: Run) -> None:
    run.desk.sessions.begin()
    run.desk.wait(100)
    run.desk.sessions.enter_background()
    run.desk.wait(10)
    run.desk.sessions.enter_foreground()
    (update,) = run.died().updates
    assert (update["status"], update["duration"]) == ("abnormal", 100)


def test_errors_and_user_are_those_of_the_session(run: Run) -> None:
    run.desk.sessions.identify({"id": 7})
    run.desk.sessions.begin()
    run.desk.fail()
    run.desk.fail("unhandled")
    (update,) = run.died().updates
    assert (update["errors"], update["did"], update["status"]) == (2, "7", "abnormal")


def test_what_had_ended_and_was_not_told_is_told_as_it_ended(run: Run) -> None:
    run.desk.sessions.begin()
    run.desk.wait(5)
    run.desk.sessions.end()
    run.desk.wait(100)
    found = run.died()
    (update,) = found.updates
    assert (update["status"], update["duration"], update["init"]) == ("exited", 5, True)


def test_what_was_told_is_not_told_again(run: Run) -> None:
    run.desk.sessions.begin()
    run.desk.sessions.end()
    run.desk.sessions.delivered(run.desk.last)
    assert run.died().updates == ()


def test_a_last_word_says_init_unless_an_earlier_update_went_through(run: Run) -> None:
    run.desk.sessions.begin()
    run.desk.wait(10)
    first = run.desk.last
    run.desk.sessions.end()
    assert "init" not in run.desk.last
    (update,) = run.died().updates
    assert update["init"] is True
    run.desk.sessions.delivered(first)
    (update,) = run.died().updates
    assert "init" not in update


def test_an_exception_that_ended_the_run_is_a_crash_without_a_signal(run: Run) -> None:
    run.desk.sessions.begin()
    run.desk.fail("crashed")
    found = run.died()
    assert (found.ending.cause, found.ending.signal) == ("crashed", None)
    assert [update["status"] for update in found.updates] == ["crashed"]
    assert found.event is None


def test_an_orderly_end_leaves_nothing_behind(run: Run) -> None:
    run.desk.sessions.begin()
    run.desk.sessions.close()
    assert not run.desk.sessions.finish()
    run.desk.sessions.delivered(run.desk.last)
    assert run.desk.sessions.finish()
    assert not (run.directory / "session").exists()


def test_the_fifth_status_is_told_as_the_server_knows_it(tmp_path: Path) -> None:
    run = Run(tmp_path, unhandled_status="crashed")
    run.desk.sessions.begin()
    run.desk.fail("unhandled")
    run.desk.sessions.enter_background()
    (update,) = run.died().updates
    assert update["status"] == "crashed"


@pytest.mark.parametrize(("age", "told"), [(5 * DAY, 1), (5 * DAY + 1, 0)])
def test_nothing_older_than_five_days_is_told(run: Run, age: float, told: int) -> None:
    run.desk.sessions.begin()
    found = run.died(later=age)
    assert len(found.updates) == told
    assert found.expired == 1 - told


# --- how it ended ----------------------------------------


@pytest.mark.parametrize(
    ("now", "cause"),
    [
        (Evidence("boot-1", 0, "/app"), "killed"),
        (Evidence("boot-2", 0, "/app"), "reboot"),
        (Evidence("boot-1", 1, "/app"), "out_of_memory"),
        (Evidence("boot-1", 1, "/other"), "killed"),
        (Evidence("boot-1", None, None), "killed"),
        (Evidence(None, 3, "/app"), "out_of_memory"),
        (Evidence("boot-2", 3, "/app"), "reboot"),
    ],
)
def test_the_machine_says_why(run: Run, now: Evidence, cause: str) -> None:
    run.desk.sessions.begin()
    found = run.died(now=now)
    assert found.ending.cause == cause
    assert not found.ending.crashed
    assert [update["status"] for update in found.updates] == ["abnormal"]


def test_a_dump_is_stronger_than_a_reboot(run: Run) -> None:
    run.desk.sessions.begin()
    run.fault = SEGFAULT
    assert run.died(now=Evidence("boot-2")).ending.cause == "crashed"


def test_its_own_word_is_stronger_than_anything(run: Run) -> None:
    run.record = machine.run_record(ATTRIBUTES, THEN, started=run.started, defaults={}, clean=True)
    assert run.died(now=Evidence("boot-2")).ending.cause == "clean"


def test_the_ending_says_whose_it_was(run: Run) -> None:
    ending = run.died().ending
    assert ending.release == "app@1.0"
    assert ending.started == run.started
    assert ending.pid is not None
    assert ending.at == run.started


# --- the event ----------------------------------------


def test_a_crash_by_a_signal_is_an_event_of_the_run_that_died(run: Run) -> None:
    run.desk.sessions.begin()
    run.fault = SEGFAULT
    event: Any = run.died(crashed_at=run.started + 3).event
    assert event["release"] == "app@1.0"
    assert event["environment"] == "test"
    assert (event["server_name"], event["dist"]) == ("web-1", "7")
    assert event["level"] == "fatal"
    assert event["timestamp"] == run.started + 3
    (value,) = event["exception"]["values"]
    assert (value["type"], value["value"]) == ("SIGSEGV", "Segmentation fault")
    assert value["mechanism"]["handled"] is False
    assert [frame["function"] for frame in value["stacktrace"]["frames"]] == ["<module>", "call"]
    assert len(event["event_id"]) == 32


def test_an_old_crash_makes_no_event(run: Run) -> None:
    run.desk.sessions.begin()
    run.fault = SEGFAULT
    assert run.died(crashed_at=run.started, later=6 * DAY).event is None


# --- request mode ----------------------------------------


def dead_shop(shop: Shop, fault: bytes = b"", **options: Any) -> PostMortem:
    assert shop.path is not None
    record = machine.run_record(ATTRIBUTES, THEN, started=shop.clock.time(), defaults={}, **options)
    files = {"ledger": shop.path.read_bytes(), "fault": fault, "run": record}
    found = examine(files, now=shop.clock.time() + 60, evidence=THEN)
    assert found is not None
    return found


def test_units_in_flight_share_the_fate_of_the_process(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    shop.serve("errored")
    units = [shop.requests.begin() for _ in range(3)]
    assert totals(dead_shop(shop).aggregates) == {"exited": 1, "errored": 1, "abnormal": 3}
    crashed = dead_shop(shop, SEGFAULT)
    assert totals(crashed.aggregates) == {"exited": 1, "errored": 1, "crashed": 3}
    assert crashed.event is not None
    assert totals(dead_shop(shop, clean=True).aggregates) == {
        "exited": 1,
        "errored": 1,
        "abnormal": 3,
    }
    units[0].end()
    assert totals(dead_shop(shop).aggregates)["abnormal"] == 2


def test_a_unit_that_had_crashed_already_is_crashed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    unit = shop.requests.begin()
    shop.requests.begin()
    unit.account("crashed")
    assert totals(dead_shop(shop).aggregates) == {"crashed": 1, "abnormal": 1}


def test_what_was_on_loan_is_told_and_what_was_settled_is_not(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    shop.flush()
    shop.serve("errored")
    assert shop.aggregator.take() is not None
    shop.serve("crashed")
    assert totals(dead_shop(shop).aggregates) == {"errored": 1, "crashed": 1}


def test_users_are_told(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve(user="ann")
    shop.aggregator.take()
    shop.serve("crashed", user="bob")
    (payload,) = dead_shop(shop).aggregates
    assert {row.get("did") for row in payload["aggregates"]} == {"ann", "bob"}


def test_minutes_older_than_five_days_are_left_out(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    shop.clock.advance(6 * DAY)
    shop.serve("crashed")
    found = dead_shop(shop)
    assert totals(found.aggregates) == {"crashed": 1}
    assert found.expired == 1


# --- the vectors ----------------------------------------

RECOVERIES = [
    case
    for case in load("sessions.json")
    if case["input"]["kind"] == "recovery_native"
    and not case["input"]["locked"]
    and case["input"]["status"] == "ok"
]


@pytest.mark.parametrize("case", RECOVERIES, ids=lambda case: case["name"])
def test_recovery_vectors(case: dict[str, Any], tmp_path: Path) -> None:
    given, expected = case["input"], case["expect"]
    run = Run(tmp_path)
    zero = run.desk.clock.time() - given["started"]
    run.desk.sessions.begin()
    if given["last_crash"] is not None:
        run.fault = SEGFAULT
    crash = None if given["last_crash"] is None else zero + given["last_crash"]
    (update,) = run.died(crashed_at=crash).updates
    assert update["status"] == expected["status"]
    assert update["errors"] == expected["errors"]
    if "duration" in expected:
        assert update["duration"] == expected["duration"]


LIFECYCLES = [
    case
    for case in load("sessions.json")
    if case["input"]["kind"] == "lifecycle"
    and "killed" in {name for _, name in case["input"]["events"]}
]


@pytest.mark.parametrize("case", LIFECYCLES, ids=lambda case: case["name"])
def test_lifecycle_vectors_that_end_in_a_kill(case: dict[str, Any], tmp_path: Path) -> None:
    """Cocoa knows no heartbeat, so its abnormal session has no duration; ours has one."""
    run = Run(tmp_path, timeout=case["input"]["interval_s"], delay=1e9)
    found: PostMortem | None = None
    for second, name in case["input"]["events"]:
        run.desk.wait(run.started + second - run.desk.clock.time())
        if name == "foreground":
            run.desk.sessions.enter_foreground()
        elif name == "background":
            run.desk.sessions.enter_background()
        elif name == "killed":
            found = run.died()
    assert found is not None
    (update,) = found.updates
    (expected,) = case["expect"]["ended"]
    assert update["status"] == expected["status"]
    assert parse_rfc3339(update["started"]) == run.started + expected["started"]
    if "timestamp" in expected:
        assert parse_rfc3339(update["timestamp"]) == run.started + expected["timestamp"]
    assert update.get("init") is True
