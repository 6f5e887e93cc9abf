"""logging: error records become events, the others breadcrumbs.

Attached by itself once the program imports `logging`. Every record that a logger lets pass is seen,
whatever handlers there are: `dictConfig` may take them all out, it does not reach us. Records of
crashfree itself are left alone, and those that are made while crashfree works.

To choose for yourself, switch it off and use `CrashfreeHandler` in your own configuration:

    crashfree.init(disabled_integrations=["logging"])
    {"handlers": {"crashfree": {"class": "crashfree_integrations.logging.CrashfreeHandler"}}}

An error record with an exception counts as an error of the session, one without does not. Error
records of servers and frameworks (`FRAMEWORK_LOGGERS`) are breadcrumbs: their integrations report.
Access logs (`ACCESS_LOGGERS`) are left alone.

Hook used: `Logger.callHandlers` is wrapped, as logging has no hook that survives reconfiguration.
Threads: any. Source: wire.md section 5 (levels), sessions.md section 3.2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import crashfree
from crashfree.integration import Kit
from crashfree.types import Breadcrumb, Event, Hint

OWN_LOGGERS = ("crashfree",)
FRAMEWORK_LOGGERS = (
    "_granian", "aiohttp.server", "celery", "django.request", "django.server", "granian",
    "gunicorn", "hypercorn", "rq", "uvicorn", "waitress",
)  # fmt: skip
"""Their error records speak of errors that their integrations report, or of a server's own
business (a client that went away, a worker that is replaced): they become breadcrumbs."""
ACCESS_LOGGERS = frozenset(
    (
        "aiohttp.access", "granian.access", "gunicorn.access", "hypercorn.access", "sanic.access",
        "tornado.access", "uvicorn.access",
    )
)  # fmt: skip
"""Their records say which request was answered, as each event does by itself, and come when it is
too late to help an event: they are left alone. A breadcrumb for each request costs more than all
else that is done for it."""
MECHANISM = "logging"

# What every record has; the rest was given as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LoggingIntegration:
    """See the module. Levels are those of `logging`, None switches a part off.

    breadcrumb_level: from here on a record becomes a breadcrumb. event_level: from here on it
    becomes an event instead. ignored_loggers: names of loggers that are left alone, those below
    them included.
    """

    name = "logging"
    mode = None

    def __init__(
        self,
        *,
        breadcrumb_level: int | None = logging.INFO,
        event_level: int | None = logging.ERROR,
        ignored_loggers: Collection[str] = (),
    ) -> None:
        self._rules = _Rules(breadcrumb_level, event_level, ignored_loggers)

    def install(self, kit: Kit) -> None:
        rules = self._rules

        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> Any:
                if record.name not in ACCESS_LOGGERS:
                    rules.take(record)
                return original(logger, record)

            return call_handlers

        kit.wrap(logging.Logger, "callHandlers", wrapper)

    def uninstall(self) -> None:
        """Nothing to do: what was wrapped undoes itself."""


class CrashfreeHandler(logging.Handler):
    """A handler for those who configure logging by hand; see the module.

    Its own level is the lowest that it looks at.
    """

    def __init__(
        self,
        level: int | str = logging.NOTSET,
        *,
        breadcrumb_level: int | None = logging.INFO,
        event_level: int | None = logging.ERROR,
    ) -> None:
        super().__init__(level)
        self._rules = _Rules(breadcrumb_level, event_level, ())

    def emit(self, record: logging.LogRecord) -> None:
        if record.name not in ACCESS_LOGGERS:
            self._rules.take(record)


class _Rules:
    """What becomes of a record."""

    __slots__ = ("_breadcrumbs", "_events", "_ignored")
    _breadcrumbs: float
    _events: float
    _ignored: tuple[str, ...]

    def __init__(
        self, breadcrumb_level: int | None, event_level: int | None, ignored: Collection[str]
    ) -> None:
        never = float("inf")
        self._breadcrumbs = never if breadcrumb_level is None else breadcrumb_level
        self._events = never if event_level is None else event_level
        self._ignored = (*OWN_LOGGERS, *ignored)

    def take(self, record: logging.LogRecord) -> None:
        """Make an event or a breadcrumb of a record, or nothing."""
        level = record.levelno
        if level < self._breadcrumbs and level < self._events:
            return
        name = record.name
        if _below(name, self._ignored):
            return
        if level >= self._events and not _below(name, FRAMEWORK_LOGGERS):
            _capture(record)
        else:
            crashfree.add_breadcrumb(breadcrumb(record))


def _below(name: str, parents: Collection[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def level_name(number: int) -> Any:
    """Return the level of the wire; a number of its own is the next lower standard one."""
    if number >= logging.CRITICAL:
        return "fatal"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


def breadcrumb(record: logging.LogRecord) -> Breadcrumb:
    """Return a record as a breadcrumb."""
    crumb: Breadcrumb = {
        "type": "log",
        "category": record.name,
        "level": level_name(record.levelno),
        "message": _formatted(record),
        "timestamp": record.created,
    }
    extra = _extra(record)
    if extra:
        crumb["data"] = extra
    return crumb


def _capture(record: logging.LogRecord) -> None:
    event: Event = {
        "level": level_name(record.levelno),
        "logger": record.name,
        "timestamp": record.created,
    }
    entry: dict[str, Any] = {"formatted": _formatted(record)}
    if isinstance(record.msg, str):
        entry["message"] = record.msg
        if record.args:
            entry["params"] = record.args if isinstance(record.args, dict) else list(record.args)
    event["logentry"] = entry
    extra = _extra(record)
    if extra:
        event["extra"] = extra
    hint: Hint = {"log_record": record}
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        hint["exc_info"] = (type(error), error, error.__traceback__)
    else:
        # Servers differ in where they look for the text of an event without exception.
        event["message"] = entry["formatted"]
    crashfree.capture_event(event, hint)


def _formatted(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 -- a wrong format, or an argument that cannot be printed
        return record.msg if isinstance(record.msg, str) else "<unprintable record>"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
