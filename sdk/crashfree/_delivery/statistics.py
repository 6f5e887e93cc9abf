"""What a client did so far, as one immutable value.

Invariant: everything that was submitted is in exactly one of queued, sent, spooled, held and
dropped. Threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.typed import NamedTuple
from crashfree.types import DataCategory, DiscardReason


class Statistics(NamedTuple):
    """Counts since the client was made, and its present state.

    Quantities are the protocol's: 1 for an event or a session update, the sum of its counts for
    aggregated sessions, bytes for an attachment.
    """

    queued: int
    """Envelopes that wait in memory."""
    queued_bytes: int
    """Their size in memory; an event that is not built yet counts by an estimate."""
    sent: Mapping[DataCategory, int]
    """Quantities the server accepted (or took with a rate limit for later ones)."""
    sent_bytes: int
    """Bytes of request bodies that were answered, compressed."""
    requests: int
    """Requests begun, repeated ones included."""
    spooled: int
    """Envelopes on disk, of this and earlier runs; 0 without a spool."""
    spooled_bytes: int
    held_sessions: int
    """Sessions kept back by a rate limit or an outage, to be merged into the next request."""
    dropped: Mapping[tuple[DiscardReason, DataCategory], int]
    """Every loss, by reason and category."""
    last_error: str | None
    """The last failure in one line; None when there was none."""
    rate_limits: Mapping[str, float]
    """Seconds each limited category has still to wait; `*` stands for all."""
    healthy: bool
    """Whether what the client sends gets through: queue below 80 %, no limit on errors or
    sessions, fewer than 3 network failures in a row."""
    sessions_started: int = 0
    """Sessions of the process and of its units; those taken back unsaid do not count."""
    sessions_alive: int = 0
    """Those of them that have not ended."""
    sessions_untold: int = 0
    """Ended, and not yet handed on: what the next start would find. The others are in `sent`,
    `spooled`, `held_sessions`, `queued` or `dropped`."""


NO_STATISTICS = Statistics(0, 0, {}, 0, 0, 0, 0, 0, {}, None, {}, True)


def combined(parts: tuple[Statistics, ...]) -> Statistics:
    """Return the sum over several destinations; a limit or an error of one is shown."""
    sent: dict[DataCategory, int] = {}
    dropped: dict[tuple[DiscardReason, DataCategory], int] = {}
    limits: dict[str, float] = {}
    for part in parts:
        for category, quantity in part.sent.items():
            sent[category] = sent.get(category, 0) + quantity
        for key, quantity in part.dropped.items():
            dropped[key] = dropped.get(key, 0) + quantity
        for name, seconds in part.rate_limits.items():
            limits[name] = max(seconds, limits.get(name, 0.0))
    errors = [part.last_error for part in parts if part.last_error is not None]
    return Statistics(
        queued=sum(part.queued for part in parts),
        queued_bytes=sum(part.queued_bytes for part in parts),
        sent=sent,
        sent_bytes=sum(part.sent_bytes for part in parts),
        requests=sum(part.requests for part in parts),
        spooled=sum(part.spooled for part in parts),
        spooled_bytes=sum(part.spooled_bytes for part in parts),
        held_sessions=sum(part.held_sessions for part in parts),
        dropped=dropped,
        last_error=errors[-1] if errors else None,
        rate_limits=limits,
        healthy=all(part.healthy for part in parts),
    )
