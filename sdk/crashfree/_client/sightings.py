"""Which exception objects were captured already.

The same object often comes by twice: captured by the program, then by whatever catches it last. It
is known by identity, without keeping it alive: by a weak reference where its class allows one, else
(the builtin exceptions) by a mark in its own `__dict__`, which goes when it goes.

A sighting holds for one unit of work and for a minute: an exception object that a module keeps and
raises again and again is news each time.

Threads: any; two that capture the same object at the same moment may both find it new.
Source: sessions.md section 3.3 (deduplication trap).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

from crashfree._ground.typed import Any, NamedTuple

_HOLDS = 60.0
_MOST = 1000
_MARK = "__crashfree_sighting__"
_DICT: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__


class _Sighting(NamedTuple):
    where: int
    """Identity of the unit, 0 outside of any."""
    at: float
    of: int
    """Identity of the exception: a copy (by pickle, say) carries the mark of another one."""
    process: int


class Sightings:
    """The memory of one client."""

    __slots__ = ("_seen",)
    _seen: dict[int, tuple[weakref.ref[BaseException], _Sighting]]

    def __init__(self) -> None:
        self._seen = {}

    def known(self, error: BaseException, where: object, now: float) -> bool:
        """Return whether this object was noted, in this unit, not long ago."""
        sighting = self._find(error)
        return (
            sighting is not None
            and sighting.where == (0 if where is None else id(where))
            and sighting.process == os.getpid()
            and 0.0 <= now - sighting.at < _HOLDS
        )

    def note(self, error: BaseException, where: object, now: float) -> None:
        """Remember that this object was captured."""
        sighting = _Sighting(0 if where is None else id(where), now, id(error), os.getpid())
        if type(error).__weakrefoffset__:
            if len(self._seen) >= _MOST:
                self._purge()
            self._seen[id(error)] = (weakref.ref(error), sighting)
        else:
            _DICT(error)[_MARK] = tuple(sighting)

    def _find(self, error: BaseException) -> _Sighting | None:
        if type(error).__weakrefoffset__:
            entry = self._seen.get(id(error))
            return None if entry is None or entry[0]() is not error else entry[1]
        mark: Any = _DICT(error).get(_MARK)
        if type(mark) is not tuple or len(mark) != len(_Sighting._fields):  # pyright: ignore[reportUnknownArgumentType]
            return None
        sighting = _Sighting._make(mark)  # pyright: ignore[reportUnknownArgumentType]
        return sighting if sighting.of == id(error) else None

    def _purge(self) -> None:
        alive = {key: entry for key, entry in self._seen.copy().items() if entry[0]() is not None}
        self._seen = alive if len(alive) < _MOST else {}
