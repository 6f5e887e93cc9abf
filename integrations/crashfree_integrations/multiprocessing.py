"""multiprocessing: the errors that end its children.

    import crashfree
    crashfree.init(...)         # at the top of the main module; attaches itself

A child whose target raises prints a traceback, and no hook of the interpreter hears of it. Here it
is an event of mechanism `multiprocessing`, sent before the child leaves. A child is no session of
its own, however it was started: the session is its parent's. A worker of a pool hands its errors to
whoever asks for the result; what it serves as units of work (`with crashfree.session():`) it counts
itself. Where `init` is called by the target itself, its errors are seen by `crashfree.session()`
and `capture_exception` only.

Hooks: there is none. `BaseProcess._bootstrap`, which runs the child, is wrapped, as `run` belongs
to subclasses. Tested with Python 3.10 to 3.13, start methods fork, spawn and forkserver.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations.framework import require

MECHANISM: Final = "multiprocessing"


class MultiprocessingIntegration:
    """Attaches to the children of this process."""

    name: str = "multiprocessing"
    mode: SessionMode | None = None

    def install(self, kit: Kit) -> None:
        from multiprocessing.process import BaseProcess

        require(BaseProcess, "_bootstrap", "run")
        kit.wrap(BaseProcess, "_bootstrap", _telling(kit))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _telling(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def _bootstrap(self: Any, *arguments: Any, **named: Any) -> Any:
            run = self.run

            @wraps(run)
            def telling() -> None:
                try:
                    run()
                except Exception as error:
                    # How a child ends by will is no Exception: exit, Ctrl-C.
                    kit.capture_unhandled(error, mechanism=MECHANISM)
                    raise

            # In the child, of this one process object.
            self.run = telling
            return original(self, *arguments, **named)

        return _bootstrap

    return wrapper
