"""The public functions: each a few lines over the current client and the scopes of this context.

Every function may be called from any thread, task or signal handler, before `init` (it then does
nothing) and after `close`. None of them raises, `init` excepted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import copy_context
from types import TracebackType

from crashfree._capture.scope import Scope
from crashfree._client import current, setup
from crashfree._client.client import Client
from crashfree._client.guard import boundary
from crashfree._client.options import DAY, MEBIBYTE, resolve_options
from crashfree._client.registry import Integration
from crashfree._client.unit import AnyUnit, begin_unit, ends_by_will
from crashfree._delivery.transport import Statistics, Transport
from crashfree._ground import env
from crashfree._ground.typed import Any, Literal, NoReturn, ParamSpec, TypeVar, timedelta
from crashfree._sessions.application import BackgroundSession
from crashfree.types import (
    BeforeBreadcrumb,
    BeforeSend,
    Breadcrumb,
    Event,
    Hint,
    Level,
    OnDrop,
    Sampler,
    SessionMode,
    User,
)

P = ParamSpec("P")
R = TypeVar("R")


def init(
    dsn: str | Sequence[str] | None = None,
    *,
    release: str | None = None,
    dist: str | None = None,
    environment: str | None = None,
    server_name: str | None = None,
    project_root: str | os.PathLike[str] | None = None,
    session_mode: SessionMode | Literal["auto"] | None = None,
    auto_session_tracking: bool = True,
    background_timeout: float | timedelta = 30.0,
    background_on_suspend: bool = False,
    session_initial_delay: float | timedelta = 10.0,
    session_flush_interval: float | timedelta = 60.0,
    session_users: bool = True,
    unhandled_status: Literal["unhandled", "crashed"] = "unhandled",
    interrupt_status: Literal["exited", "crashed"] = "exited",
    crashed_statuses: Collection[int] = frozenset(),
    on_crashed_last_run: Callable[[Any], None] | None = None,
    sample_rate: float | Sampler = 1.0,
    ignore_errors: Sequence[type[BaseException] | str] = (),
    before_send: BeforeSend | None = None,
    before_breadcrumb: BeforeBreadcrumb | None = None,
    scrubber: Callable[[Any], Any] | None = None,
    max_breadcrumbs: int = 100,
    max_value_length: int = 8192,
    with_locals: bool = False,
    source_context: bool = True,
    attach_stacktrace: bool = False,
    add_full_stack: bool = False,
    in_app_include: Sequence[str] = (),
    in_app_exclude: Sequence[str] = (),
    send_default_pii: bool = False,
    error_storm_limit: int = 100,
    user: User | None = None,
    tags: Mapping[str, str] | None = None,
    spool: bool = True,
    spool_dir: str | os.PathLike[str] | None = None,
    spool_max_items: int = 200,
    spool_max_bytes: int = 20 * MEBIBYTE,
    spool_max_age: float | timedelta = 30 * DAY,
    queue_size: int = 10_000,
    shutdown_timeout: float | timedelta = 2.0,
    chain_sigterm: bool = True,
    compression: Literal["gzip", "br", "zstd", "none"] = "gzip",
    http_proxy: str | None = None,
    https_proxy: str | None = None,
    proxy_headers: Mapping[str, str] | None = None,
    ca_certs: str | os.PathLike[str] | None = None,
    cert_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
    keep_alive: bool | None = None,
    socket_options: Sequence[tuple[int, int, int | bytes]] | None = None,
    send_client_reports: bool = True,
    on_drop: OnDrop | None = None,
    spotlight: bool | str | None = None,
    require_consent: bool = False,
    debug: bool | None = None,
    disabled_integrations: Sequence[str] | None = None,
    auto_integrations: bool = True,
    transport: Transport | Sequence[Transport] | None = None,
    integrations: Sequence[Integration | str] = (),
    **unknown: NoReturn,
) -> Client:
    """Start release health for this process and return its client.

    The release is `release`, else `CRASHFREE_RELEASE` or `SENTRY_RELEASE`, else a baked release
    file, else the commit of the git repository at `project_root` (default: the working directory),
    else what the hosting platform says, else the version of the distribution that runs
    (`client.options.release_source` tells which; `""` means none). Without a release events are
    sent, sessions are not, and one warning says so.

    where to
        dsn: one DSN or a list of them; None: `CRASHFREE_DSN`, `SENTRY_DSN`; nothing: inert.
        transport: sends in place of HTTP; an object with submit, flush and close, or several.
        spotlight: True, or the URL of a local Spotlight, to mirror everything to.
        require_consent: nothing leaves the process, nothing is written, until `give_consent()`.
    what is running
        dist: a build of the release, letters, digits, `_.-`, at most 64.
        environment: None: `CRASHFREE_ENVIRONMENT`, `SENTRY_ENVIRONMENT`, else `production`.
        server_name: None: the host's name.
    sessions
        session_mode: "application" (one session per process), "request" (one per unit of work);
            None: application, unless an integration of a server framework shows up in time.
        auto_session_tracking: False: sessions only by `start_session` and `session()`.
        background_timeout: seconds in the background after which a session has ended; 0: at once.
        background_on_suspend: True: Ctrl-Z and `fg` in a terminal count as background, foreground.
        session_initial_delay: seconds before a session is announced; a shorter program sends one
            update in all.
        session_flush_interval: seconds between two deliveries of request counts; never changes
            totals.
        session_users: count users of request sessions (at most 1,000 distinct in a delivery).
        unhandled_status: how an error counts that nobody handled and the process survived;
            "crashed" for servers that do not know the word.
        interrupt_status: how a program ends that Ctrl-C ended.
        crashed_statuses: HTTP statuses that count as a crash though no error was raised.
        on_crashed_last_run: called once with how the previous run died, when it crashed.
    events
        sample_rate: share of events to send, 0 to 1, or a function of event and hint; sessions
            count all.
        ignore_errors: exception types (subclasses too) or their dotted names.
        before_send, before_breadcrumb: see the finished thing, change it, or return None to drop
            it. One that raises drops it too.
        scrubber: called on each event in addition to the built-in scrubbing.
        max_breadcrumbs: kept per scope. max_value_length: bytes of one text in an event.
        with_locals: local variables of frames. source_context: lines of source around each frame.
        attach_stacktrace: a stack trace on messages. add_full_stack: callers above the handler.
        in_app_include, in_app_exclude: module names that are, or are not, the program's own.
        send_default_pii: users' addresses, cookies, request bodies.
        error_storm_limit: handled events in 10 s above which the surplus is dropped.
        user, tags: known from the start.
    delivery
        spool: keep on disk what could not be sent. spool_dir: None: `CRASHFREE_SPOOL_DIR`, else the
            user's state directory. spool_max_items, spool_max_bytes, spool_max_age (seconds):
            the oldest leaves first.
        queue_size: envelopes waiting in memory. shutdown_timeout: seconds that exit may wait;
            0: never, what is on disk is enough. chain_sigterm: say good-bye on SIGTERM too, when
            nobody else handles it.
        compression, http_proxy, https_proxy, proxy_headers, ca_certs, cert_file, key_file,
            keep_alive, socket_options: of the connection; `""` switches a proxy off.
        send_client_reports: tell the server what was dropped. on_drop: tell the program.
        debug: say on stderr what happens and why. None: `CRASHFREE_DEBUG`, `SENTRY_DEBUG`.
    integrations
        integrations: by name or as objects, missing ones are an error. disabled_integrations: names
            never to use. auto_integrations: attach the others when their framework is imported.

    Raises ConfigurationError (InvalidDsn, InvalidRelease, IntegrationError) for a wrong argument,
    naming value, rule and remedy, before anything has changed: a client that was there keeps
    working. Calling it again replaces the client; the old one is closed after the swap.

    Threads: any; signals and fork hooks are set up best from the main thread.
    """
    given = dict(locals())
    del given["unknown"], given["transport"], given["integrations"]
    given.update(unknown)
    environ = env.environ()
    return setup.start(
        resolve_options(given, environ),
        transport=transport,
        integrations=integrations,
        environ=environ,
    )


# --- events ---------------------------------------------------------------------------------


@boundary(None)
def capture_exception(
    error: BaseException | None = None,
    scope: Scope | None = None,
    *,
    level: Level | None = None,
    tags: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    contexts: Mapping[str, Any] | None = None,
    user: User | None = None,
    fingerprint: Sequence[str] | None = None,
    hint: Hint | None = None,
) -> str | None:
    """Report an exception the program has handled; returns the event's id, None if dropped.

    `error` None: the exception being handled right now. The keywords apply to this event alone.
    Counts as an error of the session.
    """
    error = error if error is not None else sys.exc_info()[1]
    if error is None:
        return None
    extras = _one_off(scope, level, tags, extra, contexts, user, fingerprint)
    return current.client().capture_exception(
        error, hint=hint, scopes=(*current.scopes(), *extras), unit=current.unit()
    )


@boundary(None)
def capture_message(
    message: str,
    level: Level = "info",
    scope: Scope | None = None,
    *,
    tags: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    contexts: Mapping[str, Any] | None = None,
    user: User | None = None,
    fingerprint: Sequence[str] | None = None,
) -> str | None:
    """Report a message; returns the event's id, None if dropped. Never counts as an error."""
    extras = _one_off(scope, None, tags, extra, contexts, user, fingerprint)
    return current.client().capture_message(
        message, level, scopes=(*current.scopes(), *extras), unit=current.unit()
    )


