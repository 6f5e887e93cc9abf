"""Start when a module is there that nobody imports: one that a server in C makes.

Threads: the one that imports. Fork: kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Later:
    """Stands on `sys.meta_path`; is asked about every import until its module is there."""

    __slots__ = ("_awaited", "_start")
    _awaited: str
    _start: Callable[[], None]

    def __init__(self, awaited: str, start: Callable[[], None]) -> None:
        self._awaited = awaited
        self._start = start

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Start at the first import after that; then ask those who know of modules."""
        if self._awaited not in sys.modules or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        self._start()
        # Somebody may stand there now who waits for this very module.
        for finder in sys.meta_path.copy():
            found = finder.find_spec(name, path, target)
            if found is not None:
                return found
        return None


def once_there(module: str, start: Callable[[], None]) -> None:
    """Call `start` once, at the first import after `module` has come into being."""
    sys.meta_path.insert(0, _Later(module, start))
