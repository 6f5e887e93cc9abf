"""Starting and stopping a client: the order of things.

`start` is atomic up to the swap of the slot: what fails before it leaves the old client in place.
Threads: any; hooks and signals want the main thread and are left out elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from crashfree._client import current, guard, hooks, lifecycle
from crashfree._client.client import Client
from crashfree._client.guard import boundary
from crashfree._client.options import Options
from crashfree._client.registry import Integration, Registry
from crashfree._delivery.transport import Transport
from crashfree._ground import env, log
from crashfree.errors import ConfigurationError


class _Process:
    """What belongs to the client in the slot; state of the process, like the slot itself."""

    __slots__ = ("registry", "said_no_release", "unwatch_terminal")
    registry: Registry | None
    unwatch_terminal: Callable[[], None] | None
    said_no_release: bool

    def __init__(self) -> None:
        self.registry = None
        self.unwatch_terminal = None
        self.said_no_release = False


_process = _Process()


def start(
    options: Options,
    *,
    transport: Transport | Sequence[Transport] | None = None,
    integrations: Sequence[Integration | str] = (),
    environ: Mapping[str, str],
    replace: bool = True,
) -> Client:
    """Make a client, put it into the slot, and let it begin.

    `replace=False` leaves a client that was there running, out of the slot; the caller puts it
    back. Raises ConfigurationError before anything has changed.
    """
    if _disabled(environ):
        log.debug("CRASHFREE_DISABLED is set: nothing is started")
        return current.client()
    transports = _checked(transport)
    client = Client(options, transport=transports, environ=environ)
    registry = Registry(client, options.disabled_integrations)
    before = _process.registry
    # First, so that an integration finds what it may have to stand in front of.
    hooks.install(client)
    try:
        registry.install_given([*_named(environ), *integrations])
    except BaseException:
        registry.uninstall()
        if current.client() is current.INERT:
            hooks.uninstall()
        client.abandon()
        raise
    old = current.swap(client)
    _process.registry = registry
    guard.set_witness(client.witness)
    if replace:
        _retire(old, before)
    lifecycle.arm()
    if options.chain_sigterm:
        lifecycle.chain_sigterm()
    _watch_the_terminal(client)
    _apply_defaults(client)
    if options.auto_integrations:
        _watch(registry)
    if lifecycle.serves_another_process():
        client.serves_units()
    client.begin()
    _explain(client)
    return client


def stop(timeout: float | None) -> bool:
    """Take the client out of the slot and close it; True when nothing was left to send."""
    client = current.client()
    if client is current.INERT:
        return True
    registry = _process.registry
    if registry is not None:
        registry.uninstall()
        _process.registry = None
    hooks.uninstall()
    if _process.unwatch_terminal is not None:
        _process.unwatch_terminal()
        _process.unwatch_terminal = None
    lifecycle.unchain_sigterm()
    done = client.close(timeout)
    guard.set_witness(None)
    current.swap(current.INERT)
    return done


def registry() -> Registry | None:
    """Return the integrations of the client in the slot; None without one."""
    return _process.registry


@boundary(None)
def _retire(old: Client, registry: Registry | None) -> None:
    if old is current.INERT:
        return
    if registry is not None:
        registry.uninstall()
    old.give_way()


@boundary(None)
def _watch_the_terminal(client: Client) -> None:
    if _process.unwatch_terminal is not None:
        _process.unwatch_terminal()
        _process.unwatch_terminal = None
    if client.options.background_on_suspend:
        from crashfree._sessions.terminal import TerminalStops

        stops = TerminalStops(client.enter_background, client.enter_foreground)
        if stops.install():
            _process.unwatch_terminal = stops.uninstall


@boundary(None)
def _watch(registry: Registry) -> None:
    registry.watch()


@boundary(None)
def _apply_defaults(client: Client) -> None:
    options = client.options
    scope = current.global_scope()
    if options.tags:
        scope.set_tags(options.tags)
    if options.user is not None:
        scope.set_user(options.user)
        client.identify(options.user)


def _checked(
    transport: Transport | Sequence[Transport] | None,
) -> tuple[Transport, ...] | None:
    if transport is None:
        return None
    transports = tuple(transport) if isinstance(transport, Sequence) else (transport,)
    for entry in transports:
        missing = [
            name
            for name in ("submit", "flush", "close")
            if not callable(getattr(entry, name, None))
        ]
        if missing or isinstance(entry, type):
            raise ConfigurationError(
                f"transport is {type(entry).__name__!r}; a transport is an object with submit, "
                f"flush and close; missing: {', '.join(missing) or 'an instance of the class'}"
            )
    return transports


def _disabled(environ: Mapping[str, str]) -> bool:
    found = env.variable(environ, "CRASHFREE_DISABLED")
    return found is not None and env.boolean(found.value) is True


def _named(environ: Mapping[str, str]) -> list[str]:
    found = env.setting(environ, "INTEGRATIONS")
    return (
        [] if found is None else [part.strip() for part in found.value.split(",") if part.strip()]
    )


def _explain(client: Client) -> None:
    options = client.options
    if "uwsgi" in sys.modules:
        from crashfree._delivery import uwsgi

        complaint = uwsgi.complaint(sys.modules)
        if complaint is not None:
            log.warning(complaint)
    # `release=""` says it on purpose.
    wanted = options.release_source != "argument" and options.auto_session_tracking
    if options.release is None and options.dsn and wanted and not _process.said_no_release:
        _process.said_no_release = True
        asked = ", ".join(attempt.source for attempt in options.release_tried) or "nothing"
        log.warning(
            "no release was found, so sessions are off and events carry none; give one with "
            f"crashfree.init(release='myapp@1.0.0') or set SENTRY_RELEASE (asked: {asked})"
        )
    if log.debugging():
        to = ", ".join(dsn.redacted() for dsn in options.dsn) or "nowhere (no DSN)"
        log.debug(
            f"release {options.release.raw if options.release else None!r} from "
            f"{options.release_source}, environment {options.environment!r}, sending to {to}"
        )
