"""The way to a DSN before anything was sent: it is loaded and made at first need.

HTTP, queue and answers are a fifth of the library, and `init` sends nothing. The worker's first job
makes the transport; a program that is quicker makes it itself.

Invariant: of two that are made at the same moment the first one counts. Threads: any; finalizers
and signal handlers too. Fork: what the parent has not made the child makes for itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from crashfree._delivery.transport import NO_STATISTICS, Statistics
from crashfree._ground.forkgate import Late
from crashfree._ground.typed import Protocol
from crashfree._protocol.envelope import Envelope
from crashfree.types import DataCategory


class Carrier(Protocol):
    """What is made (`crashfree._delivery.httptransport.HttpTransport`)."""

    def submit(self, envelope: Envelope) -> bool: ...
    def flush(self, timeout: float) -> bool: ...
    def close(self, timeout: float) -> bool: ...
    def forget(self) -> None: ...
    def stats(self) -> Statistics: ...
    def limited(self, category: DataCategory) -> bool: ...
    def resume(self) -> None: ...
    def step_aside(self) -> None: ...


class LateTransport:
    """Stands for a transport until there is one, and passes everything on from then on."""

    __slots__ = ("_late", "_leave", "_pid")
    _late: Late[Carrier]
    _leave: Callable[[], None]
    _pid: int

    def __init__(self, make: Callable[[], Carrier], *, leave: Callable[[], None]) -> None:
        """`leave` is called in a forked child where nothing was made that could be told to."""
        self._late = Late(make)
        self._leave = leave
        self._pid = os.getpid()

    def submit(self, envelope: Envelope) -> bool:
        carrier = self._carrier()
        if carrier is None:
            self._late.postpone(lambda: self.submit(envelope))
            return True
        return carrier.submit(envelope)

    def flush(self, timeout: float) -> bool:
        carrier = self._carrier()
        return carrier is not None and carrier.flush(timeout)

    def close(self, timeout: float) -> bool:
        carrier = self._carrier()
        if carrier is None:
            self._late.postpone(lambda: self.close(0.0))
            return False
        return carrier.close(timeout)

    def forget(self) -> None:
        """Leave everything to the parent, in a forked child."""
        self._pid = os.getpid()
        self._late.forget()
        if self._late.made:
            self._late.made[0].forget()
        else:
            self._leave()

    def stats(self) -> Statistics:
        carrier = self._carrier()
        return NO_STATISTICS if carrier is None else carrier.stats()

    def limited(self, category: DataCategory) -> bool:
        """Return whether items of `category` would be dropped now."""
        carrier = self._carrier()
        return carrier is not None and carrier.limited(category)

    def resume(self) -> None:
        """Send what earlier runs left on disk, soon."""
        carrier = self._carrier()
        if carrier is not None:
            carrier.resume()

    def step_aside(self) -> None:
        """Share the worker with other transports."""
        carrier = self._carrier()
        if carrier is not None:
            carrier.step_aside()

    def _carrier(self) -> Carrier | None:
        """Return it; None in the middle of its making, to whoever struck there."""
        late = self._late
        if not late.made and os.getpid() != self._pid:
            self.forget()
        return late.get()
