"""`SessionAggregator`: from units of work to `sessions` payloads.

It owns the ledger of this process, opens it when the first unit begins (so a pre-forking master
that serves nothing has none), and lends what has ended to whoever sends it.

Without a global lock: `minute` is replaced by one assignment and never changed; two threads that
turn at once make two equal ones, and either will do. The ledger is opened under a lock.

Threads: `turn` any; `take`, `settle` and `give_back` where the client flushes. Fork: the child
opens a ledger of its own when its first unit begins. Source: sessions.md section 2.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping

from crashfree._ground.typed import Literal, NamedTuple, ParamSpec, Protocol, TypeVar
from crashfree._protocol.aggregates import OUTCOMES, to_payloads
from crashfree._sessions.counts import BEGUN, ENDED, MARKED, record
from crashfree._sessions.identity import did_of
from crashfree._sessions.ledger import Ledger
from crashfree._sessions.unitsession import AggregatorStatistics, Minute
from crashfree.types import SessionAggregates, SessionAttributes

P = ParamSpec("P")
R = TypeVar("R")

MINUTE = 60.0
_NEVER = float("inf")
_PATIENCE = 1.0


def _naming(
    ledger: Ledger,
) -> Callable[[bytes, Mapping[str, object] | None, str | None], bytes]:
    def named(word: bytes, user: Mapping[str, object] | None, did: str | None) -> bytes:
        did = did_of(user) or did
        if did is None:
            return word
        return with_user(word, ledger.user(did))

    return named


def with_user(word: bytes, user: int) -> bytes:
    """Return the record `word` with the number of a user in it."""
    value = int.from_bytes(word, sys.byteorder) | user << 4
    return value.to_bytes(8, sys.byteorder)


def _unnamed(word: bytes, user: Mapping[str, object] | None, did: str | None) -> bytes:
    return word


def _word(minute: int, code: int) -> bytes:
    return record(minute, code).to_bytes(8, sys.byteorder)


class Guard(Protocol):
    """Makes a function of one from which no error comes back to the program, but None."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R | None]: ...


def _unguarded(function: Callable[P, R], /) -> Callable[P, R | None]:
    return function


class Batch(NamedTuple):
    """What goes out with one flush."""

    payloads: list[SessionAggregates]
    number: int
    ledger: Ledger


class SessionAggregator:
    """Counts units of work per minute, user and outcome."""

    __slots__ = (
        "_attributes",
        "_guarded",
        "_ledger",
        "_open_ledger",
        "_opener",
        "_opening",
        "_side",
        "_unhandled_status",
        "_users",
        "minute",
    )
    minute: Minute
    """The minute that is going on; `turn` makes the next one."""
    _ledger: Ledger
    _guarded: Guard
    _attributes: SessionAttributes
    _open_ledger: Callable[[], Ledger | None] | None
    _unhandled_status: Literal["unhandled", "crashed"]
    _users: bool
    _opening: threading.Lock
    _opener: int | None
    """The thread that is opening the ledger."""
    _side: dict[str, Ledger]
    """For units that begin in a signal handler, in the middle of opening the ledger."""

    def __init__(
        self,
        attributes: SessionAttributes,
        *,
        open_ledger: Callable[[], Ledger | None] | None = None,
        users: bool = True,
        unhandled_status: Literal["unhandled", "crashed"] = "unhandled",
        guarded: Guard = _unguarded,
    ) -> None:
        self._attributes = attributes
        self._guarded = guarded
        self._open_ledger = open_ledger
        self._unhandled_status = unhandled_status
        self._users = users
        self._reset()

    def _reset(self) -> None:
        self._opening = threading.Lock()
        self._opener = None
        self._side = {}
        # Not the file yet: nothing has begun, and there may be no need for one.
        self._ledger = Ledger.of_nobody()
        self.minute = self._minute(self._ledger, 0.0)
        self.minute.start = _NEVER

    def turn(self, now: float) -> Minute:
        """Return the minute that `now` lies in. Called for the first unit of each minute."""
        ledger = self._ledger
        # Here and not in every `begin`: a fork that bypasses Python's hooks is noticed in time,
        # because a process that only forks does not begin units.
        if not ledger.ours:
            ledger.forget()
            ledger = self._opened()
        start = now // MINUTE * MINUTE
        minute = self._minute(ledger, start)
        if ledger is self._ledger:
            self.minute = minute
        return minute

    def _minute(self, ledger: Ledger, start: float) -> Minute:
        minute = Minute()
        minute.ledger = ledger
        minute.full = self._guarded(ledger.full)
        minute.named = self._guarded(_naming(ledger) if self._users else _unnamed)
        minute.start = start
        minute.end = start + MINUTE
        number = int(start) // 60
        minute.begun = _word(number, BEGUN)
        minute.marked = _word(number, MARKED)
        ended = [_word(number, ENDED + index) for index in range(len(OUTCOMES))]
        minute.exited, minute.errored, minute.crashed, minute.abnormal, minute.unhandled = ended
        return minute

    def _opened(self) -> Ledger:
        """Return the ledger of this process; the first thread to ask opens it."""
        thread = threading.get_ident()
        if self._opener == thread or not self._opening.acquire(timeout=_PATIENCE):
            # Two may come here at once; one step decides whose ledger it is.
            return self._side.setdefault("", Ledger.in_memory())
        try:
            self._opener = thread
            ledger = self._ledger
            if not ledger.ours:
                opened = None if self._open_ledger is None else self._open_ledger()
                ledger = self._ledger = Ledger.in_memory() if opened is None else opened
            return ledger
        finally:
            self._opener = None
            self._opening.release()

    def _ledgers(self) -> tuple[Ledger, ...]:
        return (self._ledger, *self._side.copy().values())

    def take(self) -> Batch | None:
        """Return payloads of all that has ended, on loan until `settle`; None without any."""
        for ledger in self._ledgers():
            loan = ledger.lend()
            if loan is not None:
                payloads = to_payloads(
                    self._attributes, loan.counts, unhandled_status=self._unhandled_status
                )
                return Batch(payloads, loan.batch, ledger)
        return None

    def settle(self, batch: Batch) -> None:
        """Note that the transport is done with a batch: sent, on disk, or dropped and counted."""
        batch.ledger.settle(batch.number)

    def give_back(self, batch: Batch) -> None:
        """Note that the transport refused a batch; the next one has its counts again."""
        batch.ledger.give_back(batch.number)

    def close(self) -> bool:
        """Remove the ledger if all is told; False: something is left for the next start.

        Units that end later are still counted, for the next start to find.
        """
        return not self._ledger.ours or self._ledger.close()

    def forget(self) -> None:
        """Drop all that belongs to the parent, in a forked child. No I/O."""
        self._ledger.forget()
        self._reset()

    def stats(self) -> AggregatorStatistics:
        """Return where the units are."""
        books = [ledger.books() for ledger in self._ledgers() if ledger.ours]
        return AggregatorStatistics(
            begun=sum(entry.begun for entry in books),
            alive=sum(entry.alive for entry in books),
            waiting=sum(entry.waiting for entry in books),
            settled=sum(entry.settled for entry in books),
        )
