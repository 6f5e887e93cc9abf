"""The way of an event: from what happened to what is sent, and what the session makes of it.

The order stands in one function and is the specification's: ignored types, scope, processors of the
scope, processors of the client, scrubbing, `before_send`, session verdict, duplicates, sampling,
size. So an event that a filter drops leaves the session alone, and one that sampling drops does
not: a quota must not hide a crash.

Source: sessions.md sections 3.2 and 3.3, wire.md sections 9 and 18.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from crashfree._capture.scope import Scope
from crashfree._capture.settings import CaptureSettings
from crashfree._ground.clock import Clock
from crashfree._protocol.items import Item
from crashfree.types import (
    BeforeSend,
    DataCategory,
    DiscardReason,
    Event,
    EventProcessor,
    Hint,
    Level,
    Mechanism,
    Sampler,
)

Verdict = Literal["none", "errored", "unhandled", "crashed"]
"""What an event means for the session it happened in."""


class Discard(NamedTuple):
    """An event that is not sent, and why."""

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


class Filters(NamedTuple):
    """What the program says about its events."""

    ignore_errors: tuple[type[BaseException] | str, ...] = ()
    before_send: BeforeSend | None = None
    sample_rate: float | Sampler = 1.0
    error_storm_limit: int = 100
    """Handled errors in 10 seconds; 0: no limit."""


class Pipeline:
    """Captures for one client."""

    def __init__(
        self,
        settings: CaptureSettings,
        filters: Filters,
        *,
        clock: Clock,
        roll: Callable[[], float],
    ) -> None: ...

    def add_processor(self, processor: EventProcessor) -> None:
        """Let `processor` see every event, after the processors of its scopes."""

    def remove_processor(self, processor: EventProcessor) -> None:
        """Take it out again."""

    def exception(
        self,
        error: BaseException,
        *,
        mechanism: Mechanism | None = None,
        level: Level | None = None,
        hint: Hint | None = None,
        scopes: tuple[Scope, ...] = (),
        where: object = None,
    ) -> Report:
        """Capture an exception; without `mechanism`, one that the program handled.

        `scopes`: less specific first, the second one (isolation) lends its trace. `where`: the unit
        it happened in; the same exception object counts once in each.
        """
        raise NotImplementedError

    def message(
        self,
        message: str,
        level: Level = "info",
        *,
        hint: Hint | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> Report:
        """Capture a message; never more than "none" for the session."""
        raise NotImplementedError

    def event(
        self,
        event: Event | Mapping[str, Any],
        hint: Hint | None = None,
        *,
        scopes: tuple[Scope, ...] = (),
        where: object = None,
    ) -> Report:
        """Capture an event that the program made, of any shape; repaired where it can be."""
        raise NotImplementedError
