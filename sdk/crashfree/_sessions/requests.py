"""Request mode: one session per unit of work, counted and never sent one by one.

A unit is counted in the minute in which it began, when it ends, once; from any thread, out of
signal handlers and finalizers too. Nothing here waits for a lock.

Invariants: each unit that begins ends in one column at most; a status never gets better.

Fork: a unit that began in the parent counts nothing in the child.
Source: sessions.md sections 2 and 3.6.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.clock import Clock
from crashfree._sessions.aggregator import Minute, SessionAggregator
from crashfree._sessions.identity import did_of
from crashfree._sessions.ledger import Ledger
from crashfree._sessions.verdict import Verdict


class RequestSession:
    """The session of one unit of work."""

    __slots__ = ("_crashed", "_did", "_errored", "_ledger", "_live", "_minute", "_unhandled")
    _live: bool
    """Deleted by whoever ends the session: deleting twice is an error, and atomic."""
    _ledger: Ledger
    _minute: Minute
    _did: str | None
    _errored: bool
    _unhandled: bool
    _crashed: bool

    def __init__(self, ledger: Ledger, minute: Minute, did: str | None = None) -> None:
        self._live = True
        self._ledger = ledger
        self._minute = minute
        self._did = did
        # Three flags and no counter: setting one is atomic, and the worst one wins in the end.
        self._errored = False
        self._unhandled = False
        self._crashed = False

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return hasattr(self, "_live")

    def account(self, verdict: Verdict, *, counted: bool = False) -> None:
        """Note what an error means for this unit. After its end, nothing.

        `counted` is taken for symmetry with application mode: how many errors does not matter.
        """
        if not hasattr(self, "_live"):
            return
        if verdict == "errored":
            self._errored = True
        elif verdict == "unhandled":
            self._unhandled = True
        elif verdict == "crashed" and not self._crashed:
            self._crashed = True
            self._write(self._minute.marked)

    def end(self, user: Mapping[str, object] | None = None) -> None:
        """Count it, the first time this is called. `user`: for whom the work was done."""
        try:
            del self._live
        except AttributeError:
            return
        minute = self._minute
        if self._crashed:
            word = minute.crashed
        elif self._unhandled:
            word = minute.unhandled
        elif self._errored:
            word = minute.errored
        else:
            word = minute.exited
        if user or self._did:
            word = self._named(word, user)
        # Written out here and in `begin`: a call less is a tenth of the cost.
        ledger = self._ledger
        try:
            ledger.write(word)
        except ValueError:
            ledger.full(word)

    def _write(self, word: bytes) -> None:
        try:
            self._ledger.write(word)
        except ValueError:
            self._ledger.full(word)

    def _named(self, word: bytes, user: Mapping[str, object] | None) -> bytes:
        did = did_of(user) or self._did
        if did is None or not self._minute.users:
            return word
        return self._minute.named(word, self._ledger.user(did))


class RequestSessions:
    """Begins sessions for units of work."""

    __slots__ = ("_aggregator", "_time")

    def __init__(self, aggregator: SessionAggregator, clock: Clock) -> None:
        self._aggregator = aggregator
        self._time = clock.time

    def begin(self, did: str | None = None) -> RequestSession:
        """Begin the session of a unit of work; `did` if it is known by now for whom."""
        aggregator = self._aggregator
        now = self._time()
        minute = aggregator.minute
        if not minute.start <= now < minute.end:
            minute = aggregator.turn(now)
        ledger = minute.ledger
        try:
            ledger.write(minute.begun)
        except ValueError:
            ledger.full(minute.begun)
        return RequestSession(ledger, minute, did)
