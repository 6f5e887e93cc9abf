"""The journal: what the next start must know about an application session, if this run dies.

A memory-mapped file of one `Bank`, so every change is in it at once, from any thread, without a
system call. It says how the session stands, when it was last seen alive (a heartbeat, at most 60
seconds apart), since when the program is in the background, and which updates of ended sessions
the transport has not done yet.

`encode` and `decode` are pure. Threads: `Journal.write` one at a time, which is for the owner to
see to. Fork: the file is the parent's; the child drops its journal.

Source: sessions.md section 3.5.
"""

from __future__ import annotations

import os

from crashfree._ground import json, log
from crashfree._ground.clock import Mark
from crashfree._ground.typed import Any, NamedTuple
from crashfree._protocol.session import SessionState
from crashfree._sessions import mapped
from crashfree._sessions.mapped import Bank, read_bank
from crashfree.types import SessionUpdate

FORMAT = "crashfree session 1"
_SIZE = mapped.PIECE


class Entry(NamedTuple):
    """What the journal holds."""

    session: SessionState | None
    """The session that is live."""
    confirmed: bool
    """Whether some update of it is through the transport: `init` must not be said again."""
    seen: float
    """When this was written, wall clock."""
    worked: float
    """How long the session had lasted then, without time in the background."""
    left: float | None
    """Since when the program is in the background, wall clock."""
    untold: tuple[SessionUpdate, ...]
    """The last updates of ended sessions that are not through the transport."""
    unhandled_status: str = "unhandled"


class Journal:
    """The file."""

    __slots__ = ("_bank", "_descriptor", "_path")
    _bank: Bank
    _path: str
    _descriptor: int

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._bank = Bank(memoryview(mapped.view(descriptor, 0, _SIZE)))

    @classmethod
    def create(cls, path: str) -> Journal | None:
        """Make the file; None when it cannot be had, which is said once."""
        try:
            return cls(path, mapped.create(path, _SIZE))
        except (OSError, ValueError) as error:
            log.warning(
                f"a session that is killed will not be told, {path} cannot be made: {error}",
                key="sessions.journal",
            )
            return None

    def write(self, entry: Entry) -> None:
        """Put `entry` in the place of the last one."""
        data = encode(entry)
        while len(data) > self._bank.capacity and entry.untold:
            entry = entry._replace(untold=entry.untold[1:])
            data = encode(entry)
        if len(data) <= self._bank.capacity:
            self._bank.write(data)

    def remove(self) -> None:
        """Remove the file: there is nothing to tell."""
        try:
            os.unlink(self._path)
        except OSError:
            return


def encode(entry: Entry) -> bytes:
    """Return `entry` as JSON."""
    value: dict[str, object] = {
        "format": FORMAT,
        "seen": entry.seen,
        "worked": entry.worked,
        "left": entry.left,
        "untold": entry.untold,
        "unhandled_status": entry.unhandled_status,
    }
    session = entry.session
    if session is not None:
        value["session"] = {
            "sid": session.sid,
            "did": session.did,
            "started": session.started.wall,
            "errors": session.errors,
            "sequence": session.sequence,
            "announced": entry.confirmed,
            "pending": session.pending,
            "attributes": session.attributes,
        }
    return json.encode(value)


def decode(data: bytes) -> Entry | None:
    """Read a journal file of a dead run; None when there is nothing readable in it."""
    written = read_bank(data)
    if written is None:
        return None
    try:
        value: dict[str, Any] = json.decode(written)
        if value["format"] != FORMAT:
            return None
        kept: dict[str, Any] | None = value.get("session")
        left = value["left"]
        return Entry(
            session=None if kept is None else _session(kept),
            confirmed=kept is not None and bool(kept["announced"]),
            seen=float(value["seen"]),
            worked=float(value["worked"]),
            left=None if left is None else float(left),
            untold=tuple(value["untold"]),
            unhandled_status=str(value["unhandled_status"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _session(kept: dict[str, Any]) -> SessionState:
    # The other clocks of a dead process mean nothing; durations come from `worked`.
    began = Mark(float(kept["started"]), 0.0, 0.0)
    state = SessionState.begin(kept["attributes"], at=began, did=kept["did"], sid=kept["sid"])
    return state._replace(
        errors=int(kept["errors"]),
        sequence=int(kept["sequence"]),
        announced=bool(kept["announced"]),
        pending=bool(kept["pending"]),
    )
