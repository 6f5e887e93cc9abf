"""The accounting invariant: started = told + on the way + alive + withdrawn, whatever happens.

A program with both kinds of sessions runs against a transport that refuses, waits and delivers,
and dies at any moment; the next start reads what it left. What the server gets is checked as it
comes: `init` once for every sid, `seq` grows, nothing follows a terminal status, what must not
change does not.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crashfree._sessions.aggregator import SessionAggregator
from crashfree._sessions.application import ApplicationSessions
from crashfree._sessions.evidence import Evidence
from crashfree._sessions.journal import Journal
from crashfree._sessions.ledger import Ledger
from crashfree._sessions.postmortem import examine
from crashfree._sessions.requests import RequestSessions
from crashfree._sessions.unitsession import UnitSession
from crashfree.types import SessionAggregates, SessionUpdate
from tests.support.clock import FakeClock
from tests.support.timers import ManualTimers
from tests.support.units import ATTRIBUTES, totals

KEPT = 20
FATAL = b"Fatal Python error: Segmentation fault\n\n"


class Server:
    """What reached the server, checked on arrival."""

    def __init__(self) -> None:
        self.sessions: dict[str, list[SessionUpdate]] = {}
        self.units: Counter[str] = Counter()

    def take(self, update: SessionUpdate) -> None:
        known = self.sessions.setdefault(update["sid"], [])
        if known:
            last = known[-1]
            assert last["status"] == "ok", f"{update} follows {last}"
            assert update.get("seq", 0) > last.get("seq", 0)
            assert update.get("errors", 0) >= last.get("errors", 0)
            assert "init" not in update
            for key in ("started", "did", "attrs"):
                assert update.get(key) == last.get(key)
        else:
            assert update["init"] is True
        if update["status"] in ("crashed", "unhandled"):
            assert update.get("errors", 0) >= 1
        assert ("duration" in update) is (update["status"] != "ok")
        assert update.get("duration", 0.0) >= 0.0
        known.append(update)

    def add(self, payloads: tuple[SessionAggregates, ...] | list[SessionAggregates]) -> None:
        self.units += totals(payloads)

    @property
    def finished(self) -> int:
        return sum(updates[-1]["status"] != "ok" for updates in self.sessions.values())


class Program(RuleBasedStateMachine):
    """One program through several lives."""

    @initialize()
    def prepare(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.server = Server()
        self.life = 0
        self.started = 0
        self.withdrawn = 0
        self.begun = 0
        self.born()

    def born(self) -> None:
        self.life += 1
        self.directory = Path(self.place.name) / str(self.life)
        self.directory.mkdir()
        self.timers = ManualTimers(self.clock)
        self.queue: list[SessionUpdate] = []
        self.accepting = True
        self.units: list[UnitSession] = []
        self.sessions = ApplicationSessions(
            ATTRIBUTES,
            clock=self.clock,
            timers=self.timers,
            emit=self.submit,
            open_journal=lambda: Journal.create(str(self.directory / "session")),
        )
        self.aggregator = SessionAggregator(
            ATTRIBUTES,
            open_ledger=lambda: Ledger.create(
                str(self.directory / "ledger"), attributes=ATTRIBUTES
            ),
        )
        self.requests = RequestSessions(self.aggregator, self.clock)
        self.sessions.begin()

    def submit(self, update: SessionUpdate) -> bool:
        if self.accepting:
            self.queue.append(update)
        return self.accepting

    # -- the program

    @rule()
    def start(self) -> None:
        self.sessions.start()

    @rule(status=st.sampled_from([None, "exited", "abnormal", "crashed", "unhandled"]))
    def end(self, status: Any) -> None:
        self.sessions.end(status)

    @rule(
        verdict=st.sampled_from(["none", "errored", "unhandled", "crashed"]), counted=st.booleans()
    )
    def fail(self, verdict: Any, counted: bool) -> None:
        update = self.sessions.account(verdict, counted=counted)
        if update is not None and not self.submit(update):
            self.sessions.refused(update)

    @rule(number=st.integers(0, 2))
    def identify(self, number: int) -> None:
        self.sessions.identify({"id": number})

    @rule(seconds=st.sampled_from([0.0, 0.5, 10.0, 29.999, 30.0, 61.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.timers.advance(seconds)

    @rule(seconds=st.sampled_from([1.0, 31.0]))
    def suspend(self, seconds: float) -> None:
        self.clock.suspend(seconds)

    @rule()
    def leave(self) -> None:
        self.sessions.enter_background()

    @rule()
    def come_back(self) -> None:
        self.sessions.enter_foreground()

    @rule()
    def hold(self) -> None:
        self.sessions.hold()

    @rule()
    def release(self) -> None:
        self.sessions.release()

    @rule(route=st.sampled_from(["/", "/a"]))
    def navigate(self, route: str) -> None:
        self.sessions.navigate(route)

    @rule()
    def pause(self) -> None:
        self.sessions.pause()

    @rule()
    def resume(self) -> None:
        self.sessions.resume()

    @rule()
    def begin_unit(self) -> None:
        self.units.append(self.requests.begin())
        self.begun += 1

    @precondition(lambda self: self.units)
    @rule(
        index=st.integers(0, 9),
        verdict=st.sampled_from(["none", "errored", "unhandled", "crashed"]),
    )
    def end_unit(self, index: int, verdict: Any) -> None:
        unit = self.units.pop(index % len(self.units))
        unit.account(verdict)
        unit.end({"id": index})

    # -- the transport

    @rule(accepting=st.booleans())
    def transport_is(self, accepting: bool) -> None:
        self.accepting = accepting

    @rule()
    def flush(self) -> None:
        self.sessions.announce()
        batch = self.aggregator.take()
        if batch is None:
            return
        if self.accepting:
            self.server.add(batch.payloads)
            self.aggregator.settle(batch)
        else:
            self.aggregator.give_back(batch)

    @precondition(lambda self: self.queue)
    @rule()
    def deliver(self) -> None:
        update = self.queue.pop(0)
        self.server.take(update)
        self.sessions.delivered(update)

    # -- life and death

    @rule(crash=st.booleans())
    def die(self, crash: bool) -> None:
        """Killed, or crashed; what waited in memory is gone, and the next start tells it."""
        self.count()
        found = examine(
            self.files(FATAL if crash else b""), now=self.clock.time(), evidence=Evidence()
        )
        if found is not None:
            for update in found.updates:
                self.server.take(update)
            self.server.add(found.aggregates)
            assert found.expired == 0
        self.born()

    @rule()
    def end_well(self) -> None:
        """As at exit: everything is told, and nothing is left behind."""
        self.accepting = True
        for unit in self.units:
            unit.end()
        self.flush()
        self.sessions.announce()
        self.sessions.close()
        self.count()
        while self.queue:
            self.deliver()
        assert self.sessions.finish()
        assert self.aggregator.close()
        assert list(self.directory.iterdir()) == []
        self.born()

    def files(self, fault: bytes) -> dict[str, bytes]:
        files = {path.name: path.read_bytes() for path in self.directory.iterdir()}
        return {**files, "fault": fault}

    def count(self) -> None:
        stats = self.sessions.stats()
        self.started += stats.started
        self.withdrawn += stats.withdrawn

    # -- what holds at every moment

    # Looked at in the order of their names: this one first.
    @invariant()
    def a_transport_is_never_further_behind(self) -> None:
        """A run keeps twenty ended sessions on disk, and what is older is the transport's alone."""
        if not hasattr(self, "sessions") or self.sessions.stats().unconfirmed < KEPT - 4:
            return
        self.accepting = True
        self.sessions.announce()
        while self.queue:
            self.deliver()

    @invariant()
    def every_session_is_in_one_place(self) -> None:
        if not hasattr(self, "sessions"):
            return
        stats = self.sessions.stats()
        assert stats.started == stats.ended + stats.withdrawn + stats.alive
        told = self.server.finished
        on_the_way = stats.unconfirmed
        assert self.started + stats.started == (
            told + on_the_way + stats.alive + self.withdrawn + stats.withdrawn
        )

    @invariant()
    def every_unit_is_in_one_place(self) -> None:
        if not hasattr(self, "sessions"):
            return
        stats = self.aggregator.stats()
        assert stats.begun == stats.alive + stats.waiting + stats.settled
        assert stats.alive == len(self.units)
        assert self.begun == sum(self.server.units.values()) + stats.alive + stats.waiting

    @invariant()
    def what_is_on_disk_would_complete_the_account(self) -> None:
        """If it died now, every session and every unit would be told once."""
        if not hasattr(self, "sessions"):
            return
        found = examine(self.files(b""), now=self.clock.time(), evidence=Evidence())
        updates = () if found is None else found.updates
        stats = self.sessions.stats()
        assert len(updates) == stats.alive + stats.unconfirmed
        assert len({update["sid"] for update in updates}) == len(updates)
        units = Counter[str]() if found is None else totals(found.aggregates)
        assert sum(self.server.units.values()) + sum(units.values()) == self.begun

    def teardown(self) -> None:
        if hasattr(self, "place"):
            self.place.cleanup()


TestProgram = Program.TestCase
TestProgram.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
