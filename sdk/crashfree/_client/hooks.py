"""The interpreter's hooks: what leaves the program, a thread or a finalizer uncaught.

Three of them, each put in front of what was there. The previous hook always runs, with what it
would have got; an exception is never swallowed or replaced. They ask for the client of the moment,
and fall silent where they cannot be taken out because somebody else was put in front of them.

State: the layers that are in place. Threads: install and uninstall on the thread of `init` and
`close`; the hooks run where the error is. Interactive shells are left alone: they are their user's,
and every typing error in them is uncaught. Source: sessions.md section 3.6.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType, TracebackType

from crashfree._client import current, guard
from crashfree._client.client import Client
from crashfree._ground.typed import Any


class _Layer:
    """One hook of ours and what it stands in front of."""

    __slots__ = ("active", "owner", "previous", "slot")
    owner: ModuleType
    slot: str
    previous: Any
    active: bool

    def __init__(self, owner: ModuleType, slot: str) -> None:
        self.owner = owner
        self.slot = slot
        self.previous = getattr(owner, slot)
        self.active = True
        setattr(owner, slot, self)

    def on_top(self) -> bool:
        """Return whether nobody was put in front of it since."""
        return getattr(self.owner, self.slot) is self

    def remove(self) -> None:
        """Take it out, or fall silent where somebody else's hook calls it."""
        self.active = False
        if self.on_top():
            setattr(self.owner, self.slot, self.previous)


class _ExceptHook(_Layer):
    __slots__ = ()

    def __call__(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        try:
            if self.active:
                report(error, "excepthook")
        finally:
            self.previous(kind, error, traceback)


class _ThreadHook(_Layer):
    __slots__ = ()

    def __call__(self, arguments: threading.ExceptHookArgs) -> None:
        try:
            if self.active and arguments.exc_value is not None:
                report(arguments.exc_value, "threading")
        finally:
            self.previous(arguments)


class _UnraisableHook(_Layer):
    __slots__ = ()

    def __call__(self, arguments: Any) -> None:
        try:
            if self.active and arguments.exc_value is not None and not sys.is_finalizing():
                report(arguments.exc_value, "unraisablehook")
        finally:
            self.previous(arguments)


_layers: list[_Layer] = []


def install(client: Client) -> None:
    """Put the three hooks in front of what is there. Idempotent.

    One that somebody was put in front of falls silent, and a new one takes its place: whether it
    is still called nobody can tell.
    """
    if len(_layers) == len(_wanted()) and all(layer.on_top() for layer in _layers):
        return
    uninstall()
    _layers.extend(kind(owner, slot) for kind, owner, slot in _wanted())


def uninstall() -> None:
    """Take the hooks out again. Idempotent."""
    while _layers:
        _layers.pop().remove()


def interactive() -> bool:
    """Return whether a person types into this interpreter."""
    # sys.ps1 exists in `python` and `python -i`; IPython and Jupyter have a shell of their own.
    builtins = vars(sys.modules["builtins"])
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or "get_ipython" in builtins


def _wanted() -> list[tuple[type[_Layer], ModuleType, str]]:
    others: list[tuple[type[_Layer], ModuleType, str]] = [
        (_ThreadHook, threading, "excepthook"),
        (_UnraisableHook, sys, "unraisablehook"),
    ]
    return others if interactive() else [(_ExceptHook, sys, "excepthook"), *others]


@guard.boundary(None)
def report(error: BaseException, mechanism: str) -> None:
    """Capture an error that nothing caught, for the client of the moment."""
    # How a program or a thread stops on purpose: Ctrl-C, exit with any status, a closed generator.
    client = current.client()
    if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        if isinstance(error, KeyboardInterrupt) and client.options.interrupt_status == "crashed":
            client.end_session("crashed")
        return
    client.capture_exception(
        error,
        mechanism={"type": mechanism, "handled": False},
        scopes=current.scopes(),
        unit=current.unit(),
    )
