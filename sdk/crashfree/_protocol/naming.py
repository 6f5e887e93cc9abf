"""The rules for environments and dists, for SDK, command line and server alike.

Two servers' rules disagree (ingestion and the deploy endpoint); a name passes here only when it
passes both, so that a deploy and the sessions of that deploy can carry the same environment.

Threads: any; pure. Source: releases.md sections 2.6 and 3.7.
"""

from __future__ import annotations

from crashfree._ground.text import (
    first_forbidden,
    lone_surrogate,
    same_ascii,
    shortened,
    shown,
    trim,
)
from crashfree.errors import ConfigurationError

DEFAULT_ENVIRONMENT = "production"
MAX_ENVIRONMENT_BYTES = 64
MAX_DIST_LENGTH = 64
_DIST_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"


def parse_environment(text: str, *, setting: str = "environment") -> str:
    """Return the trimmed environment; case matters.

    Raises ConfigurationError, naming `setting` and the rule. Blank is refused: whether blank means
    `production` is for the caller to say.
    """
    name = trim(text)
    fault = _environment_fault(name)
    if fault is not None:
        raise ConfigurationError(f"{setting}: environment {shortened(name)} {fault}")
    return name


def valid_environment(text: str) -> bool:
    """Return whether `parse_environment` would take `text`."""
    return _environment_fault(trim(text)) is None


def repair_environment(text: str) -> str | None:
    """Return an environment close to `text` that is valid; None when there is nothing to save."""
    name = "".join("-" if first_forbidden(each) is not None else each for each in trim(text))
    name = name.encode("utf-8", "replace")[:MAX_ENVIRONMENT_BYTES].decode("utf-8", "ignore")
    name = trim(name)
    return name if name.strip("-") and valid_environment(name) else None


def parse_dist(text: str, *, setting: str = "dist") -> str:
    """Return the trimmed dist; raises ConfigurationError, naming `setting` and the rule."""
    name = trim(text)
    if not _dist_fits(name):
        raise ConfigurationError(
            f"{setting}: dist {shortened(name)} must be 1 to {MAX_DIST_LENGTH} characters "
            "of A-Z a-z 0-9 _ . -"
        )
    return name


def valid_dist(text: str) -> bool:
    """Return whether `parse_dist` would take `text`."""
    return _dist_fits(trim(text))


def _dist_fits(name: str) -> bool:
    return 1 <= len(name) <= MAX_DIST_LENGTH and not name.strip(_DIST_CHARACTERS)


def _environment_fault(name: str) -> str | None:
    if not name:
        return "is blank"
    broken = lone_surrogate(name)
    if broken is not None:
        return f"has half a character (a lone surrogate) at index {broken}"
    size = len(name.encode())
    if size > MAX_ENVIRONMENT_BYTES:
        return f"has {size} bytes; the limit is {MAX_ENVIRONMENT_BYTES} UTF-8 bytes"
    if name in (".", ".."):
        return "cannot be used in the address of a page"
    if same_ascii(name, "none"):
        return "is reserved: servers use it for the environment without a name"
    index = first_forbidden(name)
    if index is not None:
        return f"holds {shown(name[index])} at index {index}; no / \\ or control characters"
    return None
