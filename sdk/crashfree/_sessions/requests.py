"""Request mode: one session per unit of work, counted and never sent one by one.

Without a global lock: a minute is complete before it is put in place, by one assignment; records
are appended under the window's own lock (`windows`).

Threads: any. Fork: the aggregator's. Source: sessions.md sections 2 and 3.6.
"""

from __future__ import annotations

from crashfree._ground.clock import Clock, Ticking, ticking
from crashfree._sessions.aggregator import SessionAggregator
from crashfree._sessions.unitsession import NOBODY, PARALLEL, UnitSession


class RequestSessions:
    """Begins sessions for units of work."""

    __slots__ = ("aggregator", "clock")
    aggregator: SessionAggregator
    clock: Ticking

    def __init__(self, aggregator: SessionAggregator, clock: Clock) -> None:
        self.aggregator = aggregator
        self.clock = ticking(clock)

    def begin(self, did: str | None = None) -> UnitSession:
        """Begin the session of work that is no unit."""
        session = UnitSession()
        session.applies = NOBODY
        self.begin_as(session, did)
        return session

    def begin_as(self, session: UnitSession, did: str | None = None) -> None:
        """Begin `session`, which is new; `did` if it is known by now for whom."""
        aggregator = self.aggregator
        now = self.clock.time()
        minute = aggregator.minute
        if not minute.start <= now < minute.end:
            minute = aggregator.turn(now)
        try:
            minute.ledger.write(minute.begun)
        except ValueError:
            minute.full(minute.begun)
        if PARALLEL:
            session.turn = [None]
        session.minute = minute
        if did is not None:
            session.did = did
        session.plain = did is None
        session.unended = session.live = True
