"""Group commit: what arrives in one turn of the event loop is written in one transaction.

The writing itself runs on the loop's own thread. A thread of its own would have to ask for the
interpreter lock after every statement and would get it when the loop waits, which it does not
under load; and a commit to the write-ahead log is one write to the kernel, some 30 microseconds.

Threads: the event loop's. Source: ingest.md section 6 (last line).
"""

from __future__ import annotations

import asyncio
from typing import Final

from crashfree.server.engine import Busy, FactWriter
from crashfree.server.facts import Facts

_LARGEST_BATCH: Final = 256
_RETRY: Final = 0.002
_PATIENCE: Final = 5.0


class Overloaded(Exception):
    """The database stayed locked too long; nothing was written."""


class GroupCommit:
    """Collects facts and writes them together."""

    __slots__ = ("_busy_since", "_loop", "_pending", "_scheduled", "_store")
    _store: FactWriter
    _pending: list[tuple[Facts, asyncio.Future[None]]]
    _scheduled: bool
    _busy_since: float | None
    _loop: asyncio.AbstractEventLoop | None

    def __init__(self, store: FactWriter) -> None:
        self._store = store
        self._pending = []
        self._scheduled = False
        self._busy_since = None
        self._loop = None

    async def write(self, facts: Facts) -> None:
        """Return when the facts are written for good.

        Raises Overloaded, or what the store says is wrong with these facts.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._pending.append((facts, done))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        await done

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
            loop.call_soon(self._flush)
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
        self, batch: list[tuple[Facts, asyncio.Future[None]]], results: list[Exception | None]
    ) -> None:
        del self._pending[: len(batch)]
        for (_, done), fault in zip(batch, results, strict=True):
            if done.done():
                continue  # the client went away; its data is written all the same
            if fault is None:
                done.set_result(None)
            else:
                done.set_exception(fault)
