"""Group commit: what arrives together is written in one transaction.

A commit waits until a few turns of the event loop have brought nothing new, which under no load is
at once, and at most some milliseconds. Under load it then holds an envelope of every connection,
and rows that several of them add to are written once.

The writing itself runs on the loop's own thread. A thread of its own would have to ask for the
interpreter lock after every statement and would get it when the loop waits, which it does not
under load; and a commit to the write-ahead log is one write to the kernel, some 30 microseconds.

Threads: the event loop's. Source: ingest.md section 6 (last line).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from crashfree.server.engine import Busy, FactWriter
from crashfree.server.facts import Facts

Done = Callable[["BaseException | None"], None]

_LARGEST_BATCH: Final = 256
_QUIET_TURNS: Final = 3
"""A request needs up to so many turns from its arrival to its facts."""
_LONGEST_WAIT: Final = 0.005
_RETRY: Final = 0.002
_PATIENCE: Final = 5.0


class Overloaded(Exception):
    """The database stayed locked too long; nothing was written."""


class GroupCommit:
    """Collects facts and writes them together."""

    __slots__ = (
        "_busy_since",
        "_loop",
        "_pending",
        "_quiet",
        "_scheduled",
        "_seen",
        "_store",
        "_waiting_since",
    )
    _store: FactWriter
    _pending: list[tuple[Facts, Done]]
    _scheduled: bool
    _busy_since: float | None
    _loop: asyncio.AbstractEventLoop | None
    _seen: int
    """How much was pending one turn ago."""
    _quiet: int
    """For how many turns nothing has come."""
    _waiting_since: float

    def __init__(self, store: FactWriter) -> None:
        self._store = store
        self._pending = []
        self._scheduled = False
        self._busy_since = None
        self._loop = None
        self._seen = 0
        self._quiet = 0
        self._waiting_since = 0.0

    def add(self, facts: Facts, done: Done) -> None:
        """Write facts soon; `done` is told what is wrong with them, or None when they are safe."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self._pending.append((facts, done))
        if not self._scheduled:
            self._scheduled = True
            self._seen = self._quiet = 0
            self._waiting_since = loop.time()
            loop.call_soon(self._gather)

    async def write(self, facts: Facts) -> None:
        """Return when the facts are written for good.

        Raises Overloaded, or what the store says is wrong with these facts.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(fault: BaseException | None) -> None:
            if written.done():
                return  # the client went away; its data is written all the same
            if fault is None:
                written.set_result(None)
            else:
                written.set_exception(fault)

        self.add(facts, done)
        await written

    def _gather(self) -> None:
        """Flush when nothing more is coming, else look again in the next turn."""
        loop = self._loop
        assert loop is not None
        if len(self._pending) > self._seen:
            self._seen = len(self._pending)
            self._quiet = 0
        else:
            self._quiet += 1
        if (
            self._quiet >= _QUIET_TURNS
            or self._seen >= _LARGEST_BATCH
            or loop.time() - self._waiting_since >= _LONGEST_WAIT
        ):
            self._flush()
        else:
            loop.call_soon(self._gather)

    def _flush(self) -> None:
        loop = self._loop
        assert loop is not None
        batch = self._pending[:_LARGEST_BATCH]
        if not self._store.try_write_lock():
            self._later(loop)
            return
        try:
            results = self._store.write_facts([facts for facts, _ in batch])
        except Busy:
            self._later(loop)
            return
        self._busy_since = None
        self._done(batch, results)
        if self._pending:
            self._seen = self._quiet = 0
            self._waiting_since = loop.time()
            loop.call_soon(self._gather)
        else:
            self._scheduled = False

    def _later(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if self._busy_since is None:
            self._busy_since = now
        if now - self._busy_since > _PATIENCE:
            batch = self._pending[:]
            self._busy_since = None
            self._scheduled = False
            self._done(batch, [Overloaded()] * len(batch))
            return
        loop.call_later(_RETRY, self._flush)

    def _done(
        self, batch: Sequence[tuple[Facts, Done]], results: Sequence[Exception | None]
    ) -> None:
        del self._pending[: len(batch)]
        for (_, done), fault in zip(batch, results, strict=True):
            done(fault)