@boundary(None)
def capture_event(
    event: Event | Mapping[str, Any], hint: Hint | None = None, scope: Scope | None = None
) -> str | None:
    """Report an event of any shape; repaired where it can be, returns its id, None if dropped."""
    extras = () if scope is None else (scope,)
    return current.client().capture_event(
        event, hint, scopes=(*current.scopes(), *extras), unit=current.unit()
    )


@boundary(None)
def capture_feedback(
    message: str,
    *,
    name: str | None = None,
    email: str | None = None,
    url: str | None = None,
    event_id: str | None = None,
) -> str | None:
    """Send what a user says (at most 4096 characters), about the event `event_id` if given."""
    return current.client().capture_feedback(
        message, name=name, email=email, url=url, event_id=event_id, scopes=current.scopes()
    )


def last_event_id() -> str | None:
    """Return the id of the last event captured in this context; None when there was none."""
    return current.isolation_scope().last_event_id


def _one_off(
    scope: Scope | None,
    level: Level | None,
    tags: Mapping[str, str] | None,
    extra: Mapping[str, Any] | None,
    contexts: Mapping[str, Any] | None,
    user: User | None,
    fingerprint: Sequence[str] | None,
) -> tuple[Scope, ...]:
    if level is None and not (tags or extra or contexts or user or fingerprint):
        return () if scope is None else (scope,)
    own = Scope()
    if level is not None:
        own.set_level(level)
    for key, value in (tags or {}).items():
        own.set_tag(key, value)
    for key, entry in (extra or {}).items():
        own.set_extra(key, entry)
    for key, context in (contexts or {}).items():
        own.set_context(key, context)
    if user is not None:
        own.set_user(user)
    if fingerprint is not None:
        own.set_fingerprint(fingerprint)
    return (own,) if scope is None else (scope, own)


