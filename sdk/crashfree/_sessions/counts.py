"""`Counts`: the books of request mode, in plain dictionaries.

Units in flight per minute, finished ones per (minute, user, outcome), and what is on loan: handed
to the transport, which has not said yet that it is done with it. Both ledgers keep their books
here, and the post-mortem reads them back.

Units that have been in flight for more than five days (connections, mostly) would not be told by
any server; their minutes are put together, so that the books stay small however long they live.

Invariant: every unit that began is in exactly one place: in flight, ended, on loan, or settled.

Threads: one at a time, which is for the owner to see to. Source: sessions.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from crashfree._ground import json
from crashfree._ground.typed import Any
from crashfree._protocol import limits
from crashfree._protocol.aggregates import OUTCOMES, CountKey
from crashfree.types import Outcome

BEGUN = 1
MARKED = 2
"""A unit in flight has crashed: if the process dies now, this one is no matter of evidence."""
ENDED = 3
"""3 to 7: ended, by the order of `OUTCOMES`."""

_MINUTE_SHIFT = 32
_USER_SHIFT = 4
_USER_MASK = (1 << 28) - 1
_CODE_MASK = 15
_MANY_MINUTES = 5000


def record(minute: int, code: int, user: int = 0) -> int:
    """Return the number that says `code` of a unit that began in `minute` (counted from 1970).

    minute (32 bits) · user (28 bits, 0: none) · code (4 bits). Never 0.
    """
    return minute << _MINUTE_SHIFT | user << _USER_SHIFT | code


class Counts:
    """The books."""

    __slots__ = ("batch", "begun", "ended", "lent", "marked", "oldest", "open", "settled")
    open: dict[int, int]
    """Units in flight by minute (a multiple of 60)."""
    marked: dict[int, int]
    """Those of them that have crashed already."""
    oldest: int
    """The minute under which those stand that are more than five days old; 0: none are."""
    ended: dict[CountKey, int]
    lent: dict[int, dict[CountKey, int]]
    """What is on loan, by batch."""
    batch: int
    begun: int
    settled: int

    def __init__(self) -> None:
        self.open = {}
        self.marked = {}
        self.oldest = 0
        self.ended = {}
        self.lent = {}
        self.batch = 0
        self.begun = 0
        self.settled = 0

    def enter(self, records: Mapping[int, int], user: Callable[[int], str | None]) -> None:
        """Enter records, each with how often it was written."""
        for word, times in records.items():
            if word & _CODE_MASK == BEGUN:
                self.begun += times
                _add(self.open, (word >> _MINUTE_SHIFT) * 60, times)
        # What ended may stand in another window than its beginning, and be read first.
        for word, times in records.items():
            code = word & _CODE_MASK
            if code != BEGUN:
                self._enter_change(word, code, times, user)
        if len(self.open) > _MANY_MINUTES:
            self._put_old_ones_together()

    def _enter_change(
        self, word: int, code: int, times: int, user: Callable[[int], str | None]
    ) -> None:
        minute = (word >> _MINUTE_SHIFT) * 60
        where = minute if minute in self.open or not self.oldest else self.oldest
        if code == MARKED:
            _add(self.marked, where, times)
        elif ENDED <= code < ENDED + len(OUTCOMES):
            outcome = OUTCOMES[code - ENDED]
            number = word >> _USER_SHIFT & _USER_MASK
            _add(self.open, where, -times)
            if outcome == "crashed":
                _add(self.marked, where, -times)
            _add(self.ended, (minute, user(number) if number else None, outcome), times)

    def _put_old_ones_together(self) -> None:
        horizon = max(self.open) - limits.SESSION_AGE
        old = [minute for minute in self.open if minute < horizon]
        if len(old) < 2:
            return
        self.oldest = min(old)
        for counts in (self.open, self.marked):
            _add(counts, self.oldest, sum(counts.pop(minute, 0) for minute in old))

    def lend(self) -> int | None:
        """Put all that ended on loan; return the batch, None when there is nothing."""
        if not self.ended:
            return None
        self.batch += 1
        self.lent[self.batch] = self.ended
        self.ended = {}
        return self.batch

    def settle(self, batch: int) -> None:
        """Strike what was on loan: it is somebody else's now."""
        self.settled += sum(self.lent.pop(batch, {}).values())

    def give_back(self, batch: int) -> None:
        """Take back what was on loan, to be lent again."""
        for key, count in self.lent.pop(batch, {}).items():
            _add(self.ended, key, count)

    @property
    def alive(self) -> int:
        """Units in flight."""
        return sum(self.open.values())

    @property
    def waiting(self) -> int:
        """Units that ended and are not settled."""
        lent = sum(sum(counts.values()) for counts in self.lent.values())
        return sum(self.ended.values()) + lent

    def shrink(self) -> bool:
        """Keep all sums in less space; False when nothing can be saved any more.

        First users are given up, then the exact minute of the older half.
        """
        smaller = _merged((minute, None, outcome, n) for (minute, _, outcome), n in self._items())
        if len(smaller) == len(self.ended):
            minutes = sorted({minute for minute, _, _ in smaller})
            if len(minutes) < 2:
                return False
            pivot = minutes[len(minutes) // 2]
            smaller = _merged(
                (max(minute, pivot), None, outcome, n)
                for (minute, _, outcome), n in smaller.items()
            )
        self.ended = smaller
        return True

    def _items(self) -> Iterable[tuple[CountKey, int]]:
        return self.ended.items()

    def encode(self, cursors: list[int]) -> bytes:
        """Return the books, and how far the windows have been entered, as JSON."""
        base = min(self.open, default=0)
        return json.encode(
            {
                "cursors": cursors,
                "batch": self.batch,
                "begun": self.begun,
                "settled": self.settled,
                "oldest": self.oldest,
                "base": base,
                # Minutes behind `base`, units, and how many of them have crashed already.
                "open": [
                    [(minute - base) // 60, n, self.marked.get(minute, 0)]
                    for minute, n in self.open.items()
                ],
                "ended": _rows(self.ended),
                "lent": [[batch, _rows(counts)] for batch, counts in self.lent.items()],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> tuple[Counts, list[int]]:
        """Read what `encode` wrote. Raises ValueError, KeyError or TypeError for other bytes."""
        value: dict[str, Any] = json.decode(data)
        counts = cls()
        counts.batch = int(value["batch"])
        counts.begun = int(value["begun"])
        counts.settled = int(value["settled"])
        counts.oldest = int(value["oldest"])
        base = int(value["base"])
        for minutes, n, marked in value["open"]:
            _add(counts.open, base + int(minutes) * 60, int(n))
            _add(counts.marked, base + int(minutes) * 60, int(marked))
        counts.ended = _read_rows(value["ended"])
        counts.lent = {int(batch): _read_rows(rows) for batch, rows in value["lent"]}
        return counts, [int(cursor) for cursor in value["cursors"]]


def _add(counts: dict[Any, int], key: object, n: int) -> None:
    total = counts.get(key, 0) + n
    if total:
        counts[key] = total
    else:
        counts.pop(key, None)


def _merged(rows: Iterable[tuple[int, str | None, Outcome, int]]) -> dict[CountKey, int]:
    merged: dict[CountKey, int] = {}
    for minute, did, outcome, n in rows:
        _add(merged, (minute, did, outcome), n)
    return merged


def _rows(counts: Mapping[CountKey, int]) -> list[list[object]]:
    return [
        [minute, did, OUTCOMES.index(outcome), n] for (minute, did, outcome), n in counts.items()
    ]


def _read_rows(rows: list[Any]) -> dict[CountKey, int]:
    counts: dict[CountKey, int] = {}
    for minute, did, outcome, n in rows:
        _add(counts, (int(minute), did, OUTCOMES[int(outcome)]), int(n))
    return counts
