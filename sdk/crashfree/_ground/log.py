"""Own diagnostics: the logger `crashfree`, each distinct warning at most once a minute.

`logging` is taken when we first have something to say, not at import. Two marks keep us from
telling about ourselves. `inside` stands while we call code that is not ours (a callback, a `repr`,
a handler of our own words): a capture from there would go round in circles. It does not stand
while our own code runs: what captures then is a signal handler or a finalizer that struck in
between, and has something to say. `working` stands on threads that do our work: what is logged
there is our own noise.

Threads: any, signal handlers included (no lock of ours is taken). Source: wire.md section 19.
"""

from __future__ import annotations

import sys
import threading

from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree._ground.typed import Any

LOGGER_NAME = "crashfree"
_REPEAT_AFTER = 60.0
_MAX_REMEMBERED = 256


class _Mark(threading.local):
    """A mark of one thread. Looks like a ContextVar and must not be one.

    A capture may run in a finalizer, and the collector may run that finalizer in the middle of
    somebody's `ContextVar.set`. Up to CPython 3.11 a second `set` in that moment frees the map that
    the first one works on: the process dies of a segmentation fault. Nothing of ours runs
    asynchronously while the mark stands, so a thread's mark says the same.

    Where gevent or eventlet has made greenlets of all threads, ours among them, they share what is
    local to the one thread there is. So it is asked whose mark it is; `get_ident` is looked up each
    time, because it may be replaced after this module was loaded.
    """

    def get(self) -> bool:
        marks: Any = self.__dict__
        return threading.get_ident() in marks

    def set(self, marked: bool) -> bool:
        """Set the mark and return what `reset` wants."""
        marks: Any = self.__dict__
        ident = threading.get_ident()
        before = ident in marks
        if marked:
            marks[ident] = True
        elif before:
            del marks[ident]
        return before

    def reset(self, before: bool) -> None:
        self.set(before)


inside = _Mark()
"""True while crashfree has called foreign code in this thread; captures are not taken then."""
working = _Mark()
"""True while this thread sends, or does other work in the background of the program."""

_speaking = _Mark()
_debugging = False
_spoken: dict[str, float] = {}


def set_debug(enabled: bool) -> None:
    """Write every diagnostic to stderr (True), or warnings to the `crashfree` logger only."""
    global _debugging
    _debugging = enabled


def debugging() -> bool:
    """Return whether debug lines are wanted; ask before building an expensive one."""
    return _debugging


def debug(message: str) -> None:
    """Say what happened and why, in one line, when debugging."""
    if _debugging:
        _to_stderr("DEBUG", message)


def say(message: str) -> None:
    """Write one line to stderr, whatever the settings: for whoever waits for us."""
    _to_stderr("INFO", message)


def warning(message: str, *, key: str | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
    """Warn; the same `key` (default: the message) is said at most once a minute."""
    key = message if key is None else key
    now = clock.monotonic()
    last = _spoken.get(key)
    if last is not None and 0.0 <= now - last < _REPEAT_AFTER:
        return
    if len(_spoken) >= _MAX_REMEMBERED:
        _spoken.clear()
    _spoken[key] = now
    if _debugging:
        _to_stderr("WARNING", message)
        return
    _to_logger(message)


def forget_repeats() -> None:
    """Forget what was said, so that it would be said again. For tests and for a new client."""
    _spoken.clear()


def _to_stderr(level: str, message: str) -> None:
    stream = sys.stderr
    # Pythonw has none. And a program may have put in one that logs what is written.
    if stream is None or _speaking.get():  # pyright: ignore[reportUnnecessaryComparison]
        return
    outside, quiet = inside.set(True), _speaking.set(True)
    try:
        stream.write(f" [crashfree] {level}: {message}\n")
        stream.flush()
    except (OSError, ValueError):
        # A closed or broken stderr must not break the program that we speak about.
        return
    finally:
        _speaking.reset(quiet)
        inside.reset(outside)


def _to_logger(message: str) -> None:
    # Costs 6 ms when nobody has imported it yet, so not before the first word.
    import logging

    token = inside.set(True)
    try:
        logging.getLogger(LOGGER_NAME).warning("%s", message)
    finally:
        inside.reset(token)
