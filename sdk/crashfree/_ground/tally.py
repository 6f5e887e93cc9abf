"""A counter that never blocks its caller and never loses a count; looking at a queue in use.

`add` may be entered at any bytecode of itself: from another thread, from a signal handler, from a
finalizer that the collector runs. It therefore never waits for the lock; whoever finds it held
leaves the increment in a deque (appending is atomic), and the next holder folds it in. An RLock
would not do: it lets the same thread in again in the middle of the read-modify-write.

Threads: any. Fork: make a new one in the child.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Mapping

from crashfree._ground.typed import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_PATIENCE = 0.05
_ABANDONED_AFTER = 40


def snapshot(queue: deque[T]) -> deque[T]:
    """Return what is in `queue` at one moment; its `maxlen`, too.

    `deque.copy()` is one step where there is a global interpreter lock. Without one (free-threaded
    builds) it may find that the queue changed while it was at it, and says so; then it is asked
    again.
    """
    while True:
        try:
            return queue.copy()
        except RuntimeError:
            continue


class Tally(Generic[K]):
    """Counts by key."""

    __slots__ = ("_counts", "_failures", "_late", "_lock", "_seen", "_turns")
    _counts: dict[K, int]
    _late: deque[tuple[K, int]]
    _lock: threading.Lock
    _failures: int
    _turns: int
    """How often the lock was held; written by who holds it."""
    _seen: int

    def __init__(self) -> None:
        self._counts = {}
        self._late = deque()
        self._lock = threading.Lock()
        self._failures = 0
        self._turns = 0
        self._seen = -1

    def add(self, key: K, n: int = 1) -> None:
        """Add `n` to the count of `key`. Never blocks, never loses."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            self._late.append((key, n))
            return
        try:
            self._turns += 1
            counts = self._counts
            counts[key] = counts.get(key, 0) + n
            if self._late:
                self._fold()
        finally:
            lock.release()

    def take(self) -> dict[K, int]:
        """Return the counts and start again from nothing.

        Waits at most 50 ms for the lock. Empty when it is contended that long; nothing is lost
        then, the next call has it.
        """
        lock = self._lock
        if not lock.acquire(timeout=_PATIENCE):
            # A section holds the lock for a microsecond. Found held for two seconds by one and the
            # same, it was abandoned: an exception raised by a signal handler struck between
            # acquire and try. Not sooner: on a busy machine its thread may just not get its turn.
            if self._seen != self._turns:
                self._seen = self._turns
                self._failures = 0
            self._failures += 1
            if self._failures >= _ABANDONED_AFTER:
                self._failures = 0
                self._lock = threading.Lock()
            return {}
        try:
            self._turns += 1
            self._failures = 0
            self._fold()
            taken = self._counts
            self._counts = {}
            return taken
        finally:
            lock.release()

    def peek(self) -> dict[K, int]:
        """Return a copy of the counts; what is being added at this moment may be missing."""
        counts = self._counts.copy()
        for key, n in snapshot(self._late):
            counts[key] = counts.get(key, 0) + n
        return counts

    def give_back(self, counts: Mapping[K, int]) -> None:
        """Add counts that were taken and could not be used."""
        for key, n in counts.items():
            self.add(key, n)

    def _fold(self) -> None:
        late = self._late
        counts = self._counts
        while True:
            try:
                key, n = late.popleft()
            except IndexError:
                return
            counts[key] = counts.get(key, 0) + n
