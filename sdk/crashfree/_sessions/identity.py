"""Who a session belongs to: `did` from a user, and an id of the installation where there is none.

Threads: any for `did_of`; `installation_id` touches the disk, so init only.
Source: sessions.md sections 1, 3.1 and 3.4.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from crashfree._ground import ids

_KEYS = ("id", "email", "username")
_LONGEST = 200
_NIL = "0" * 32


def did_of(user: Mapping[str, object] | None) -> str | None:
    """Return the first of id, email and username that says something, as text."""
    if not user:
        return None
    for key in _KEYS:
        value = user.get(key)
        # A user may well have the number 0, so truth is no test.
        if value is None or isinstance(value, bool):
            continue
        if isinstance(value, (str, int)):
            text = str(value).strip()
            # The all-zero UUID means "nobody" to servers.
            if text and text.replace("-", "") != _NIL:
                return text[:_LONGEST]
    return None


def installation_id(path: str) -> str | None:
    """Return the id kept in the file at `path`, made at the first call; None without a disk.

    Two processes that make it at the same moment agree on one.
    """
    kept = _read(path)
    if kept is not None:
        return kept
    fresh = f"{path}.{ids.span_id()}"
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    made = ids.session_id()
    try:
        os.write(descriptor, made.encode())
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return _publish(fresh, path, made)


def _publish(fresh: str, path: str, made: str) -> str | None:
    try:
        # Fails when somebody was faster, where rename would put ours in its place.
        os.link(fresh, path)
    except FileExistsError:
        return _read(path)
    except (OSError, AttributeError, NotImplementedError):
        try:
            os.replace(fresh, path)
        except OSError:
            return None
        return made
    finally:
        try:
            os.unlink(fresh)
        except OSError:
            pass
    return made


def _read(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        text = os.read(descriptor, 64).decode("ascii", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return text if len(text) == 36 and text.replace("-", "").isalnum() else None
