"""The books: every unit is in exactly one place, whatever is entered and lent in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from crashfree._protocol.aggregates import OUTCOMES
from crashfree._sessions.counts import BEGUN, ENDED, MARKED, Counts, record

MINUTES = st.integers(29_000_000, 29_000_003)
USERS = st.sampled_from([0, 1, 2])
NAMES = {1: "ann", 2: "bob"}


class Books(RuleBasedStateMachine):
    """Units begin, crash, end; batches are lent, settled, given back; the process may die."""

    units: Bundle[tuple[int, bool]] = Bundle("units")
    batches: Bundle[int] = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.begun = 0
        self.alive = 0
        self.settled = 0

    def enter(self, word: int) -> None:
        self.counts.enter({word: 1}, NAMES.get)

    @rule(target=units, minute=MINUTES)
    def begin(self, minute: int) -> tuple[int, bool]:
        self.enter(record(minute, BEGUN))
        self.begun += 1
        self.alive += 1
        return minute, False

    @rule(target=units, unit=consumes(units))
    def crash(self, unit: tuple[int, bool]) -> tuple[int, bool]:
        minute, crashed = unit
        if not crashed:
            self.enter(record(minute, MARKED))
        return minute, True

    @rule(unit=consumes(units), outcome=st.sampled_from(OUTCOMES), user=USERS)
    def end(self, unit: tuple[int, bool], outcome: str, user: int) -> None:
        minute, crashed = unit
        column = "crashed" if crashed else "exited" if outcome == "crashed" else outcome
        self.enter(record(minute, ENDED + OUTCOMES.index(column), user))  # type: ignore[arg-type]
        self.alive -= 1

    @rule(target=batches)
    def lend(self) -> object:
        batch = self.counts.lend()
        return multiple() if batch is None else batch

    @rule(batch=consumes(batches))
    def settle(self, batch: int) -> None:
        before = self.counts.waiting
        self.counts.settle(batch)
        self.settled += before - self.counts.waiting

    @rule(batch=consumes(batches))
    def give_back(self, batch: int) -> None:
        before = self.counts.waiting
        self.counts.give_back(batch)
        assert self.counts.waiting == before

    @rule(batch=batches)
    def settling_twice_is_settling_once(self, batch: int) -> None:
        self.counts.lent.setdefault(batch, {})
        before = self.counts.settled
        counts = dict(self.counts.lent[batch])
        self.counts.lent[batch] = {}
        self.counts.settle(batch)
        assert self.counts.settled == before
        self.counts.lent[batch] = counts

    @rule()
    def shrink(self) -> None:
        before = self.counts.waiting
        self.counts.shrink()
        assert self.counts.waiting == before

    @rule()
    def written_and_read_they_are_the_same(self) -> None:
        again, cursors = Counts.decode(self.counts.encode([3, 0]))
        assert cursors == [3, 0]
        for name in Counts.__slots__:
            assert getattr(again, name) == getattr(self.counts, name)

    @invariant()
    def every_unit_is_in_one_place(self) -> None:
        counts = self.counts
        assert counts.begun == self.begun
        assert counts.alive == self.alive
        assert counts.settled == self.settled
        assert counts.begun == counts.alive + counts.waiting + counts.settled
        assert all(0 <= n <= counts.open.get(minute, 0) for minute, n in counts.marked.items())


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_units_in_flight_for_weeks_keep_the_books_small() -> None:
    """A connection begun in every minute of a month, none of which has ended."""
    counts = Counts()
    minutes = range(29_000_000, 29_000_000 + 30 * 1440)
    for start in range(0, len(minutes), 1000):
        counts.enter(
            {record(minute, BEGUN): 1 for minute in minutes[start : start + 1000]}, NAMES.get
        )
    assert counts.alive == len(minutes)
    assert len(counts.open) < 9000
    assert len(counts.encode([0, 0])) < 120_000
    again, _ = Counts.decode(counts.encode([0, 0]))
    for minute in minutes:
        again.enter({record(minute, ENDED): 1}, NAMES.get)
    assert again.alive == 0
    assert not any(again.open.values())
    assert sum(again.ended.values()) == len(minutes)


def test_an_end_that_is_read_before_its_beginning_is_the_same_unit() -> None:
    counts = Counts()
    minute = 29_000_000
    counts.enter({record(minute, ENDED): 1, record(minute, BEGUN): 1}, NAMES.get)
    assert (counts.alive, counts.open, counts.waiting) == (0, {}, 1)
    counts.enter({record(minute, ENDED + 2): 1}, NAMES.get)
    counts.enter({record(minute, MARKED): 1}, NAMES.get)
    counts.enter({record(minute, BEGUN): 1}, NAMES.get)
    assert (counts.alive, counts.open) == (0, {})
