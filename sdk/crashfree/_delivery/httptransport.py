"""The transport to a DSN: outbox, session book, courier and spool, composed.

Invariants: everything that is submitted ends up sent, on disk, held back (sessions only) or
dropped with a reason; the submitting thread does no I/O and waits for nothing; requests are made
by the worker, and by up to four short-lived senders beside it while a backlog lasts; what tells
about sessions is sent by the worker alone, so that its order holds.

Threads: `submit`, `flush`, `close`, `stats` any; the rest the worker, or whoever stands in for it
in `flush` where there is no thread; `_deliver` senders too. Fork: `forget`.
Source: wire.md sections 11 to 18, sessions.md section 3.7.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from crashfree._delivery import disk
from crashfree._delivery.backoff import Backoff
from crashfree._delivery.courier import REPORT_ALONG, Courier
from crashfree._delivery.discards import Discards
from crashfree._delivery.outbox import DEFAULT_LIMITS, Entry, Outbox, QueueLimits
from crashfree._delivery.outcome import REASONS, Outcome
from crashfree._delivery.post import Post, buildable
from crashfree._delivery.run import HELD
from crashfree._delivery.sessionbook import NO_BATCH, Batch, SessionBook, sids_of
from crashfree._delivery.spool import Spool, has_aggregates
from crashfree._delivery.transport import Statistics
from crashfree._delivery.worker import Timer, Worker
from crashfree._ground import log
from crashfree._ground.clock import Clock
from crashfree._ground.compression import Compression
from crashfree._ground.http import DEFAULTS as DEFAULT_HTTP
from crashfree._ground.http import HttpClient, HttpSettings
from crashfree._ground.tally import snapshot
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item
from crashfree.types import DataCategory, DiscardReason

_SESSION_TYPES = frozenset(("session", "sessions"))
_EVENT_TYPES = frozenset(("event", "transaction", "attachment"))
_SENDERS = 4
_WAITING_PER_SENDER = 4
_EVENTS_BEFORE_SESSIONS = 5
_MISUNDERSTOOD = frozenset((400, 415, 422, 501))
_STRIKES = 3
_HEALTHY_SHARE = 0.8
_REPLAY_AFTER_START = 1.0
_REPLAY_PAUSE = 0.1
_REPLAY_FIRST_PAUSE = 30.0
_REPLAY_LONGEST_PAUSE = 3600.0
_MOST_PASSES = 100


class _Ticket:
    """Somebody waits in `flush`."""

    __slots__ = ("done", "failures", "mark")
    mark: int
    """The outbox's number for what was submitted before."""
    failures: int
    """Unanswered requests at that time: after one more, waiting for the network is over."""
    done: threading.Event

    def __init__(self, mark: int, failures: int) -> None:
        self.mark = mark
        self.failures = failures
        self.done = threading.Event()


