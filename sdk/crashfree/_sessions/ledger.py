"""The ledger: what request mode counts, in a memory-mapped file that outlives the process.

A unit of work costs two appends of 8 bytes, one when it begins and one when it ends. Each is one
call of `mmap.write`: atomic to threads, signal handlers and finalizers, so there is no lock on
the way and nothing to lose. The kernel owns the pages: SIGKILL, SIGSEGV and `os._exit` change
nothing about what was written.

The file, offsets and sizes in bytes, numbers in the byte order of the machine:

         0    4096  header: one line of JSON (format, pid, started, attributes), padded with zeros
      4096  258048  bank: the books as JSON (`Counts.encode`), written in turn (`bank`)
    262144   65536  window 0: records of 8 bytes (`counts.record`), zeros behind the last
    327680   65536  window 1
    393216   65536  table 0 of users, for odd generations (`users`)
    458752   65536  table 1, for even ones

    books in the bank + records behind the cursors that stand in the bank = the truth

A full window is entered into the books: the other window takes the records from then on, the
records are counted and the bank written with the cursor at the window's end; then the window is
zeroed, the bank written with the cursor at 0, and the window may be used again. Whenever the
process dies in between, a record is counted once: it lies behind a cursor or in the bank.

**Handing over.** `lend` moves what has ended to a loan, which stays in the file. The loan is
struck when the transport is done with it (`settle`): sent, on disk, or dropped with a reason. If
the process dies before, the post-mortem counts the loan again. Aggregates have no identity, so a
choice is left for the time between the arrival of a request at the server and `settle`, some
milliseconds a minute: a process killed there counts a batch twice. The other choice, to strike
when sending begins, would lose batches exactly where processes are killed in practice: when they
hang in the last flush against a network that does not answer.

Threads: recording any, without a lock; entering and lending under a lock that is waited for with
a bound. Fork: the mapping is shared with the parent, so a child calls `forget` and writes no more.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from crashfree._ground import json, log
from crashfree._ground.tally import Tally
from crashfree._protocol.aggregates import CountKey
from crashfree._sessions import mapped
from crashfree._sessions.bank import Bank, read_bank
from crashfree._sessions.counts import Counts
from crashfree._sessions.users import Append, Users, read_tables
from crashfree.types import SessionAttributes

FORMAT: Final = "crashfree ledger 1"
_HEADER: Final = 4096
_HEAD: Final = 4 * mapped.PIECE
_WINDOWS: Final = (_HEAD, _HEAD + mapped.PIECE)
_TABLES: Final = (_HEAD + 2 * mapped.PIECE, _HEAD + 3 * mapped.PIECE)
SIZE: Final = _HEAD + 4 * mapped.PIECE
RECORD: Final = 8
_PATIENCE: Final = 0.05
_ATTEMPTS: Final = 3


class Loan(NamedTuple):
    """What has ended, on loan to the transport."""

    batch: int
    counts: dict[CountKey, int]


class _Window:
    """A part of the file that records are appended to."""

    __slots__ = ("cells", "cursor", "map", "write")
    map: mmap.mmap
    cells: memoryview
    cursor: int
    """Records that have been entered into the books."""
    write: Append

    def __init__(self, region: mmap.mmap) -> None:
        self.map = region
        self.cells = memoryview(region).cast("Q")
        self.cursor = 0
        self.write = region.write if _gil_enabled() else _Guarded(region.write)

    @property
    def length(self) -> int:
        """Records so far."""
        return self.map.tell() // RECORD

    @property
    def full(self) -> bool:
        return self.map.tell() + RECORD > mapped.PIECE

    def empty(self) -> Append:
        """Zero it and begin at its start."""
        self.map[:] = bytes(mapped.PIECE)
        self.map.seek(0)
        return self.map.write


class Ledger:
    """The books of this process, and the way into them."""

    __slots__ = (
        "_active",
        "_bank",
        "_counts",
        "_descriptor",
        "_lock",
        "_path",
        "_spilled",
        "_users",
        "_windows",
        "pid",
        "write",
    )
    write: Append
    """Append one record; raises ValueError when the window is full: call `full` then."""
    pid: int
    _path: str
    _descriptor: int
    _bank: Bank
    _windows: tuple[_Window, _Window]
    _active: int
    _users: Users
    _counts: Counts
    _spilled: Tally[int]
    _lock: threading.Lock

    def __init__(self, path: str, descriptor: int, header: bytes) -> None:
        head = mapped.view(descriptor, 0, _HEAD)
        head[: len(header)] = header
        self._path = path
        self._descriptor = descriptor
        self._bank = Bank(memoryview(head)[_HEADER:])
        first, second = (
            _Window(mapped.view(descriptor, offset, mapped.PIECE)) for offset in _WINDOWS
        )
        self._windows = (first, second)
        self._active = 0
        self.write = first.write
        even, odd = (_Window(mapped.view(descriptor, offset, mapped.PIECE)) for offset in _TABLES)
        self._users = Users((even.empty, odd.empty))
        self._counts = Counts()
        self._spilled = Tally()
        self._lock = threading.Lock()
        self.pid = os.getpid()

    @classmethod
    def create(
        cls, path: str, *, attributes: SessionAttributes, started: float = 0.0
    ) -> Ledger | None:
        """Make the file at `path`; None when it cannot be had, which is said once."""
        header = json.encode(
            {"format": FORMAT, "pid": os.getpid(), "started": started, "attributes": attributes}
        )
        try:
            descriptor = mapped.create(path, SIZE)
            return cls(path, descriptor, header + b"\n")
        except (OSError, ValueError) as error:
            log.warning(
                f"session counts are kept in memory only, {path} cannot be made: {error}",
                key="sessions.ledger",
            )
            return None

    def user(self, did: str) -> int:
        """Return the number by which records name a user; 0: nobody."""
        return self._users.number(did)

    def full(self, word: bytes) -> None:
        """Append a record for which there was no room. Waits briefly at most, loses nothing."""
        for _ in range(_ATTEMPTS):
            if not self._lock.acquire(timeout=_PATIENCE):
                continue
            try:
                if self._windows[self._active].full:
                    self._turn_over()
            finally:
                self._lock.release()
            try:
                self.write(word)
            except ValueError:
                continue
            return
        # Entered by a signal handler in the middle of a turn-over, most likely. This process will
        # count it; only its death within the next minute could lose it.
        self._spilled.add(int.from_bytes(word, sys.byteorder))

    def lend(self) -> Loan | None:
        """Return what has ended since the last time, on loan; None when nothing has."""
        if not self._lock.acquire(timeout=_PATIENCE * 20):
            return None
        try:
            self._enter()
            batch = self._counts.lend()
            if batch is None:
                return None
            self._commit()
            self._users.turn()
            return Loan(batch, self._counts.lent[batch])
        finally:
            self._lock.release()

    def settle(self, batch: int) -> None:
        """Strike a loan: the transport is done with it."""
        with self._lock:
            self._counts.settle(batch)
            self._commit()

    def give_back(self, batch: int) -> None:
        """Take a loan back: the transport refused it."""
        with self._lock:
            self._counts.give_back(batch)
            self._commit()

    def books(self) -> Counts:
        """Bring the books up to date and return them, to look at."""
        with self._lock:
            self._enter()
            self._commit()
            return self._counts

    def close(self) -> bool:
        """Remove the file when nothing is left to tell; return whether it was removed.

        It goes on counting otherwise, and the next start reads it.
        """
        with self._lock:
            self._enter()
            self._commit()
            if self._counts.alive or self._counts.waiting:
                return False
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True

    def forget(self) -> None:
        """Write no more: in a forked child, the file is the parent's."""
        self.write = _nowhere
        self.pid = -1

    def _turn_over(self) -> None:
        other = 1 - self._active
        if self._windows[other].full:
            self._enter()
        self._active = other
        self.write = self._windows[other].write
        self._enter()

    def _enter(self) -> None:
        """Enter all records into the books; the caller holds the lock."""
        counts = self._counts
        changed = False
        for window in self._windows:
            length = window.length
            if length > window.cursor:
                counts.enter(Counter(window.cells[window.cursor : length]), self._users.name)
                window.cursor = length
                changed = True
        spilled = self._spilled.take()
        if spilled:
            counts.enter(spilled, self._users.name)
            changed = True
        if changed:
            self._commit()
        for index, window in enumerate(self._windows):
            if window.full and index != self._active:
                # Nobody can append to a full window, so nobody can be disturbed here.
                window.map[:] = bytes(mapped.PIECE)
                window.cursor = 0
                self._commit()
                window.map.seek(0)

    def _commit(self) -> None:
        if self.pid != os.getpid():
            return
        while True:
            data = self._counts.encode([window.cursor for window in self._windows])
            if len(data) <= self._bank.capacity:
                self._bank.write(data)
                return
            if not self._counts.shrink():
                log.warning("the books of sessions do not fit into the ledger any more")
                return


