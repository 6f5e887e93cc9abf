"""The environment variables: `CRASHFREE_NAME` first, `SENTRY_NAME` accepted.

Only this module reads `os.environ`. Blank counts as not set, everywhere: deployment tools leave
variables empty and templates leave newlines.

Threads: any. Source: wire.md section 19 (booleans) and 21, releases.md section 5.2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from crashfree._ground.typed import NamedTuple

PREFIXES = ("CRASHFREE_", "SENTRY_")
_TRUE = frozenset(("true", "t", "y", "yes", "on", "1"))
_FALSE = frozenset(("false", "f", "n", "no", "off", "0"))


class Setting(NamedTuple):
    """A value and the variable that held it."""

    value: str
    variable: str


def environ() -> Mapping[str, str]:
    """Return the live environment of this process."""
    return os.environ


def setting(variables: Mapping[str, str], name: str) -> Setting | None:
    """Return `CRASHFREE_<name>`, else `SENTRY_<name>`, trimmed; None when both are blank."""
    for prefix in PREFIXES:
        found = variable(variables, prefix + name)
        if found is not None:
            return found
    return None


def variable(variables: Mapping[str, str], name: str) -> Setting | None:
    """Return the variable called exactly `name`, trimmed; None when it is blank."""
    value = variables.get(name, "").strip()
    return Setting(value, name) if value else None


def boolean(text: str) -> bool | None:
    """Return what a switch says; None when the text is no known word."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    return None


def number(text: str) -> float | None:
    """Return a finite number; None when the text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0.0 else None
