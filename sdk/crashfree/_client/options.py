"""Options: what a client was told, checked, immutable, every value with its unit.

`resolve_options` is the only reader of arguments and environment; after it nobody asks the
environment again. A wrong argument raises before anything has changed; a wrong variable is said
once and ignored, since a typo in a deployment must not stop a service.

Threads: any (values only). Source: wire.md section 21, sessions.md section 8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence

from crashfree._ground import env, log
from crashfree._ground.typed import Any, Literal, NamedTuple, cast
from crashfree._protocol.dsn import Dsn
from crashfree._resolve.answers import Attempt, Resolved
from crashfree._resolve.environment import resolve_dist, resolve_environment, resolve_server_name
from crashfree._resolve.release import resolve_release
from crashfree.errors import ConfigurationError, InvalidDsn
from crashfree.release import Release
from crashfree.types import (
    BeforeBreadcrumb,
    BeforeSend,
    OnDrop,
    Sampler,
    SessionMode,
    User,
)

MEBIBYTE = 1024 * 1024
DAY = 86_400.0


class Options(NamedTuple):
    """What `init` was given, resolved. Same names and order as its arguments."""

    # where to
    dsn: tuple[Dsn, ...] = ()
    # what is running
    release: Release | None = None
    dist: str | None = None
    environment: str = "production"
    server_name: str | None = None
    project_root: str | None = None
    # sessions
    session_mode: SessionMode | None = None
    auto_session_tracking: bool = True
    background_timeout: float = 30.0
    background_on_suspend: bool = False
    session_initial_delay: float = 10.0
    session_flush_interval: float = 60.0
    session_users: bool = True
    unhandled_status: Literal["unhandled", "crashed"] = "unhandled"
    interrupt_status: Literal["exited", "crashed"] = "exited"
    crashed_statuses: frozenset[int] = frozenset()
    on_crashed_last_run: Callable[[Any], None] | None = None
    # events
    sample_rate: float | Sampler = 1.0
    ignore_errors: tuple[type[BaseException] | str, ...] = ()
    before_send: BeforeSend | None = None
    before_breadcrumb: BeforeBreadcrumb | None = None
    scrubber: Callable[[Any], Any] | None = None
    max_breadcrumbs: int = 100
    max_value_length: int = 8192
    with_locals: bool = False
    source_context: bool = True
    attach_stacktrace: bool = False
    add_full_stack: bool = False
    in_app_include: tuple[str, ...] = ()
    in_app_exclude: tuple[str, ...] = ()
    send_default_pii: bool = False
    error_storm_limit: int = 100
    user: User | None = None
    tags: Mapping[str, str] | None = None
    # delivery
    spool: bool = True
    spool_dir: str | None = None
    spool_max_items: int = 200
    spool_max_bytes: int = 20 * MEBIBYTE
    spool_max_age: float = 30 * DAY
    queue_size: int = 10_000
    shutdown_timeout: float = 2.0
    chain_sigterm: bool = True
    compression: Literal["gzip", "br", "zstd", "none"] = "gzip"
    http_proxy: str | None = None
    https_proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = None
    ca_certs: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    keep_alive: bool = True
    socket_options: Sequence[tuple[int, int, int | bytes]] | None = None
    send_client_reports: bool = True
    on_drop: OnDrop | None = None
    spotlight: str | None = None
    require_consent: bool = False
    debug: bool = False
    # integrations
    disabled_integrations: tuple[str, ...] = ()
    auto_integrations: bool = True
    # how the release was found; no arguments of init
    release_source: str = "none"
    release_tried: tuple[Attempt, ...] = ()


RESOLVED_FIELDS = ("release_source", "release_tried")
"""Fields that are findings, not arguments."""

LOCAL = "local"
"""Stands for the DSN of the server that runs on this machine."""
SPOTLIGHT_URL = "http://localhost:8969/stream"


def resolve_options(given: Mapping[str, object], environ: Mapping[str, str]) -> Options:
    """Check what was given, fill in what the environment says, and return the result.

    Raises ConfigurationError (InvalidDsn, InvalidRelease) for a wrong argument, naming the value,
    the rule and the remedy.
    """
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _CHECKS:
            raise ConfigurationError(_unknown(name))
        if value is not None:
            checked[name] = _CHECKS[name](name, value)
    debug = checked.get("debug")
    if debug is None:
        debug = _switch(environ, "DEBUG") or False
    checked["debug"] = debug
    # Said from here on: the next lines may already have something to tell.
    log.set_debug(debug)
    checked["dsn"] = _resolve_dsn(given.get("dsn"), environ)
    resolved = _resolve_release(given.get("release"), checked.get("project_root"), environ)
    checked["release"] = resolved.release
    checked["release_source"] = resolved.source
    checked["release_tried"] = resolved.tried
    checked["environment"] = resolve_environment(checked.get("environment"), environ)
    checked["dist"] = resolve_dist(checked.get("dist"))
    checked["server_name"] = resolve_server_name(checked.get("server_name"), environ)
    checked["spotlight"] = _resolve_spotlight(checked.get("spotlight"), environ)
    _fill_from_environment(checked, environ)
    return Options(**checked)


# --- where to -------------------------------------------------------------------------------


def _resolve_dsn(given: object, environ: Mapping[str, str]) -> tuple[Dsn, ...]:
    if given is None:
        found = env.setting(environ, "DSN")
        if found is None:
            return ()
        try:
            return (read_dsn(found.value, environ),)
        except InvalidDsn as error:
            # A typo in a deployment must not stop a service.
            log.warning(f"{found.variable} is ignored, nothing will be sent: {error}")
            return ()
    texts = [given] if isinstance(given, str) else _entries(given) or []
    return tuple(read_dsn(str(text), environ) for text in texts if str(text).strip())


def read_dsn(text: str, environ: Mapping[str, str]) -> Dsn:
    """Return the DSN that `text` spells; `local` is that of the server on this machine.

    Raises InvalidDsn.
    """
    if text.strip().lower() == LOCAL:
        from crashfree._client.local import find

        text = find(environ)
    return Dsn.parse(text)


def _check_dsn(name: str, value: object) -> object:
    if isinstance(value, str):
        return value
    entries = _entries(value)
    if entries is not None and all(isinstance(entry, str) for entry in entries):
        return entries
    raise InvalidDsn(
        f"dsn is {_shown(value)}; a DSN is text like 'https://KEY@sentry.example.com/1' "
        "(or a list of such texts), or 'local'; leave it out to send nothing"
    )


def _resolve_release(
    given: object, project_root: str | None, environ: Mapping[str, str]
) -> Resolved:
    # The type is checked by Release itself, which has the better message.
    return resolve_release(given, environ=environ, directory=project_root)  # type: ignore[arg-type]


def _resolve_spotlight(given: bool | str | None, environ: Mapping[str, str]) -> str | None:
    """Source: wire.md section 20."""
    variable = env.setting(environ, "SPOTLIGHT")
    word = env.boolean(variable.value) if variable is not None else None
    url = variable.value if variable is not None and word is None else None
    if given is False:
        if variable is not None and word is not False:
            log.warning(f"spotlight=False: {variable.variable} is ignored")
        return None
    if isinstance(given, str):
        if url is not None and url != given and variable is not None:
            log.warning(f"spotlight={given!r} wins over {variable.variable}={url!r}")
        return given
    if given is True:
        return url or SPOTLIGHT_URL
    if url is not None:
        return url
    return SPOTLIGHT_URL if word else None


# --- the environment ------------------------------------------------------------------------


def _fill_from_environment(checked: dict[str, Any], environ: Mapping[str, str]) -> None:
    for name, variable in (
        ("session_mode", "SESSION_MODE"),
        ("spool_dir", "SPOOL_DIR"),
        ("disabled_integrations", "DISABLED_INTEGRATIONS"),
        ("keep_alive", "KEEP_ALIVE"),
    ):
        if name in checked:
            continue
        found = env.setting(environ, variable)
        if found is None:
            continue
        value: object = found.value
        if name == "keep_alive":
            value = env.boolean(found.value)
        elif name == "disabled_integrations":
            value = [part.strip() for part in found.value.split(",") if part.strip()]
        try:
            checked[name] = _CHECKS[name](name, value)
        except ConfigurationError as error:
            log.warning(f"{found.variable} is ignored: {error}")


def _switch(environ: Mapping[str, str], name: str) -> bool | None:
    found = env.setting(environ, name)
    return None if found is None else env.boolean(found.value)


# --- the rules ------------------------------------------------------------------------------

_Check = Callable[[str, object], object]


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 -- a foreign repr may do anything
        text = f"<unprintable: {type(error).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def _wrong(name: str, value: object, rule: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is {_shown(value)}; it must be {rule}; {remedy}")


def _boolean(name: str, value: object) -> object:
    if isinstance(value, bool):
        return value
    raise _wrong(name, value, "True or False", f"write {name}=True or leave it out")


def _text(name: str, value: object) -> object:
    if isinstance(value, str):
        return value
    raise _wrong(name, value, "text", f"write {name}='...' or leave it out")


def _path(name: str, value: object) -> object:
    path = _fspath(value)
    if path is not None and "\0" not in path:
        return path
    raise _wrong(name, value, "a path (text or os.PathLike)", "give the path of a directory")


def _fspath(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        path = os.fspath(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return path if isinstance(path, str) else None
    return None


def _entries(value: object) -> list[object] | None:
    if isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping)):
        return list(cast("Collection[object]", value))
    return None


def _pairs(value: object) -> dict[object, object] | None:
    return dict(cast("Mapping[object, object]", value)) if isinstance(value, Mapping) else None


def _file(name: str, value: object) -> object:
    path = _path(name, value)
    if isinstance(path, str) and os.path.exists(path):
        return path
    raise _wrong(name, value, "a file that exists", "check the path")


def _number(
    low: float, high: float, *, unit: str, duration: bool = False, whole: bool = False
) -> _Check:
    kinds = "whole number" if whole else "number"
    rule = (
        f"a {kinds} of {unit} from {low:g} to {high:,g}"
        if high < 1e12
        else (f"a {kinds} of {unit}, {low:g} or more")
    )

    def check(name: str, value: object) -> object:
        if duration and not isinstance(value, (int, float)):
            value = _seconds(value)
        wrong_kind = isinstance(value, bool) or not isinstance(value, (int, float))
        if wrong_kind or (whole and not isinstance(value, int)):
            raise _wrong(name, value, rule, "leave it out for the default")
        assert isinstance(value, (int, float))
        if not low <= value <= high:
            raise _wrong(name, value, rule, "leave it out for the default")
        return value if whole else float(value)

    return check


def _seconds(value: object) -> object:
    # Most programs give numbers, and need no `datetime` for that.
    from datetime import timedelta

    return value.total_seconds() if isinstance(value, timedelta) else value


def _one_of(*words: str) -> _Check:
    listed = " or ".join(repr(word) for word in words)

    def check(name: str, value: object) -> object:
        if value in words:
            return value
        raise _wrong(name, value, listed, "leave it out for the default")

    return check


def _texts(name: str, value: object) -> object:
    entries = _entries(value)
    if entries is None or not all(isinstance(entry, str) for entry in entries):
        raise _wrong(name, value, "a list of texts", f"write {name}=['...']")
    return tuple(entries)


def _callable(name: str, value: object) -> object:
    if callable(value):
        return value
    raise _wrong(name, value, "a function", "give the function itself, without calling it")


def _mapping_of_text(name: str, value: object) -> object:
    pairs = _pairs(value)
    if pairs is None or not all(isinstance(key, str) for key in pairs):
        raise _wrong(name, value, "a mapping of text to text", f"write {name}={{'key': 'value'}}")
    return {str(key): str(entry) for key, entry in pairs.items()}


def _user(name: str, value: object) -> object:
    pairs = _pairs(value)
    if pairs is None:
        raise _wrong(name, value, "a mapping", "write user={'id': '42'}")
    return pairs


def _session_mode(name: str, value: object) -> object:
    if value == "auto":
        return None
    return _one_of("application", "request")(name, value)


def _statuses(name: str, value: object) -> object:
    entries = _entries(value)
    if entries is None or not all(
        isinstance(entry, int) and 100 <= entry <= 599 for entry in entries
    ):
        rule = "a list of HTTP statuses from 100 to 599"
        raise _wrong(name, value, rule, "write crashed_statuses=range(500, 600)")
    return frozenset(entries)


def _sample_rate(name: str, value: object) -> object:
    if callable(value):
        return value
    return _number(0.0, 1.0, unit="shares")(name, value)


def _ignore_errors(name: str, value: object) -> object:
    entries = _entries(value)
    if entries is None or not all(_names_errors(entry) for entry in entries):
        raise _wrong(
            name,
            value,
            "a list of exception types or of their dotted names",
            "write ignore_errors=[KeyError, 'package.module.Name']",
        )
    return tuple(entries)


def _names_errors(entry: object) -> bool:
    if isinstance(entry, type):
        return issubclass(entry, BaseException)
    return isinstance(entry, str)


def _spotlight(name: str, value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return value
    raise _wrong(name, value, "True, False or a URL", f"write {name}=True")


def _socket_options(name: str, value: object) -> object:
    triples = [_entries(entry) for entry in _entries(value) or ()]
    if _entries(value) is None or not all(triple and len(triple) == 3 for triple in triples):
        rule = "a list of (level, name, value)"
        raise _wrong(name, value, rule, "write [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]")
    return tuple(tuple(triple) for triple in triples if triple)


def _proxy(name: str, value: object) -> object:
    if isinstance(value, str):
        scheme, found, _ = value.partition("://")
        if not found or scheme.lower() in (
            "http",
            "https",
            "socks4",
            "socks4a",
            "socks5",
            "socks5h",
        ):
            return value
    raise _wrong(name, value, "a proxy such as 'http://proxy:3128'", "'' switches the proxy off")


def _anything(name: str, value: object) -> object:
    return value


_CHECKS: dict[str, _Check] = {
    "dsn": _check_dsn,
    "release": _anything,
    "dist": _anything,
    "environment": _anything,
    "server_name": _text,
    "project_root": _path,
    "session_mode": _session_mode,
    "auto_session_tracking": _boolean,
    "background_timeout": _number(0, DAY * 365, unit="seconds", duration=True),
    "background_on_suspend": _boolean,
    "session_initial_delay": _number(0, DAY, unit="seconds", duration=True),
    "session_flush_interval": _number(0.1, DAY, unit="seconds", duration=True),
    "session_users": _boolean,
    "unhandled_status": _one_of("unhandled", "crashed"),
    "interrupt_status": _one_of("exited", "crashed"),
    "crashed_statuses": _statuses,
    "on_crashed_last_run": _callable,
    "sample_rate": _sample_rate,
    "ignore_errors": _ignore_errors,
    "before_send": _callable,
    "before_breadcrumb": _callable,
    "scrubber": _callable,
    "max_breadcrumbs": _number(0, 10_000, unit="breadcrumbs", whole=True),
    "max_value_length": _number(64, MEBIBYTE, unit="bytes", whole=True),
    "with_locals": _boolean,
    "source_context": _boolean,
    "attach_stacktrace": _boolean,
    "add_full_stack": _boolean,
    "in_app_include": _texts,
    "in_app_exclude": _texts,
    "send_default_pii": _boolean,
    "error_storm_limit": _number(0, 1e9, unit="events in 10 seconds", whole=True),
    "user": _user,
    "tags": _mapping_of_text,
    "spool": _boolean,
    "spool_dir": _path,
    "spool_max_items": _number(0, 100_000, unit="files", whole=True),
    "spool_max_bytes": _number(0, 1e12, unit="bytes", whole=True),
    "spool_max_age": _number(0, DAY * 3650, unit="seconds", duration=True),
    "queue_size": _number(1, 1_000_000, unit="envelopes", whole=True),
    "shutdown_timeout": _number(0, 3600, unit="seconds", duration=True),
    "chain_sigterm": _boolean,
    "compression": _one_of("gzip", "br", "zstd", "none"),
    "http_proxy": _proxy,
    "https_proxy": _proxy,
    "proxy_headers": _mapping_of_text,
    "ca_certs": _file,
    "cert_file": _file,
    "key_file": _file,
    "keep_alive": _boolean,
    "socket_options": _socket_options,
    "send_client_reports": _boolean,
    "on_drop": _callable,
    "spotlight": _spotlight,
    "require_consent": _boolean,
    "debug": _boolean,
    "disabled_integrations": _texts,
    "auto_integrations": _boolean,
}


# Names that users of other SDKs will try, and what they are called here.
_OTHER_NAMES = {
    "auto_enabling_integrations": "auto_integrations",
    "cache_dir": "spool_dir",
    "dsns": "dsn",
    "env": "environment",
    "event_scrubber": "scrubber",
    "include_local_variables": "with_locals",
    "include_source_context": "source_context",
    "persist_dir": "spool_dir",
    "transport_queue_size": "queue_size",
    "version": "release",
}


def _unknown(name: str) -> str:
    near = _OTHER_NAMES.get(name) or _nearest(name, _CHECKS)
    hint = f"; did you mean {near}=?" if near else "; help(crashfree.init) lists them all"
    return f"{name} is no option of init{hint}"


def _nearest(name: str, known: Collection[str]) -> str | None:
    ranked = sorted((_distance(name.lower(), other), other) for other in known)
    distance, other = ranked[0]
    return other if distance <= max(2, len(name) // 3) else None


def _distance(a: str, b: str) -> int:
    """Return the edit distance; difflib would do, at the price of its import."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]
