"""The fault plan: what a server does wrong on purpose, so that clients can be tested.

A plan holds for the next answers on the ingest paths, one entry each, in order; then the server
is well again. Nothing of a request that meets a fault is stored, unless the entry says so.

Threads: any (a deque; appending and popping are atomic). Source: ingest.md section 5, wire.md 11.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal, NamedTuple

Cut = Literal["before", "after"]


class Fault(NamedTuple):
    """One answer that goes wrong."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"{}"
    delay: float = 0.0
    """Seconds before the answer."""
    hang: bool = False
    """Never answer."""
    reset: Cut | None = None
    """Reset the connection before the answer, or after its first byte."""
    store: bool = False
    """Take the envelope first, as if all were well: an answer that got lost."""


class Faults:
    """The plan of one server."""

    __slots__ = ("_plan", "met")
    _plan: deque[Fault]
    met: int
    """How many requests have met a fault."""

    def __init__(self) -> None:
        self._plan = deque()
        self.met = 0

    def plan(
        self,
        *,
        times: int = 1,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"{}",
        delay: float = 0.0,
        hang: bool = False,
        reset: Cut | None = None,
        store: bool = False,
    ) -> None:
        """Let the next `times` answers go wrong in this way; adds to what is planned already."""
        fault = Fault(status, tuple((headers or {}).items()), body, delay, hang, reset, store)
        self._plan.extend([fault] * times)

    def clear(self) -> None:
        """Be well from now on."""
        self._plan.clear()

    @property
    def pending(self) -> int:
        """How many planned faults no request has met yet."""
        return len(self._plan)

    def take(self) -> Fault | None:
        """Return the fault of this request; None when all is well."""
        if not self._plan:
            return None
        try:
            fault = self._plan.popleft()
        except IndexError:
            return None
        self.met += 1
        return fault
