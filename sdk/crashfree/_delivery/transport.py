"""What a client asks of whatever carries its envelopes away.

`Transport` is the whole contract, three methods; a program may bring its own. The other two
protocols are extras that a client looks for: `ForkAware` (what to do in a forked child) and
`Reporting` (what `client.stats()` shows).

Threads: any, for every method here.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.typed import NamedTuple, Protocol, runtime_checkable
from crashfree._protocol.envelope import Envelope
from crashfree.types import DataCategory, DiscardReason


class Statistics(NamedTuple):
    """What a client did so far: counts since it was made, and its present state.

    Invariant: everything that was submitted is in exactly one of queued, sent, spooled, held and
    dropped.

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


class Transport(Protocol):
    """Carries envelopes away. `submit` is called from signal handlers and finalizers too."""

    def submit(self, envelope: Envelope) -> bool:
        """Take `envelope`; return False when it was refused.

        Never blocks on network, disk or a lock, and never raises. A transport that drops
        something later counts it itself.
        """
        ...

    def flush(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; return True when nothing was left.

        What is submitted during the call does not prolong it. Never raises.
        """
        ...

    def close(self, timeout: float) -> bool:
        """Flush within `timeout` seconds, then release everything. Idempotent, never raises."""
        ...


@runtime_checkable
class ForkAware(Protocol):
    """A transport that holds what a forked child must not use."""

    def forget(self) -> None:
        """Drop, uncounted, all that belongs to the parent. Called in the child, no I/O."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """A transport that can tell what it did."""

    def stats(self) -> Statistics:
        """Return the counts at this moment."""
        ...


class NullTransport:
    """Takes everything and keeps nothing; what a client without a DSN has."""

    __slots__ = ()

    def submit(self, envelope: Envelope) -> bool:
        return True

    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float) -> bool:
        return True

    def forget(self) -> None:
        """Nothing was inherited."""

    def stats(self) -> Statistics:
        return NO_STATISTICS
