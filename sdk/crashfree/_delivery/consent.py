"""The consent gate: nothing leaves the process, and nothing is written, before the user agrees.

What is submitted meanwhile waits in memory, bounded, and goes out when consent is given; when it
is revoked, what waits is dropped (uncounted: telling the server of it would itself need consent).

Threads: any; no lock, a deque and one flag. Fork: `forget`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from crashfree._delivery.transport import NO_STATISTICS, ForkAware, Reporting, Statistics, Transport
from crashfree._protocol.envelope import Envelope

MAX_WAITING = 100


class ConsentGate:
    """A transport in front of another one.

    `on_change` is told, in the calling thread, whenever consent is given (True) or revoked: for
    those that write files.
    """

    __slots__ = ("_given", "_on_change", "_transport", "_waiting")
    _transport: Transport
    _waiting: deque[Envelope]
    _given: bool
    _on_change: Callable[[bool], None] | None

    def __init__(
        self,
        transport: Transport,
        *,
        given: bool = False,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self._transport = transport
        self._waiting = deque(maxlen=MAX_WAITING)
        self._given = given
        self._on_change = on_change

    @property
    def given(self) -> bool:
        """Whether the user agrees."""
        return self._given

    def give(self) -> None:
        """Open the gate; what waited goes out, oldest first."""
        if self._given:
            return
        self._given = True
        if self._on_change is not None:
            self._on_change(True)
        self._let_through()

    def revoke(self) -> None:
        """Close the gate and drop what waits behind it. What is already queued beyond it goes."""
        self._given = False
        self._waiting.clear()
        if self._on_change is not None:
            self._on_change(False)

    def submit(self, envelope: Envelope) -> bool:
        if self._given:
            return self._transport.submit(envelope)
        self._waiting.append(envelope)
        if self._given:
            # Given between the two lines above: nothing may stay behind.
            self._let_through()
        return True

    def flush(self, timeout: float) -> bool:
        return self._transport.flush(timeout) and not self._waiting

    def close(self, timeout: float) -> bool:
        self._waiting.clear()
        return self._transport.close(timeout)

    def forget(self) -> None:
        """Drop what the parent recorded, in a forked child; its consent holds."""
        self._waiting.clear()
        if isinstance(self._transport, ForkAware):
            self._transport.forget()

    def stats(self) -> Statistics:
        """Return the other's counts; what waits for consent is queued."""
        inner = self._transport
        found = inner.stats() if isinstance(inner, Reporting) else NO_STATISTICS
        return found._replace(queued=found.queued + len(self._waiting))

    def _let_through(self) -> None:
        while True:
            try:
                envelope = self._waiting.popleft()
            except IndexError:
                return
            self._transport.submit(envelope)
