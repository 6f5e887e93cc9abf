"""The file of a ledger: what request mode counts, where the death of the process cannot reach it.

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

Threads: appending any, without a lock; the rest one at a time, which `Ledger` sees to. Fork: the
mapping is shared with the parent, so a child appends no more.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from functools import partial

from crashfree._ground import json, log
from crashfree._ground.typed import Any
from crashfree._sessions import mapped
from crashfree._sessions.counts import Counts
from crashfree._sessions.mapped import Bank, read_bank
from crashfree._sessions.users import Append, Users, read_tables
from crashfree._sessions.windows import Windows
from crashfree.types import SessionAttributes

FORMAT = "crashfree ledger 1"
_HEADER = 4096
_HEAD = 4 * mapped.PIECE
_WINDOWS = (_HEAD, _HEAD + mapped.PIECE)
_TABLES = (_HEAD + 2 * mapped.PIECE, _HEAD + 3 * mapped.PIECE)
SIZE = _HEAD + 4 * mapped.PIECE


class LedgerFile:
    """Two windows, the books, two tables of users."""

    __slots__ = ("_bank", "_path", "_windows", "users")
    users: Users
    _path: str
    _bank: Bank
    _windows: Windows

    def __init__(self, path: str, descriptor: int, header: bytes) -> None:
        head = mapped.view(descriptor, 0, _HEAD)
        head[: len(header)] = header
        self._path = path
        self._bank = Bank(memoryview(head)[_HEADER:])
        first, second, odd, even = (
            mapped.view(descriptor, offset, mapped.PIECE) for offset in (*_WINDOWS, *_TABLES)
        )
        self._windows = Windows(first, second)
        self.users = Users((partial(_emptied, even), partial(_emptied, odd)))

    @classmethod
    def create(cls, path: str, *, attributes: SessionAttributes, started: float) -> LedgerFile:
        """Make the file. Raises OSError."""
        header = json.encode(
            {"format": FORMAT, "pid": os.getpid(), "started": started, "attributes": attributes}
        )
        if len(header) >= _HEADER:
            raise OSError(f"the attributes of its sessions take {len(header)} bytes")
        descriptor = mapped.create(path, SIZE)
        try:
            return cls(path, descriptor, header + b"\n")
        finally:
            # Each mapping keeps a descriptor of its own.
            os.close(descriptor)

    @property
    def write(self) -> Append:
        """How to append a record now; raises ValueError once there is no room."""
        return self._windows.write

    def turn_over(self, counts: Counts) -> None:
        """Make room, if there is none."""
        self._windows.turn_over(counts, self.users.name, self.commit)

    def enter(self, counts: Counts) -> None:
        """Enter all records into the books, and empty what is full."""
        self._windows.enter(counts, self.users.name, self.commit)

    def commit(self, counts: Counts) -> None:
        """Write the books down."""
        while True:
            data = counts.encode(self._windows.cursors)
            if len(data) <= self._bank.capacity:
                self._bank.write(data)
                return
            if not counts.shrink():
                log.warning("the books of sessions do not fit into the ledger any more")
                return

    def remove(self) -> bool:
        """Remove the file; False when it cannot be."""
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True


def _emptied(table: mmap.mmap) -> Append:
    table[:] = bytes(mapped.PIECE)
    table.seek(0)
    return table.write


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
