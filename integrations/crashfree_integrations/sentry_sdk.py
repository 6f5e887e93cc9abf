"""sentry-sdk: it keeps errors and traces, crashfree does the release health.

    import sentry_sdk, crashfree
    sentry_sdk.init(dsn, release=release)
    crashfree.init(dsn, release=release, integrations=["sentry_sdk"])

sentry-sdk's own session tracking is switched off, so that nothing is counted twice; the errors it
captures update our units and our application session; crashfree sends sessions and no events. Not
attached by itself: only a program that names it wants this division of work.

Hooks: none of sentry-sdk's own stands between `before_send` and sampling, where a session's verdict
belongs (an event that a filter drops does not count, one that sampling drops does), so
`_Client._should_sample_error` is wrapped; where a version has no such method, the global event
processors are used, which run before `before_send`. Tested with sentry-sdk 2.0 and 2.75.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from crashfree.integration import Kit
from crashfree.types import Mechanism, SessionMode
from crashfree_integrations.framework import framework, require

OLDEST: Final = "2.0"
SWITCHES: Final = (
    "_is_auto_session_tracking_enabled",
    "is_auto_session_tracking_enabled",
    "is_auto_session_tracking_enabled_scope",
)
"""What says whether sentry-sdk counts sessions; which of them there are depends on its version."""
_ERRORS: Final = ("error", "fatal")


class SentrySdkIntegration:
    """Lets a program keep sentry-sdk for its errors."""

    name: str = "sentry_sdk"
    mode: SessionMode | None = None

    def install(self, kit: Kit) -> None:
        sentry = framework("sentry_sdk", OLDEST, distribution="sentry-sdk")
        require(sentry, "sessions", "client", "scope")
        kit.sessions_only()
        _switch_off_sessions(kit, sentry.sessions)
        client = sentry.client._Client
        if hasattr(client, "_should_sample_error"):
            kit.wrap(client, "_should_sample_error", _after_before_send(kit))
        else:
            _by_processor(kit, sentry.scope)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _switch_off_sessions(kit: Kit, sessions: Any) -> None:
    def never(original: Callable[..., object]) -> Callable[..., bool]:
        return lambda *_: False

    names = [name for name in SWITCHES if hasattr(sessions, name)]
    if not names:
        # Both would count: better refused than wrong.
        require(sessions, SWITCHES[0])
    for name in names:
        kit.wrap(sessions, name, never)


def _after_before_send(kit: Kit) -> Callable[[Callable[..., bool]], Callable[..., bool]]:
    def wrapper(original: Callable[..., bool]) -> Callable[..., bool]:
        def should_sample_error(
            self: object, event: Mapping[str, Any], hint: Mapping[str, Any], *rest: Any
        ) -> bool:
            _account(kit, event, hint)
            return original(self, event, hint, *rest)

        return should_sample_error

    return wrapper


def _by_processor(kit: Kit, scope: Any) -> None:
    def processor(event: Any, hint: Any) -> Any:
        _account(kit, event, hint)
        return event

    scope.add_global_event_processor(processor)
    kit.on_uninstall(lambda: scope.global_event_processors.remove(processor))


def _account(kit: Kit, event: Mapping[str, Any], hint: Mapping[str, Any]) -> None:
    info = hint.get("exc_info")
    if event.get("level", "error") not in _ERRORS or not isinstance(info, tuple):
        return
    error: object = cast("tuple[object, ...]", info)[1]
    if isinstance(error, BaseException):
        kit.account(error, mechanism=_mechanism(event))


def _mechanism(event: Mapping[str, Any]) -> Mechanism:
    values: Any = _entry(event.get("exception"), "values") or ()
    handled = all(_entry(_entry(value, "mechanism"), "handled") is not False for value in values)
    return {"type": "sentry_sdk", "handled": handled}


def _entry(holder: object, key: str) -> Any:
    return cast("Mapping[str, Any]", holder).get(key) if isinstance(holder, Mapping) else None
