"""How a program finds the server that runs on this machine: a small file in the user's state
directory, written by `crashfree serve` and removed when it ends.

Pure standard library, so that a client can look without the extra `server`. Threads: any.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, cast

from crashfree._ground import json
from crashfree.errors import InvalidDsn

FILE: Final = "server.json"
_HOW: Final = "start one with `crashfree serve`, or give the DSN itself"


def announce(directory: str, ready: Mapping[str, Any]) -> str:
    """Say that a server runs; return the file that says so. Raises OSError."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, FILE)
    pid = os.getpid()
    write_private(path, json.encode({**ready, "pid": pid, "began": _began(pid)}))
    return path


def withdraw(directory: str) -> None:
    """Take back what this process has announced; another server's file stays."""
    retract(os.path.join(directory, FILE))


def retract(path: str, *, stale: bool = False) -> None:
    """Remove a file that tells of this process's server; with `stale`, of whichever server."""
    found = _read(path)
    if found is None or not (found.get("pid") == os.getpid() or (stale and "dsn" in found)):
        return
    try:
        os.remove(path)
    except OSError:
        return  # a file that says too much is noticed by its dead process


def local_dsn(directory: str | None) -> str:
    """Return the DSN of the server that runs on this machine.

    `directory` is the user's state directory. Raises InvalidDsn when no server has announced
    itself there, or when the one that did is gone.
    """
    found = None if directory is None else _read(os.path.join(directory, FILE))
    if found is None:
        raise InvalidDsn(f"dsn 'local': no local server is running; {_HOW}")
    dsn, pid = found.get("dsn"), found.get("pid")
    if not isinstance(dsn, str) or not isinstance(pid, int) or not _alive(pid, found.get("began")):
        raise InvalidDsn(f"dsn 'local': the local server has ended; {_HOW}")
    return dsn


def write_private(path: str, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all. Raises OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(temporary, path)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            value = json.decode(file.read(64 * 1024))
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _alive(pid: int, began: object) -> bool:
    """Return whether the process that announced itself runs; `began` is what it said of that."""
    if os.name != "posix":
        return True  # asking a process elsewhere means to end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return began is None or began == _began(pid)


def _began(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did: numbers are given out again.

    None where the system does not say, and for a process that has ended and only its parent has
    not asked for that yet.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Behind the name, which may hold anything: the state first, the start as the 20th.
            fields = file.read(4096).rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