# --- scopes ---------------------------------------------------------------------------------


@boundary(None)
def add_breadcrumb(
    crumb: Breadcrumb | None = None, hint: Mapping[str, Any] | None = None, **fields: Any
) -> None:
    """Note something that happened; the next events of this scope carry it."""
    merged: Breadcrumb = {**(crumb or {}), **fields}  # type: ignore[typeddict-item]
    current.client().add_breadcrumb(merged, hint, scope=current.isolation_scope())


@boundary(None)
def set_tag(key: str, value: str) -> None:
    """Tag the events of this request, task or process; tags can be searched for."""
    current.isolation_scope().set_tag(key, value)


@boundary(None)
def set_tags(tags: Mapping[str, str]) -> None:
    """Set several tags at once."""
    scope = current.isolation_scope()
    for key, value in tags.items():
        scope.set_tag(key, value)


@boundary(None)
def set_user(user: User | None) -> None:
    """Say who uses the program here; None: nobody.

    `id`, else `email`, else `username` identifies the user in crash-free users. An application
    session takes the user that is known when it is first announced and keeps it.
    """
    current.isolation_scope().set_user(user)
    if current.unit() is None:
        current.client().identify(user)


@boundary(None)
def set_context(key: str, value: Mapping[str, Any] | None) -> None:
    """Attach a named group of facts to the events here; None removes it."""
    current.isolation_scope().set_context(key, value)


@boundary(None)
def set_extra(key: str, value: object) -> None:
    """Attach one fact to the events here."""
    current.isolation_scope().set_extra(key, value)


@boundary(None)
def set_level(level: Level) -> None:
    """Give the events here this level."""
    current.isolation_scope().set_level(level)


@boundary(None)
def set_transaction_name(name: str, source: str | None = None) -> None:
    """Name what the program does here: the template of a route, a task, a command."""
    current.isolation_scope().set_transaction(name)


def get_global_scope() -> Scope:
    """Return the scope that applies to every event of the process."""
    return current.global_scope()


def get_isolation_scope() -> Scope:
    """Return the scope of this request or task, else of the process."""
    return current.isolation_scope()


def get_current_scope() -> Scope:
    """Return the innermost scope."""
    return current.current_scope()


class new_scope:
    """Context manager: what is set on the scope it yields applies inside the block only."""

    __slots__ = ("_token",)
    _token: current.Block

    def __enter__(self) -> Scope:
        scope = current.current_scope().fork()
        self._token = current.enter_current(scope)
        return scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        current.leave_current(self._token)


class isolation_scope:
    """Context manager: whatever is set inside the block stays inside, by `set_tag` too."""

    __slots__ = ("_inner", "_token")
    _token: current.Block
    _inner: current.Block

    def __enter__(self) -> Scope:
        scope = current.isolation_scope().fork()
        self._inner = current.enter_current(current.current_scope().fork())
        self._token = current.enter_isolation(scope)
        return scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        current.leave_isolation(self._token)
        current.leave_current(self._inner)


