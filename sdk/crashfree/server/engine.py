"""What the server asks of the engine that keeps its facts: write them, count them.

Ingest sees a `FactWriter`, health, API and pages a `CountReader`; neither knows more. SQLite
(`store.Store`, `counting.SqliteCounts`) is the first engine and the default. Another one, on a
distributed database, is an `Engine`, handed to the store: it keeps the sessions, which are many.
What is little stays in the SQLite catalog: projects, releases, environments and users, whose ids
stand in everything an engine is given, events, issues, tallies.

What is SQLite's own and an engine brings itself: retention, export of sessions, and the counters of
what was odd about them.

Threads: any. Source: the local server's room to grow; sessions.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from crashfree.server.facts import Facts, SessionFact
from crashfree.server.health import Counts, Durations, UserCounts
from crashfree.server.sessions import KINDS

GroupKey = tuple[int, ...]
"""Ids of the columns that were grouped by, in the order they were named in."""
Cell = tuple[GroupKey, int]
"""A group and the number of an interval."""
ALL_KINDS = sum(KINDS)


class Selection(NamedTuple):
    """Which sessions; None: all."""

    projects: tuple[int, ...]
    releases: tuple[int, ...] | None = None
    environments: tuple[int, ...] | None = None


class Intervals(NamedTuple):
    """A range, cut at the multiples of a length; first and last interval may be shorter."""

    start_us: int
    end_us: int
    step_us: int
    origin_us: int
    """Where the first interval would begin if it were whole."""

    @classmethod
    def whole(cls, start_us: int, end_us: int) -> Intervals:
        """One interval."""
        return cls(start_us, end_us, max(1, end_us - start_us), start_us)

    @classmethod
    def every(cls, start_us: int, end_us: int, step_us: int) -> Intervals:
        """Intervals that begin at multiples of `step_us` since the epoch."""
        return cls(start_us, end_us, step_us, start_us // step_us * step_us)

    @property
    def starts(self) -> list[int]:
        """Where the intervals begin, the first one as if it were whole."""
        return list(range(self.origin_us, self.end_us, self.step_us))

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """Start and end of each, within the range."""
        return [
            (max(start, self.start_us), min(start + self.step_us, self.end_us))
            for start in self.starts
        ]

    def aligned(self, unit_us: int) -> bool:
        """Whether every inner bound is a multiple of `unit_us`, so that no unit is cut by one."""
        if self.origin_us + self.step_us >= self.end_us:
            return True
        return self.step_us % unit_us == 0 and self.origin_us % unit_us == 0


class Unavailable(Exception):
    """It could not be written, for a reason outside: a full disk, a lost connection. Send again."""


class Busy(Unavailable):
    """The engine was not to be had for too long; nothing was written."""


class FactWriter(Protocol):
    """Takes facts."""

    def write_facts(self, batch: Sequence[Facts]) -> list[Exception | None]:
        """Write each entry wholly or not at all; return what went wrong with each.

        What was written survives the death of the process. Raises Busy when nothing was; an entry
        that another time may succeed is told as Unavailable.
        """
        ...

    def try_write_lock(self) -> bool:
        """Take the right to write if it is free; `write_facts` gives it back."""
        ...


class CountReader(Protocol):
    """Answers questions about sessions, exactly, from one state of the data.

    `group` names columns: `project_id`, `release_id`, `environment_id`. A cell without data is
    missing in the answer.
    """

    def session_counts(
        self, selection: Selection, intervals: Intervals, group: Sequence[str] = ()
    ) -> Mapping[Cell, Counts]:
        """Return the sessions of every group and interval, by how they ended."""
        ...

    def user_counts(
        self,
        selection: Selection,
        intervals: Intervals,
        group: Sequence[str] = (),
        *,
        kinds: int = ALL_KINDS,
    ) -> Mapping[Cell, UserCounts]:
        """Return the different users of every group and interval, of the `kinds` asked for."""
        ...

    def durations(
        self, selection: Selection, intervals: Intervals, group: Sequence[str] = ()
    ) -> Mapping[Cell, Durations]:
        """Return the durations of the sessions that ended well and told one."""
        ...

    def have_sessions(self, pairs: Sequence[tuple[int, int | None]]) -> Sequence[bool]:
        """Return whether there is any session of each project and release (None: any release)."""
        ...


class PlacedSession(NamedTuple):
    """A session update, its names and its user (0: nobody) as numbers of the catalog."""

    project_id: int
    release_id: int
    environment_id: int
    user_id: int
    fact: SessionFact
    """Without a `did`: no engine learns who a user is."""


class PlacedBuckets(NamedTuple):
    """The buckets of one `sessions` item, in the same way."""

    project_id: int
    release_id: int
    environment_id: int
    rows: tuple[tuple[int, int, int], ...]
    """Start in microseconds, user, packed counts (`facts.unpacked`)."""


class Engine(Protocol):
    """Keeps the sessions in place of SQLite.

    Merging is the engine's: updates come in any order and more than once, and the numbers must be
    those of `sessions.merged` (the update with the highest status decides, then the latest; errors
    is the highest that any told; release, environment and start are those of the first update).
    """

    def write(self, sessions: Sequence[PlacedSession], buckets: Sequence[PlacedBuckets]) -> None:
        """Write all of it, for good, or nothing, and raise.

        Called last, before the catalog's transaction is committed, by one thread at a time. Raises
        Busy or Unavailable where sending again may help.
        """
        ...

    def counts(self) -> CountReader:
        """Return what reads one state of the data: everything that `write` has returned from."""
        ...
