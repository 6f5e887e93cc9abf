"""asyncio: errors that nobody retrieved.

Attached by itself once the program imports `asyncio`. What a loop would hand to its exception
handler (a task whose error nobody asked for, a callback that raised) is captured; the handler then
runs as always. An error that somebody awaits is that somebody's, and is not touched. The program
survives what arrives here, so it counts as `unhandled`, not as a crash.

On Python 3.12 and newer the event has the scopes of the task that failed.

Hook used: `call_exception_handler` of the loop classes is wrapped; the official hook,
`set_exception_handler`, belongs to each loop's owner. Threads: those of the loops.
Source: sessions.md section 3.6.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from crashfree.integration import Kit
from crashfree_integrations.framework import framework

MECHANISM = "asyncio"


class AsyncioIntegration:
    """See the module."""

    name = "asyncio"
    mode = None

    def install(self, kit: Kit) -> None:
        kit.wrap(asyncio.base_events.BaseEventLoop, "call_exception_handler", _wrapper(kit))

    def uninstall(self) -> None:
        """Nothing to do: what was wrapped undoes itself."""


class UvloopIntegration:
    """The same for the loops of uvloop."""

    name = "uvloop"
    mode = None

    def install(self, kit: Kit) -> None:
        kit.wrap(framework("uvloop", "0.14").Loop, "call_exception_handler", _wrapper(kit))

    def uninstall(self) -> None:
        """Nothing to do: what was wrapped undoes itself."""


def _wrapper(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def call_exception_handler(loop: Any, context: Mapping[str, Any]) -> Any:
            error = context.get("exception")
            if isinstance(error, BaseException) and not _by_will(error):
                _in_context_of(context, lambda: kit.capture_unhandled(error, mechanism=MECHANISM))
            return original(loop, context)

        return call_exception_handler

    return wrapper


def _by_will(error: BaseException) -> bool:
    return isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit))


def _in_context_of(context: Mapping[str, Any], capture: Callable[[], object]) -> None:
    """Capture with the scopes of the task or callback that failed, where they can be had."""
    found: object = None
    failed = context.get("task") or context.get("future")
    get_context = getattr(failed, "get_context", None)
    if get_context is not None:
        found = get_context()
    else:
        found = getattr(context.get("handle"), "_context", None)
    if isinstance(found, Context):
        # A copy: the context itself may be entered at this moment.
        found.copy().run(capture)
    else:
        capture()
