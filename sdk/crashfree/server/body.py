"""The body of one request on the slow way: read within limits of size and time.

Threads: the event loop's. Source: ingest.md sections 2.4 and 3.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from crashfree.server.answers import Header, Receive, Refusal
from crashfree.server.context import Context
from crashfree.server.heads import Head

_DRAINED: Final = 256 * 1024
_DRAIN_TIME: Final = 1.0
_WATCHED_EVERY: Final = 0.25


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Body:
    """The body of one request, read within limits of size and time."""

    __slots__ = ("_asked", "_complete", "_context", "_headers", "_receive", "_watch", "charged")
    _receive: Receive
    _context: Context
    _headers: Sequence[Header]
    _watch: Watch
    _asked: bool
    _complete: bool
    charged: int

    def __init__(
        self, receive: Receive, context: Context, headers: Sequence[Header], watch: Watch
    ) -> None:
        self._receive = receive
        self._watch = watch
        self._context = context
        self._headers = headers
        self._asked = False
        self._complete = False
        self.charged = 0

    async def read(self, head: Head, charge: Callable[[Body, int], None]) -> bytes:
        """Return the whole body; raises Refusal, or ClientGone.

        `charge` is told of every part of a body that comes in parts.
        """
        limit = self._context.settings.max_body
        if head.length is not None and head.length > limit:
            raise Refusal(413, f"too large: body of {head.length} bytes, limit {limit}")
        settings = self._context.settings
        with _Deadline(self._watch, settings.body_pause, settings.body_time) as deadline:
            first = await self._next(deadline)
            if self._complete:
                if len(first) > limit:
                    raise Refusal(413, f"too large: body over {limit} bytes")
                return first
            parts = [first]
            size = len(first)
            charge(self, size)
            while not self._complete:
                part = await self._next(deadline)
                size += len(part)
                if size > limit:
                    raise Refusal(413, f"too large: body over {limit} bytes")
                charge(self, len(part))
                parts.append(part)
        return b"".join(parts)

    async def _next(self, deadline: _Deadline) -> bytes:
        self._asked = True
        deadline.touch()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if deadline.expired:
                deadline.swallow()
                raise Refusal(408, "timeout: the body did not come") from None
            raise
        if message["type"] == "http.disconnect":
            self._complete = True
            raise ClientGone
        if not message.get("more_body"):
            self._complete = True
        return cast("bytes", message.get("body", b""))

    async def drained(self) -> bool:
        """Read and throw away the rest, a little of it; return whether that was all."""
        if not self._asked and any(name == b"expect" for name, _ in self._headers):
            return False  # asking for the body would tell the client to send it
        size = 0
        try:
            with _Deadline(self._watch, _DRAIN_TIME, _DRAIN_TIME) as deadline:
                while not self._complete:
                    size += len(await self._next(deadline))
                    if size > _DRAINED:
                        return False
        except (Refusal, ClientGone):
            return False
        return True

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return


class Watch:
    """Cancels the tasks that wait for a body for too long.

    One timer for all of them: two timers a request are dear, and nobody minds a quarter of a
    second.
    """

    __slots__ = ("_loop", "_timer", "_waiting")
    _loop: asyncio.AbstractEventLoop | None
    _timer: asyncio.TimerHandle | None
    _waiting: set[_Deadline]

    def __init__(self) -> None:
        self._loop = None
        self._timer = None
        self._waiting = set()

    def now(self) -> float:
        """Return the time of the loop."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop.time()

    def add(self, deadline: _Deadline) -> None:
        """Begin to watch a wait."""
        self._waiting.add(deadline)
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(_WATCHED_EVERY, self._look)

    def remove(self, deadline: _Deadline) -> None:
        """Stop watching a wait."""
        self._waiting.discard(deadline)

    def _look(self) -> None:
        self._timer = None
        now = self.now()
        for deadline in self._waiting:
            deadline.check(now)
        if self._waiting and self._loop is not None:
            self._timer = self._loop.call_later(_WATCHED_EVERY, self._look)


class _Deadline:
    """One wait for a body: a bound for every pause in it, and one for all of it."""

    __slots__ = ("_end", "_pause", "_pause_end", "_task", "_watch", "expired")
    _watch: Watch
    _task: asyncio.Task[Any] | None
    _pause: float
    _pause_end: float
    _end: float
    expired: bool

    def __init__(self, watch: Watch, pause: float, total: float) -> None:
        now = watch.now()
        self._watch = watch
        self._task = asyncio.current_task()
        self._pause = pause
        self._pause_end = now + pause
        self._end = now + total
        self.expired = False

    def __enter__(self) -> _Deadline:
        self._watch.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.remove(self)

    def touch(self) -> None:
        """Begin a new pause."""
        self._pause_end = self._watch.now() + self._pause

    def check(self, now: float) -> None:
        """Cancel the wait if it has taken too long."""
        if now >= min(self._pause_end, self._end) and not self.expired and self._task is not None:
            self.expired = True
            self._task.cancel()

    def swallow(self) -> None:
        """Say that the cancellation was ours and has been dealt with."""
        uncancel = getattr(self._task, "uncancel", None)
        if uncancel is not None:
            uncancel()
