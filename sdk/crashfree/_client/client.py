"""The client: takes what happened, hands it on, ends in order. Owns its parts, reads no globals.

Threads: any, for every method; from signal handlers and finalizers too. Fork: `forget` in the
child. Shutdown order (`close`): application session ended, aggregates taken, client report taken,
worker drained, leftovers to the spool, run lock released; one deadline for all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType

from crashfree._capture.scope import Scope
from crashfree._client.assembly import Examiner, Sessions, assemble
from crashfree._client.options import Options
from crashfree._client.report import Report, Reporter
from crashfree._delivery.discards import Discards
from crashfree._delivery.transport import NO_STATISTICS, ForkAware, Reporting, Statistics, Transport
from crashfree._ground import env, forkgate, log
from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree._ground.typed import Any, Literal, Protocol
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item, session_item, sessions_item
from crashfree._sessions.evidence import Ending
from crashfree._sessions.unitsession import NO_UNITS, CountedSessions, UnitSession
from crashfree.types import (
    Breadcrumb,
    DataCategory,
    DiscardReason,
    Event,
    EventProcessor,
    Hint,
    Level,
    Mechanism,
    Request,
    SessionUpdate,
)

_ARRIVAL_CHECK = 1.0

_PATIENCE = 0.5
"""Seconds that an exit waits without a word."""

_RETIREMENT = 0.5
"""Seconds to wait for an idle thread to end."""


class Running(Protocol):
    """What a client wants to know of the unit in which something happened."""

    @property
    def session(self) -> UnitSession:
        """The unit's session."""
        ...

    def request(self) -> Request | None:
        """The request that is being served."""
        ...


