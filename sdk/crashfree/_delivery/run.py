"""The run of this process: one process life on disk.

    runs/<ms>-<pid>-<random>/
        lock        held for as long as the process lives
        held        sessions that wait for the network (the transport's)
        …           files of others: ledger, journal, faulthandler output
        settled/    what a dead run came to, see `deadrun`

A run directory comes into being with its lock already held (made under another name, then
renamed), so nobody can take a newborn for a corpse.

Threads: init and the worker. Source: sessions.md section 3.5, wire.md section 17.
"""

from __future__ import annotations

import os

from crashfree._delivery import disk
from crashfree._delivery.filelock import FileLock

LOCK = "lock"
HELD = "held"
NEWBORN = ".new-"
# Where a directory with an open file in it cannot be renamed, a newborn is told by its age.
_RENAMES_OPEN = os.name == "posix"


class Run:
    """The run of this process."""

    __slots__ = ("_lock", "directory")
    directory: str
    _lock: FileLock

    def __init__(self, directory: str, lock: FileLock) -> None:
        self.directory = directory
        self._lock = lock

    @classmethod
    def begin(cls, runs: str, name: str) -> Run:
        """Make the directory and hold its lock, in one step. Raises OSError."""
        final = os.path.join(runs, name)
        born = os.path.join(runs, NEWBORN + name) if _RENAMES_OPEN else final
        disk.make_directory(born)
        lock = FileLock(os.path.join(born, LOCK))
        if not lock.acquire():
            disk.remove(lock.path)
            disk.remove_directory(born)
            raise OSError(f"{lock.path} cannot be locked")
        if _RENAMES_OPEN:
            os.rename(born, final)
            lock.moved(os.path.join(final, LOCK))
        return cls(final, lock)

    def path(self, name: str) -> str:
        """Return the path of a file of this run; it is the caller's to write."""
        return os.path.join(self.directory, name)

    def keep(self, name: str, data: bytes | None) -> None:
        """Write a small file in one step, or remove it (None). Raises OSError."""
        path = self.path(name)
        if data is None:
            disk.remove(path)
        else:
            disk.write(path, data)

    def end(self) -> None:
        """Release the lock; the directory goes when nothing is left in it but the lock.

        What others left in it is theirs to tell: the next start adopts it.
        """
        names = [entry.name for entry in disk.regular_files(self.directory)]
        if names == [LOCK] and not disk.directories(self.directory):
            disk.remove(self._lock.path)
            self._lock.release()
            disk.remove_directory(self.directory)
        self._lock.release()

    def forget(self) -> None:
        """Leave it to the parent, in a forked child."""
        self._lock.forget()
