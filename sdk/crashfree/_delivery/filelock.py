"""A lock on a file that vanishes with its holder, however that one dies.

`flock` belongs to the open file, so a forked child shares it: the child closes its descriptor
(`forget`), which leaves the lock to the parent, and never unlocks. Threads: one at a time.
Source: wire.md section 17.
"""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

elif sys.platform in ("emscripten", "wasi"):

    def _lock(descriptor: int) -> None:
        """One process in its own file system: there is nobody to lock out."""

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class FileLock:
    """Held from `acquire` (when it says True) to `release`."""

    __slots__ = ("_descriptor", "path")
    path: str
    _descriptor: int | None

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = None

    def acquire(self, *, create: bool = True) -> bool:
        """Take the lock without waiting; False when somebody has it or the file cannot be had."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self.path, _FLAGS | (os.O_CREAT if create else 0), 0o600)
        except OSError:
            return False
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        # Between our open and our lock the last holder may have removed the file: then this is a
        # lock on nothing, and the next one who comes makes a new file.
        if not self._is_the_file():
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    forget = release
    """In a forked child: close the inherited descriptor; the parent keeps the lock."""

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def moved(self, path: str) -> None:
        """Note that the file has a new name; the lock goes with it."""
        self.path = path

    def _is_the_file(self) -> bool:
        assert self._descriptor is not None
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        opened = os.fstat(self._descriptor)
        return (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev)
