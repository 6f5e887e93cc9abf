"""What one envelope says, as plain values: the hand-over from ingest to store.

Immutable. Instants are microseconds since the epoch where the name ends in `_us`, else seconds.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

TallyKey = tuple[str, str, str]
"""What is counted (`discarded`, `filtered`, `refused`, …), category, reason."""


class SessionFact(NamedTuple):
    """One session update."""

    sid: bytes
    release: str
    environment: str
    did: str | None
    started_us: int
    changed_us: int
    rank: int
    """Logical clock: the later of two updates has the higher one."""
    init: bool
    status: str
    errors: int
    duration_us: int | None
    mechanism: str | None


BucketRow = tuple[int, "str | None", int]
"""Start in microseconds, did, packed counts."""

_BITS: Final = 64
_COLUMN: Final = (1 << _BITS) - 1


def packed(exited: int, errored: int, crashed: int, abnormal: int, unhandled: int) -> int:
    """Return the five counts of a bucket in one number, so that one addition adds all of them."""
    counts = exited
    # Most are 0, and asking is cheaper than shifting.
    if errored:
        counts += errored << _BITS
    if crashed:
        counts += crashed << 2 * _BITS
    if abnormal:
        counts += abnormal << 3 * _BITS
    if unhandled:
        counts += unhandled << 4 * _BITS
    return counts


def unpacked(counts: int) -> tuple[int, int, int, int, int]:
    """Return exited, errored, crashed, abnormal and unhandled of packed counts."""
    return (
        counts & _COLUMN,
        counts >> _BITS & _COLUMN,
        counts >> 2 * _BITS & _COLUMN,
        counts >> 3 * _BITS & _COLUMN,
        counts >> 4 * _BITS,
    )


class AggregatesFact(NamedTuple):
    """The buckets of one `sessions` item. Plain tuples: there may be a hundred in a request."""

    release: str
    environment: str
    rows: tuple[BucketRow, ...]


class EventFact(NamedTuple):
    """One event; `raw` are its bytes as they came, `payload` what they spell."""

    event_id: str
    timestamp: float
    release: str | None
    environment: str
    dist: str | None
    level: str
    platform: str
    raw: bytes
    payload: Mapping[str, Any]


class AttachmentFact(NamedTuple):
    """A file that came with an event; `data` None when bytes are not kept."""

    event_id: str
    name: str
    content_type: str | None
    attachment_type: str
    size: int
    data: bytes | None


class DocumentFact(NamedTuple):
    """A feedback or a check-in, kept as it came."""

    kind: str
    event_id: str | None
    raw: bytes


class Facts(NamedTuple):
    """Everything that one envelope adds to the database, in one transaction."""

    project_id: int
    received: float
    event_id: str | None
    """What the answer names."""
    event: EventFact | None
    sessions: tuple[SessionFact, ...]
    aggregates: tuple[AggregatesFact, ...]
    attachments: tuple[AttachmentFact, ...]
    documents: tuple[DocumentFact, ...]
    tallies: Mapping[TallyKey, int]
    forwarded: bytes | None = None
    """The envelope itself, where it is passed on."""
