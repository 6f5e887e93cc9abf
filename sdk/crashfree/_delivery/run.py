"""Runs: one process life on disk.

    runs/<ms>-<pid>-<random>/
        lock        held for as long as the process lives
        held        sessions that wait for the network (the transport's)
        …           files of others: ledger, journal, faulthandler output
        settled/    what a dead run came to, as finished envelopes

A run directory comes into being with its lock already held (made under another name, then
renamed), so nobody can take a newborn for a corpse. A dead run is settled in one step: the
envelopes are written into `settled.new`, and renaming that directory is the moment from which its
raw files count no more. Whoever dies before it has changed nothing; whoever dies behind it has
left envelopes that the next adopter only moves. So nothing is counted twice.

Threads: init and the worker. Source: sessions.md section 3.5, wire.md section 17.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from crashfree._delivery import disk
from crashfree._delivery.filelock import FileLock
from crashfree._ground import log
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.envelope import Envelope
from crashfree.errors import EnvelopeError

LOCK = "lock"
HELD = "held"
SETTLED = "settled"
_SETTLED_NEW = "settled.new"
_NEWBORN = ".new-"
_LARGEST_FILE = 32 << 20
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
        born = os.path.join(runs, _NEWBORN + name) if _RENAMES_OPEN else final
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


class DeadRun:
    """A run whose process is gone. Its lock is ours until `settle` or `leave`."""

    __slots__ = ("_directory", "_lock", "_names", "_take_over", "files", "modified", "name")
    name: str
    """Its directory's name: milliseconds, pid and a random part."""
    files: Mapping[str, bytes]
    """The raw files others left in it, by name."""
    modified: Mapping[str, float]
    """When each of them was last written, in seconds since the epoch."""
    _directory: str
    _lock: FileLock
    _names: Callable[[], str]
    _take_over: Callable[[str, str], object]

    def __init__(
        self,
        directory: str,
        lock: FileLock,
        *,
        names: Callable[[], str],
        take_over: Callable[[str, str], object],
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._names = names
        self._take_over = take_over
        self.name = os.path.basename(directory)
        self.files, self.modified = self._raw_files()

    @property
    def started(self) -> float:
        """When it began, in seconds since the epoch, as its name says."""
        return int(self.name.partition("-")[0]) / 1000

    def settle(self, envelopes: Sequence[Envelope]) -> None:
        """Replace the raw files by finished envelopes, in one step, and hand those over.

        Sessions of that run that waited for the network go along. Raises OSError when the disk
        refuses; nothing has changed then.
        """
        contents = [envelope.encode() for envelope in envelopes]
        contents += [envelope.encode() for envelope in _split(self.held())]
        fresh = os.path.join(self._directory, _SETTLED_NEW)
        _remove_tree(fresh)
        disk.make_directory(fresh)
        for data in contents:
            disk.write(os.path.join(fresh, self._names()), data)
        # Invariant: before this line the raw files count, behind it the envelopes do.
        os.rename(fresh, os.path.join(self._directory, SETTLED))
        self.finish()

    def finish(self) -> bool:
        """Carry a settlement through, of ours or of an adopter that died; False without one."""
        settled = os.path.join(self._directory, SETTLED)
        if not os.path.isdir(settled):
            return False
        for entry in disk.regular_files(self._directory):
            if entry.name != LOCK:
                disk.remove(entry.path)
        for entry in disk.regular_files(settled):
            self._take_over(entry.path, entry.name)
        disk.remove_directory(settled)
        self._vanish()
        return True

    def leave(self) -> None:
        """Give it back untouched; a later start will adopt it."""
        self._lock.release()

    def discard(self) -> None:
        """Remove it without telling anything: for one that is too old, or empty."""
        _remove_tree(os.path.join(self._directory, SETTLED))
        self._vanish()

    def held(self) -> bytes | None:
        """Return the sessions that waited for the network when it died."""
        return disk.read(os.path.join(self._directory, HELD), _LARGEST_FILE)

    def _raw_files(self) -> tuple[dict[str, bytes], dict[str, float]]:
        files: dict[str, bytes] = {}
        modified: dict[str, float] = {}
        for entry in disk.regular_files(self._directory):
            if entry.name in (LOCK, HELD) or entry.name.endswith(disk.TMP_SUFFIX):
                continue
            data = disk.read(entry.path, _LARGEST_FILE)
            if data is not None:
                files[entry.name] = data
                modified[entry.name] = entry.stat(follow_symlinks=False).st_mtime
        return files, modified

    def _vanish(self) -> None:
        _remove_tree(os.path.join(self._directory, _SETTLED_NEW))
        # The lock goes last: who finds the directory without it makes nothing of it.
        for entry in disk.regular_files(self._directory):
            if entry.name != LOCK:
                disk.remove(entry.path)
        disk.remove(self._lock.path)
        self._lock.release()
        disk.remove_directory(self._directory)


def dead_runs(
    runs: str,
    *,
    own: str | None,
    names: Callable[[], str],
    take_over: Callable[[str, str], object],
    older_than: Callable[[str], bool],
) -> list[DeadRun]:
    """Take the locks of all dead runs and return those that left something to tell.

    Settlements that were begun are finished on the way. Two processes that do this at the same
    moment get different runs. `older_than` says of a directory whether it has been there for
    long: of one without a lock file, or of a newborn that was never renamed, that is death.
    """
    found: list[DeadRun] = []
    for name in disk.directories(runs):
        directory = os.path.join(runs, name)
        if name == own:
            continue
        if name.startswith(_NEWBORN) or not os.path.exists(os.path.join(directory, LOCK)):
            if older_than(directory):
                _remove_tree(directory)
            continue
        if not _is_run_name(name):
            continue
        lock = FileLock(os.path.join(directory, LOCK))
        if not lock.acquire(create=False):
            continue
        run = DeadRun(directory, lock, names=names, take_over=take_over)
        if run.finish():
            continue
        if run.files or run.held() is not None:
            found.append(run)
        else:
            run.discard()
    return found


def _split(held: bytes | None) -> Sequence[Envelope]:
    """Return the sessions that waited, in envelopes of a size that servers take."""
    if held is None:
        return ()
    try:
        return decode_envelope(held).split()
    except EnvelopeError as error:
        log.warning(f"the sessions of a dead run cannot be read: {error}")
        return ()


def _is_run_name(name: str) -> bool:
    first, _, rest = name.partition("-")
    return first.isascii() and first.isdigit() and bool(rest)


def _remove_tree(directory: str) -> None:
    """Remove a directory of ours: files and one level of directories."""
    for name in disk.directories(directory):
        inner = os.path.join(directory, name)
        for entry in disk.regular_files(inner):
            disk.remove(entry.path)
        disk.remove_directory(inner)
    for entry in disk.regular_files(directory):
        disk.remove(entry.path)
    disk.remove_directory(directory)
