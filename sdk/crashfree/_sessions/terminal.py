"""Ctrl-Z and `fg` as background and foreground, for programs of a terminal that ask for it.

SIGTSTP can be handled, so the program is told before it is stopped; it goes on behind the line
that stopped it. SIGSTOP cannot be handled, and is not noticed.

State of the process: one signal handler, in the main thread. A handler that the program installed
itself is never replaced. Source: sessions.md section 4.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

_STOP = getattr(signal, "SIGTSTP", None)


class TerminalStops:
    """Tells of stops by the terminal, while installed."""

    __slots__ = ("_enter_background", "_enter_foreground", "_installed")
    _enter_background: Callable[[], object]
    _enter_foreground: Callable[[], object]
    _installed: bool

    def __init__(
        self, enter_background: Callable[[], object], enter_foreground: Callable[[], object]
    ) -> None:
        self._enter_background = enter_background
        self._enter_foreground = enter_foreground
        self._installed = False

    def install(self) -> bool:
        """Begin; False when there is no such signal here, or somebody else handles it."""
        if _STOP is None or threading.current_thread() is not threading.main_thread():
            return False
        if signal.getsignal(_STOP) != signal.SIG_DFL:
            return False
        try:
            signal.signal(_STOP, self._stopped)
        except ValueError:
            # The main thread of a subinterpreter may not.
            return False
        self._installed = True
        return True

    def uninstall(self) -> None:
        """Give the signal its default action back, if it is still ours. Idempotent."""
        if not self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._installed = False
        if _STOP is not None and signal.getsignal(_STOP) == self._stopped:
            signal.signal(_STOP, signal.SIG_DFL)

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        self._enter_background()
        signal.signal(number, signal.SIG_DFL)
        # To this very thread: sent to the process, it might strike behind the next line.
        signal.pthread_kill(threading.get_ident(), number)
        # The program was stopped here, and goes on.
        signal.signal(number, self._stopped)
        self._enter_foreground()
