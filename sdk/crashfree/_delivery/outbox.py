"""The outbox: finished envelopes that wait for the worker, bounded by number and by bytes.

Invariants: never more than the limits (a handful of arrivals that nobody has looked at yet
excepted); when it is full the oldest of the same lane leaves, but an event that nobody handled
never leaves for one that somebody did; what leaves is handed to `on_overflow`, once.

`put` may be entered from signal handlers and finalizers at any bytecode of itself, also of the
part that holds the lock: it only appends to a deque, and tries the lock without waiting when it is
time to look at the limits. Everything else is for those that send. Fork: `forget`.

Source: wire.md section 13.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from crashfree._ground.tally import snapshot
from crashfree._ground.typed import NamedTuple
from crashfree._protocol.envelope import Envelope

_OVERHEAD = 512
_UNSEEN = 32
_LARGE = 256 * 1024
_ERRORS_IN_A_ROW = 5
_PATIENCE = 0.05
_ABANDONED_AFTER = 3


class QueueLimits(NamedTuple):
    """How much may wait in memory for one destination."""

    max_items: int = 10_000
    """Envelopes with events, and as many of others."""
    max_bytes: int = 16 << 20
    """Bytes over all, attachments included; each envelope counts 512 more than its payloads, and
    an event that is not built yet what its parts take."""


DEFAULT_LIMITS = QueueLimits()


class Entry:
    """An envelope on its way out."""

    __slots__ = (
        "_fate",
        "_unclaimed",
        "envelope",
        "event",
        "riders",
        "sequence",
        "size",
        "stored",
    )
    envelope: Envelope
    size: int
    event: bool
    riders: bool
    """Whether session updates ride along: then only the worker sends it, in order."""
    sequence: int
    stored: list[str] | None
    """Where it lies on disk as well."""
    _unclaimed: list[None]
    _fate: list[None]

    def __init__(self, envelope: Envelope, *, event: bool, riders: bool) -> None:
        self.envelope = envelope
        self.size = _OVERHEAD + envelope.size_hint
        self.event = event
        self.riders = riders
        self.sequence = 0
        self.stored = None
        self._unclaimed = [None]
        self._fate = [None]

    @property
    def precious(self) -> bool:
        """Whether it holds an event that nobody handled."""
        return any(item.unhandled for item in self.envelope.items)

    def claim(self) -> bool:
        """Return True to the first who asks: who is about to write it out, or to put it away.

        Popping from a list is atomic, so a request and a `close` that gives up waiting for it
        cannot both have the envelope.
        """
        return _popped(self._unclaimed)

    def decide(self) -> bool:
        """Return True to the first who asks: who says what became of it in the end."""
        return _popped(self._fate)


class _Lane:
    """One queue: those to give up first, and those to give up last."""

    __slots__ = ("precious", "usual")
    usual: deque[Entry]
    precious: deque[Entry]

    def __init__(self) -> None:
        self.usual = deque()
        self.precious = deque()

    def __len__(self) -> int:
        return len(self.usual) + len(self.precious)

    def put(self, entry: Entry, precious: bool) -> None:
        (self.precious if precious else self.usual).append(entry)

    def head(self) -> Entry | None:
        """Return the oldest."""
        usual, precious = self.usual, self.precious
        if usual and (not precious or usual[0].sequence < precious[0].sequence):
            return usual[0]
        return precious[0] if precious else None

    def take(self) -> Entry:
        """Remove the oldest."""
        usual, precious = self.usual, self.precious
        if usual and (not precious or usual[0].sequence < precious[0].sequence):
            return usual.popleft()
        return precious.popleft()

    def give_up(self) -> Entry:
        """Remove the oldest that may go."""
        return (self.usual or self.precious).popleft()


class Outbox:
    """Two lanes, events and others; events first, but after five of them one of the others."""

    __slots__ = (
        "_arrivals",
        "_bytes",
        "_events",
        "_in_a_row",
        "_limits",
        "_lock",
        "_on_overflow",
        "_open",
        "_others",
        "_sequence",
    )
    _limits: QueueLimits
    _on_overflow: Callable[[Envelope], None]
    _arrivals: deque[Entry]
    _lock: threading.Lock
    _events: _Lane
    _others: _Lane
    _bytes: int
    _in_a_row: int
    _sequence: int
    _open: dict[int, Entry]
    """What is not settled, by number; in the order of the numbers, since dicts keep it."""

    def __init__(self, limits: QueueLimits, *, on_overflow: Callable[[Envelope], None]) -> None:
        self._limits = limits
        self._on_overflow = on_overflow
        self._reset()

    # -- any thread

    def put(self, entry: Entry) -> None:
        """Queue it. Never blocks."""
        arrivals = self._arrivals
        arrivals.append(entry)
        if len(arrivals) >= _UNSEEN or entry.size >= _LARGE or len(self) > self._limits.max_items:
            self._look()

    def __len__(self) -> int:
        """How many wait; approximate while others work on it."""
        return len(self._arrivals) + len(self._events) + len(self._others)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._bytes + sum(entry.size for entry in snapshot(self._arrivals))

    def mark(self) -> int:
        """Return a number for `reached`: everything that was put before this call."""
        # With the lock, so that nothing is between arrival and number at this moment. Without it
        # only when this very thread was interrupted inside it.
        dropped: list[Entry] = []
        lock = self._lock
        if lock.acquire(timeout=_PATIENCE):
            try:
                self._fold(dropped)
            finally:
                lock.release()
            self._drop(dropped)
        return self._sequence + len(self._arrivals)

    def reached(self, mark: int) -> bool:
        """Return whether everything before the mark was settled."""
        # In this order: what gets its number after the second look is behind the mark.
        if self._sequence < mark:
            return False
        oldest = self._oldest()
        return oldest is None or oldest > mark

    # -- those that send

    def take(self, *, riders: bool = True) -> Entry | None:
        """Return the next one; None when there is none, or it has riders and those are not wanted.

        It stays unsettled until `settle`.
        """
        dropped: list[Entry] = []
        lock = self._acquire()
        try:
            self._fold(dropped)
            entry = self._next(riders)
        finally:
            lock.release()
        self._drop(dropped)
        return entry

    def settle(self, entry: Entry) -> None:
        """Note that it was sent, dropped or put on disk."""
        self._open.pop(entry.sequence, None)

    def unsettled(self) -> list[Entry]:
        """Return everything that waits or is under way, and forget what waits."""
        self._look(_PATIENCE)
        left = list(self._open.copy().values())
        left += snapshot(self._arrivals)
        self._arrivals.clear()
        self._events = _Lane()
        self._others = _Lane()
        self._bytes = 0
        return left

    def forget(self) -> None:
        """Drop everything, uncounted, in a forked child."""
        self._reset()

    # -- inside

    def _reset(self) -> None:
        self._arrivals = deque()
        self._lock = threading.Lock()
        self._events = _Lane()
        self._others = _Lane()
        self._bytes = 0
        self._in_a_row = 0
        self._sequence = 0
        self._open = {}

    def _look(self, patience: float = 0.0) -> None:
        """Apply the limits to what arrived, unless somebody else is at it and will do it."""
        while self._arrivals:
            lock = self._lock
            if not (lock.acquire(timeout=patience) if patience else lock.acquire(blocking=False)):
                self._shed()
                return
            dropped: list[Entry] = []
            try:
                self._fold(dropped)
            finally:
                lock.release()
            self._drop(dropped)

    def _shed(self) -> None:
        # The lock is held for microseconds. Should it be abandoned (an exception of a signal
        # handler behind `acquire`), arrivals still must not grow without end.
        while len(self._arrivals) > self._limits.max_items:
            try:
                self._drop([self._arrivals.popleft()])
            except IndexError:
                return

    def _acquire(self) -> threading.Lock:
        """Take the lock, or a new one in the place of one that was abandoned; return it."""
        for _ in range(_ABANDONED_AFTER):
            lock = self._lock
            if lock.acquire(timeout=_PATIENCE):
                return lock
        lock = threading.Lock()
        lock.acquire()
        self._lock = lock
        return lock

    def _fold(self, dropped: list[Entry]) -> None:
        limits = self._limits
        while True:
            try:
                entry = self._arrivals.popleft()
            except IndexError:
                return
            self._sequence += 1
            entry.sequence = self._sequence
            self._open[self._sequence] = entry
            lane = self._events if entry.event else self._others
            lane.put(entry, entry.precious)
            self._bytes += entry.size
            while lane and (len(lane) > limits.max_items or self._bytes > limits.max_bytes):
                surplus = lane.give_up()
                self._bytes -= surplus.size
                del self._open[surplus.sequence]
                dropped.append(surplus)

    def _oldest(self) -> int | None:
        """Return the number of the oldest that is not settled; None when all are."""
        while True:
            try:
                return next(iter(self._open))
            except StopIteration:
                return None
            except RuntimeError:
                # Somebody settled one between the two calls.
                continue

    def _next(self, riders: bool) -> Entry | None:
        lane = self._events
        if not lane or (self._others and self._in_a_row >= _ERRORS_IN_A_ROW):
            lane = self._others
        entry = lane.head()
        if entry is None or (entry.riders and not riders):
            return None
        self._in_a_row = self._in_a_row + 1 if lane is self._events else 0
        self._bytes -= entry.size
        return lane.take()

    def _drop(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._on_overflow(entry.envelope)


def _popped(token: list[None]) -> bool:
    try:
        token.pop()
    except IndexError:
        return False
    return True
