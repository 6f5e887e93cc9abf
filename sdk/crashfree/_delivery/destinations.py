"""Several destinations at once: everything goes to each of them.

Invariant: what one destination does (refuse, raise, hang) costs the others nothing but their share
of a flush. Each has its own queue, limits, spool and statistics.

Threads: any. Source: wire.md section 14 for flush and close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crashfree._delivery.httptransport import HttpTransport
from crashfree._delivery.latetransport import LateTransport
from crashfree._delivery.transport import ForkAware, Reporting, Statistics, Transport
from crashfree._ground import log
from crashfree._ground.clock import Clock
from crashfree._ground.typed import TypeVar
from crashfree._protocol.envelope import Envelope
from crashfree.types import DataCategory, DiscardReason

T = TypeVar("T")


class FanOutTransport:
    """Hands every envelope to each of several transports."""

    __slots__ = ("_clock", "transports")
    transports: Sequence[Transport]
    """The destinations, in order of their importance."""
    _clock: Clock

    def __init__(self, transports: Sequence[Transport], *, clock: Clock) -> None:
        self.transports = tuple(transports)
        self._clock = clock
        if len(self.transports) > 1:
            for transport in self.transports:
                if isinstance(transport, (HttpTransport, LateTransport)):
                    transport.step_aside()

    def submit(self, envelope: Envelope) -> bool:
        """Return True when at least one took it."""
        taken = [_guarded(transport.submit, envelope) for transport in self.transports]
        return any(taken)

    def flush(self, timeout: float) -> bool:
        # All begin before any is waited for; then each has an equal part of what is left.
        for transport in self.transports:
            _guarded(transport.flush, 0.0)
        return self._each(lambda transport: transport.flush, timeout)

    def close(self, timeout: float) -> bool:
        self.flush(timeout / 2)
        return self._each(lambda transport: transport.close, timeout / 2)

    def forget(self) -> None:
        """Let each drop what belongs to the parent."""
        for transport in self.transports:
            if isinstance(transport, ForkAware):
                transport.forget()

    def stats(self) -> Statistics:
        """Return the sum of those destinations that can tell."""
        return combined(
            tuple(
                transport.stats()
                for transport in self.transports
                if isinstance(transport, Reporting)
            )
        )

    def _each(self, method: Callable[[Transport], Callable[[float], bool]], timeout: float) -> bool:
        deadline = self._clock.monotonic() + timeout
        done = True
        for index, transport in enumerate(self.transports):
            left = max(0.0, deadline - self._clock.monotonic())
            share = left / (len(self.transports) - index)
            done = _guarded(method(transport), share) and done
        return done


def _guarded(call: Callable[[T], bool], argument: T) -> bool:
    """Call a transport that may be a program's own; what it raises is its own affair."""
    try:
        return call(argument)
    except Exception as error:  # noqa: BLE001 -- foreign code, and the others must go on
        log.warning(f"a transport raised {type(error).__name__}: {error}", key="transport")
        return False


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
