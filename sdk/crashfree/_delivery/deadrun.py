"""Runs whose process is gone: taken over, and settled in one step.

    runs/<ms>-<pid>-<random>/settled/    what it came to, as finished envelopes

The envelopes are written into `settled.new`, and renaming that directory is the moment from which
the raw files of the run count no more. Whoever dies before it has changed nothing; whoever dies
behind it has left envelopes that the next adopter only moves. So nothing is counted twice.

Threads: the worker. Source: sessions.md section 3.5, wire.md section 17.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from crashfree._delivery import disk
from crashfree._delivery.filelock import FileLock
from crashfree._delivery.run import HELD, LOCK, NEWBORN
from crashfree._delivery.spool import Spool
from crashfree._delivery.spooldirectory import SpoolDirectory
from crashfree._ground import log
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.envelope import Envelope
from crashfree.errors import EnvelopeError

SETTLED = "settled"
_SETTLED_NEW = "settled.new"
_LARGEST_FILE = 32 << 20


class DeadRun:
    """A run whose process is gone. Its lock is ours until `settle` or `leave`."""

    __slots__ = ("_directory", "_lock", "_place", "files", "modified", "name")
    name: str
    """Its directory's name: milliseconds, pid and a random part."""
    files: Mapping[str, bytes]
    """The raw files others left in it, by name."""
    modified: Mapping[str, float]
    """When each of them was last written, in seconds since the epoch."""
    _directory: str
    _lock: FileLock
    _place: SpoolDirectory

    def __init__(self, directory: str, lock: FileLock, place: SpoolDirectory) -> None:
        self._directory = directory
        self._lock = lock
        self._place = place
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
            disk.write(os.path.join(fresh, self._place.new_name()), data)
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
            self._place.take_over(entry.path, entry.name)
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


def adopt(spool: Spool) -> list[DeadRun]:
    """Take the locks of all dead runs and return those that left something to tell.

    Settlements that were begun are finished on the way. Two processes that do this at the same
    moment get different runs. Each is to be settled, left or discarded.
    """
    if not spool.ready():
        return []
    place = spool.directory
    own = place.run
    found: list[DeadRun] = []
    for name in disk.directories(place.runs):
        directory = os.path.join(place.runs, name)
        if own is not None and directory == own.directory:
            continue
        if name.startswith(NEWBORN) or not os.path.exists(os.path.join(directory, LOCK)):
            # Gone for long, then; a newborn that was never renamed, too.
            if place.is_old(directory):
                _remove_tree(directory)
            continue
        if not _is_run_name(name):
            continue
        lock = FileLock(os.path.join(directory, LOCK))
        if not lock.acquire(create=False):
            continue
        run = DeadRun(directory, lock, place)
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
