"""Storm protection: a loop that fails a thousand times a second need not be told a thousand times.

Only what the program handled is held back, never an error that nobody handled; sessions count them
all the same. Two bounds: so many in ten seconds, and ten in one second from the same place.

Threads: any. Counting is not atomic on purpose: at a race of two threads one more gets through,
and nobody waits. Source: wire.md section 18.
"""

from __future__ import annotations

from crashfree._capture.exceptions import traceback_of

_WINDOW = 10.0
_SAME_PLACE = 10
_MOST_PLACES = 1000


Place = tuple[object, ...]
"""What events are alike by; hashable."""


class Storm:
    """The counts of one client; `limit` 0 means that nothing is ever held back."""

    __slots__ = ("_count", "_limit", "_places", "_second", "_window")
    _limit: int
    _window: float
    _count: int
    _second: float
    _places: dict[Place, int]

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._window = self._second = float("-inf")
        self._count = 0
        self._places = {}

    @property
    def watching(self) -> bool:
        """Whether there is a limit at all."""
        return self._limit > 0

    def admits(self, place: Place, now: float) -> bool:
        """Count one more from `place` and return whether it may pass."""
        if not self._limit:
            return True
        if now - self._window >= _WINDOW:
            self._window = now
            self._count = 0
        if now - self._second >= 1.0 or len(self._places) >= _MOST_PLACES:
            self._second = now
            self._places = {}
        same = self._places.get(place, 0)
        if same >= _SAME_PLACE or self._count >= self._limit:
            return False
        self._places[place] = same + 1
        self._count += 1
        return True


def place_of(error: BaseException) -> Place:
    """Return what makes two errors the same: their type and where they were raised."""
    traceback = traceback_of(error)
    if traceback is None:
        return (id(type(error)), 0, 0)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return (id(type(error)), id(traceback.tb_frame.f_code), traceback.tb_lasti)
