"""Reading a queue that other threads write at the same moment.

`deque.copy()` is one step where there is a global interpreter lock. Without one (free-threaded
builds) it may find that the queue changed while it was at it, and says so; then it is asked again.
Threads: any.
"""

from __future__ import annotations

from collections import deque

from crashfree._ground.typed import TypeVar

T = TypeVar("T")


def snapshot(queue: deque[T]) -> deque[T]:
    """Return what is in `queue` at one moment; its `maxlen`, too."""
    while True:
        try:
            return queue.copy()
        except RuntimeError:
            continue
