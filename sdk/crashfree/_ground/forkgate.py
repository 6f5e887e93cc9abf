"""The gate between lazy imports and `fork`.

A module that one thread is half-way through importing at the moment of a fork stays locked in the
child for ever. So whoever imports late, off the main path, does it inside `importing()`, and the
fork hooks take the same gate: the fork waits a moment for the import to finish.

Invariant: no fork waits longer than `_PATIENCE`, whatever happens here. Threads: any; the three
hooks run in the thread that forks. Source: wire.md section 15.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

# The slowest import behind the gate (urllib3 with ssl) takes about 60 ms on a cold disk.
_PATIENCE = 1.0


class _Gate:
    """The lock and who holds it."""

    __slots__ = ("lock", "owner")
    lock: threading.Lock
    owner: int | None

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner = None


_gate = _Gate()


@contextmanager
def importing() -> Generator[None]:
    """Hold the gate while modules are imported; forks of other threads wait meanwhile."""
    gate = _gate
    me = threading.get_ident()
    # A finalizer or a signal handler may come here while this very thread is inside.
    taken = gate.owner != me and gate.lock.acquire(timeout=_PATIENCE)
    if taken:
        gate.owner = me
    try:
        yield
    finally:
        if taken:
            gate.owner = None
            gate.lock.release()


def before_fork() -> None:
    """Wait, at most a second, until nobody imports. For `os.register_at_fork(before=…)`."""
    gate = _gate
    me = threading.get_ident()
    had_logging = "logging" in sys.modules
    if gate.owner != me and gate.lock.acquire(timeout=_PATIENCE):
        gate.owner = me
    if not had_logging and "logging" in sys.modules:
        _balance_logging()


def _balance_logging() -> None:
    """Take the lock that `logging` will release after this fork.

    It was imported while we waited, and registered hooks then: too late for the one that takes
    its lock before this fork, in time for the one that gives it back after it.
    """
    lock = getattr(sys.modules["logging"], "_lock", None)
    if lock is not None:
        lock.acquire(timeout=_PATIENCE)


def after_fork_in_parent() -> None:
    """Open the gate again."""
    gate = _gate
    if gate.owner == threading.get_ident() and gate.lock.locked():
        gate.owner = None
        gate.lock.release()


def after_fork_in_child() -> None:
    """Make a new gate; whoever held the old one does not exist here."""
    global _gate
    _gate = _Gate()
