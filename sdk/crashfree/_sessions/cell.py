"""`Cell`: an immutable value that changes by compare-and-replace, without a lock.

Sessions change in signal handlers, in finalizers that the collector runs, and in threads, at any
bytecode of one another. A plain lock can deadlock there, and an RLock lets the same thread in
again in the middle of a change. So versions form a chain: a version has one successor, and
`dict.setdefault` is the one atomic step that decides whose it is. The loser looks again. Nothing
can be held at a fork, either.

Threads: any.
"""

from __future__ import annotations

from crashfree._ground.typed import Generic, TypeVar

T = TypeVar("T")


class Version(Generic[T]):
    """One value of a cell."""

    __slots__ = ("successor", "value")
    value: T
    successor: dict[str, Version[T]]
    """Empty for the latest version, else the next one."""

    def __init__(self, value: T) -> None:
        self.value = value
        self.successor = {}


class Cell(Generic[T]):
    """A place for one immutable value."""

    __slots__ = ("_latest",)
    _latest: Version[T]

    def __init__(self, value: T) -> None:
        self._latest = Version(value)

    def read(self) -> Version[T]:
        """Return the latest version."""
        version = self._latest
        following = version.successor.get("")
        if following is None:
            return version
        while following is not None:
            version = following
            following = version.successor.get("")
        # May be set back by a thread that was stopped right here: the chain leads on all the same.
        self._latest = version
        return version

    def replace(self, seen: Version[T], value: T) -> bool:
        """Put `value` in the place of `seen`; False when another value came first."""
        new = Version(value)
        if seen.successor.setdefault("", new) is not new:
            return False
        self._latest = new
        return True
