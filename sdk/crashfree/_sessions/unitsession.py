"""The session of a unit of work, as those see it who begin and end one.

What counts them (`_sessions.requests`, `_sessions.aggregator`) is loaded when a process turns out
to serve units; a script never needs it. Pure; threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.typed import Any, NamedTuple, Protocol
from crashfree._protocol.session import Verdict
from crashfree.types import SessionAggregates


class UnitSession(Protocol):
    """Of one unit (`_sessions.requests.RequestSession`)."""

    @property
    def live(self) -> bool: ...
    def account(self, verdict: Verdict, *, counted: bool = False) -> None: ...
    def end(self, user: Mapping[str, object] | None = None) -> None: ...


class UnitSessions(Protocol):
    """Begins them (`_sessions.requests.RequestSessions`)."""

    def begin(self, did: str | None = None) -> UnitSession: ...


class AggregatorStatistics(NamedTuple):
    """Where the units are: begun = alive + waiting + settled."""

    begun: int = 0
    alive: int = 0
    waiting: int = 0
    """Ended and not yet through the transport."""
    settled: int = 0


NO_UNITS = AggregatorStatistics()
"""Of a process that serves none."""


class Lent(Protocol):
    """What goes out with one flush (`_sessions.aggregator.Batch`)."""

    @property
    def payloads(self) -> list[SessionAggregates]: ...


class Aggregator(Protocol):
    """Counts them (`_sessions.aggregator.SessionAggregator`)."""

    def take(self) -> Lent | None: ...
    def settle(self, batch: Any) -> None: ...
    def give_back(self, batch: Any) -> None: ...
    def stats(self) -> AggregatorStatistics: ...
    def close(self) -> bool: ...
    def forget(self) -> None: ...


class _NoSession:
    """A unit that counts nothing."""

    __slots__ = ()
    live: bool = False

    def account(self, verdict: Verdict, *, counted: bool = False) -> None:
        """Count nothing."""

    def end(self, user: Mapping[str, object] | None = None) -> None:
        """Count nothing."""


NO_SESSION: UnitSession = _NoSession()
"""The session of every unit where sessions are off."""
