"""Session updates and aggregates on their way out: a state to be told, not a queue.

An update is the whole state of its session, so only the last one of a session has to go out; and
aggregates add up. So however long a rate limit or an outage lasts, what waits is one update per
session and one count per minute, user and outcome, and the next request takes it all along.

Invariants: the updates of one session leave in their order, one request at a time; `init` is on
the first update that reaches the server, whichever that is; nothing follows a terminal update;
aggregates that may have reached the server are never sent again (they have no identity, a second
copy would count twice), updates may be (the server knows them by their sid).

Bounded: sessions beyond the limit that were never announced and have ended become aggregates,
which loses their duration only; others leave, the oldest first, counted. Counts older than five
days, which servers refuse, leave too. Users beyond the limit of buckets are merged into the
count without a user.

`take_in` may be entered from any thread at any bytecode; everything else only by those that send,
one at a time (a lock with a bounded wait). Source: sessions.md sections 1.1, 2 and 3.7.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager

from crashfree._delivery.outcome import REASONS, Outcome
from crashfree._ground import json, log
from crashfree._ground.clock import Clock
from crashfree._ground.tally import snapshot
from crashfree._ground.typed import Any, NamedTuple, TypeAlias, cast
from crashfree._protocol import aggregates, limits
from crashfree._protocol.aggregates import CountKey
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item, session_item, sessions_item
from crashfree._protocol.timestamps import minute_of, parse_rfc3339
from crashfree.types import DiscardReason, SessionAggregates, SessionAttributes, SessionUpdate

Attributes: TypeAlias = "tuple[tuple[str, str], ...]"
Counts: TypeAlias = "dict[Attributes, dict[CountKey, int]]"

MAX_UNSEEN = 10_000
MAX_SESSIONS = 1_000
MAX_BUCKETS = 10_000
_REMEMBERED = 512
_UNTOLD = ("unwritten", "withdrawn", "limited")
_PATIENCE = 0.5
_EXPIRY_CHECK = 600.0


class _Record:
    """What is to be told about one session."""

    __slots__ = ("announce", "dirty", "tried", "under_way", "update")
    update: SessionUpdate
    announce: bool
    """Whether no update has reached the server yet."""
    dirty: bool
    """Whether `update` is still to be told."""
    under_way: bool
    tried: bool
    """Whether the server may have seen something of it."""

    def __init__(self, update: SessionUpdate) -> None:
        self.update = update
        self.announce = False
        self.dirty = True
        self.under_way = False
        self.tried = False

    @property
    def terminal(self) -> bool:
        return self.update.get("status", "ok") != "ok"

    def payload(self) -> SessionUpdate:
        """Return the update as it is to be sent now."""
        update = self.update
        if update.get("init", False) is self.announce:
            return update
        changed = update.copy()
        if self.announce:
            changed["init"] = True
        else:
            changed.pop("init", None)
        return changed


class Batch(NamedTuple):
    """Sessions that are being sent; given to `settle` afterwards. Updates first, then counts."""

    items: tuple[Item, ...]
    updates: Mapping[str, SessionUpdate]
    """By sid, the state that is being told."""
    counts: Counts

    @property
    def counting(self) -> bool:
        """Whether it holds aggregates."""
        return bool(self.counts)

    def halves(self) -> tuple[Batch, Batch]:
        """Split it in two, for a server that finds it too large."""
        middle = len(self.items) // 2
        sids = list(self.updates)
        parts: list[Batch] = []
        for first, last in ((0, middle), (middle, len(self.items))):
            updates = {sid: self.updates[sid] for sid in sids[first:last]}
            counts: Counts = {}
            for item in self.items[max(first, len(sids)) : last]:
                payload = cast(SessionAggregates, json.decode(item.view))
                group = counts.setdefault(_key(payload["attrs"]), {})
                for key, count in aggregates.counts_of(payload).items():
                    group[key] = group.get(key, 0) + count
            parts.append(Batch(self.items[first:last], updates, counts))
        return parts[0], parts[1]


NO_BATCH = Batch((), {}, {})


class SessionBook:
    """What has to be told about sessions. `on_loss(reason, quantity)` is told of every loss."""

    __slots__ = (
        "_arrivals",
        "_clock",
        "_counts",
        "_expiry_checked",
        "_finished",
        "_held_total",
        "_lock",
        "_on_loss",
        "_records",
        "version",
    )
    _clock: Clock
    _on_loss: Callable[[DiscardReason, int], None]
    _arrivals: deque[Item]
    _records: dict[str, _Record]
    _counts: Counts
    _finished: dict[str, None]
    _lock: threading.Lock
    _held_total: int
    _expiry_checked: float
    version: int
    """Changes whenever `snapshot` would."""

    def __init__(self, *, clock: Clock, on_loss: Callable[[DiscardReason, int], None]) -> None:
        self._clock = clock
        self._on_loss = on_loss
        self._reset()

    # -- any thread

    def take_in(self, items: Iterable[Item]) -> None:
        """Note session items, in order. Never blocks."""
        arrivals = self._arrivals
        for item in items:
            arrivals.append(item)
        while len(arrivals) > MAX_UNSEEN:
            try:
                lost = arrivals.popleft()
            except IndexError:
                return
            self._on_loss("queue_overflow", lost.quantity)

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell that is not being told at this moment."""
        return bool(self._arrivals) or self._held_total > 0

    @property
    def held(self) -> int:
        """How many sessions wait; a single update counts 1."""
        return self._held_total + sum(item.quantity for item in snapshot(self._arrivals))

    # -- those that send

    def batch(self, *, max_items: int = limits.SESSION_ITEMS) -> Batch:
        """Take what fits into one envelope; `NO_BATCH` when there is nothing to tell."""
        with self._exclusive() as mine:
            if not mine:
                return NO_BATCH
            self._read_arrivals()
            updates: dict[str, SessionUpdate] = {}
            for sid, record in self._records.items():
                if len(updates) >= max_items:
                    break
                if record.dirty and not record.under_way:
                    record.under_way = True
                    updates[sid] = record.update
            items = [session_item(self._records[sid].payload()) for sid in updates]
            counts = self._take_counts(items, max_items - len(items))
            self._recount()
        return Batch(tuple(items), updates, counts) if items else NO_BATCH

    def ride(self, sids: Iterable[str]) -> Batch:
        """Take the states of these sessions, to go along with an event."""
        with self._exclusive() as mine:
            if not mine:
                return NO_BATCH
            self._read_arrivals()
            updates: dict[str, SessionUpdate] = {}
            for sid in sids:
                record = self._records.get(sid)
                if record is not None and record.dirty and not record.under_way:
                    record.under_way = True
                    updates[sid] = record.update
            items = [session_item(self._records[sid].payload()) for sid in updates]
            self._recount()
        return Batch(tuple(items), updates, {}) if items else NO_BATCH

    def settle(self, batch: Batch, outcome: Outcome) -> None:
        """Note what became of a batch."""
        if batch is NO_BATCH:
            return
        lost = 0
        with self._exclusive(patient=True):
            for sid, update in batch.updates.items():
                lost += self._settle_update(sid, update, outcome)
            if outcome in _UNTOLD:
                self._give_back(batch.counts)
            elif outcome != "accepted":
                lost += total(batch.counts)
            self._recount()
        reason = REASONS[outcome]
        if lost and reason is not None:
            self._on_loss(reason, lost)

    def snapshot(self) -> bytes | None:
        """Return what is untold as the bytes of an envelope, to be kept on disk; None: nothing.

        A session that is being told right now is part of it, counts that are being written are
        not: a process that dies at this moment must not leave a second copy behind.
        """
        with self._exclusive() as mine:
            if not mine:
                return None
            self._read_arrivals()
            items = [
                session_item(record.payload()) for record in self._records.values() if record.dirty
            ]
            for attributes, counts in self._counts.items():
                items += _count_items(attributes, counts)
        return Envelope.of(items).encode() if items else None

    def fold(self) -> bool:
        """Look at what arrived; return whether there are aggregates among what waits."""
        with self._exclusive() as mine:
            if mine:
                self._read_arrivals()
                self._recount()
        return bool(self._counts)

    def give_up(self, reason: DiscardReason) -> None:
        """Drop everything, counted."""
        with self._exclusive(patient=True):
            self._read_arrivals()
            self._recount()
            lost = self._held_total
            self._records = {}
            self._counts = {}
            self._recount()
        if lost:
            self._on_loss(reason, lost)

    def forget(self) -> None:
        """Drop everything, uncounted, in a forked child."""
        self._reset()

    # -- inside; the lock is held

    def _reset(self) -> None:
        self._arrivals = deque()
        self._records = {}
        self._counts = {}
        self._finished = {}
        self._lock = threading.Lock()
        self._held_total = 0
        self._expiry_checked = 0.0
        self.version = 0

    @contextmanager
    def _exclusive(self, *, patient: bool = False) -> Generator[bool]:
        # Whoever holds it computes for at most some milliseconds. `patient` callers must change
        # the state; should the lock be abandoned, doing it anyway beats losing the sessions.
        lock = self._lock
        taken = lock.acquire(timeout=_PATIENCE)
        if not taken and patient:
            self._lock = threading.Lock()
        try:
            yield taken or patient
        finally:
            if taken:
                lock.release()

    def _read_arrivals(self) -> None:
        while True:
            try:
                item = self._arrivals.popleft()
            except IndexError:
                break
            try:
                self._read(item)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.warning(f"a session item that cannot be read was dropped: {error}")
                self._on_loss("internal_sdk_error", item.quantity)
        self._expire()
        self._shrink()

    def _read(self, item: Item) -> None:
        payload: Any = json.decode(item.view)
        if item.type == "sessions":
            self._add(cast(SessionAggregates, payload))
        else:
            self._note(cast(SessionUpdate, payload))
        self.version += 1

    def _note(self, update: SessionUpdate) -> None:
        sid = update["sid"]
        if sid in self._finished:
            return
        record = self._records.get(sid)
        if record is None:
            record = self._records[sid] = _Record(update)
        elif record.terminal or update.get("seq", 0) < record.update.get("seq", 0):
            # Two threads handed over out of order; the later state says it all.
            record.announce = record.announce or update.get("init", False)
            return
        record.announce = record.announce or update.get("init", False)
        record.update = update
        record.dirty = True

    def _add(self, payload: SessionAggregates) -> None:
        counts = self._counts.setdefault(_key(payload["attrs"]), {})
        for key, count in aggregates.counts_of(payload).items():
            counts[key] = counts.get(key, 0) + count

    def _give_back(self, returned: Counts) -> None:
        for attributes, group in returned.items():
            counts = self._counts.setdefault(attributes, {})
            for key, count in group.items():
                counts[key] = counts.get(key, 0) + count
        self.version += 1

    def _settle_update(self, sid: str, update: SessionUpdate, outcome: Outcome) -> int:
        """Note what became of one update; return 1 when its session is lost for good."""
        record = self._records.get(sid)
        if record is None:
            return 0
        record.under_way = False
        self.version += 1
        if outcome in _UNTOLD:
            return 0
        record.tried = True
        if outcome == "unanswered":
            return 0
        if outcome == "accepted":
            record.announce = False
        if record.update is update:
            record.dirty = False
            if record.terminal:
                self._finish(sid)
        return 0 if outcome == "accepted" else 1

    def _finish(self, sid: str) -> None:
        del self._records[sid]
        self._finished[sid] = None
        if len(self._finished) > _REMEMBERED:
            del self._finished[next(iter(self._finished))]

    def _take_counts(self, items: list[Item], room: int) -> Counts:
        """Move counts of at most `room` items out of the book; their items go to `items`."""
        taken: Counts = {}
        for attributes in list(self._counts):
            counts = self._counts[attributes]
            payloads = aggregates.to_payloads(cast(SessionAttributes, dict(attributes)), counts)
            chosen, room = payloads[: max(0, room)], room - len(payloads)
            if not chosen:
                continue
            if len(chosen) == len(payloads):
                taken[attributes] = self._counts.pop(attributes)
            else:
                taken[attributes] = _separate(counts, chosen)
            items += [sessions_item(payload) for payload in chosen]
            self.version += 1
        return taken

    def _expire(self) -> None:
        """Drop counts of minutes that no server takes any more."""
        now = self._clock.monotonic()
        if 0 <= now - self._expiry_checked < _EXPIRY_CHECK:
            return
        self._expiry_checked = now
        oldest = self._clock.time() - limits.SESSION_AGE
        lost = 0
        for counts in self._counts.values():
            for key in [key for key in counts if key[0] < oldest]:
                lost += counts.pop(key)
        self._counts = {key: counts for key, counts in self._counts.items() if counts}
        if lost:
            self._on_loss("cache_overflow", lost)

    def _shrink(self) -> None:
        if len(self._records) > MAX_SESSIONS:
            self._shrink_records()
        if sum(len(counts) for counts in self._counts.values()) > MAX_BUCKETS:
            self._shrink_counts()

    def _shrink_records(self) -> None:
        surplus = len(self._records) - MAX_SESSIONS
        for sid, record in list(self._records.items()):
            if surplus <= 0:
                return
            if record.under_way:
                continue
            surplus -= 1
            if not record.dirty:
                # All told so far; should it say more, that will be an update without `init`.
                del self._records[sid]
                continue
            if record.announce and record.terminal and not record.tried:
                self._count(record.update)
            else:
                self._on_loss("cache_overflow", 1)
            self._finish(sid)

    def _count(self, update: SessionUpdate) -> None:
        """Turn a finished session that nobody has heard of into a count."""
        minute = minute_of(parse_rfc3339(update["started"]))
        outcome = aggregates.outcome_of(update.get("status", "exited"), update.get("errors", 0))
        counts = self._counts.setdefault(_key(update["attrs"]), {})
        key = (minute, update.get("did"), outcome)
        counts[key] = counts.get(key, 0) + 1

    def _shrink_counts(self) -> None:
        """Give up the users of the sessions; with the hours in the place of minutes if need be."""
        for attributes, counts in self._counts.items():
            self._counts[attributes] = _merged(counts, 60)
        if sum(len(counts) for counts in self._counts.values()) > MAX_BUCKETS:
            for attributes, counts in self._counts.items():
                self._counts[attributes] = _merged(counts, 3600)
        log.warning("too many sessions wait for the network to keep their users apart")

    def _recount(self) -> None:
        waiting = sum(
            1 for record in self._records.values() if record.dirty and not record.under_way
        )
        self._held_total = waiting + total(self._counts)


