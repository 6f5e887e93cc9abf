"""Environment, dist and server name: argument, then variable, then default.

A wrong argument raises; a wrong variable is said once, with the repaired name, and the default is
taken. What is returned is trimmed, so that events and sessions carry the identical text.

Threads: any. Source: releases.md sections 2.6 and 3.7.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from crashfree._ground import env, log
from crashfree._ground.text import trim
from crashfree._ground.typed import NamedTuple
from crashfree._protocol.naming import (
    DEFAULT_ENVIRONMENT,
    parse_dist,
    parse_environment,
    repair_environment,
)
from crashfree.errors import ConfigurationError


class Environment(NamedTuple):
    """The environment and the source that named it: `argument`, `env:NAME` or `default`."""

    name: str
    source: str


def find_environment(argument: str | None, environ: Mapping[str, str]) -> Environment:
    """Return the environment and where it comes from; blank means `production`.

    Raises: ConfigurationError for a wrong argument.
    """
    if argument is not None and not isinstance(argument, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers need not be checked
        raise ConfigurationError(
            f"environment is {argument!r}; it must be a text such as {DEFAULT_ENVIRONMENT!r}"
        )
    if argument is not None and trim(argument):
        return Environment(parse_environment(argument), "argument")
    found = None if argument is not None else env.setting(environ, "ENVIRONMENT")
    if found is not None:
        try:
            name = parse_environment(found.value, setting=found.variable)
        except ConfigurationError as error:
            repaired = repair_environment(found.value)
            remedy = "" if repaired is None else f"; write {repaired!r}"
            log.warning(f"{error}{remedy}; using {DEFAULT_ENVIRONMENT!r}")
        else:
            return Environment(name, f"env:{found.variable}")
    return Environment(DEFAULT_ENVIRONMENT, "default")


def resolve_environment(argument: str | None, environ: Mapping[str, str]) -> str:
    """Return the environment; see `find_environment`."""
    return find_environment(argument, environ).name


def resolve_dist(argument: str | None) -> str | None:
    """Return the dist, which only the program can name; blank means none.

    Numbers are taken, since build numbers are. Raises: ConfigurationError for a wrong one.
    """
    if argument is None:
        return None
    text = str(argument)
    return parse_dist(text) if trim(text) else None


def resolve_server_name(argument: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the name of this machine; None when it has none. `""` means: do not tell.

    The host's own name, without asking DNS, which may take seconds.
    """
    if argument is not None:
        return argument.strip() or None
    found = env.setting(environ, "SERVER_NAME")
    if found is not None:
        return found.value
    if hasattr(os, "uname"):
        return os.uname().nodename or None
    # Windows has no os.uname; the variable is always set there.
    named = env.variable(environ, "COMPUTERNAME")
    return None if named is None else named.value
