"""The timers of a connection, for servers that set one after each answer.

asyncio gives a timer the context in which it is set, here that of the request, and lets go of it
when its time has come; of one that was cancelled, when there are many. That would keep hundreds of
finished units of work in memory. So the event loop knows one timer of a connection at most, set in
the context in which the connection was made. When it rings and the server has set another one in
the meantime, it waits for the rest of that.

This is cheaper, too: to set and to cancel a timer that way is two assignments, and most are
cancelled by the next request.

Threads: the event loop's.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from contextvars import copy_context
from typing import Any


class Timer:
    """Stands for an `asyncio.TimerHandle`. Made for every answer, so there is no `__init__`."""

    __slots__ = ("callback", "due")
    due: float
    callback: Callable[[], object] | None
    """None: it was cancelled, or has rung."""

    def cancel(self) -> None:
        """Never call what it was to call."""
        self.callback = None

    def cancelled(self) -> bool:
        """Return whether it was cancelled, or has rung."""
        return self.callback is None

    def when(self) -> float:
        """Return at what time of the event loop it rings."""
        return self.due


class ConnectionLoop:
    """An event loop, for one connection that is being made."""

    __slots__ = ("_alarm", "_context", "_loop", "_rings", "_time", "_timer", "create_task")
    _alarm: TimerHandle | None
    _rings: float
    """When the alarm does."""
    _timer: Timer

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._time = loop.time
        self.create_task = loop.create_task
        # Of its own: a context can be entered once at a time, and there may be more loops.
        self._context = copy_context()
        self._timer = Timer()
        self._timer.callback = None
        self._alarm = None
        self._rings = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any
    ) -> Timer | TimerHandle:
        """Call it in `delay` seconds, unless it is cancelled."""
        if args or self._timer.callback is not None:
            # One at a time is what servers set; whatever this is, it is not that.
            return self._loop.call_later(delay, callback, *args, context=self._context)
        due = self._time() + delay
        timer = self._timer = Timer()
        timer.due = due
        timer.callback = callback
        if self._alarm is None:
            self._set(delay, due)
        elif due < self._rings:
            self._alarm.cancel()
            self._set(delay, due)
        return timer

    def rest(self) -> None:
        """The connection is over: let go of the event loop, unless a timer is still to ring."""
        if self._alarm is not None and self._timer.callback is None:
            self._alarm.cancel()
            self._alarm = None

    def _set(self, delay: float, due: float) -> None:
        self._rings = due
        self._alarm = self._loop.call_later(delay, self._ring, context=self._context)

    def _ring(self) -> None:
        self._alarm = None
        timer = self._timer
        callback = timer.callback
        if callback is None:
            return
        # It may ring early, by what its clock cannot tell apart.
        if timer.due > self._rings:
            self._set(timer.due - self._time(), timer.due)
            return
        timer.cancel()
        callback()
