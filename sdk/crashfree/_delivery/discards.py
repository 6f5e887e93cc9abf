"""The counts of what was lost: by reason and category, for client reports and `stats()`.

The party that drops something calls `record`, once. `take` empties the counts into a client
report; when that report itself is lost they are given back, so that a loss is told once and
never forgotten while the process lives. The totals of `stats()` are never taken away.

Threads: any, signal handlers and finalizers included; no lock is waited for. Fork: `forget`.
Source: wire.md section 12.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from crashfree._ground import log
from crashfree._ground.tally import Tally
from crashfree.types import DataCategory, DiscardReason, OnDrop

Counts = Mapping[tuple[DiscardReason, DataCategory], int]
Later = Callable[[Callable[[], None]], bool]
"""Runs a job on another thread, soon; False when it will not (`Worker.submit`)."""


class Discards:
    """Reasons × categories.

    `on_drop` is user code: it runs through `later` (the worker) or in `tell`, never inside the
    code that dropped, and its errors go no further. Without `later` it runs at once.
    """

    __slots__ = ("_later", "_on_drop", "_on_first", "_report", "_totals", "_untold")
    _report: Tally[tuple[DiscardReason, DataCategory]]
    _totals: Tally[tuple[DiscardReason, DataCategory]]
    _on_drop: OnDrop | None
    _later: Later | None
    _untold: deque[tuple[DiscardReason, DataCategory, int]]
    _on_first: Callable[[], None] | None

    def __init__(self, on_drop: OnDrop | None = None, *, later: Later | None = None) -> None:
        self._report = Tally()
        self._totals = Tally()
        self._on_drop = on_drop
        self._later = later
        self._untold = deque()
        self._on_first = None

    def notify(self, on_first: Callable[[], None]) -> None:
        """Call `on_first` at each loss, so that a report is sent although nothing else is."""
        self._on_first = on_first

    def record(
        self,
        reason: DiscardReason,
        category: DataCategory,
        quantity: int = 1,
        *,
        tell: bool = True,
    ) -> None:
        """Count a loss of `quantity`; a quantity of 0 or less is nothing.

        `tell=False` leaves `on_drop` out: it was told by the counts of another destination.
        """
        if quantity <= 0:
            return
        key = (reason, category)
        self._report.add(key, quantity)
        self._totals.add(key, quantity)
        if log.debugging():
            log.debug(f"dropped {quantity} {category}: {reason}")
        if self._on_first is not None:
            self._on_first()
        if self._on_drop is not None and tell:
            self._untold.append((reason, category, quantity))
            if self._later is None or not self._later(self.tell):
                self.tell()

    def tell(self) -> None:
        """Call `on_drop` for each loss it was not told of yet."""
        while self._on_drop is not None:
            try:
                reason, category, quantity = self._untold.popleft()
            except IndexError:
                return
            outside = log.inside.set(True)
            try:
                self._on_drop(reason, category, quantity)
            except Exception as error:  # noqa: BLE001 -- user code; its fault is no second loss
                log.warning(f"on_drop raised {type(error).__name__}: {error}", key="on_drop")
            finally:
                log.inside.reset(outside)

    def take(self) -> dict[tuple[DiscardReason, DataCategory], int]:
        """Return what was not reported yet and start again from nothing."""
        return self._report.take()

    def pending(self) -> bool:
        """Return whether there is something to report."""
        return bool(self._report.peek())

    def give_back(self, counts: Counts) -> None:
        """Return counts that were taken and did not reach the server."""
        self._report.give_back(counts)

    def totals(self) -> dict[tuple[DiscardReason, DataCategory], int]:
        """Return all losses so far, reported or not."""
        return self._totals.peek()

    def forget(self) -> None:
        """Start from nothing: in a forked child the losses are the parent's."""
        self._report = Tally()
        self._totals = Tally()
        self._untold = deque()