def sids_of(items: Iterable[Item]) -> list[str]:
    """Return the ids of the sessions that `session` items tell about."""
    found: list[str] = []
    for item in items:
        if item.type == "session":
            try:
                found.append(json.decode(item.view)["sid"])
            except (ValueError, TypeError, KeyError):
                continue
    return found


def total(counts: Counts) -> int:
    """Return how many sessions are counted."""
    return sum(count for group in counts.values() for count in group.values())


def _key(attributes: SessionAttributes) -> Attributes:
    return tuple(sorted(cast("Mapping[str, str]", attributes).items()))


def _count_items(attributes: Attributes, counts: Mapping[CountKey, int]) -> list[Item]:
    payloads = aggregates.to_payloads(cast(SessionAttributes, dict(attributes)), counts)
    return [sessions_item(payload) for payload in payloads]


def _separate(
    counts: dict[CountKey, int], payloads: Iterable[SessionAggregates]
) -> dict[CountKey, int]:
    """Move the counts that are in `payloads` out of `counts`."""
    taken: dict[CountKey, int] = {}
    for payload in payloads:
        for key, count in aggregates.counts_of(payload).items():
            taken[key] = taken.get(key, 0) + count
            left = counts.get(key, 0) - count
            if left > 0:
                counts[key] = left
            else:
                counts.pop(key, None)
    return taken


def _merged(counts: Mapping[CountKey, int], seconds: int) -> dict[CountKey, int]:
    merged: dict[CountKey, int] = {}
    for (minute, _, outcome), count in counts.items():
        key = (minute // seconds * seconds, None, outcome)
        merged[key] = merged.get(key, 0) + count
    return merged
