"""The file into which Python's faulthandler writes when a signal ends this process.

faulthandler keeps one descriptor and cannot be asked whose it is. So this process opens one
descriptor, gives it to faulthandler once, and afterwards only changes what stands behind it: the
file of the run, or nothing. A program that enables faulthandler itself, before or after, is left
alone.

State of the process: that descriptor. Threads: init, close and the fork hook.
"""

from __future__ import annotations

import os

from crashfree._ground import log

try:
    import faulthandler
except ImportError:
    # A subinterpreter with a lock of its own cannot load it.
    faulthandler = None  # type: ignore[assignment]


class _Process:
    descriptor: int | None = None
    owner: FaultFile | None = None


class FaultFile:
    """Where a crash of this run is written down."""

    __slots__ = ("_path",)
    _path: str

    def __init__(self, path: str) -> None:
        self._path = path

    @classmethod
    def enable(cls, path: str) -> FaultFile | None:
        """Let crashes be written to `path`; None when the program takes care of them itself."""
        if faulthandler is None:  # pyright: ignore[reportUnnecessaryComparison]
            return None
        if _Process.descriptor is None and faulthandler.is_enabled():
            return None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            log.debug(f"crashes by signals will not be told, {path} cannot be made: {error}")
            return None
        if _Process.descriptor is None:
            faulthandler.enable(file=descriptor, all_threads=True)
            _Process.descriptor = descriptor
        else:
            os.dup2(descriptor, _Process.descriptor, inheritable=False)
            os.close(descriptor)
        made = cls(path)
        _Process.owner = made
        return made

    def disable(self) -> None:
        """Remove the file: this run has ended, and not by a crash. Idempotent."""
        if _Process.owner is self:
            _redirect_to_nowhere()
        try:
            os.unlink(self._path)
        except OSError:
            return

    def forget(self) -> None:
        """Leave the file to the parent, in a forked child."""
        if _Process.owner is self:
            _redirect_to_nowhere()


def _redirect_to_nowhere() -> None:
    _Process.owner = None
    if _Process.descriptor is None:
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        return
    os.dup2(nowhere, _Process.descriptor, inheritable=False)
    os.close(nowhere)
