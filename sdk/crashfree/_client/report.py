"""What comes out of one capture, and who can be asked for it.

The pipeline that makes it is the larger half of the library and loaded at first need; what a client
has to know of it beforehand stands here. Pure; threads: any.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from crashfree._capture.scope import Scope
from crashfree._ground.typed import Any, NamedTuple, Protocol
from crashfree._protocol.items import Item
from crashfree._sessions.verdict import Verdict
from crashfree.types import (
    DataCategory,
    DiscardReason,
    Event,
    EventProcessor,
    Hint,
    Level,
    Mechanism,
)


class Discard(NamedTuple):
    """Something that is not sent, and why."""

    reason: DiscardReason
    category: DataCategory = "error"


class Report(NamedTuple):
    """What came out of one capture."""

    event_id: str
    verdict: Verdict = "none"
    duplicate: bool = False
    """The same exception object was captured before: it adds no error, but may raise the status."""
    item: Item | None = None
    """The event, to be sent; None when it was dropped."""
    attachments: tuple[Item, ...] = ()
    discards: tuple[tuple[Discard, int], ...] = ()
    """What is not sent, each with its quantity, for the client report."""


class LateReporter:
    """A reporter that is loaded when it is first needed.

    By the worker's first job, or by whoever needs it before: `init` does not wait for it, and a
    crash needs no import. Of two that are made at the same moment the first one counts. A signal
    handler or a finalizer may strike while this very thread imports, where a second import of the
    same modules fails: what it has to say waits until they are there.
    """

    __slots__ = ("_load", "_loading", "_made", "_postponed")
    _load: Callable[[], Reporter]
    _made: list[Reporter]
    _loading: dict[int, None]
    """The threads that are at it."""
    _postponed: deque[Callable[[], object]]

    def __init__(self, load: Callable[[], Reporter]) -> None:
        self._load = load
        self._made = []
        self._loading = {}
        self._postponed = deque()

    def get(self) -> Reporter | None:
        """Return the reporter; None in the middle of its making. Then `postpone`."""
        if self._made:
            return self._made[0]
        me = threading.get_ident()
        if me in self._loading:
            return None
        self._loading[me] = None
        try:
            self._made.append(self._load())
        finally:
            del self._loading[me]
        while self._postponed:
            self._postponed.popleft()()
        return self._made[0]

    def postpone(self, again: Callable[[], object]) -> None:
        """Call `again` when the reporter is there."""
        self._postponed.append(again)


class Reporter(Protocol):
    """Makes reports (`crashfree._client.pipeline.Pipeline`)."""

    def exception(
        self,
        error: BaseException,
        *,
        mechanism: Mechanism | None = None,
        level: Level | None = None,
        hint: Hint | None = None,
        scopes: tuple[Scope, ...] = (),
        where: object = None,
    ) -> Report: ...

    def message(
        self,
        message: str,
        level: Level = "info",
        *,
        hint: Hint | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> Report: ...

    def event(
        self,
        event: Event | Mapping[str, Any],
        hint: Hint | None = None,
        *,
        scopes: tuple[Scope, ...] = (),
        where: object = None,
    ) -> Report: ...

    def add_processor(self, processor: EventProcessor) -> None: ...

    def remove_processor(self, processor: EventProcessor) -> None: ...
