"""The rate limits that this server gives: sliding windows per project, organization or key.

Off unless a project's `limits` setting lists some: `{"categories": [...], "count": n, "seconds":
s, "scope": "project"}`; no categories means all. A window counts what came in the last `seconds`,
in tenths of its length.

Threads: the event loop's. Source: ingest.md section 5.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from crashfree._ground.clock import Clock
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item

_SCOPES: Final = ("organization", "project", "key")
_PARTS: Final = 10


class Limited(NamedTuple):
    """An envelope after the limits: what is left, and what the answer says."""

    envelope: Envelope
    dropped: int
    header: str
    """`X-Sentry-Rate-Limits`; empty when no limit is active."""
    retry_after: int


class _Window:
    """What came in the last `seconds`."""

    __slots__ = ("parts", "seconds", "total")
    seconds: float
    parts: deque[tuple[float, int]]
    total: int

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.parts = deque()
        self.total = 0

    def forget(self, now: float) -> None:
        parts = self.parts
        while parts and now - parts[0][0] >= self.seconds:
            self.total -= parts.popleft()[1]

    def add(self, now: float, quantity: int) -> None:
        parts = self.parts
        if parts and now - parts[-1][0] < self.seconds / _PARTS:
            parts[-1] = (parts[-1][0], parts[-1][1] + quantity)
        else:
            parts.append((now, quantity))
        self.total += quantity

    def wait(self, now: float) -> float:
        """Return the seconds until something of the window is forgotten."""
        return self.seconds - (now - self.parts[0][0]) if self.parts else 0.0


class Quotas:
    """The windows of one server."""

    __slots__ = ("_clock", "_windows")
    _clock: Clock
    _windows: dict[tuple[object, ...], _Window]

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows = {}

    def apply(
        self, project_id: int, key: str, envelope: Envelope, limits: Sequence[Any]
    ) -> Limited:
        """Drop what is over a limit and count the rest."""
        if not limits:
            return Limited(envelope, 0, "", 0)
        now = self._clock.monotonic()
        windows = [(limit, self._window(limit, project_id, key, now)) for limit in limits]
        over: list[Item] = []
        for item in envelope.items:
            mine = [window for limit, window in windows if _names(limit, item.category)]
            if any(
                window.total + 1 > int(limit["count"])
                for limit, window in windows
                if _names(limit, item.category)
            ):
                over.append(item)
                continue
            for window in mine:
                window.add(now, 1)
        gone = {id(item) for item in over}
        left, dropped = envelope.without(lambda item: id(item) in gone)
        active = [
            (limit, math.ceil(window.wait(now)))
            for limit, window in windows
            if window.total >= int(limit["count"])
        ]
        return Limited(
            left or Envelope(envelope.headers, ()),
            len(dropped),
            ", ".join(_spelled(limit, seconds) for limit, seconds in active),
            max((seconds for _, seconds in active), default=0),
        )

    def _window(self, limit: Any, project_id: int, key: str, now: float) -> _Window:
        scope = limit.get("scope", "project")
        owner: object = {"project": project_id, "key": key}.get(scope)
        place = (scope, owner, tuple(limit.get("categories", ())), limit["seconds"])
        window = self._windows.get(place)
        if window is None:
            window = self._windows[place] = _Window(float(limit["seconds"]))
        window.forget(now)
        return window


def _names(limit: Any, category: str) -> bool:
    categories = limit.get("categories")
    return not categories or category in categories


def _spelled(limit: Any, seconds: int) -> str:
    categories = ";".join(limit.get("categories", ()))
    return f"{max(1, seconds)}:{categories}:{limit.get('scope', 'project')}:quota"


def limit_fault(limit: object) -> str | None:
    """Return what is wrong with one entry of the `limits` setting; None when nothing is."""
    if not isinstance(limit, dict):
        return "a limit is an object"
    limit = cast("dict[str, Any]", limit)
    count, seconds = limit.get("count"), limit.get("seconds")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        return "count is a whole number, 0 or more"
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not seconds > 0:
        return "seconds is a number above 0"
    if limit.get("scope", "project") not in _SCOPES:
        return "scope is organization, project or key"
    categories = limit.get("categories", [])
    if not isinstance(categories, list):
        return "categories is a list of names"
    if not all(isinstance(name, str) for name in cast("list[object]", categories)):
        return "categories is a list of names"
    return None