class _Flight:
    """A batch of sessions on its way, and the right to say that it is not."""

    __slots__ = ("_unclaimed", "batch")
    batch: Batch
    _unclaimed: list[None]

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._unclaimed = [None]

    def claim(self) -> bool:
        """Return True to the first who asks: who is about to write it, or to put it away."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True


class HttpTransport:
    """Sends envelopes to a DSN."""

    __slots__ = (
        "_aside",
        "_book",
        "_busy_aside",
        "_clock",
        "_closed",
        "_courier",
        "_discards",
        "_flight",
        "_hands",
        "_http",
        "_kept",
        "_kept_lock",
        "_kept_version",
        "_limits",
        "_more",
        "_outbox",
        "_pid",
        "_refusing",
        "_replay_backoff",
        "_replay_timer",
        "_scheduled",
        "_sessions_accepted",
        "_sessions_refused",
        "_since_sessions",
        "_spool",
        "_strikes",
        "_taking",
        "_tickets",
        "_timer",
        "_worker",
    )
    _worker: Worker
    _clock: Clock
    _discards: Discards
    _spool: Spool | None
    _limits: QueueLimits
    _http: HttpClient
    _courier: Courier
    _outbox: Outbox
    _book: SessionBook
    _pid: int
    _refusing: bool
    _closed: bool
    _scheduled: bool
    _aside: bool
    _busy_aside: bool
    _more: bool
    _tickets: deque[_Ticket]
    _hands: dict[object, None]
    _timer: Timer | None
    _flight: _Flight | None
    _taking: bool
    _since_sessions: int
    _sessions_accepted: bool
    _sessions_refused: bool
    _strikes: int
    _kept: bool
    _kept_version: int
    _kept_lock: threading.Lock
    _replay_timer: Timer | None
    _replay_backoff: Backoff

    def __init__(
        self,
        dsn: Dsn,
        *,
        worker: Worker,
        clock: Clock,
        discards: Discards,
        spool: Spool | None = None,
        http: HttpSettings = DEFAULT_HTTP,
        compression: Compression = "gzip",
        queue: QueueLimits = DEFAULT_LIMITS,
        send_client_reports: bool = True,
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._discards = discards
        self._spool = spool
        self._limits = queue
        self._http = HttpClient(http, clock=clock)
        self._courier = Courier(
            dsn,
            post=Post(dsn, http=self._http, clock=clock, compression=compression),
            clock=clock,
            discards=discards,
            reports=send_client_reports,
        )
        self._outbox = Outbox(queue, on_overflow=partial(self._lose, "queue_overflow"))
        self._book = SessionBook(clock=clock, on_loss=self._lose_sessions)
        self._refusing = False
        self._closed = False
        self._aside = False
        self._sessions_accepted = False
        self._sessions_refused = False
        self._strikes = 0
        self._reset()
        if send_client_reports:
            discards.notify(self._loss_noted)

    # -- any thread

    def submit(self, envelope: Envelope) -> bool:
        """Take an envelope; False after `close`. Never blocks, never raises.

        On the worker itself aggregates are on disk (where there is a spool) when this returns,
        so that whoever counted them may forget them.
        """
        if os.getpid() != self._pid:
            self.forget()
        if self._refusing:
            return False
        items = envelope.items
        sessions = [item for item in items if item.type in _SESSION_TYPES]
        if sessions:
            self._book.take_in(sessions)
            if self._worker.is_current() and has_aggregates(envelope) and self._book.fold():
                self._keep_sessions()
        if len(sessions) < len(items):
            event = any(item.type in _EVENT_TYPES for item in items)
            self._outbox.put(Entry(envelope, event=event, riders=bool(sessions)))
        self._schedule()
        return True

    def flush(self, timeout: float) -> bool:
        """Send what was submitted before this call, sessions and the client report included.

        True when all of it was sent, dropped with a reason, or is safe on disk or behind a rate
        limit; False at the deadline, or when sessions are kept in memory because the server
        cannot be reached. 0 does not wait.
        """
        if os.getpid() != self._pid:
            self.forget()
        if self._closed:
            return True
        ticket = _Ticket(self._outbox.mark(), self._courier.failures)
        if self._worker.is_current() or self._idle(ticket):
            return self._finished(ticket)
        self._tickets.append(ticket)
        self._schedule()
        if timeout > 0:
            self._await(ticket, timeout)
        return ticket.done.is_set() and self._finished(ticket)

    def close(self, timeout: float) -> bool:
        """Flush, then put what is left on disk or drop it, counted.

        Worker and spool are not closed: who made them does that, when the run has nothing to add.
        """
        if os.getpid() != self._pid:
            self.forget()
        if self._refusing:
            return self._closed
        self._refusing = True
        deadline = self._clock.monotonic() + timeout
        done = self.flush(timeout)
        if done and timeout > 0:
            self._replay_until(deadline)
        self._closed = True
        self._put_away(self._outbox.unsettled())
        self._put_sessions_away()
        self._http.close()
        self._discards.tell()
        return done

    def stats(self) -> Statistics:
        """Return what this destination did so far. Looks at the spool's directory."""
        courier = self._courier
        status = None if self._spool is None else self._spool.status()
        waiting = len(self._outbox)
        return Statistics(
            queued=waiting,
            queued_bytes=self._outbox.size,
            sent=courier.sent,
            sent_bytes=courier.sent_bytes,
            requests=courier.requests,
            spooled=0 if status is None else status.items,
            spooled_bytes=0 if status is None else status.size,
            held_sessions=self._book.held,
            dropped=self._discards.totals(),
            last_error=courier.last_error,
            rate_limits=courier.limiter.remaining(),
            healthy=courier.healthy and waiting < _HEALTHY_SHARE * self._limits.max_items,
        )

    def limited(self, category: DataCategory) -> bool:
        """Return whether items of `category` would be dropped now; ask before building one."""
        return self._courier.limiter.limited(category)

    def resume(self) -> None:
        """Send what earlier runs left on disk, soon. Starts the thread if there is something."""
        if self._spool is not None and self._spool.status().items:
            self._replay_soon(_REPLAY_AFTER_START)

    def send_spooled(self) -> int:
        """Send what waits on disk, now, in the calling thread; return how many left the disk.

        For tools. Stops at the first one that cannot be sent.
        """
        return 0 if self._spool is None else self._spool.drain(self._send_stored)

    def step_aside(self) -> None:
        """Share the worker with other transports: a server that hangs must not hold them up.

        From here on the requests are made by a short-lived thread of its own, whenever there is
        something to send. Call it before the first envelope.
        """
        self._aside = True

    def forget(self) -> None:
        """Leave everything to the parent, in a forked child."""
        self._outbox.forget()
        self._book.forget()
        self._courier.forget()
        self._http.forget()
        self._discards.forget()
        if self._spool is not None:
            self._spool.forget()
        self._reset()

    # -- inside, any thread

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._scheduled = False
        self._busy_aside = False
        self._more = False
        self._tickets = deque()
        self._hands = {}
        self._timer = None
        self._taking = False
        self._flight = None
        self._since_sessions = 0
        self._kept = False
        self._kept_version = -1
        self._kept_lock = threading.Lock()
        self._replay_timer = None
        self._replay_backoff = Backoff(_REPLAY_FIRST_PAUSE, _REPLAY_LONGEST_PAUSE)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if not self._worker.submit(self._pump_aside if self._aside else self._pump):
                self._scheduled = False

    def _wake_at(self, deadline: float) -> None:
        timer = self._timer
        if timer is not None:
            if timer.deadline <= deadline:
                return
            timer.cancel()
        self._timer = self._worker.at(deadline, self._awake)

    def _awake(self) -> None:
        self._timer = None
        self._schedule()

    def _loss_noted(self) -> None:
        if not self._closed and self._timer is None:
            self._wake_at(self._courier.report_at())

    def _lose(self, reason: DiscardReason, envelope: Envelope) -> None:
        # Session updates in it are the book's.
        self._lose_items(reason, envelope.items)

    def _lose_items(self, reason: DiscardReason, items: Iterable[Item]) -> None:
        for item in items:
            if item.type not in _SESSION_TYPES and item.type != "client_report":
                self._discards.record(reason, item.category, item.quantity)

    def _lose_sessions(self, reason: DiscardReason, quantity: int) -> None:
        self._discards.record(reason, "session", quantity)

    def _await(self, ticket: _Ticket, timeout: float) -> None:
        if self._worker.alive:
            ticket.done.wait(timeout)
            return
        # Nobody but us: the jobs run here. Each round of `flush` runs those that were queued.
        deadline = self._clock.monotonic() + timeout
        while self._scheduled and not ticket.done.is_set():
            left = deadline - self._clock.monotonic()
            if left <= 0 or not self._worker.flush(left):
                return

    def _idle(self, ticket: _Ticket) -> bool:
        """Return whether there is nothing to do, and so no thread to be started for it."""
        return (
            self._outbox.reached(ticket.mark)
            and not self._book.waiting
            and not self._taking
            and self._flight is None
            and not self._courier.report_due(0.0)
        )

    def _finished(self, ticket: _Ticket) -> bool:
        if not self._outbox.reached(ticket.mark):
            return False
        return not self._book.waiting or self._kept or self._courier.limiter.limited("session")

    # -- the worker

    def _pump(self) -> None:
        """Do one thing that is to be done, and come back while there is more."""
        self._scheduled = False
        if self._turn():
            self._schedule()

    def _pump_aside(self) -> None:
        """Let a thread of its own do all that is to be done, if it is not at it already."""
        self._scheduled = False
        # Invariant: said before it is asked whether that thread runs, and that thread stops
        # running before it asks whether something was said.
        self._more = True
        if self._busy_aside:
            return
        self._busy_aside = True
        if not self._worker.hire(self._stay_aside):
            self._busy_aside = False
            self._pump()

    def _stay_aside(self) -> None:
        try:
            while self._more:
                self._more = False
                while self._turn():
                    pass
        finally:
            self._busy_aside = False
            if self._more:
                self._schedule()

    def _turn(self) -> bool:
        """Do one thing; return whether there may be more."""
        if self._closed:
            return False
        tickets = snapshot(self._tickets)
        for ticket in tickets:
            if self._outbox.reached(ticket.mark):
                self._complete(ticket)
        if self._advance():
            return True
        if not self._hands:
            # What is left of the outbox waits for the network, which those who flush need not. Not
            # those who came while we looked: theirs was not there yet.
            for ticket in tickets:
                if not ticket.done.is_set():
                    self._complete(ticket)
        return False

    def _complete(self, ticket: _Ticket) -> None:
        for _ in range(_MOST_PASSES):
            if not self._send_sessions(ticket):
                break
        if self._courier.report_due(0.0) and not self._silent(ticket):
            self._send_report()
        try:
            self._tickets.remove(ticket)
        except ValueError:
            return
        ticket.done.set()

    def _advance(self) -> bool:
        """Do one thing; False when there is nothing that can be done now."""
        ticket = self._tickets[0] if self._tickets else None
        if self._silent(ticket):
            return self._wait_out()
        if self._since_sessions >= _EVENTS_BEFORE_SESSIONS and self._send_sessions(ticket):
            return True
        entry = self._outbox.take()
        if entry is not None:
            self._since_sessions += 1
            self._hire()
            self._deliver(entry)
            return True
        if self._send_sessions(ticket):
            return True
        if self._courier.report_due(0.0):
            if self._clock.monotonic() >= self._courier.report_at():
                self._send_report()
                return True
            self._wake_at(self._courier.report_at())
        return False

    def _silent(self, ticket: _Ticket | None) -> bool:
        """Return whether the server is left alone for a while, after it could not be reached.

        Somebody who flushes is worth one more attempt.
        """
        if not self._courier.outage.paused(self._clock.monotonic()):
            return False
        return ticket is None or self._courier.failures > ticket.failures

    def _wait_out(self) -> bool:
        """In an outage: put what waits on disk, or let it wait in memory."""
        self._wake_at(self._courier.outage.until)
        if self._book.waiting:
            self._keep_sessions()
        if self._spool is None or self._spool.max_items == 0:
            return False
        entry = self._outbox.take()
        if entry is None:
            return False
        self._give_up(entry, "network_error")
        return True

    def _hire(self) -> None:
        hands = self._hands
        while len(hands) < _SENDERS and len(self._outbox) > _WAITING_PER_SENDER * (len(hands) + 1):
            hand = object()
            hands[hand] = None
            if not self._worker.hire(partial(self._help, hand)):
                del hands[hand]
                return

    def _help(self, hand: object) -> None:
        """Send beside the worker until the backlog is gone. Runs on a thread of its own."""
        try:
            while not self._closed and not self._silent(None):
                entry = self._outbox.take(riders=False)
                if entry is None:
                    return
                self._deliver(entry)
        finally:
            self._hands.pop(hand, None)
            self._schedule()

    # -- one envelope; the worker or a sender

    def _deliver(self, entry: Entry) -> None:
        done = False
        try:
            self._send_entry(entry)
            done = True
        finally:
            if not done and entry.decide():
                self._lose("internal_sdk_error", entry.envelope)
            self._outbox.settle(entry)

    def _send_entry(self, entry: Entry) -> None:
        envelope, batch = self._with_riders(entry)
        envelope = None if envelope is None else self._sendable(envelope)
        if envelope is None:
            # Its sessions go alone.
            self._book.settle(batch, "unwritten")
            entry.decide()
            return
        outcome = self._carry(_joined(envelope, batch), may_write=entry.claim)
        if outcome == "too_large":
            outcome = self._carry_in_parts(envelope)
        elif outcome == "refused" and self._sessions_may_be_the_reason(batch):
            outcome = self._carry(envelope)
            if outcome == "accepted":
                self._strike(_STRIKES)
                self._book.settle(batch, "refused")
                batch = NO_BATCH
        self._book.settle(batch, outcome)
        if outcome == "accepted":
            if batch is not NO_BATCH:
                self._sessions_accepted = True
            if not entry.decide():
                self._unstore(entry)
            self._replay_soon(_REPLAY_PAUSE)
        elif outcome != "withdrawn":
            self._conclude(entry, envelope, outcome)

    def _with_riders(self, entry: Entry) -> tuple[Envelope | None, Batch]:
        """Return the entry's envelope without its sessions, and what of them goes along now."""
        if not entry.riders:
            return entry.envelope, NO_BATCH
        envelope, sessions = entry.envelope.without(lambda item: item.type in _SESSION_TYPES)
        if self._sessions_refused or self._courier.limiter.limited("session"):
            return envelope, NO_BATCH
        return envelope, self._book.ride(sids_of(sessions))

    def _sendable(self, envelope: Envelope) -> Envelope | None:
        """Leave out what is limited and what cannot be built, counted."""
        limited = self._courier.limiter.limited
        left, dropped = envelope.without(lambda item: limited(item.category))
        self._lose_items("ratelimit_backoff", dropped)
        if left is None:
            return None
        return buildable(left, self._unbuilt)

    def _unbuilt(self, item: Item, error: BaseException) -> None:
        log.warning(
            f"an item of type {item.type} could not be built: {type(error).__name__}: {error}",
            key="unbuilt",
        )
        self._lose_items("internal_sdk_error", (item,))

    def _carry(
        self,
        envelope: Envelope,
        *,
        counting: bool = False,
        may_write: Callable[[], bool] | None = None,
        report_after: float = REPORT_ALONG,
    ) -> Outcome:
        deadline = self._worker.deadline
        timeout = None if deadline is None else max(0.0, deadline - self._clock.monotonic())
        return self._courier.carry(
            envelope,
            timeout=timeout,
            counting=counting,
            may_write=may_write,
            report_after=report_after,
        )

    def _carry_in_parts(self, envelope: Envelope) -> Outcome:
        """Send the event without its attachments, and those by themselves; once."""
        first, second = envelope.without(lambda item: item.type == "attachment")
        if first is None or not second:
            return "too_large"
        outcome = self._carry(first)
        if outcome != "accepted":
            return outcome
        if self._carry(Envelope(envelope.headers, second)) != "accepted":
            self._lose_items("send_error", second)
        return "accepted"

    def _conclude(self, entry: Entry, envelope: Envelope, outcome: Outcome) -> None:
        """Say what becomes of an envelope that did not arrive."""
        if not entry.decide():
            return
        if outcome in ("unwritten", "unanswered") and self._stored((envelope,)) is not None:
            self._replay_soon(self._courier.outage.until - self._clock.monotonic())
            return
        reason = REASONS[outcome]
        if reason is not None:
            self._lose(reason, envelope)

    def _give_up(self, entry: Entry, reason: DiscardReason) -> None:
        """Put an envelope that was not tried on disk, or drop it."""
        if entry.decide() and entry.claim():
            self._put_on_disk((entry,), reason)
        self._outbox.settle(entry)

    def _put_on_disk(self, entries: Sequence[Entry], reason: DiscardReason) -> None:
        envelopes: list[Envelope] = []
        stored: list[Entry] = []
        for entry in entries:
            bare, _ = entry.envelope.without(lambda item: item.type in _SESSION_TYPES)
            built = None if bare is None else buildable(bare, self._unbuilt)
            if built is not None:
                envelopes.append(built)
                stored.append(entry)
        paths = self._stored(envelopes)
        if paths is None:
            for envelope in envelopes:
                self._lose(reason, envelope)
            return
        for entry, path in zip(stored, paths, strict=False):
            entry.stored = [path]

    def _stored(self, envelopes: Sequence[Envelope]) -> list[str] | None:
        return None if self._spool is None else self._spool.store(envelopes)

    def _unstore(self, entry: Entry) -> None:
        """Remove what `close` put on disk before the answer came after all."""
        for path in entry.stored or ():
            disk.remove(path)

    # -- sessions; the worker

    def _send_sessions(self, ticket: _Ticket | None) -> bool:
        """Send one batch of what is to be told about sessions; False when nothing could be."""
        self._since_sessions = 0
        if not self._book.waiting:
            return False
        if self._sessions_refused:
            self._book.give_up("send_error")
            return True
        until = self._courier.limiter.until("session")
        if until or self._silent(ticket):
            self._keep_sessions()
            self._wake_at(until or self._courier.outage.until)
            return False
        # Before the batch leaves the book: between the two there would seem to be nothing to do.
        self._taking = True
        try:
            return self._send_batch(self._book.batch(), flushing=ticket is not None)
        finally:
            self._taking = False

    def _send_batch(self, batch: Batch, *, flushing: bool) -> bool:
        if batch is NO_BATCH:
            return False
        flight = _Flight(batch)
        self._flight = flight
        try:
            outcome = self._carry(
                Envelope.of(batch.items),
                counting=batch.counting,
                may_write=partial(self._may_write_sessions, flight),
                report_after=0.0 if flushing else REPORT_ALONG,
            )
            if outcome == "withdrawn":
                return False
            if outcome == "too_large" and len(batch.items) > 1:
                outcome = self._send_halves(batch)
            else:
                self._book.settle(batch, outcome)
        finally:
            # Only now: whoever finds no flight takes what is in the book for unsent.
            self._flight = None
        self._learn(outcome)
        if outcome == "accepted":
            self._replay_soon(_REPLAY_PAUSE)
        if self._kept or outcome != "accepted":
            self._keep_sessions()
        return outcome not in ("unwritten", "unanswered", "limited")

    def _send_halves(self, batch: Batch) -> Outcome:
        outcome: Outcome = "accepted"
        for half in batch.halves():
            outcome = self._carry(Envelope.of(half.items), counting=half.counting)
            self._book.settle(half, outcome)
        return outcome

    def _may_write_sessions(self, flight: _Flight) -> bool:
        if not flight.claim():
            return False
        if flight.batch.counting and self._kept:
            # From here on the server may have them: what is on disk must not count them again.
            self._keep_sessions()
        return True

    def _sessions_may_be_the_reason(self, batch: Batch) -> bool:
        return (
            batch is not NO_BATCH
            and not self._sessions_accepted
            and self._courier.last_status in _MISUNDERSTOOD
        )

    def _learn(self, outcome: Outcome) -> None:
        if outcome == "accepted":
            self._sessions_accepted = True
            self._strikes = 0
        elif outcome == "refused" and self._courier.last_status in _MISUNDERSTOOD:
            self._strike(1)

    def _strike(self, weight: int) -> None:
        self._strikes += weight
        if self._strikes >= _STRIKES and not self._sessions_accepted:
            self._sessions_refused = True
            log.warning(
                f"{self._courier.host} does not take sessions "
                f"(status {self._courier.last_status}); no more are sent to it, events are"
            )

    def _keep_sessions(self) -> None:
        """Write what is untold about sessions to disk, if that has changed."""
        run = None if self._spool is None else self._spool.run
        if run is None or not self._kept_lock.acquire(timeout=0.5):
            return
        try:
            version = self._book.version
            data = self._book.snapshot()
            if version == self._kept_version and (data is not None) == self._kept:
                return
            run.keep(HELD, data)
            self._kept = data is not None
            self._kept_version = version
        except OSError as error:
            self._kept = False
            log.warning(f"sessions cannot be kept on disk: {error}", key="keep sessions")
        finally:
            self._kept_lock.release()

    # -- client reports; the worker

    def _send_report(self) -> None:
        if self._courier.limiter.everything_limited():
            self._wake_at(self._courier.limiter.until("internal"))
            return
        items, counts = self._courier.take_report()
        if not items:
            return
        if self._carry(Envelope.of(items)) != "accepted":
            self._discards.give_back(counts)

    # -- what is on disk; the worker

    def _replay_soon(self, delay: float) -> None:
        if self._spool is None or self._closed:
            return
        deadline = self._clock.monotonic() + max(_REPLAY_PAUSE, delay)
        timer = self._replay_timer
        if timer is not None:
            if timer.deadline <= deadline:
                return
            timer.cancel()
        self._replay_timer = self._worker.at(deadline, self._replay)

    def _replay(self) -> None:
        self._replay_timer = None
        spool = self._spool
        if spool is None or self._closed or not spool.pending():
            return
        limiter = self._courier.limiter
        now = self._clock.monotonic()
        if limiter.everything_limited():
            self._replay_soon(limiter.until("internal") - now)
        elif self._silent(None):
            self._replay_soon(self._courier.outage.until - now)
        elif len(self._outbox):
            self._replay_soon(_REPLAY_PAUSE)
        else:
            self._replay_one(spool)

    def _replay_one(self, spool: Spool) -> None:
        result = spool.replay(self._send_stored)
        if result == "sent":
            self._replay_backoff.reset()
            self._replay_soon(_REPLAY_PAUSE)
        elif result == "kept":
            self._replay_soon(self._replay_backoff.failed(self._clock.monotonic()))

    def _send_stored(self, envelope: Envelope, may_write: Callable[[], bool]) -> Outcome | None:
        limited = self._courier.limiter.limited
        if any(limited(item.category) for item in envelope.items):
            return None
        outcome = self._carry(envelope, counting=has_aggregates(envelope), may_write=may_write)
        if outcome in ("refused", "too_large", "failed"):
            for item in envelope.items:
                self._discards.record(
                    REASONS[outcome] or "send_error", item.category, item.quantity
                )
        return outcome

    def _replay_until(self, deadline: float) -> None:
        """At the end of a short-lived program: use what time is left for what is on disk."""
        spool = self._spool
        if spool is None or not spool.pending():
            return
        finished = threading.Event()

        def job() -> None:
            while (
                not finished.is_set()
                and not self._silent(None)
                and self._clock.monotonic() < deadline
            ):
                if spool.replay(self._send_stored) != "sent":
                    break
            finished.set()

        left = deadline - self._clock.monotonic()
        if left > 0 and self._worker.submit(job):
            if not self._worker.alive:
                self._worker.flush(left)
            finished.wait(max(0.0, left))
            finished.set()

    # -- the end; whoever closes

    def _put_away(self, entries: Sequence[Entry]) -> None:
        """Store or drop what was not sent; of what is under way, who was faster has it."""
        mine = [entry for entry in entries if entry.decide()]
        room = 0 if self._spool is None else self._spool.max_items
        last = _last(mine, room)
        kept = {id(entry) for entry in last}
        for entry in mine:
            entry.claim()
            if id(entry) not in kept:
                self._lose("cache_overflow" if room else "network_error", entry.envelope)
        self._put_on_disk(last, "network_error")
        for entry in entries:
            self._outbox.settle(entry)

    def _put_sessions_away(self) -> None:
        flight = self._flight
        if flight is not None and flight.claim():
            self._book.settle(flight.batch, "unwritten")
        self._keep_sessions()
        if self._kept:
            if self._spool is not None and self._book.held <= _MOST_SHIPPED:
                self._spool.ship(HELD)
            return
        limited = self._courier.limiter.limited("session")
        self._book.give_up("ratelimit_backoff" if limited else "network_error")


_MOST_SHIPPED = 100


def _joined(envelope: Envelope, batch: Batch) -> Envelope:
    if batch is NO_BATCH:
        return envelope
    return Envelope(envelope.headers, envelope.items + batch.items)


def _last(entries: Sequence[Entry], room: int) -> list[Entry]:
    """Return the `room` entries that are worth most: unhandled events, then the latest ones."""
    if len(entries) <= room:
        return list(entries)
    ranked = sorted(entries, key=lambda entry: (entry.precious, entry.sequence))
    return sorted(ranked[len(ranked) - room :], key=lambda entry: entry.sequence)
