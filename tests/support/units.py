"""Units of work over a ledger, and what its file says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from crashfree._sessions.aggregator import SessionAggregator
from crashfree._sessions.counts import Counts
from crashfree._sessions.ledger import Ledger
from crashfree._sessions.ledgerfile import read_ledger
from crashfree._sessions.requests import RequestSessions
from crashfree.types import SessionAggregates, SessionAttributes
from tests.support.clock import FakeClock

ATTRIBUTES: SessionAttributes = {"release": "app@1.0", "environment": "test"}


class Shop:
    """A process that serves units of work, with a ledger at `path` or in memory."""

    def __init__(self, directory: Path | None = None, *, users: bool = True) -> None:
        self.clock = FakeClock()
        self.path = None if directory is None else directory / "ledger"
        self.opened = 0
        self.aggregator = SessionAggregator(
            ATTRIBUTES, open_ledger=None if directory is None else self.open, users=users
        )
        self.requests = RequestSessions(self.aggregator, self.clock)

    def open(self) -> Ledger | None:
        assert self.path is not None
        self.opened += 1
        return Ledger.create(str(self.path), attributes=ATTRIBUTES)

    def serve(self, *verdicts: str, user: str | None = None) -> None:
        unit = self.requests.begin()
        for verdict in verdicts:
            unit.account(verdict)  # type: ignore[arg-type]
        unit.end(None if user is None else {"id": user})

    def flush(self) -> Counter[str]:
        """Send what there is, and be done with it."""
        told: Counter[str] = Counter()
        while (batch := self.aggregator.take()) is not None:
            self.aggregator.settle(batch)
            told += totals(batch.payloads)
        return told

    def on_disk(self) -> Counts:
        """What a next start would read if the process died now."""
        assert self.path is not None
        found = read_ledger(self.path.read_bytes())
        assert found is not None
        assert found[0] == ATTRIBUTES
        return found[1]


def totals(payloads: list[SessionAggregates] | tuple[SessionAggregates, ...]) -> Counter[str]:
    """Sum the columns over all buckets."""
    found: Counter[str] = Counter()
    for payload in payloads:
        for bucket in payload["aggregates"]:
            for column in ("exited", "errored", "crashed", "abnormal", "unhandled"):
                found[column] += bucket.get(column, 0)
    return +found


def untold(counts: Counts) -> Counter[str]:
    """What the books hold for the next start: ended, on loan, and in flight."""
    found: Counter[str] = Counter()
    for group in (counts.ended, *counts.lent.values()):
        for (_, _, outcome), n in group.items():
            found[outcome] += n
    found["open"] = counts.alive
    return +found
