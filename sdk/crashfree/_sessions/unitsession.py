"""The session of a unit of work, as those see it who begin and end one.

A unit is counted in the minute in which it began, when it ends, once; from any thread, out of
signal handlers and finalizers too. Nothing here waits for a lock.

What counts them (`_sessions.requests`, `_sessions.aggregator`) is loaded when a process turns out
to serve units; a script never needs it.

Invariants: each unit that begins ends in one column at most; a status never gets better.

Without a global lock: flags are only ever set. Who of several ends a unit is decided by deleting an
attribute where there is a global lock, and by popping from a list where there is none: checking and
deleting a slot are two steps there.

Fork: a unit that began in the parent counts nothing in the child.
Source: sessions.md sections 2 and 3.6.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from crashfree._ground.clock import Ticking
from crashfree._ground.typed import Any, NamedTuple, Protocol
from crashfree._protocol.session import Verdict
from crashfree.types import SessionAggregates

PARALLEL = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether threads run at the same time."""


class Book:
    """Where a minute is written down; see `_sessions.ledger.Ledger`, which is one."""

    __slots__ = ("write",)
    write: Callable[[bytes], object]
    """Appends a record; raises ValueError when there is no room: call `Minute.full` then."""


class Served(Protocol):
    """Knows for whom the work is done (`_capture.scope.Scope`)."""

    @property
    def user(self) -> Mapping[str, object] | None: ...


class _Nobody:
    __slots__ = ()
    user: Mapping[str, object] | None = None


NOBODY: Served = _Nobody()


class Minute:
    """A minute and its records, made once, so that counting a unit makes nothing."""

    __slots__ = (
        "abnormal",
        "begun",
        "crashed",
        "end",
        "errored",
        "exited",
        "full",
        "ledger",
        "marked",
        "named",
        "start",
        "unhandled",
    )
    ledger: Book
    full: Callable[[bytes], None]
    """Makes room and writes; of it no error comes back."""
    named: Callable[[bytes, Mapping[str, object] | None, str | None], bytes | None]
    """Returns a record with the number of a user in it. A user is what the program made of it: of
    this no error comes back either, but None."""
    start: float
    end: float
    begun: bytes
    marked: bytes
    exited: bytes
    errored: bytes
    crashed: bytes
    abnormal: bytes
    unhandled: bytes


class UnitSession:
    """The session of one unit of work; `UnitSessions.begin_as` begins it.

    There is no `__init__`: calling one would be a fifth of what the session costs. A unit is its
    own session for the same reason (`_client.unit`): an object less.
    """

    __slots__ = (
        "_crashed",
        "_errored",
        "_unhandled",
        "applies",
        "did",
        "live",
        "minute",
        "plain",
        "turn",
        "unended",
    )
    unended: bool
    """Deleted by whoever ends the session: deleting twice is an error, and atomic."""
    turn: list[None]
    """Stands for `unended` where threads run in parallel."""
    live: bool
    """Whether it has begun, and not ended.

    To read: asking for what is not there any more costs more.
    """
    minute: Minute
    plain: bool
    """Whether nothing more is to be said of it than that it began: while this is so, what is named
    below `applies` is not even there."""
    applies: Any
    """A `Served`, of a unit its scope: asked for the user when the session ends."""
    did: str | None
    _errored: bool
    _unhandled: bool
    _crashed: bool

    def idle(self) -> None:
        """Begin nothing: it counts nothing, and never ends."""
        self.live = False
        self.plain = True

    @property
    def ended(self) -> bool:
        """Whether `end` was called for a session that had begun."""
        return not self.live and hasattr(self, "minute")

    def account(self, verdict: Verdict, *, counted: bool = False) -> None:
        """Note what an error means for this unit. After its end, nothing.

        `counted` is taken for symmetry with application mode: how many errors does not matter.
        """
        if not self.live:
            return
        # Three flags and no counter: setting one is atomic, and the worst one wins in the end.
        if verdict == "errored":
            self._errored = True
        elif verdict == "unhandled":
            self._unhandled = True
        elif verdict == "none" or hasattr(self, "_crashed"):
            return
        else:
            self._crashed = True
        # After the flag: who sees that it is plain no more finds out why.
        self.plain = False
        if verdict == "crashed":
            minute = self.minute
            try:
                minute.ledger.write(minute.marked)
            except ValueError:
                minute.full(minute.marked)

    def end(self, user: Mapping[str, object] | None = None) -> None:
        """Count it, the first time this is called. `user`: for whom; None: who was set."""
        try:
            if PARALLEL:
                self.turn.pop()
            else:
                del self.unended
        except (AttributeError, IndexError):
            return
        self.live = False
        minute = self.minute
        if self.plain and user is None and self.applies.user is None:
            word = minute.exited
        else:
            word = self._word(user)
        # Taken out first: interpreters do not specialize the call of what is kept in a slot.
        write = minute.ledger.write
        try:
            write(word)
        except ValueError:
            minute.full(word)

    def _word(self, user: Mapping[str, object] | None) -> bytes:
        word = self._worst()
        if user is None:
            user = self.applies.user
        did = getattr(self, "did", None)
        if user is None and not did:
            return word
        return self.minute.named(word, user, did) or word

    def _worst(self) -> bytes:
        minute = self.minute
        if hasattr(self, "_crashed"):
            return minute.crashed
        if hasattr(self, "_unhandled"):
            return minute.unhandled
        return minute.errored if hasattr(self, "_errored") else minute.exited


class UnitSessions(Protocol):
    """Begins them (`_sessions.requests.RequestSessions`)."""

    def begin(self, did: str | None = None) -> UnitSession: ...
    def begin_as(self, session: UnitSession, did: str | None = None) -> None: ...


class Minutes(Protocol):
    """Knows the minute (`_sessions.aggregator.SessionAggregator`)."""

    @property
    def minute(self) -> Minute: ...
    def turn(self, now: float) -> Minute: ...


class CountedSessions(UnitSessions, Protocol):
    """With what they begin (`_sessions.requests.RequestSessions`): `Unit.serving` asks itself."""

    @property
    def aggregator(self) -> Minutes: ...
    @property
    def clock(self) -> Ticking: ...


class AggregatorStatistics(NamedTuple):
    """Where the units are: begun = alive + waiting + settled."""

    begun: int = 0
    alive: int = 0
    waiting: int = 0
    """Ended and not yet through the transport."""
    settled: int = 0


NO_UNITS = AggregatorStatistics()
"""Of a process that serves none."""


class Lent(Protocol):
    """What goes out with one flush (`_sessions.aggregator.Batch`)."""

    @property
    def payloads(self) -> list[SessionAggregates]: ...


class Aggregator(Protocol):
    """Counts them (`_sessions.aggregator.SessionAggregator`)."""

    def take(self) -> Lent | None: ...
    def settle(self, batch: Any) -> None: ...
    def give_back(self, batch: Any) -> None: ...
    def stats(self) -> AggregatorStatistics: ...
    def close(self) -> bool: ...
    def forget(self) -> None: ...
