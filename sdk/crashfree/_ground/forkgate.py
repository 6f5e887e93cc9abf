"""The gate between lazy imports and `fork`, and what is made by lazy imports.

A module that one thread is half-way through importing at the moment of a fork stays locked in the
child for ever. So whoever imports late, off the main path, does it inside `importing()`, and the
fork hooks take the same gate: the fork waits a moment for the import to finish, and if it does not,
the child begins that import again.

Invariant: no fork waits longer than `_PATIENCE`, whatever happens here. Threads: any; the three
hooks run in the thread that forks. Source: wire.md section 15.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable

from crashfree._ground.typed import Generic, TypeVar

T = TypeVar("T")

# Before anybody imports beside the main thread. `importlib` stands in sys.modules while its own
# file is read; whoever imports `importlib.util` in that moment gets a second, empty
# `importlib._bootstrap`, and from then on no `import_module` of the program works.
__import__("importlib")

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


class _Importing:
    """Whoever imports, while it does. A class: `contextlib` would be one more module to load."""

    __slots__ = ("_gate", "_taken")
    _gate: _Gate
    _taken: bool

    def __init__(self, gate: _Gate) -> None:
        self._gate = gate
        self._taken = False

    def __enter__(self) -> None:
        gate = self._gate
        me = threading.get_ident()
        # A finalizer or a signal handler may come here while this very thread is inside.
        self._taken = gate.owner != me and gate.lock.acquire(timeout=_PATIENCE)
        if self._taken:
            gate.owner = me

    def __exit__(self, *failure: object) -> None:
        if self._taken:
            self._gate.owner = None
            self._gate.lock.release()


def importing() -> _Importing:
    """Hold the gate while modules are imported; forks of other threads wait meanwhile."""
    return _Importing(_gate)


class Late(Generic[T]):
    """Something that is imported and made when it is first needed.

    Of two that are made at the same moment the first one counts. A signal handler or a finalizer
    may strike while this very thread imports; there a second import of the same modules fails, so
    what it wants to do waits until they are there.
    """

    __slots__ = ("_make", "_making", "_postponed", "made")
    made: list[T]
    """Empty, or what there is."""
    _make: Callable[[], T]
    _making: dict[int, None]
    """The threads that are at it."""
    _postponed: deque[Callable[[], object]]

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self.made = []
        self.forget()

    def get(self) -> T | None:
        """Return it, made now if need be; None to whoever struck in the middle of its making."""
        made = self.made
        if made:
            return made[0]
        me = threading.get_ident()
        if me in self._making:
            return None
        self._making[me] = None
        try:
            made.append(self._make())
        finally:
            self._making.pop(me, None)
        while self._postponed:
            self._postponed.popleft()()
        return made[0]

    def postpone(self, job: Callable[[], object]) -> None:
        """Do `job` when it is there; for whom `get` returned None."""
        self._postponed.append(job)

    def forget(self) -> None:
        """Leave to the parent what was under way, in a forked child. What is made stays."""
        self._making = {}
        self._postponed = deque()


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
    """Make a new gate; whoever held the old one does not exist here, and has finished nothing."""
    global _gate
    importer = _gate.owner
    _gate = _Gate()
    if importer is not None and importer != threading.get_ident():
        _drop_imports_of(importer)


def _drop_imports_of(thread: int) -> None:
    """Make Python forget what a thread of the parent had begun to import, as it would itself.

    Else it stays half there: locked for ever, or, to a thread with the same number, not locked at
    all. What lies below a package is loaded anew with it.
    """
    # There is no other way to know; where Python does it differently one day, nothing is dropped.
    locks: dict[str, Callable[[], object]]
    locks = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    for name, lock_of in list(locks.items()):
        if getattr(lock_of(), "owner", None) != thread:
            continue
        del locks[name]
        for loaded in list(sys.modules):
            if loaded == name or loaded.startswith(f"{name}."):
                del sys.modules[loaded]
