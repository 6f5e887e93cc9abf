"""Calling what the program gave us: processors, `before_send`, samplers, scrubbers.

Each is guarded on its own and fails closed: an event whose filter failed is dropped, not sent
unfiltered. What a callback logs or raises is never captured.

Threads: the one that captures. Source: wire.md section 9.
"""

from __future__ import annotations

from collections.abc import Callable

from crashfree._ground import log
from crashfree._ground.typed import TypeVar

R = TypeVar("R")


class _Failed:
    """The result of a callback that raised."""


FAILED = _Failed()


def called(name: str, callback: Callable[..., R], *arguments: object) -> R | _Failed:
    """Return what a callback of the program returns; `FAILED` when it raises."""
    outside = log.inside.set(True)
    try:
        return callback(*arguments)
    except Exception as error:  # noqa: BLE001 -- the program's code; whatever it raises stops here
        log.warning(
            f"{name} raised {type(error).__name__}: {error}; the event is dropped",
            key=f"callback:{name}",
        )
        return FAILED
    finally:
        log.inside.reset(outside)