def propagate_scope(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function`, bound to run with the scopes and the unit of the context it was made in.

    For threads and executors, which start from an empty context.
    """
    context = copy_context()

    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        # A context can be entered once at a time; a pool may run us twice at once.
        return context.copy().run(function, *args, **kwargs)

    return bound


# --- sessions -------------------------------------------------------------------------------


@boundary(None)
def start_session(session_mode: SessionMode = "application") -> None:
    """Begin an application session; one that runs is ended first.

    In request mode there is nothing to begin by hand: see `session()` for a unit of work.
    """
    current.client().start_session()


@boundary(None)
def end_session(status: Literal["exited", "crashed", "abnormal"] | None = None) -> None:
    """End the running session; None: as it went. Does nothing when none runs."""
    current.client().end_session(status)


@boundary(None)
def pause_sessions() -> None:
    """End the running session and begin none by itself until `resume_sessions()`."""
    current.client().pause_sessions()


@boundary(None)
def resume_sessions() -> None:
    """Go on after `pause_sessions()`, with a new session."""
    current.client().resume_sessions()


@boundary(None)
def enter_background() -> None:
    """Note that the user has left the application.

    The session ends when that lasts `background_timeout` seconds (default 30) or longer; its
    duration then counts up to this call. Called twice, the later call counts.

    Source: sessions.md section 4.
    """
    current.client().enter_background()


@boundary(None)
def enter_foreground() -> None:
    """Note that the user is back: the same session goes on, or a new one begins."""
    current.client().enter_foreground()


@boundary(None)
def navigate(name: str) -> None:
    """Note that the user went to another view; for programs whose sessions follow navigation.

    Another name than the last one ends the running session and begins a new one.
    """
    current.client().navigate(name)


class session:
    """Context manager (sync and async): the block is one session.

    In application mode it begins an application session (one that runs is ended first) and ends it;
    in request mode it is a unit of work, like a request. An error that leaves the block is
    captured and makes the session crashed; it goes on its way unchanged.
    """

    __slots__ = ("_unit",)
    _unit: AnyUnit | None

    def __enter__(self) -> session:
        self._unit = _begin_block()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._unit is not None:
            self._unit.__exit__(kind, error, traceback)
        else:
            _end_block(error)

    async def __aenter__(self) -> session:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


@boundary(None)
def _begin_block() -> AnyUnit | None:
    client = current.client()
    if client.application_mode:
        client.start_session()
        return None
    begun = begin_unit(client, "session", automatic=False)
    begun.__enter__()
    return begun


@boundary(None)
def _end_block(error: BaseException | None) -> None:
    client = current.client()
    if error is not None and not ends_by_will(error):
        client.capture_exception(
            error,
            mechanism={"type": "session", "handled": False},
            scopes=current.scopes(),
            unit=current.unit(),
        )
    client.end_session(None)


class background_session:
    """Context manager: work that is meant to run in the background, as a music player's.

    While the block lasts, `enter_background` does not start the clock of `background_timeout`.
    """

    __slots__ = ("_block",)
    _block: BackgroundSession | None

    def __enter__(self) -> background_session:
        self._block = _enter_background_block()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._block is not None:
            _leave_background_block(self._block)


@boundary(None)
def _enter_background_block() -> BackgroundSession | None:
    block = current.client().sessions.application.background_session()
    block.__enter__()
    return block


@boundary(None)
def _leave_background_block(block: BackgroundSession) -> None:
    block.__exit__(None, None, None)


# --- life -----------------------------------------------------------------------------------


@boundary(False)
def flush(timeout: float | None = None) -> bool:
    """Send what is waiting; True when nothing was left, False at the deadline.

    `timeout` in seconds; None: `shutdown_timeout`; 0: do not wait. Blocks: in an event loop call
    it as `await asyncio.to_thread(crashfree.flush)`.
    """
    return current.client().flush(timeout)


@boundary(False)
def close(timeout: float | None = None) -> bool:
    """End the session, send what is waiting, take the integrations out. Idempotent.

    `timeout` in seconds; None: `shutdown_timeout`. Later calls of other functions do nothing.
    """
    return setup.stop(timeout)


@boundary(None)
def give_consent() -> None:
    """Let go what `require_consent=True` holds back, from now on."""
    current.client().give_consent()


@boundary(None)
def revoke_consent() -> None:
    """Hold everything back again; what was waiting is thrown away."""
    current.client().revoke_consent()


def get_client() -> Client:
    """Return the client; before `init` and after `close` one that does nothing."""
    return current.client()


def is_initialized() -> bool:
    """Return whether `init` was called and `close` was not."""
    return current.client() is not current.INERT


def stats() -> Statistics:
    """Return what was queued, sent, spooled and dropped so far."""
    return current.client().stats()
