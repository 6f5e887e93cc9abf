"""`crashfree doctor`, spool: where reports wait for a network, whether they can, and what waits.

Looks and changes nothing: a directory that is not there is not made. What a running process has in
memory only that process knows; `crashfree.stats()` tells it there.
Source: wire.md section 17, sessions.md section 3.5.
"""

from __future__ import annotations

import os

from crashfree._cli.ago import span
from crashfree._cli.findings import Section, Surroundings
from crashfree._delivery import spool
from crashfree._delivery.spool import SpoolStatus
from crashfree._delivery.spooldirectory import default_directory
from crashfree._ground import env
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree.types import JSON

_KIB = 1024
# A program that runs sends what waits within minutes.
_LONG = 3600.0


def section(here: Surroundings) -> Section:
    """The spool's directory, whether it can be written to, and what waits in it."""
    directory, source = _directory(here)
    if directory is None:
        problem = "this user has no state directory: set CRASHFREE_SPOOL_DIR, or nothing is kept"
        facts: dict[str, JSON] = {"directory": None, "source": None, "writable": False}
        return Section("spool", facts, (("directory", "none"),), (problem,))
    writable = _writable(directory)
    found = [status for status in spool.survey(directory) if status.items or status.runs]
    waiting = sum(status.items for status in found)
    size = sum(status.size for status in found)
    runs = sum(status.runs for status in found)
    moments = [status.oldest for status in found if status.oldest is not None]
    oldest = min(moments) if moments else None
    facts = {
        "directory": directory,
        "source": source,
        "writable": writable,
        "envelopes": waiting,
        "bytes": size,
        "oldest": oldest,
        "runs": runs,
        "destinations": [_facts(status) for status in found],
    }
    rows = [("directory", f"{directory} ({source})"), ("waiting", _counted(waiting, size, oldest))]
    if runs:
        rows.append(("runs", f"{runs}, of processes that run and of such as were killed"))
    return Section(
        "spool",
        facts,
        tuple(rows),
        () if writable else (_refused(directory),),
        _hints(waiting, oldest),
    )


def _directory(here: Surroundings) -> tuple[str | None, str | None]:
    named = env.setting(here.environ, "SPOOL_DIR")
    if named is not None:
        return os.path.abspath(named.value), f"env:{named.variable}"
    return default_directory(here.environ), "by default"


def _writable(directory: str) -> bool:
    """Return whether files can be made there, or the directory itself where there is none yet."""
    while not os.path.lexists(directory):
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def _refused(directory: str) -> str:
    return (
        f"{directory} cannot be written to: reports that no network takes are lost, and a killed "
        "process is not counted; set CRASHFREE_SPOOL_DIR"
    )


def _hints(waiting: int, oldest: float | None) -> tuple[str, ...]:
    if oldest is None or SYSTEM_CLOCK.time() - oldest < _LONG:
        return ()
    return (
        f"{waiting} {_envelopes(waiting)} wait for the next start of the program; "
        "`crashfree spool flush` sends them now",
    )


def _counted(waiting: int, size: int, oldest: float | None) -> str:
    if oldest is None:
        return "nothing"
    age = span(max(0.0, SYSTEM_CLOCK.time() - oldest))
    return f"{waiting} {_envelopes(waiting)}, {size / _KIB:.1f} KiB, the oldest {age} ago"


def _envelopes(number: int) -> str:
    return "envelope" if number == 1 else "envelopes"


def _facts(status: SpoolStatus) -> JSON:
    return {
        "directory": status.directory,
        "envelopes": status.items,
        "bytes": status.size,
        "oldest": status.oldest,
        "runs": status.runs,
    }