def read_ledger(data: bytes) -> tuple[SessionAttributes, Counts] | None:
    """Read the bytes of a dead process's ledger; None when they are none."""
    if len(data) < SIZE:
        return None
    line = data[:_HEADER].partition(b"\n")[0]
    try:
        header: dict[str, Any] = json.decode(line)
        if header["format"] != FORMAT:
            return None
        attributes: SessionAttributes = header["attributes"]
        books = read_bank(memoryview(data)[_HEADER:_HEAD])
        counts, cursors = (Counts(), [0, 0]) if books is None else Counts.decode(books)
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    names = read_tables(*(data[offset : offset + mapped.PIECE] for offset in _TABLES))
    for offset, cursor in zip(_WINDOWS, cursors, strict=True):
        cells = memoryview(data)[offset : offset + mapped.PIECE].cast("Q")
        fresh = cells[cursor:].tolist()
        length = fresh.index(0) if 0 in fresh else len(fresh)
        counts.enter(Counter(fresh[:length]), names.get)
    return attributes, counts


class MemoryLedger:
    """The same books where no file can be had: right as long as the process ends by itself."""

    __slots__ = ("_counts", "_lock", "_records", "_users", "pid", "write")
    write: Append
    pid: int
    _records: Tally[bytes]
    _counts: Counts
    _users: Users
    _lock: threading.Lock

    def __init__(self) -> None:
        self._records = Tally()
        self.write = self._records.add
        self._counts = Counts()
        self._users = Users()
        self._lock = threading.Lock()
        self.pid = os.getpid()

    def user(self, did: str) -> int:
        """Return the number by which records name a user; 0: nobody."""
        return self._users.number(did)

    def full(self, word: bytes) -> None:
        """There is always room."""
        self._records.add(word)

    def lend(self) -> Loan | None:
        """Return what has ended since the last time, on loan; None when nothing has."""
        if not self._lock.acquire(timeout=_PATIENCE * 20):
            return None
        try:
            self._enter()
            batch = self._counts.lend()
            if batch is None:
                return None
            self._users.turn()
            return Loan(batch, self._counts.lent[batch])
        finally:
            self._lock.release()

    def settle(self, batch: int) -> None:
        """Strike a loan: the transport is done with it."""
        with self._lock:
            self._counts.settle(batch)

    def give_back(self, batch: int) -> None:
        """Take a loan back: the transport refused it."""
        with self._lock:
            self._counts.give_back(batch)

    def books(self) -> Counts:
        """Bring the books up to date and return them, to look at."""
        with self._lock:
            self._enter()
            return self._counts

    def close(self) -> bool:
        """Return True: there is no file."""
        return True

    def forget(self) -> None:
        """Count no more, in a forked child."""
        self.write = _nowhere
        self.pid = -1

    def _enter(self) -> None:
        taken = self._records.take()
        words = {int.from_bytes(word, sys.byteorder): times for word, times in taken.items()}
        self._counts.enter(words, self._users.name)


AnyLedger = Ledger | MemoryLedger


class _Guarded:
    """Appends one at a time, for interpreters without a global lock."""

    __slots__ = ("_append", "_lock")
    _append: Append
    _lock: threading.Lock

    def __init__(self, append: Append) -> None:
        self._append = append
        self._lock = threading.Lock()

    def __call__(self, word: bytes) -> None:
        # Held for a copy of 8 bytes. Found held for this long, it was interrupted by ourselves.
        if not self._lock.acquire(timeout=_PATIENCE):
            raise ValueError("the window is busy")
        try:
            self._append(word)
        finally:
            self._lock.release()


def _gil_enabled() -> bool:
    asked: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return True if asked is None else asked()


def _nowhere(_: object) -> None:
    """Where the records of a parent's units go in a child."""
