"""Windows: two pieces of memory that records are appended to, and entered into the books from.

A record is 8 bytes, and appending one is a single call of `mmap.write`: atomic to threads, signal
handlers and finalizers, so there is no lock on the way and nothing to lose. Full is full to the
last byte: an append then raises ValueError and changes nothing. So nobody can write into a full
window, and it can be emptied while the other one takes the records.

The memory may be a file's, which outlives the process, or the process's own.

Threads: appending any; the rest one at a time, which the ledger sees to.
"""

from __future__ import annotations

import mmap
import sys
import threading
from collections import Counter
from collections.abc import Callable

from crashfree._ground.typed import TypeAlias
from crashfree._sessions import mapped
from crashfree._sessions.counts import Counts
from crashfree._sessions.users import Append

RECORD = 8
_PATIENCE = 0.05

Commit: TypeAlias = "Callable[[Counts], None]"


class Window:
    """One of the two."""

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


class Windows:
    """Two windows that take turns."""

    __slots__ = ("_active", "_pair")
    _pair: tuple[Window, Window]
    _active: int

    def __init__(self, first: mmap.mmap, second: mmap.mmap) -> None:
        self._pair = (Window(first), Window(second))
        self._active = 0

    @property
    def write(self) -> Append:
        """How to append a record now."""
        return self._pair[self._active].write

    @property
    def cursors(self) -> list[int]:
        """How many records of each have been entered into the books."""
        return [window.cursor for window in self._pair]

    def turn_over(self, counts: Counts, user: Callable[[int], str | None], commit: Commit) -> None:
        """Make room, if there is none."""
        if not self._pair[self._active].full:
            return
        other = 1 - self._active
        if self._pair[other].full:
            self.enter(counts, user, commit)
        self._active = other

    def enter(self, counts: Counts, user: Callable[[int], str | None], commit: Commit) -> None:
        """Enter all records into the books, and empty what is full.

        `commit` writes the books down, cursors included: once when records have been entered, and
        once more between emptying a window and letting it be used again.
        """
        changed = False
        for window in self._pair:
            length = window.length
            if length > window.cursor:
                counts.enter(Counter(window.cells[window.cursor : length]), user)
                window.cursor = length
                changed = True
        if changed:
            commit(counts)
        for index, window in enumerate(self._pair):
            if window.full and index != self._active:
                # Nobody can append to a full window, so nobody can be disturbed here.
                window.map[:] = bytes(mapped.PIECE)
                window.cursor = 0
                commit(counts)
                window.map.seek(0)


class _Guarded:
    """Appends one at a time, for interpreters without a global lock."""

    __slots__ = ("_append", "_inside", "_lock")
    _append: Append
    _lock: threading.Lock
    _inside: set[int]
    """The threads that append, or wait for it."""

    def __init__(self, append: Append) -> None:
        self._append = append
        self._lock = threading.Lock()
        self._inside = set()

    def __call__(self, word: bytes) -> None:
        me = threading.get_ident()
        # A signal handler or a finalizer that interrupted this very thread must not wait for it.
        if me in self._inside:
            raise ValueError("the window is busy")
        self._inside.add(me)
        try:
            # Held for a copy of 8 bytes.
            if not self._lock.acquire(timeout=_PATIENCE):
                raise ValueError("the window is busy")
            try:
                self._append(word)
            finally:
                self._lock.release()
        finally:
            self._inside.discard(me)


def _gil_enabled() -> bool:
    asked: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return True if asked is None else asked()
