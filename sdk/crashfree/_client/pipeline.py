"""The way of an event: from what happened to what is sent, and what the session makes of it.

The order stands in one function and is the specification's: ignored types, scope, processors of the
scope, processors of the client, scrubbing, `before_send`, session verdict, duplicates, sampling,
size. So an event that a filter drops leaves the session alone, and one that sampling drops does
not: a quota must not hide a crash.

Where no callback wants to see the event, it is taken as a draft and built when it is written, on
the worker.

Threads: any. Source: sessions.md sections 3.2 and 3.3, wire.md sections 9 and 18.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crashfree._capture import exceptions, foreign, plain
from crashfree._capture.draft import Draft, Recorder, held_by
from crashfree._capture.rendering import text_of
from crashfree._capture.repair import level_of
from crashfree._capture.scope import Scope, merged
from crashfree._capture.settings import CaptureSettings
from crashfree._client.callbacks import FAILED, called
from crashfree._client.report import Discard, Report
from crashfree._client.sightings import Sightings
from crashfree._client.storm import Storm, place_of
from crashfree._ground import ids, log
from crashfree._ground.clock import Clock
from crashfree._ground.typed import Any, NamedTuple, cast
from crashfree._protocol import limits
from crashfree._protocol.items import Item, attachment_item, event_item
from crashfree._protocol.session import Verdict
from crashfree.types import (
    Attachment,
    BeforeSend,
    DiscardReason,
    Event,
    EventProcessor,
    Hint,
    Level,
    Mechanism,
    Sampler,
)

SURVIVED = frozenset(("threading", "unraisablehook", "asyncio", "future"))
"""Mechanisms whose unhandled errors do not end the process or the unit."""
ERROR_LEVELS = frozenset(("error", "fatal"))

_ORDER: Mapping[Verdict, int] = {"none": 0, "errored": 1, "unhandled": 2, "crashed": 3}


class Filters(NamedTuple):
    """What the program says about its events."""

    ignore_errors: tuple[type[BaseException] | str, ...] = ()
    before_send: BeforeSend | None = None
    sample_rate: float | Sampler = 1.0
    error_storm_limit: int = 100
    """Handled errors in 10 seconds; 0: no limit."""


class Pipeline:
    """Captures for one client."""

    __slots__ = (
        "_clock",
        "_filters",
        "_processors",
        "_recorder",
        "_roll",
        "_settings",
        "_sightings",
        "_storm",
    )
    _filters: Filters
    _clock: Clock
    _roll: Callable[[], float]
    _recorder: Recorder
    _settings: CaptureSettings
    _processors: tuple[EventProcessor, ...]
    _sightings: Sightings
    _storm: Storm

    def __init__(
        self,
        settings: CaptureSettings,
        filters: Filters,
        *,
        clock: Clock,
        roll: Callable[[], float] = ids.roll,
    ) -> None:
        self._filters = filters
        self._clock = clock
        self._roll = roll
        self._recorder = Recorder(settings, clock)
        self._settings = settings
        self._processors = ()
        self._sightings = Sightings()
        self._storm = Storm(filters.error_storm_limit)

    def feedback(
        self,
        message: str,
        *,
        name: str | None = None,
        email: str | None = None,
        url: str | None = None,
        event_id: str | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> Report:
        """Take down what a user says; no filter is asked."""
        # Nobody crashes by it, and few ever call it.
        from crashfree._capture.feedback import feedback_items

        made = feedback_items(
            message,
            name=name,
            email=email,
            url=url,
            event_id=event_id,
            settings=self._settings,
            scopes=scopes,
        )
        item, *attachments = made.items
        return Report(made.event_id, item=item, attachments=tuple(attachments))

    def add_processor(self, processor: EventProcessor) -> None:
        """Let `processor` see every event, after the processors of its scopes."""
        self._processors = (*self._processors, processor)

    def remove_processor(self, processor: EventProcessor) -> None:
        """Take it out again."""
        self._processors = tuple(one for one in self._processors if one is not processor)

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
        if self._filters.ignore_errors and ignored(error, self._filters.ignore_errors):
            return _dropped(ids.event_id(), "event_processor", hint, ())
        scope = _snapshot(scopes)
        now = self._clock.monotonic()
        handled = mechanism is None or mechanism.get("handled") is not False
        if handled and not self._storm.admits(place_of(error), now):
            return self._held_back(error, scope.level or level or "error", where, now)
        seen = self._sightings.known(error, where, now)
        if seen and not self._wants_to_see(scope):
            # Nothing is taken of what is told already.
            verdict = _exception_verdict(scope.level or level or "error", mechanism or {})
            return Report(ids.event_id(), verdict, duplicate=True)
        draft = self._recorder.exception(error, scope, mechanism=mechanism, level=level)
        return self._run(draft, scope, hint, error, where, seen=seen)

    def message(
        self,
        message: str,
        level: Level = "info",
        *,
        hint: Hint | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> Report:
        """Capture a message; it means nothing to the session."""
        scope = _snapshot(scopes)
        if not self._storm.admits(("message", text_of(message)), self._clock.monotonic()):
            return _dropped(ids.event_id(), "backpressure", hint, ())
        return self._run(self._recorder.message(message, level, scope), scope, hint, None, None)

    def event(
        self,
        event: Event | Mapping[str, Any],
        hint: Hint | None = None,
        *,
        scopes: tuple[Scope, ...] = (),
        where: object = None,
    ) -> Report:
        """Capture an event that the program made, of any shape; repaired where it can be.

        An exception in `hint["exc_info"]` is told with it, unless the event tells of its own.
        """
        given = foreign.mapping(event)
        if given is None:
            log.warning(f"capture_event takes a mapping, not {type(event).__name__}")
            return _dropped(ids.event_id(), "invalid", hint, ())
        scope = _snapshot(scopes)
        error = _error_of(hint)
        mechanism: Mechanism | None = None
        if error is not None and given.get("exception") is None:
            if self._filters.ignore_errors and ignored(error, self._filters.ignore_errors):
                return _dropped(ids.event_id(), "event_processor", hint, ())
            mechanism = {"type": _origin(hint), "handled": True}
            now = self._clock.monotonic()
            if not self._storm.admits(place_of(error), now):
                return self._held_back(error, level_of(given.get("level", "error")), where, now)
        draft = self._recorder.event(given, scope, error, mechanism)
        return self._run(draft, scope, hint, error, where)

    def plain(self, entries: Mapping[str, object]) -> Mapping[str, object]:
        """Return what was said of a moment as JSON that keeps no object of the program alive."""
        return self._recorder.plain(entries)

    # --- the order ----------------------------------------------------------------------------

    def _run(
        self,
        draft: Draft,
        scope: Scope,
        hint: Hint | None,
        error: BaseException | None,
        where: object,
        *,
        seen: bool | None = None,
    ) -> Report:
        attachments = _attachments(scope, hint)
        event: Event | None = None
        if self._wants_to_see(scope):
            hint = _completed(hint, error)
            outcome = self._filtered(draft, scope, hint)
            if isinstance(outcome, Discard):
                return _dropped(draft.event_id, outcome.reason, hint, attachments)
            event = outcome
            attachments = _attachments(scope, hint)
        verdict = verdict_of(event) if event is not None else _draft_verdict(draft)
        now = self._clock.monotonic()
        if error is not None:
            if self._sightings.known(error, where, now) if seen is None else seen:
                return Report(draft.event_id, verdict, duplicate=True)
            self._sightings.note(error, where, now)
        if not self._sampled(event, hint):
            report = _dropped(draft.event_id, "sample_rate", hint, attachments)
            return report._replace(verdict=verdict)
        item = _item(draft, event, verdict)
        kept, refused = _attachment_items(attachments)
        return Report(draft.event_id, verdict, item=item, attachments=kept, discards=refused)

    def _filtered(self, draft: Draft, scope: Scope, hint: Hint) -> Event | Discard:
        """Run everything that may change or drop the event, in order."""
        event = draft.build()
        for processor in (*scope.processors, *self._processors):
            changed = _event_of(called("an event processor", processor, event, hint))
            if changed is None:
                return Discard("event_processor")
            event = changed
        if scope.processors or self._processors:
            event = draft.repaired(event)
        draft.scrub(event, as_built=not (scope.processors or self._processors))
        scrubber = self._recorder.settings.scrubber
        if scrubber is not None:
            scrubbed = _event_of(called("scrubber", scrubber, event))
            if scrubbed is None:
                return Discard("event_processor")
            event = scrubbed
        before_send = self._filters.before_send
        if before_send is not None:
            sent = _event_of(called("before_send", before_send, event, hint))
            if sent is None:
                return Discard("before_send")
            event = sent
        if before_send is not None or scrubber is not None:
            event = draft.checked(event)
        return event

    def _wants_to_see(self, scope: Scope) -> bool:
        filters = self._filters
        return bool(
            scope.processors
            or self._processors
            or filters.before_send is not None
            or self._recorder.settings.scrubber is not None
            or callable(filters.sample_rate)
        )

    def _sampled(self, event: Event | None, hint: Hint | None) -> bool:
        rate = self._filters.sample_rate
        if callable(rate):
            asked = called("sample_rate", rate, event, hint or {})
            # A sampler that fails has no say; the event is not unsafe, only unsampled.
            if asked is FAILED or type(asked) not in (int, float, bool):
                return True
            return self._roll() < asked  # type: ignore[operator]
        return rate >= 1.0 or self._roll() < rate

    def _held_back(self, error: BaseException, level: Level, where: object, now: float) -> Report:
        """Count an error in a storm for the session, without looking at it."""
        duplicate = self._sightings.known(error, where, now)
        self._sightings.note(error, where, now)
        discards = () if duplicate else ((Discard("backpressure"), 1),)
        verdict: Verdict = "errored" if level in ERROR_LEVELS else "none"
        return Report(ids.event_id(), verdict, duplicate, discards=discards)


# --- the session's view ---------------------------------------------------------------------


def verdict_of(event: Mapping[str, Any]) -> Verdict:
    """Return what an event means for its session.

    Only exceptions count, at level error or fatal; one that says `handled: false` is a crash,
    unless its mechanism is one that programs survive. Source: sessions.md section 3.2.
    """
    values = plain.values(event.get("exception"))
    if not values or event.get("level", "error") not in ERROR_LEVELS:
        return "none"
    worst: Verdict = "errored"
    survived = False
    for value in values:
        mechanism = plain.members(value.get("mechanism"))
        if mechanism.get("handled") is False:
            worst = "crashed"
            survived = survived or mechanism.get("type") in SURVIVED
    return "unhandled" if worst == "crashed" and survived else worst


def _draft_verdict(draft: Draft) -> Verdict:
    if draft.chain is None:
        return verdict_of(draft.taken)
    return _exception_verdict(draft.level, draft.mechanism)


def _exception_verdict(level: Level, mechanism: Mechanism) -> Verdict:
    if level not in ERROR_LEVELS:
        return "none"
    if mechanism.get("handled") is not False:
        return "errored"
    return "unhandled" if mechanism.get("type") in SURVIVED else "crashed"


def ignored(error: BaseException, rules: tuple[type[BaseException] | str, ...]) -> bool:
    """Return whether an exception, or a class it comes from, is on the list.

    A name may be bare (`TimeoutError`) or dotted (`requests.exceptions.Timeout`).
    """
    for kind in foreign.bases(type(error)):
        name = foreign.type_name(kind)
        dotted = f"{foreign.module_name(kind)}.{name}"
        if any(
            rule is kind or (isinstance(rule, str) and rule in (name, dotted)) for rule in rules
        ):
            return True
    return False


# --- parts ----------------------------------------------------------------------------------


def _event_of(result: object) -> Event | None:
    """Return what a callback gave back when it is an event; None drops it."""
    return cast("Event", result) if issubclass(type(result), dict) else None


def _snapshot(scopes: tuple[Scope, ...]) -> Scope:
    scope = merged(*scopes)
    if scope.trace is None and scopes:
        scope.trace = scopes[min(1, len(scopes) - 1)].own_trace()
    return scope


def _item(draft: Draft, event: Event | None, verdict: Verdict) -> Item:
    """Return the item; the event is built, where it is not yet, and encoded when it is sent."""
    unhandled = verdict in ("crashed", "unhandled")
    if event is None:
        return event_item(draft.finish, size_hint=draft.stow(), unhandled=unhandled)
    seen: Event = event
    return event_item(lambda: draft.encoded(seen), size_hint=held_by(seen), unhandled=unhandled)


def _completed(hint: Hint | None, error: BaseException | None) -> Hint:
    complete: Hint = {} if hint is None else hint.copy()
    if error is not None and "exc_info" not in complete:
        complete["exc_info"] = (type(error), error, exceptions.traceback_of(error))
    return complete


def _error_of(hint: Hint | None) -> BaseException | None:
    info = None if hint is None else hint.get("exc_info")
    error = info[1] if type(info) is tuple and len(info) == 3 else info
    return error if issubclass(type(error), BaseException) else None  # type: ignore[return-value]


def _origin(hint: Hint | None) -> str:
    return "logging" if hint is not None and "log_record" in hint else "generic"


def _attachments(scope: Scope, hint: Hint | None) -> tuple[Attachment, ...]:
    own = () if hint is None else tuple(hint.get("attachments") or ())
    return (*scope.attachments, *own)


def _attachment_items(
    attachments: tuple[Attachment, ...],
) -> tuple[tuple[Item, ...], tuple[tuple[Discard, int], ...]]:
    """Return the items, and what is refused because it would not fit into the envelope."""
    items: list[Item] = []
    refused = total = 0
    for attachment in attachments:
        size = len(attachment["data"])
        if size > limits.ATTACHMENT_BYTES or total + size > limits.ATTACHMENTS_BYTES:
            refused += max(1, size)
            continue
        total += size
        items.append(attachment_item(attachment))
    discards = ((Discard("invalid", "attachment"), refused),) if refused else ()
    return tuple(items), discards


def _dropped(
    event_id: str, reason: DiscardReason, hint: Hint | None, attachments: tuple[Attachment, ...]
) -> Report:
    discards: list[tuple[Discard, int]] = [(Discard(reason), 1)]
    lost = sum(max(1, len(attachment["data"])) for attachment in attachments)
    if lost:
        discards.append((Discard(reason, "attachment"), lost))
    log.debug(f"event {event_id} is not sent: {reason}")
    return Report(event_id, discards=tuple(discards))
