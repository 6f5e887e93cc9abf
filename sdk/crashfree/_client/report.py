"""What comes out of one capture, and who can be asked for it.

The pipeline that makes it is the larger half of the library and loaded at first need; what a client
has to know of it beforehand stands here. Pure; threads: any.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._capture.scope import Scope
from crashfree._ground.typed import Any, NamedTuple, Protocol
from crashfree._protocol.items import Item
from crashfree._protocol.session import Verdict
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

    def feedback(
        self,
        message: str,
        *,
        name: str | None = None,
        email: str | None = None,
        url: str | None = None,
        event_id: str | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> Report: ...

    def plain(self, entries: Mapping[str, object]) -> Mapping[str, object]: ...

    def add_processor(self, processor: EventProcessor) -> None: ...

    def remove_processor(self, processor: EventProcessor) -> None: ...
