"""The interpreter's hooks: what leaves the program, a thread or a finalizer uncaught.

Three of them, each put in front of what was there. The previous hook always runs, with what it
would have got; an exception is never swallowed or replaced. Installed once per process; the hook
asks for the client of the moment, and is left inert where it cannot be taken out because somebody
else was put in front of it.

State: the previous hooks. Threads: install and uninstall on the thread of `init` and `close`; the
hooks run where the error is. Interactive shells are left alone: they are their user's, and every
typing error in them is uncaught. Source: sessions.md section 3.6.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any

from crashfree._client import current, guard
from crashfree._client.client import Client


class _Previous:
    """What our hooks stand in front of; None while they are not installed."""

    excepthook: Any = None
    threading_excepthook: Any = None
    unraisablehook: Any = None


_previous = _Previous()


def install(client: Client) -> None:
    """Put the three hooks in front of what is there. Idempotent."""
    if _previous.excepthook is None and not interactive():
        _previous.excepthook = sys.excepthook
        sys.excepthook = _excepthook
    if _previous.threading_excepthook is None:
        _previous.threading_excepthook = threading.excepthook
        threading.excepthook = _threading_excepthook
    if _previous.unraisablehook is None:
        _previous.unraisablehook = sys.unraisablehook
        sys.unraisablehook = _unraisablehook


def uninstall() -> None:
    """Take out those hooks that still stand in front; the others fall silent with the client."""
    if sys.excepthook is _excepthook:
        sys.excepthook, _previous.excepthook = _previous.excepthook, None
    if threading.excepthook is _threading_excepthook:
        threading.excepthook, _previous.threading_excepthook = _previous.threading_excepthook, None
    if sys.unraisablehook is _unraisablehook:
        sys.unraisablehook, _previous.unraisablehook = _previous.unraisablehook, None


def interactive() -> bool:
    """Return whether a person types into this interpreter."""
    # sys.ps1 exists in `python` and `python -i`; IPython and Jupyter have a shell of their own.
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or "get_ipython" in _builtins()


def _builtins() -> Any:
    return vars(sys.modules["builtins"])


def _excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    try:
        _capture(error, "excepthook")
    finally:
        previous = _previous.excepthook or sys.__excepthook__
        previous(kind, error, traceback)


def _threading_excepthook(arguments: threading.ExceptHookArgs) -> None:
    try:
        if arguments.exc_value is not None:
            _capture(arguments.exc_value, "threading")
    finally:
        previous = _previous.threading_excepthook or threading.__excepthook__
        previous(arguments)


def _unraisablehook(arguments: Any) -> None:
    try:
        if arguments.exc_value is not None and not sys.is_finalizing():
            _capture(arguments.exc_value, "unraisablehook")
    finally:
        previous = _previous.unraisablehook or sys.__unraisablehook__
        previous(arguments)


@guard.boundary(None)
def _capture(error: BaseException, mechanism: str) -> None:
    # How a program or a thread stops on purpose: Ctrl-C, exit with any status, a closed generator.
    if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        return
    current.client().capture_exception(
        error,
        mechanism={"type": mechanism, "handled": False},
        scopes=current.scopes(),
        unit=current.unit(),
    )
