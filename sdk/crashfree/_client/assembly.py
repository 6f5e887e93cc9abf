"""Putting a client's parts together: worker, transport, spool, sessions.

Only here is an option turned into a part; what few programs ask for is imported when one does,
since every module costs at start. Nothing is started: no thread, no socket, no urllib3.
The run directory of this process is made here, in one step.

Threads: the one that makes the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from crashfree._client import guard
from crashfree._client.options import Options
from crashfree._client.report import Reporter
from crashfree._client.runnotes import JOURNAL, LEDGER, RunNotes
from crashfree._delivery.discards import Discards
from crashfree._delivery.latetransport import Carrier, LateTransport
from crashfree._delivery.spooldirectory import SpoolDirectory, default_directory
from crashfree._delivery.transport import NullTransport, Transport
from crashfree._delivery.worker import Worker
from crashfree._ground import forkgate, ids
from crashfree._ground.clock import Clock
from crashfree._ground.typed import NamedTuple, Protocol
from crashfree._protocol.dsn import Dsn
from crashfree._sessions.application import ApplicationSessions, NoSessions
from crashfree._sessions.evidence import Ending
from crashfree._sessions.journal import Journal
from crashfree._sessions.unitsession import (
    Aggregator,
    CountedSessions,
    UnitSession,
    UnitSessions,
)
from crashfree.release import Release
from crashfree.types import SessionAttributes, SessionUpdate


class Consent(Protocol):
    """What holds everything back until the user agrees."""

    def give(self) -> None:
        """Let it go."""

    def revoke(self) -> None:
        """Hold it back again."""


class Examiner(Protocol):
    """Finds out how earlier runs ended (`crashfree._client.autopsy.Autopsy`)."""

    @property
    def previous_run(self) -> Ending | None: ...
    def perform(self) -> int: ...


class Sessions:
    """Of the process, and of its units of work. Both inert without a release."""

    __slots__ = ("_made", "_make", "aggregator", "application", "counted", "requests")
    application: ApplicationSessions | NoSessions
    requests: UnitSessions
    """Serves, where `serve` was not called, when the first unit begins."""
    aggregator: Aggregator | None
    """None before `serve`, and without a release."""
    counted: CountedSessions | None
    """`requests` once they count; None as long as `aggregator` is."""
    _make: Callable[[], tuple[CountedSessions, Aggregator]] | None
    _made: list[tuple[CountedSessions, Aggregator]]

    def __init__(
        self,
        application: ApplicationSessions | NoSessions,
        units: Callable[[], tuple[CountedSessions, Aggregator]] | None = None,
    ) -> None:
        self.application = application
        self.requests = NoSessions() if units is None else _FirstUnit(self)
        self.aggregator = None
        self.counted = None
        self._make = units
        self._made = []

    def serve(self) -> None:
        """Load and make what counts units of work, if that is not done. Threads: any."""
        if self.aggregator is None and self._make is not None:
            # Of two that are made at the same moment the first one counts, for both.
            self._made.append(self._make())
            self.counted, self.aggregator = self._made[0]
            self.requests = self._made[0][0]

    def forget(self) -> None:
        """Start from nothing, in a forked child."""
        self.application.forget()
        if self.aggregator is not None:
            self.aggregator.forget()


class _FirstUnit:
    """Begins the session of a unit that nobody was prepared for."""

    __slots__ = ("_sessions",)
    _sessions: Sessions

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def begin(self, did: str | None = None) -> UnitSession:
        self._sessions.serve()
        return self._sessions.requests.begin(did)

    def begin_as(self, session: UnitSession, did: str | None = None) -> None:
        self._sessions.serve()
        self._sessions.requests.begin_as(session, did)


class Parts(NamedTuple):
    """All of a client."""

    options: Options
    worker: Worker
    discards: tuple[Discards, ...]
    """One for each destination: each server is told what it missed. At least one."""
    https: tuple[LateTransport, ...]
    transport: Transport
    consent: Consent | None
    places: tuple[SpoolDirectory, ...]
    """Where each destination keeps what could not be sent; none without a spool."""
    autopsy: Callable[[], Examiner] | None
    """Loads and makes what finds out how earlier runs ended."""
    sessions: Sessions
    run_notes: RunNotes | None
    reporter: Callable[[], Reporter]
    """Loads and makes what captures: the larger half of the library."""

    def load(self) -> None:
        """Load what a server will need, and a program that is one session loads by and by.

        What is loaded while requests are being served lies scattered among what they leave behind,
        and each request after it costs 3 % more, as long as the process lives
        (`tests/bench/frameworks.py`). Threads: any.
        """
        _load_what_captures()
        if self.https:
            _load_what_delivers()


def assemble(
    options: Options,
    *,
    transports: tuple[Transport, ...] | None,
    clock: Clock,
    environ: Mapping[str, str],
    emit: Callable[[SessionUpdate], bool],
    integrations: Callable[[], list[str]],
) -> Parts:
    """Make every part that `options` ask for. Raises ConfigurationError (a proxy that is none)."""
    worker = Worker(clock=clock)
    discards = tuple(Discards(options.on_drop, later=worker.submit) for _ in options.dsn or (None,))
    https: tuple[LateTransport, ...] = ()
    places: tuple[SpoolDirectory, ...] = ()
    if transports is None:
        places = _places(options, clock, environ)
        https = _http_transports(options, clock, environ, worker, discards, places)
        transports = https
    if options.spotlight is not None:
        from crashfree._delivery.spotlight import SpotlightTransport

        transports = (
            *transports,
            SpotlightTransport(options.spotlight, worker=worker, clock=clock),
        )
    transport, consent = _joined(options, clock, transports)
    # The first destination's run keeps the counts of this process; one truth is enough.
    home = places[0] if places and consent is None else None
    notes = _run_notes(options, home, clock)
    if notes is not None:
        notes.open()
    return Parts(
        options=options,
        worker=worker,
        discards=discards,
        https=https,
        transport=transport,
        consent=consent,
        places=places,
        autopsy=None
        if home is None
        else lambda: _autopsy(home, discards[0], options, clock, transports),
        sessions=_sessions(options, clock, worker, home, notes, emit),
        run_notes=notes,
        reporter=lambda: _reporter(options, integrations, clock),
    )


# --- delivery -------------------------------------------------------------------------------


def _places(
    options: Options, clock: Clock, environ: Mapping[str, str]
) -> tuple[SpoolDirectory, ...]:
    directory = options.spool_dir or default_directory(environ)
    if not options.spool or directory is None:
        return ()
    return tuple(SpoolDirectory(directory, dsn=dsn, clock=clock) for dsn in options.dsn)


def _autopsy(
    home: SpoolDirectory,
    losses: Discards,
    options: Options,
    clock: Clock,
    transports: tuple[Transport, ...],
) -> Examiner:
    with forkgate.importing():
        from crashfree._client.autopsy import Autopsy
        from crashfree._delivery.spool import Spool, SpoolLimits
    spool = Spool(home, on_evicted=losses.record, limits=SpoolLimits(*_room(options)))
    return Autopsy(spool, others=transports[1:], clock=clock, on_crash=options.on_crashed_last_run)


def _room(options: Options) -> tuple[int, int, float]:
    return options.spool_max_items, options.spool_max_bytes, options.spool_max_age


def _joined(
    options: Options, clock: Clock, transports: tuple[Transport, ...]
) -> tuple[Transport, Consent | None]:
    if not transports:
        return NullTransport(), None
    one = transports[0]
    if len(transports) > 1:
        from crashfree._delivery.destinations import FanOutTransport

        one = FanOutTransport(transports, clock=clock)
    if not options.require_consent:
        return one, None
    from crashfree._delivery.consent import ConsentGate

    # Without consent nothing is written either: no run directory, no ledger, no journal.
    gate = ConsentGate(one)
    return gate, gate


def _http_transports(
    options: Options,
    clock: Clock,
    environ: Mapping[str, str],
    worker: Worker,
    discards: tuple[Discards, ...],
    places: tuple[SpoolDirectory, ...],
) -> tuple[LateTransport, ...]:
    if _proxied(options, environ):
        # A proxy that is none is an error of `init`, before anything has changed.
        _carrier_maker(options, environ)

    def late(dsn: Dsn, losses: Discards, place: SpoolDirectory | None) -> LateTransport:
        def make() -> Carrier:
            return _carrier_maker(options, environ)(dsn, worker, clock, losses, place)

        return LateTransport(make, leave=_nothing if place is None else place.forget)

    return tuple(
        late(dsn, losses, places[number] if places else None)
        for number, (dsn, losses) in enumerate(zip(options.dsn, discards, strict=False))
    )


def _nothing() -> None:
    """Nothing was inherited."""


def _proxied(options: Options, environ: Mapping[str, str]) -> bool:
    return bool(options.http_proxy or options.https_proxy) or any(
        name.lower().endswith("_proxy") for name in environ
    )


def _load_what_delivers() -> None:
    with forkgate.importing():
        import_module("crashfree._client.autopsy")
        import_module("crashfree._delivery.httptransport")
        # For what a server answers.
        import_module("crashfree._ground.jsondecode")


def _carrier_maker(
    options: Options, environ: Mapping[str, str]
) -> Callable[[Dsn, Worker, Clock, Discards, SpoolDirectory | None], Carrier]:
    with forkgate.importing():
        from crashfree._delivery.httptransport import HttpTransport
        from crashfree._delivery.outbox import QueueLimits
        from crashfree._delivery.spool import Spool, SpoolLimits
        from crashfree._ground.http import resolve_settings
    settings = resolve_settings(
        environ,
        http_proxy=options.http_proxy,
        https_proxy=options.https_proxy,
        proxy_headers=options.proxy_headers,
        ca_certs=options.ca_certs,
        cert_file=options.cert_file,
        key_file=options.key_file,
        keep_alive=options.keep_alive,
        socket_options=options.socket_options,
    )
    limits = SpoolLimits(*_room(options))

    def make(
        dsn: Dsn,
        worker: Worker,
        clock: Clock,
        losses: Discards,
        place: SpoolDirectory | None,
    ) -> Carrier:
        return HttpTransport(
            dsn,
            worker=worker,
            clock=clock,
            discards=losses,
            spool=None if place is None else Spool(place, on_evicted=losses.record, limits=limits),
            http=settings,
            queue=QueueLimits(max_items=options.queue_size),
            compression=options.compression,
            send_client_reports=options.send_client_reports,
        )

    return make


# --- sessions -------------------------------------------------------------------------------


def _sessions(
    options: Options,
    clock: Clock,
    worker: Worker,
    home: SpoolDirectory | None,
    notes: RunNotes | None,
    emit: Callable[[SessionUpdate], bool],
) -> Sessions:
    if options.release is None:
        return Sessions(NoSessions())
    attributes = _attributes(options.release, options)

    def units() -> tuple[CountedSessions, Aggregator]:
        return _unit_sessions(options, attributes, clock, notes)

    def open_journal() -> Journal | None:
        run = None if notes is None else notes.open()
        return None if run is None else Journal.create(run.path(JOURNAL))

    application = ApplicationSessions(
        attributes,
        clock=clock,
        timers=worker,
        emit=emit,
        background_timeout=options.background_timeout,
        initial_delay=options.session_initial_delay,
        open_journal=open_journal,
        installation=None if home is None else home.installation_id(),
        unhandled_status=options.unhandled_status,
        automatic=options.auto_session_tracking,
    )
    return Sessions(application, units)


def _unit_sessions(
    options: Options, attributes: SessionAttributes, clock: Clock, notes: RunNotes | None
) -> tuple[CountedSessions, Aggregator]:
    with forkgate.importing():
        from crashfree._sessions.aggregator import SessionAggregator
        from crashfree._sessions.ledger import Ledger
        from crashfree._sessions.requests import RequestSessions

    def open_ledger() -> Ledger | None:
        run = None if notes is None else notes.open()
        if run is None:
            return None
        return Ledger.create(run.path(LEDGER), attributes=attributes, started=clock.time())

    aggregator = SessionAggregator(
        attributes,
        open_ledger=open_ledger,
        users=options.session_users,
        unhandled_status=options.unhandled_status,
        guarded=guard.boundary(None),
    )
    return RequestSessions(aggregator, clock), aggregator


def _run_notes(options: Options, home: SpoolDirectory | None, clock: Clock) -> RunNotes | None:
    if home is None or options.release is None:
        return None
    defaults: dict[str, object] = {"platform": "python"}
    if options.dist is not None:
        defaults["dist"] = options.dist
    if options.server_name is not None:
        defaults["server_name"] = options.server_name
    return RunNotes(
        home, attributes=_attributes(options.release, options), defaults=defaults, clock=clock
    )


def _attributes(release: Release, options: Options) -> SessionAttributes:
    return {"release": release.raw, "environment": options.environment}


# --- events ---------------------------------------------------------------------------------


def _load_what_captures() -> None:
    with forkgate.importing():
        # Timestamps ask for it late; a crash must not have to.
        import_module("datetime")
        import_module("crashfree._client.pipeline")


def _reporter(options: Options, integrations: Callable[[], list[str]], clock: Clock) -> Reporter:
    _load_what_captures()
    with forkgate.importing():
        from crashfree._capture.settings import CaptureSettings
        from crashfree._client.pipeline import Filters, Pipeline
    settings = CaptureSettings(
        release=None if options.release is None else options.release.raw,
        dist=options.dist,
        environment=options.environment,
        server_name=options.server_name,
        project_root=options.project_root,
        in_app_include=options.in_app_include,
        in_app_exclude=options.in_app_exclude,
        with_locals=options.with_locals,
        source_context=options.source_context,
        attach_stacktrace=options.attach_stacktrace,
        add_full_stack=options.add_full_stack,
        send_default_pii=options.send_default_pii,
        max_value_length=options.max_value_length,
        scrubber=options.scrubber,
        integrations=integrations,
    )
    filters = Filters(
        ignore_errors=options.ignore_errors,
        before_send=options.before_send,
        sample_rate=options.sample_rate,
        error_storm_limit=options.error_storm_limit,
    )
    return Pipeline(settings, filters, clock=clock, roll=ids.roll)
