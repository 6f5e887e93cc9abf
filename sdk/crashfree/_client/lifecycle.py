"""The life of the process: one fork hook, one exit hook, one SIGTERM handler.

Registered once per process and never taken back (Python offers no way for the first two); each
asks the slot in `current` for the client of the moment.

Fork: nothing recorded before a fork is ever sent by the child. Threads: the hooks run on the
thread that forks or exits; the signal handler on the main thread, at any bytecode.
Source: sessions.md section 3.6, wire.md sections 14 and 15.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
import atexit
import os
import sys
import threading
from functools import partial
from types import FrameType

from crashfree._client import current, guard
from crashfree._client.client import Client
from crashfree._ground import log
from crashfree._ground.typed import Any, Protocol, cast


class _Signals(Protocol):
    """What is used of `_signal`. `signal` over it costs 1.5 ms, for names of numbers."""

    SIGTERM: int
    SIG_DFL: int

    def getsignal(self, number: int, /) -> object:
        """Return who handles it."""
        ...

    def signal(self, number: int, handler: object, /) -> object:
        """Let `handler` do it from here on. Raises ValueError off the main thread."""
        ...


_signals = cast("_Signals", _signal)
_armed = False
_sigterm_chained = False


def arm() -> None:
    """Register the hooks of the process. Idempotent."""
    global _armed
    if _armed:
        return
    _armed = True
    atexit.register(_at_exit)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
    _cover_multiprocessing_child()


def chain_sigterm() -> None:
    """End the session and flush when SIGTERM would end the process by default.

    Only from the main thread, and only while nobody else handles the signal: a handler of the
    program or of its server is never replaced. The default action follows, so that the exit status
    stays the signal's. Idempotent.
    """
    global _sigterm_chained
    if threading.current_thread() is not threading.main_thread():
        return
    if _signals.getsignal(_signals.SIGTERM) != _signals.SIG_DFL:
        return
    try:
        _signals.signal(_signals.SIGTERM, _on_sigterm)
    except ValueError:
        # The main thread of a subinterpreter may not.
        return
    _sigterm_chained = True


def unchain_sigterm() -> None:
    """Give SIGTERM its default action back, if it is still ours. Idempotent."""
    global _sigterm_chained
    if not _sigterm_chained or threading.current_thread() is not threading.main_thread():
        return
    _sigterm_chained = False
    if _signals.getsignal(_signals.SIGTERM) is _on_sigterm:
        _signals.signal(_signals.SIGTERM, _signals.SIG_DFL)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    _close(current.client())
    _signals.signal(number, _signals.SIG_DFL)
    os.kill(os.getpid(), number)


def _at_exit() -> None:
    _close(current.client())


@guard.boundary(None)
def _close(client: Client) -> None:
    client.close(on_wait=partial(_say_that_we_wait, client))


def _say_that_we_wait(client: Client) -> None:
    """Tell who sits in front of it why the program does not end.

    Source: complaints-transport.md, 14.
    """
    stream = sys.stderr
    # A program without a console has none, and a service has nobody to read it.
    if log.debugging() or (stream is not None and stream.isatty()):  # pyright: ignore[reportUnnecessaryComparison]
        log.say(
            "sending the last reports; this takes at most "
            f"{client.options.shutdown_timeout:g} s (shutdown_timeout)"
        )


@guard.boundary(None)
def _before_fork() -> None:
    current.client().before_fork()


@guard.boundary(None)
def _after_fork_in_parent() -> None:
    current.client().after_fork_in_parent()


def _after_fork_in_child() -> None:
    if sys.is_finalizing():
        return
    _forget()
    _cover_multiprocessing_child()


@guard.boundary(None)
def _forget() -> None:
    current.client().forget()


def serves_another_process() -> bool:
    """Return whether `multiprocessing` started this process for another one, whose session it is.

    A forked child has forgotten that session by itself; a spawned one runs the main module anew,
    and so does the server that children are forked from.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return False
    # While the main module is imported a spawned child does not know its parent yet.
    inherits = getattr(process.current_process(), "_inheriting", False)
    return bool(inherits) or process.parent_process() is not None


def _cover_multiprocessing_child() -> None:
    """Let a child of `multiprocessing` say good-bye: it leaves by `os._exit`, without atexit."""
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is None or util is None:
        return
    if serves_another_process():
        # A spawned child goes through no registry of what to do after a fork.
        _register_finalizer(None)
    # A forked child clears all finalizers before it runs this registry.
    util.register_after_fork(_TOKEN, _register_finalizer)


class _Token:
    """Something that lives as long as the process, for a registry of weak references."""


_TOKEN = _Token()
_finalizer: Any = None
_finalizer_pid = 0


def _register_finalizer(_: object) -> None:
    global _finalizer, _finalizer_pid
    util = sys.modules["multiprocessing.util"]
    # A child may clear what was registered before it was a child in full.
    if _finalizer_pid == os.getpid() and _finalizer.still_active():
        return
    _finalizer_pid = os.getpid()
    # Below 0 it would be left out by the run for daemon children; late among the others.
    _finalizer = util.Finalize(None, _at_exit, exitpriority=0)
