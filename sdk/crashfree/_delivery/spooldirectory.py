"""One destination's directory on disk, and the run of this process in it.

    <directory>/installation                 an id of this installation
    <directory>/v1/<hash of the DSN>/        one destination
        ….envelope                           what waits, see `spool`
        replay.lock                          held by the one process that replays
        runs/<ms>-<pid>-<random>/            one process life, see `run`

All that a start needs of the disk; what reads and writes envelopes there is loaded with the
transport. Where the disk refuses, it is off for this process, said once, and sending goes on.

Threads: `open` and `installation_id` on the main thread at init, everything else one at a time: the
worker, or whoever stands in for it; `forget` in a forked child. Source: wire.md section 17.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping

from crashfree._delivery import disk
from crashfree._delivery.filelock import FileLock
from crashfree._delivery.run import Run
from crashfree._ground import ids, log
from crashfree._ground.clock import Clock
from crashfree._protocol.dsn import Dsn

SUFFIX = ".envelope"
_LEFTOVER_AFTER = 3600.0
_INSTALLATION = "installation"


class SpoolDirectory:
    """Where the envelopes of one destination wait, and this process's run is."""

    __slots__ = (
        "_begun",
        "_count",
        "_run",
        "broken",
        "clock",
        "lock",
        "looked_after",
        "path",
        "replay_lock",
        "replaying",
        "runs",
        "top",
    )
    top: str
    """What all destinations share."""
    path: str
    """This destination's."""
    runs: str
    replay_lock: FileLock
    replaying: bool
    """Whether a stored envelope is on its way."""
    lock: threading.Lock
    """Held while the envelopes that wait are changed."""
    looked_after: bool
    """Whether leftovers were tidied up, and what is too much or too old removed."""
    broken: bool
    """Whether the disk has refused."""
    clock: Clock
    _run: Run | None
    _count: int
    _begun: bool

    def __init__(self, directory: str | os.PathLike[str], *, dsn: Dsn, clock: Clock) -> None:
        self.top = os.path.abspath(os.fspath(directory))
        self.path = os.path.join(self.top, "v1", destination(dsn))
        self.runs = os.path.join(self.path, "runs")
        self.clock = clock
        self._reset()

    def open(self) -> Run | None:
        """Make this process's run, once; None when the place cannot be written, said once."""
        if self._run is None and self.make():
            name = f"{self._stamp()}-{os.getpid()}-{ids.event_id()[:6]}"
            try:
                self._run = Run.begin(self.runs, name)
            except OSError as error:
                self.give_up(error)
        return self._run

    @property
    def run(self) -> Run | None:
        """The run that `open` made."""
        return self._run

    def installation_id(self) -> str:
        """Return the id of this installation; a new one each time where nothing can be written.

        All processes that share the directory get the same, also when they ask at one moment.
        """
        path = os.path.join(self.top, _INSTALLATION)
        known = _read_id(path)
        if known is not None:
            return known
        fresh = ids.session_id()
        if not self.make():
            return fresh
        temporary = f"{path}.{os.getpid()}-{ids.event_id()[:6]}{disk.TMP_SUFFIX}"
        try:
            disk.write(temporary, fresh.encode("ascii"))
            _publish(temporary, path)
        except OSError as error:
            self.give_up(error)
            return fresh
        return _read_id(path) or fresh

    def make(self) -> bool:
        """Make the directories, once; False when there can be none."""
        if self.broken:
            return False
        if self._begun:
            return True
        try:
            os.makedirs(os.path.dirname(self.top), exist_ok=True)
            if not os.path.isdir(self.top):
                disk.make_directory(self.top)
            disk.make_directory(os.path.dirname(self.path))
            disk.make_directory(self.path)
            disk.make_directory(self.runs)
        except OSError as error:
            self.give_up(error)
            return False
        self._begun = True
        return True

    def give_up(self, error: OSError) -> None:
        """Use the disk no more, and say so."""
        self.broken = True
        log.warning(
            f"nothing is kept on disk from here on, {self.top} cannot be used: {error}",
            key=f"spool {self.top}",
        )

    def new_name(self) -> str:
        """Return a name for an envelope that is to wait; no process gives it twice."""
        self._count += 1
        return f"{self._stamp()}-{os.getpid()}-{self._count}-0{SUFFIX}"

    def take_over(self, path: str, name: str) -> bool:
        """Make a file from elsewhere wait here."""
        return disk.move(path, os.path.join(self.path, name))

    def is_old(self, path: str) -> bool:
        """Return whether nobody can still be at work on `path`."""
        try:
            modified = os.lstat(path).st_mtime
        except OSError:
            return False
        return self.clock.time() - modified > _LEFTOVER_AFTER

    def close(self) -> None:
        """Release the locks; what waits stays. Idempotent.

        While a stored envelope is on its way nobody else may take it up: then the process keeps
        that lock for as long as it lives.
        """
        run, self._run = self._run, None
        if run is not None:
            run.end()
        if not self.replaying:
            self.replay_lock.release()

    def forget(self) -> None:
        """Leave run and locks to the parent, in a forked child; `open` makes a new run."""
        if self._run is not None:
            self._run.forget()
        self.replay_lock.forget()
        self._reset()

    def _reset(self) -> None:
        self.replay_lock = FileLock(os.path.join(self.path, "replay.lock"))
        self.lock = threading.Lock()
        self.replaying = False
        self.looked_after = False
        self._run = None
        # Random, because two containers that share the directory may share pid and time.
        self._count = int.from_bytes(os.urandom(3), "big")
        self._begun = False
        self.broken = False

    def _stamp(self) -> str:
        return f"{max(0, int(self.clock.time() * 1000)):013d}"


def destination(dsn: Dsn) -> str:
    """Return the directory name of a destination: 16 hex digits."""
    # FNV-1a, 64 bits: a name, no secret. hashlib would load OpenSSL at init, 5 to 15 ms.
    value = 0xCBF29CE484222325
    for byte in f"{dsn.base_url}/{dsn.project_id}/{dsn.public_key}".encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def default_directory(variables: Mapping[str, str]) -> str | None:
    """Return the user's state directory for crashfree; None when the user has none."""
    if sys.platform == "win32":
        base = variables.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Application Support")
    else:
        # The XDG rules say that a relative path in the variable is to be ignored.
        base = variables.get("XDG_STATE_HOME", "")
        if not os.path.isabs(base):
            base = os.path.expanduser("~/.local/state")
    return os.path.join(base, "crashfree") if os.path.isabs(base) else None


def _read_id(path: str) -> str | None:
    data = disk.read(path, 100)
    text = (data or b"").decode("ascii", "replace").strip().lower()
    shape = [len(part) for part in text.split("-")]
    if shape != [8, 4, 4, 4, 12] or text.strip("0123456789abcdef-"):
        return None
    return text


def _publish(temporary: str, path: str) -> None:
    """Give the file its name, unless another process was faster."""
    if os.path.lexists(path) and _read_id(path) is None:
        # Damaged, or not of our making: whoever replaces it last wins.
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except (OSError, NotImplementedError, AttributeError):
        # No hard links here (FAT, some network file systems): the last one wins.
        os.replace(temporary, path)
        return
    disk.remove(temporary)