class Client:
    """One program's connection to release health.

    `transport` replaces HTTP, several make a copy for each; `clock` is for tests. `init` makes a
    client and puts it in charge of the process; one made here by hand stands for itself, with its
    own thread, and neither hooks nor signals.
    """

    __slots__ = (
        "__weakref__",
        "_application_mode",
        "_clock",
        "_examiners",
        "_on_the_way",
        "_parts",
        "_reporter",
        "closed",
        "counting",
        "crashed_statuses",
        "integrations",
        "provisional",
        "sends_events",
        "unit_sessions",
    )
    closed: bool
    """Whether `close` was called; everything else does nothing from then on."""
    counting: bool
    """Whether units were begun in this process, so that their counts go out by and by."""
    unit_sessions: CountedSessions | None
    """With what a unit begins its session; None: not yet, or not those that begin by themselves.
    Here, and not two properties away, because every request asks."""
    crashed_statuses: Collection[int]
    """Of `Options`."""
    sends_events: bool
    """False: sessions only; another SDK in this process reports the errors."""
    provisional: bool
    """Whether a launcher made it: replaced by the program's own in time, it leaves no session."""
    integrations: list[str]
    """Names of the integrations that are installed, in order."""
    _clock: Clock
    _examiners: list[Examiner]
    _reporter: forkgate.Late[Reporter]
    _application_mode: bool
    _on_the_way: deque[SessionUpdate]

    def __init__(
        self,
        options: Options,
        *,
        transport: Transport | Sequence[Transport] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.closed = False
        self._clock = clock
        transports = (
            None
            if transport is None
            else tuple(transport)
            if isinstance(transport, Sequence)
            else (transport,)
        )
        self._parts = assemble(
            options,
            transports=transports,
            clock=clock,
            environ=env.environ() if environ is None else environ,
            emit=self._emit,
            integrations=lambda: self.integrations.copy(),
        )
        self._reporter = forkgate.Late(self._parts.reporter)
        self._examiners = []
        self._application_mode = options.session_mode != "request"
        self.counting = False
        self.unit_sessions = None
        self.crashed_statuses = options.crashed_statuses
        self.integrations = []
        self.provisional = False
        self.sends_events = True
        self._on_the_way = deque()

    @property
    def options(self) -> Options:
        """What it was told, immutable; `release_source` says where the release came from."""
        return self._parts.options

    @property
    def transport(self) -> Transport:
        """What carries its envelopes away."""
        return self._parts.transport

    @property
    def discards(self) -> Discards:
        """The counts of what was dropped."""
        return self._parts.discards[0]

    @property
    def sessions(self) -> Sessions:
        """The sessions of the process and of its units; inert without a release."""
        return self._parts.sessions

    @property
    def previous_run(self) -> Ending | None:
        """How the run before this one ended; None when it is not known (yet)."""
        return self._examiners[0].previous_run if self._examiners else None

    @property
    def application_mode(self) -> bool:
        """Whether the process is one session; else it serves units of work."""
        return self._application_mode

    # --- life ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Look after what earlier runs left and, in application mode, begin a session."""
        parts = self._parts
        if self._application_mode:
            parts.worker.submit(self._reporter.get)
            parts.worker.submit(self._look_back)
            parts.sessions.application.begin()
        else:
            # Before workers are forked, who then need not load it each for itself.
            parts.sessions.serve()

    def serves_units(self) -> None:
        """Note that this process serves units of work: an unsent process session is taken back.

        Source: sessions.md section 2 (one process should use one mode).
        """
        if self._parts.options.session_mode == "application":
            return
        self._serve()
        self._parts.load()

    def _serve(self) -> None:
        if not self._application_mode:
            return
        self._parts.sessions.application.withdraw()
        self._application_mode = False
        self._parts.sessions.serve()
        # It may be the master of workers yet to be forked.
        self._parts.worker.retire(_RETIREMENT)

    def start_counting(self) -> None:
        """Send the counts of units by and by, from the first unit of this process on.

        Not before: a pre-forking master stays without a thread.
        """
        parts = self._parts
        # First of all: a thread that finds us counting begins its unit at once.
        parts.sessions.serve()
        if self.counting:
            return
        self.counting = True
        if parts.options.session_mode != "application":
            self._serve()
        if parts.options.auto_session_tracking:
            self.unit_sessions = parts.sessions.counted
        if parts.sessions.aggregator is None or self.closed:
            return
        parts.worker.submit(self._reporter.get)
        parts.worker.submit(self._look_back)
        parts.worker.every(parts.options.session_flush_interval, self._tick)

    def flush(self, timeout: float | None = None) -> bool:
        """Send what is waiting; True when nothing was left, False at the deadline.

        `timeout` in seconds; None: `shutdown_timeout`; 0: do not wait.
        """
        if self.closed:
            return True
        parts = self._parts
        timeout = parts.options.shutdown_timeout if timeout is None else max(0.0, timeout)
        deadline = self._clock.monotonic() + timeout
        parts.sessions.application.announce()
        parts.worker.submit(self._send_aggregates)
        done = parts.worker.flush(timeout)
        return parts.transport.flush(self._left(deadline)) and done

    def close(
        self, timeout: float | None = None, *, on_wait: Callable[[], None] | None = None
    ) -> bool:
        """End the session, send what is waiting, release everything. Idempotent.

        `timeout` in seconds; None: `shutdown_timeout`; 0: what is on disk is enough. `on_wait` is
        called once when it takes longer than half a second.
        """
        if self.closed:
            return True
        self.closed = True
        parts = self._parts
        timeout = parts.options.shutdown_timeout if timeout is None else max(0.0, timeout)
        deadline = self._clock.monotonic() + timeout
        parts.sessions.application.close()
        parts.worker.submit(self._send_aggregates)
        if on_wait is not None and timeout > _PATIENCE:
            patience = self._clock.monotonic() + _PATIENCE
            if parts.worker.flush(_PATIENCE):
                parts.transport.flush(self._left(patience))
            if not self._left(patience):
                on_wait()
        done = parts.worker.flush(self._left(deadline))
        done = parts.transport.close(self._left(deadline)) and done
        # What it could not send it has put on disk, or dropped and counted.
        self._deliver(len(self._on_the_way))
        done = parts.worker.close(self._left(deadline)) and done
        self._release()
        return done

    def give_way(self) -> None:
        """Close because another client takes over."""
        if self.provisional:
            self._parts.sessions.application.withdraw()
        self.close()

    def abandon(self) -> None:
        """Close a client that never came into use, without a word to anybody."""
        self.closed = True
        parts = self._parts
        parts.sessions.application.withdraw()
        parts.transport.close(0.0)
        parts.worker.close(0.0)
        self._release()

    def before_fork(self) -> None:
        """Wait, a moment at most, until no import of ours is half-way. Before `fork`."""
        forkgate.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on. After `fork`, in the parent."""
        forkgate.after_fork_in_parent()

    def forget(self) -> None:
        """Drop, uncounted, everything that belongs to the parent. After `fork`, in the child."""
        forkgate.after_fork_in_child()
        self.counting = False
        self.unit_sessions = None
        self._on_the_way = deque()
        self._reporter.forget()
        parts = self._parts
        parts.worker.forget()
        for losses in parts.discards:
            losses.forget()
        if isinstance(parts.transport, ForkAware):
            parts.transport.forget()
        parts.sessions.forget()
        if parts.run_notes is not None:
            parts.run_notes.forget()

    def stats(self) -> Statistics:
        """Return what was queued, sent, spooled and dropped so far, and where the sessions are."""
        parts = self._parts
        if isinstance(parts.transport, Reporting):
            found = parts.transport.stats()
        else:
            found = NO_STATISTICS._replace(dropped=parts.discards[0].totals())
        process = parts.sessions.application.stats()
        aggregator = parts.sessions.aggregator
        units = NO_UNITS if aggregator is None else aggregator.stats()
        return found._replace(
            sessions_started=process.started - process.withdrawn + units.begun,
            sessions_alive=process.alive + units.alive,
            sessions_untold=process.unconfirmed + units.waiting,
        )

    def give_consent(self) -> None:
        """Let go what `require_consent` holds back."""
        consent = self._parts.consent
        if consent is not None:
            consent.give()

    def revoke_consent(self) -> None:
        """Hold everything back again."""
        consent = self._parts.consent
        if consent is not None:
            consent.revoke()

    # --- events -------------------------------------------------------------------------------

    def capture_exception(
        self,
        error: BaseException,
        *,
        mechanism: Mechanism | None = None,
        level: Level | None = None,
        hint: Hint | None = None,
        scopes: tuple[Scope, ...] = (),
        unit: Running | None = None,
    ) -> str | None:
        """Capture an exception; returns the event's id, None when it was dropped.

        `mechanism` None: the program handled it. `scopes` less specific first; `unit` None: it
        happened in no unit of work.
        """
        if self._deaf():
            return None
        reporter = self._reporter.get()
        if reporter is None:
            self._reporter.postpone(
                lambda: self.capture_exception(
                    error, mechanism=mechanism, level=level, hint=hint, scopes=scopes, unit=unit
                )
            )
            return None
        report = reporter.exception(
            error,
            mechanism=mechanism,
            level=level,
            hint=hint,
            scopes=_with_request(scopes, unit),
            where=unit,
        )
        return self._submit(report, scopes, unit)

    def capture_message(
        self,
        message: str,
        level: Level = "info",
        *,
        hint: Hint | None = None,
        scopes: tuple[Scope, ...] = (),
        unit: Running | None = None,
    ) -> str | None:
        """Capture a message; returns the event's id, None when it was dropped."""
        if self._deaf():
            return None
        reporter = self._reporter.get()
        if reporter is None:
            self._reporter.postpone(
                lambda: self.capture_message(message, level, hint=hint, scopes=scopes, unit=unit)
            )
            return None
        report = reporter.message(message, level, hint=hint, scopes=_with_request(scopes, unit))
        return self._submit(report, scopes, unit)

    def capture_event(
        self,
        event: Event | Mapping[str, Any],
        hint: Hint | None = None,
        *,
        scopes: tuple[Scope, ...] = (),
        unit: Running | None = None,
    ) -> str | None:
        """Capture an event that the program made; returns its id, None when it was dropped."""
        if hint is not None and "log_record" in hint and log.working.get():
            # Our own noise, or that of what looks on while we send.
            return None
        if self._deaf():
            return None
        reporter = self._reporter.get()
        if reporter is None:
            self._reporter.postpone(
                lambda: self.capture_event(event, hint, scopes=scopes, unit=unit)
            )
            return None
        report = reporter.event(event, hint, scopes=_with_request(scopes, unit), where=unit)
        return self._submit(report, scopes, unit)

    def capture_feedback(
        self,
        message: str,
        *,
        name: str | None = None,
        email: str | None = None,
        url: str | None = None,
        event_id: str | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> str | None:
        """Send what a user says; returns the feedback's id."""
        if self.closed:
            return None
        reporter = self._reporter.get()
        if reporter is None:
            self._reporter.postpone(
                lambda: self.capture_feedback(
                    message, name=name, email=email, url=url, event_id=event_id, scopes=scopes
                )
            )
            return None
        report = reporter.feedback(
            message, name=name, email=email, url=url, event_id=event_id, scopes=scopes
        )
        items = [item for item in (report.item, *report.attachments) if item is not None]
        self._parts.transport.submit(Envelope.of(items, event_id=report.event_id))
        return report.event_id

    def add_breadcrumb(
        self,
        crumb: Breadcrumb,
        hint: Mapping[str, Any] | None = None,
        *,
        scope: Scope,
    ) -> None:
        """Keep `crumb` in `scope`, if `before_breadcrumb` lets it."""
        if self.closed or log.inside.get() or log.working.get():
            return
        options = self._parts.options
        if options.before_breadcrumb is not None:
            kept = self.ask_about(crumb, hint)
            if kept is None:
                return
            crumb = kept
        scope.add_breadcrumb(crumb, limit=options.max_breadcrumbs)

    def ask_about(
        self, crumb: Breadcrumb, hint: Mapping[str, Any] | None = None
    ) -> Breadcrumb | None:
        """Return what `before_breadcrumb` makes of `crumb`; None drops it."""
        callback = self._parts.options.before_breadcrumb
        if callback is None:
            return crumb
        # It may add breadcrumbs itself.
        return None if log.inside.get() else self._asked(callback, crumb, hint or {})

    def plain(self, entries: Mapping[str, object]) -> Mapping[str, object] | None:
        """Return anything as plain JSON of bounded size; None when it cannot be done right now."""
        reporter = None if self.closed else self._reporter.get()
        return None if reporter is None else reporter.plain(entries)

    def add_processor(self, processor: EventProcessor) -> None:
        """Let `processor` see every event."""
        reporter = self._reporter.get()
        if reporter is None:
            return self._reporter.postpone(lambda: self.add_processor(processor))
        return reporter.add_processor(processor)

    def remove_processor(self, processor: EventProcessor) -> None:
        """Take it out again."""
        reporter = self._reporter.get()
        if reporter is None:
            return self._reporter.postpone(lambda: self.remove_processor(processor))
        return reporter.remove_processor(processor)

    # --- sessions -----------------------------------------------------------------------------

    def identify(self, user: Mapping[str, Any] | None) -> None:
        """Say who uses the program; counts when the session is not announced yet."""
        self._parts.sessions.application.identify(user)

    def start_session(self) -> None:
        """Begin an application session; a running one is ended first."""
        if not self.closed:
            self._application_mode = True
            self._parts.sessions.application.start()

    def end_session(
        self, status: Literal["exited", "crashed", "abnormal", "unhandled"] | None = None
    ) -> None:
        """End the application session; None: as it went."""
        self._parts.sessions.application.end(status)

    def pause_sessions(self) -> None:
        """End the session, begin none by itself."""
        self._parts.sessions.application.pause()

    def resume_sessions(self) -> None:
        """Go on after `pause_sessions`."""
        if not self.closed:
            self._parts.sessions.application.resume()

    def enter_background(self) -> None:
        """Note that the user has left."""
        self._parts.sessions.application.enter_background()

    def enter_foreground(self) -> None:
        """Note that the user is back."""
        if not self.closed:
            self._parts.sessions.application.enter_foreground()

    def navigate(self, name: str) -> None:
        """Note that the user went to another view."""
        if not self.closed:
            self._parts.sessions.application.navigate(name)

    # --- inside -------------------------------------------------------------------------------

    def _deaf(self) -> bool:
        """Return whether nothing is captured now, because a callback of ours would go in circles.

        A signal handler or a finalizer may have struck in the middle of that callback; who it was
        nobody can tell, so it counts as a loss. `on_drop` is not told: it may be the callback.
        """
        if self.closed:
            return True
        if not log.inside.get():
            return False
        for losses in self._parts.discards:
            losses.record("ignored", "error", tell=False)
        return True

    def witness(self, error: Exception, place: str) -> None:
        """Count an error of our own that stopped at a boundary."""
        self._lost("internal_sdk_error", "default", 1)

    def _submit(
        self, report: Report, scopes: tuple[Scope, ...], unit: Running | None
    ) -> str | None:
        parts = self._parts
        update = self._account(report, unit)
        for discard, quantity in report.discards:
            self._lost(discard.reason, discard.category, quantity)
        if report.item is None or not self.sends_events:
            if update is not None:
                self._emit(update)
            return None
        items: list[Item] = [report.item, *report.attachments]
        if update is not None:
            items.append(session_item(update))
        accepted = parts.transport.submit(Envelope.of(items, event_id=report.event_id))
        if update is not None:
            self._told(update, accepted)
        for scope in scopes[1:2]:
            scope.last_event_id = report.event_id
        return report.event_id

    def _lost(self, reason: DiscardReason, category: DataCategory, quantity: int) -> None:
        # It would have gone to each destination, and `on_drop` is told once.
        for number, losses in enumerate(self._parts.discards):
            losses.record(reason, category, quantity, tell=number == 0)

    def _account(self, report: Report, unit: Running | None) -> SessionUpdate | None:
        if report.verdict == "none":
            return None
        if unit is not None:
            unit.session.account(report.verdict, counted=report.duplicate)
            return None
        return self._parts.sessions.application.account(report.verdict, counted=report.duplicate)

    def _emit(self, update: SessionUpdate) -> bool:
        accepted = self._parts.transport.submit(Envelope.of([session_item(update)]))
        if accepted:
            self._await_arrival(update)
        return accepted

    def _told(self, update: SessionUpdate, accepted: bool) -> None:
        if accepted:
            self._await_arrival(update)
        else:
            self._parts.sessions.application.refused(update)

    def _await_arrival(self, update: SessionUpdate) -> None:
        self._on_the_way.append(update)
        self._parts.worker.submit(self._note_arrivals)

    def _note_arrivals(self) -> None:
        """Let the journal learn of updates that are out, or safe on disk; not before.

        A process that is killed while they wait in memory tells about them at its next start.
        """
        parts = self._parts
        waiting = len(self._on_the_way)
        if waiting and not parts.transport.flush(0.0):
            parts.worker.at(self._clock.monotonic() + _ARRIVAL_CHECK, self._note_arrivals)
            return
        self._deliver(waiting)

    def _deliver(self, count: int) -> None:
        for _ in range(count):
            try:
                update = self._on_the_way.popleft()
            except IndexError:
                return
            self._parts.sessions.application.delivered(update)

    def _send_aggregates(self) -> None:
        parts = self._parts
        aggregator = parts.sessions.aggregator
        batch = None if aggregator is None else aggregator.take()
        if aggregator is None or batch is None:
            return
        # One envelope, so that it is taken or refused as a whole.
        items = [sessions_item(payload) for payload in batch.payloads]
        if parts.transport.submit(Envelope.of(items)):
            # Here on the worker it is on the transport's disk by now: from this line on the
            # transport answers for it, and the ledger must not tell it a second time.
            aggregator.settle(batch)
        else:
            aggregator.give_back(batch)

    def _look_back(self) -> None:
        self._adopt()
        for transport in self._parts.https:
            transport.resume()

    def _tick(self) -> None:
        self._send_aggregates()
        # A sibling worker may have died since.
        self._adopt()

    def _adopt(self) -> None:
        examiners = self._examiners
        if not examiners and self._parts.autopsy is not None:
            examiners.append(self._parts.autopsy())
        if examiners:
            examiners[0].perform()

    def _asked(
        self,
        callback: Callable[[Breadcrumb, Mapping[str, Any]], Breadcrumb | None],
        crumb: Breadcrumb,
        hint: Mapping[str, Any],
    ) -> Breadcrumb | None:
        token = log.inside.set(True)
        try:
            return callback(crumb, hint)
        except Exception as error:  # noqa: BLE001 -- user code; a crumb whose filter failed is dropped
            log.warning(
                f"before_breadcrumb raised {type(error).__name__}: {error}; the crumb is dropped",
                key="before_breadcrumb",
            )
            return None
        finally:
            log.inside.reset(token)

    def _release(self) -> None:
        parts = self._parts
        told = parts.sessions.application.finish()
        if parts.sessions.aggregator is not None:
            told = parts.sessions.aggregator.close() and told
        if parts.run_notes is not None:
            parts.run_notes.close(told=told)
        for place in parts.places:
            place.close()

    def _left(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock.monotonic())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _with_request(scopes: tuple[Scope, ...], unit: Running | None) -> tuple[Scope, ...]:
    request = None if unit is None else unit.request()
    if request is None:
        return scopes
    carrier = Scope()
    carrier.set_request(request)
    return (*scopes[:2], carrier, *scopes[2:])
