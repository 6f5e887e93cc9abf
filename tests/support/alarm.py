"""An interval timer whose signal strikes while a test goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any

from typing_extensions import Self


class Alarm:
    """Calls `handler` for SIGALRM as long as it is entered; what was there before is then back."""

    def __init__(self, handler: Callable[[], object]) -> None:
        self._handler = handler
        self._before: Any = None
        self._over = False

    def strike(self, seconds: float, every: float = 0.0) -> None:
        """The next signal comes in `seconds`, and then one `every` so many seconds, if not 0.

        A handler may call it. Once the alarm is over it does nothing: the last signal's handler
        can run between the stop of the timer and the return of the handler that was there before,
        which is the one that ends the process.
        """
        if not self._over:
            signal.setitimer(signal.ITIMER_REAL, seconds, every)

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGALRM, lambda _number, _frame: self._handler())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        # It first runs the handler of a signal that has already come.
        signal.signal(signal.SIGALRM, self._before)
