"""Request mode: one session per unit of work, counted and never sent one by one.

A unit is counted in the minute in which it began, when it ends, once; from any thread, out of
signal handlers and finalizers too. Nothing here waits for a lock.

Invariants: each unit that begins ends in one column at most; a status never gets better.

Without a global lock: a minute is complete before it is put in place, by one assignment; flags are
only ever set; records are appended under the window's own lock (`windows`). Who of several ends a
unit is decided by deleting an attribute where there is a global lock, and by popping from a list
where there is none: checking and deleting a slot are two steps there.

Fork: a unit that began in the parent counts nothing in the child.
Source: sessions.md sections 2 and 3.6.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from crashfree._ground.clock import Clock
from crashfree._protocol.session import Verdict
from crashfree._sessions.aggregator import Minute, SessionAggregator
from crashfree._sessions.identity import did_of

_PARALLEL = not getattr(sys, "_is_gil_enabled", lambda: True)()


class RequestSession:
    """The session of one unit of work; `RequestSessions.begin` makes it.

    There is no `__init__`: calling one would be a fifth of what the session costs.
    """

    __slots__ = (
        "_crashed",
        "_errored",
        "_unhandled",
        "did",
        "live",
        "minute",
        "troubled",
        "turn",
        "unended",
    )
    unended: bool
    """Deleted by whoever ends the session: deleting twice is an error, and atomic."""
    turn: list[None]
    """Stands for `unended` where threads run in parallel."""
    live: bool
    """Whether it has not ended. To read: asking for what is not there any more costs more."""
    minute: Minute
    did: str | None
    troubled: bool
    """Whether one of the three flags is set; before, they are not even there."""
    _errored: bool
    _unhandled: bool
    _crashed: bool

    def account(self, verdict: Verdict, *, counted: bool = False) -> None:
        """Note what an error means for this unit. After its end, nothing.

        `counted` is taken for symmetry with application mode: how many errors does not matter.
        """
        if not self.live:
            return
        # Three flags and no counter: setting one is atomic, and the worst one wins in the end.
        if verdict == "errored":
            self._errored = self.troubled = True
        elif verdict == "unhandled":
            self._unhandled = self.troubled = True
        elif verdict == "crashed" and not hasattr(self, "_crashed"):
            self._crashed = self.troubled = True
            _write(self.minute, self.minute.marked)

    def end(self, user: Mapping[str, object] | None = None) -> None:
        """Count it, the first time this is called. `user`: for whom the work was done."""
        if not self.live:
            return
        try:
            if _PARALLEL:
                self.turn.pop()
            else:
                del self.unended
        except (AttributeError, IndexError):
            return
        self.live = False
        minute = self.minute
        word = self._worst() if self.troubled else minute.exited
        if user or self.did:
            word = self._named(word, user)
        # Written out here and in `begin`: a call less is a tenth of the cost.
        try:
            minute.ledger.write(word)
        except ValueError:
            minute.full(word)

    def _worst(self) -> bytes:
        minute = self.minute
        if hasattr(self, "_crashed"):
            return minute.crashed
        if hasattr(self, "_unhandled"):
            return minute.unhandled
        return minute.errored if hasattr(self, "_errored") else minute.exited

    def _named(self, word: bytes, user: Mapping[str, object] | None) -> bytes:
        minute = self.minute
        did = did_of(user) or self.did
        if did is None or not minute.users:
            return word
        return minute.named(word, minute.ledger.user(did))


def _write(minute: Minute, word: bytes) -> None:
    try:
        minute.ledger.write(word)
    except ValueError:
        minute.full(word)


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
        try:
            minute.ledger.write(minute.begun)
        except ValueError:
            minute.full(minute.begun)
        session = RequestSession()
        session.unended = session.live = True
        if _PARALLEL:
            session.turn = [None]
        session.minute = minute
        session.did = did
        session.troubled = False
        return session
