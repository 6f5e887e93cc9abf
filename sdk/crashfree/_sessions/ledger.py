"""The ledger: the books of request mode, and the way into them.

A unit of work costs two appends of 8 bytes (`write`), without a lock. What has been appended is
entered into the books (`Counts`) when a window is full and when somebody asks. The books are in a
file that outlives the process (`ledgerfile`), or in memory where no file can be had.

**Handing over.** `lend` moves what has ended to a loan, which stays in the file. The loan is
struck (`settle`) as soon as the transport answers for it: the HTTP transport has then put it on
its own disk, and takes it off there when it begins to write it to the network. If the process
dies before, the post-mortem counts the loan again. Aggregates have no identity, so for two moments
a choice was left. Killed in the microseconds between the transport's file and `settle`, a batch
counts twice; the other order would lose it. Killed while the request is on the wire, it counts at
most once; that choice is the transport's, and the same as for an answer that never comes.

Threads: `write` and `full` any, signal handlers and finalizers too; they wait for nothing but a
turn-over by another thread, 50 ms at most. `lend`, `settle` and `give_back` where the client
flushes: what they cannot do because somebody else is at the books, whoever comes next does.
Fork: `forget`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

from crashfree._ground import log
from crashfree._ground.tally import Tally
from crashfree._ground.typed import NamedTuple, Protocol
from crashfree._protocol.aggregates import CountKey
from crashfree._sessions import mapped
from crashfree._sessions.counts import Counts
from crashfree._sessions.ledgerfile import LedgerFile
from crashfree._sessions.unitsession import Book
from crashfree._sessions.users import Append, Users
from crashfree._sessions.windows import Windows
from crashfree.types import SessionAttributes

_PATIENCE = 0.05
_LONG_PATIENCE = 1.0
_ATTEMPTS = 3
_ABANDONED_AFTER = 3


class Loan(NamedTuple):
    """What has ended, on loan to the transport."""

    batch: int
    counts: dict[CountKey, int]


class Store(Protocol):
    """Where records and books are."""

    users: Users

    @property
    def write(self) -> Append:
        """How to append a record now; raises ValueError once there is no room."""
        ...

    def turn_over(self, counts: Counts) -> None:
        """Make room, if there is none."""
        ...

    def enter(self, counts: Counts) -> None:
        """Enter all records into the books."""
        ...

    def commit(self, counts: Counts) -> None:
        """Write the books down."""
        ...

    def remove(self) -> bool:
        """Remove what outlives the process."""
        ...


class Memory:
    """Memory of the process: right as long as the process ends by itself."""

    __slots__ = ("_windows", "users")
    users: Users
    _windows: Windows

    def __init__(self) -> None:
        self.users = Users()
        self._windows = Windows(mapped.anonymous(), mapped.anonymous())

    @property
    def write(self) -> Append:
        """How to append a record now; raises ValueError once there is no room."""
        return self._windows.write

    def turn_over(self, counts: Counts) -> None:
        """Make room, if there is none."""
        self._windows.turn_over(counts, self.users.name, self.commit)

    def enter(self, counts: Counts) -> None:
        """Enter all records into the books."""
        self._windows.enter(counts, self.users.name, self.commit)

    def commit(self, counts: Counts) -> None:
        """The books are here already."""

    def remove(self) -> bool:
        """Nothing outlives the process."""
        return True


class Nowhere:
    """Nothing is kept."""

    __slots__ = ("users",)
    users: Users

    def __init__(self) -> None:
        self.users = Users()

    @property
    def write(self) -> Append:
        """How to append a record to nothing."""
        return _nowhere

    def turn_over(self, counts: Counts) -> None:
        """There is nothing."""

    def enter(self, counts: Counts) -> None:
        """There is nothing."""

    def commit(self, counts: Counts) -> None:
        """There is nothing."""

    def remove(self) -> bool:
        """There is nothing."""
        return True


class Ledger(Book):
    """The books of this process."""

    __slots__ = (
        "_counts",
        "_holder",
        "_lock",
        "_misses",
        "_orders",
        "_spilled",
        "_store",
        "pid",
    )
    pid: int
    """Whose it is; -1 when it is nobody's any more."""
    _store: Store
    _counts: Counts
    _spilled: Tally[int]
    _orders: deque[tuple[str, int]]
    _lock: threading.Lock
    _holder: int | None
    _misses: int

    def __init__(self, store: Store) -> None:
        self._store = store
        self.write = store.write
        self._counts = Counts()
        self._spilled = Tally()
        self._orders = deque()
        self._lock = threading.Lock()
        self._holder = None
        self._misses = 0
        self.pid = os.getpid()

    @classmethod
    def create(
        cls, path: str, *, attributes: SessionAttributes, started: float = 0.0
    ) -> Ledger | None:
        """Make a ledger with a file at `path`; None when it cannot be had, which is said once."""
        try:
            return cls(LedgerFile.create(path, attributes=attributes, started=started))
        except (OSError, ValueError) as error:
            log.warning(
                f"session counts are kept in memory only, {path} cannot be made: {error}",
                key="sessions.ledger",
            )
            return None

    @classmethod
    def in_memory(cls) -> Ledger:
        """Make a ledger without a file."""
        return cls(Memory())

    @classmethod
    def of_nobody(cls) -> Ledger:
        """Make a ledger that counts nothing."""
        ledger = cls(Nowhere())
        ledger.forget()
        return ledger

    @property
    def ours(self) -> bool:
        """Whether it belongs to this very process."""
        return self.pid == os.getpid()

    def user(self, did: str) -> int:
        """Return the number by which records name a user; 0: nobody."""
        return self._store.users.number(did)

    def full(self, word: bytes) -> None:
        """Append a record for which there was no room. Waits briefly at most, loses nothing."""
        for _ in range(_ATTEMPTS):
            with self._at_the_books(_PATIENCE) as mine:
                if mine:
                    self._store.turn_over(self._counts)
                    self.write = self._store.write
                    self._enter()
            try:
                self.write(word)
            except ValueError:
                continue
            return
        # Entered by a signal handler in the middle of a turn-over, most likely. This process will
        # count it; only its death before the next flush could lose it.
        self._spilled.add(int.from_bytes(word, sys.byteorder))

    def lend(self) -> Loan | None:
        """Return what has ended since the last time, on loan; None when nothing has."""
        with self._at_the_books(_LONG_PATIENCE) as mine:
            if not mine:
                self._note_miss()
                return None
            self._misses = 0
            self._enter()
            batch = self._counts.lend()
            if batch is None:
                return None
            self._store.commit(self._counts)
            self._store.users.turn()
            return Loan(batch, self._counts.lent[batch])

    def settle(self, batch: int) -> None:
        """Strike a loan: the transport is done with it."""
        self._orders.append(("settle", batch))
        self._enter_if_possible()

    def give_back(self, batch: int) -> None:
        """Take a loan back: the transport refused it."""
        self._orders.append(("give_back", batch))
        self._enter_if_possible()

    def books(self) -> Counts:
        """Bring the books up to date if possible, and return them to look at."""
        self._enter_if_possible()
        return self._counts

    def close(self) -> bool:
        """Remove the file when nothing is left to tell; False: it stays for the next start.

        It goes on counting then.
        """
        with self._at_the_books(_LONG_PATIENCE) as mine:
            if not mine:
                return False
            self._enter()
            told = not self._counts.alive and not self._counts.waiting
        if not told or not self._store.remove():
            return False
        # What begins now would be written where nobody looks.
        self.forget()
        return True

    def forget(self) -> None:
        """Count no more: in a forked child, the file is the parent's."""
        self.write = _nowhere
        self.pid = -1

    def _note_miss(self) -> None:
        # Nobody is at the books for a second. Found held three times over, the lock was
        # abandoned: an exception raised by a signal handler struck right behind `acquire`.
        self._misses += 1
        if self._misses >= _ABANDONED_AFTER:
            self._misses = 0
            self._lock = threading.Lock()

    def _enter_if_possible(self) -> None:
        with self._at_the_books(_PATIENCE) as mine:
            if mine:
                self._enter()

    def _enter(self) -> None:
        counts = self._counts
        self._store.enter(counts)
        spilled = self._spilled.take()
        if spilled:
            counts.enter(spilled, self._store.users.name)
        ordered = bool(self._orders)
        while self._orders:
            order, batch = self._orders.popleft()
            if order == "settle":
                counts.settle(batch)
            else:
                counts.give_back(batch)
        if spilled or ordered:
            self._store.commit(counts)

    @contextmanager
    def _at_the_books(self, patience: float) -> Generator[bool, None, None]:
        """Be the only one at the books; yields False when that cannot be had."""
        thread = threading.get_ident()
        # A signal handler on top of ourselves would wait for nothing.
        mine = self._holder != thread and self.ours and self._lock.acquire(timeout=patience)
        try:
            if mine:
                self._holder = thread
            yield mine
        finally:
            if mine:
                self._holder = None
                self._lock.release()


def _nowhere(_: object) -> None:
    """Where the records of a parent's units go in a child."""
