"""What a client asks of whatever carries its envelopes away.

`Transport` is the whole contract, three methods; a program may bring its own. The other two
protocols are extras that a client looks for: `ForkAware` (what to do in a forked child) and
`Reporting` (what `client.stats()` shows).

Threads: any, for every method here.
"""

from __future__ import annotations

from crashfree._delivery.statistics import NO_STATISTICS, Statistics
from crashfree._ground.typed import Protocol, runtime_checkable
from crashfree._protocol.envelope import Envelope


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
