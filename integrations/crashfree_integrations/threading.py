"""threading: scopes and the running unit flow into new threads and pools. Only when asked for:

    crashfree.init(integrations=["threading"])

Without it a thread starts from the scopes of the process; `crashfree.propagate_scope` does the
same for one function. With it, what a thread captures has the tags and the user of where it was
started, and its errors count for the unit that started it. (Uncaught errors of threads are captured
in either case, see `threading.excepthook`.)

Hook used: `Thread.start` and `ThreadPoolExecutor.submit` are wrapped; neither has a hook. On builds
where threads inherit the context of their starter anyway, nothing is done to `Thread.start`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import crashfree
from crashfree.integration import Kit


class ThreadingIntegration:
    """See the module."""

    name = "threading"
    mode = None

    def install(self, kit: Kit) -> None:
        if not getattr(sys.flags, "thread_inherit_context", False):
            kit.wrap(threading.Thread, "start", _start)  # noqa: TID251 -- wrapped, not started
        kit.wrap(ThreadPoolExecutor, "submit", _submit)

    def uninstall(self) -> None:
        """Nothing to do: what was wrapped undoes itself."""


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(thread: Any, *arguments: Any, **named: Any) -> Any:
        run = thread.run

        def bound(*_: object) -> None:
            # Called with the thread by whoever takes `run` for a function of its class (another
            # SDK's wrapper of `start` does), else with nothing.
            # Whoever looks at `run` later sees the thread's own again, and no scope is kept.
            thread.__dict__.pop("run", None)  # pyright: ignore[reportUnknownMemberType]
            inside()

        if "run" not in vars(thread):
            inside = crashfree.propagate_scope(run)
            vars(thread)["run"] = bound
        return original(thread, *arguments, **named)

    return start


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    def submit(
        pool: ThreadPoolExecutor, function: Callable[..., Any], /, *arguments: Any, **named: Any
    ) -> Any:
        return original(pool, crashfree.propagate_scope(function), *arguments, **named)

    return submit
