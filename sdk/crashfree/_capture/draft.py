"""Drafts: an event between the moment something happened and the moment it is written.

`Recorder` takes, on the thread where it happened, what would be different a moment later: messages,
code objects with line numbers, the contents of the scopes. `Draft.finish` builds the rest: frames
with source, contexts, scrubbing, sizes. Where callbacks want to see the event first, the pipeline
asks for `build` in the caller instead.

Invariants: nothing live is kept beyond types, code objects and the globals of modules; `finish`
may run on any thread, twice at the same moment even, and gives the same event.
Threads: any. Source: wire.md sections 5, 6 and 8.4.
"""

from __future__ import annotations

import marshal
import os
import sys
import threading
from collections.abc import Mapping, Set
from types import FrameType

from crashfree._capture import exceptions, foreign, plain, rendering, stacktrace, trim
from crashfree._capture import scope as scopes_
from crashfree._capture.contexts import ProcessFacts
from crashfree._capture.exceptions import GENERIC, TakenChain
from crashfree._capture.inapp import InApp
from crashfree._capture.meta import Notes, Path
from crashfree._capture.normalize import Normalizer
from crashfree._capture.repair import TAG_CHARACTERS, Repairer, event_id_of, plain_crumb
from crashfree._capture.scope import Noted, Scope, Trace
from crashfree._capture.scrub import Scrubber
from crashfree._capture.settings import CaptureSettings
from crashfree._capture.source import SourceReader
from crashfree._capture.stacktrace import Frames, TakenStack, Variables
from crashfree._ground import ids
from crashfree._ground.clock import Clock
from crashfree._ground.typed import Any, NamedTuple
from crashfree._protocol.envelope import SDK_INFO
from crashfree._protocol.timestamps import rfc3339
from crashfree.types import Event, Level, Mechanism

FIELDS = frozenset((*Event.__annotations__, "transaction_info"))
"""The keys of an event."""
_NOTHING: Set[str] = frozenset()
_OWN_CONTEXTS: Set[str] = frozenset(("runtime", "os", "device", "app"))
# What a queued draft takes, with its item and its envelope: measured with tracemalloc, see `stow`.
_DRAFT_BYTES = 1024
_EXCEPTION_BYTES = 400
_FRAME_BYTES = 110
_BUILT_BYTES = 9000
_BUILT_FRAME_BYTES = 950
_BUILT_ENTRY_BYTES = 430
_TOUCHED = frozenset(("tags", "extra", "contexts", "user", "request", "level", "fingerprint"))
_NO_STACK = TakenStack([], 0)


class ThreadFacts(NamedTuple):
    """Where something happened."""

    ident: int
    name: str
    main: bool
    task: str | None


class Recorder:
    """Takes drafts for one client."""

    __slots__ = ("clock", "facts", "frames", "scrubber", "seal", "settings")
    settings: CaptureSettings
    clock: Clock
    frames: Frames
    scrubber: Scrubber
    facts: ProcessFacts
    seal: object
    """Put on breadcrumbs that this one's settings leave as they are."""

    def __init__(self, settings: CaptureSettings, clock: Clock) -> None:
        self.settings = settings
        self.seal = object()
        self.clock = clock
        self.frames = Frames(
            InApp(settings.in_app_include, settings.in_app_exclude),
            SourceReader(clock) if settings.source_context else None,
            settings.project_root or _working_directory(),
        )
        self.scrubber = Scrubber(send_default_pii=settings.send_default_pii)
        self.facts = ProcessFacts(rfc3339(clock.time()))

    def exception(
        self,
        error: BaseException,
        scope: Scope,
        *,
        mechanism: Mechanism | None = None,
        level: Level | None = None,
    ) -> Draft:
        """Take an exception."""
        draft = Draft(self, scope, level or "error")
        draft.mechanism = GENERIC if mechanism is None else mechanism
        variables = draft.local_variables if self.settings.with_locals else None
        draft.chain = exceptions.take(error, variables)
        traceback = exceptions.traceback_of(error)
        if traceback is None and self.settings.attach_stacktrace:
            draft.stack = stacktrace.take_callers(_caller(), variables)
        elif traceback is not None and self.settings.add_full_stack:
            draft.stack = stacktrace.take_callers(traceback.tb_frame.f_back, variables)
        draft.take_scope(scope)
        return draft

    def message(self, message: str, level: Level, scope: Scope) -> Draft:
        """Take a message, with the stack of its caller where that is wanted."""
        draft = Draft(self, scope, level)
        draft.text = rendering.text_of(message)
        if self.settings.attach_stacktrace:
            variables = draft.local_variables if self.settings.with_locals else None
            draft.stack = stacktrace.take_callers(_caller(), variables)
        draft.take_scope(scope)
        return draft

    def event(
        self,
        event: Mapping[str, Any],
        scope: Scope,
        error: BaseException | None = None,
        mechanism: Mechanism | None = None,
    ) -> Draft:
        """Take an event that the program made, with the exception it is about if there is one."""
        given = dict(event)
        draft = Draft(self, scope, "error")
        variables = draft.local_variables if self.settings.with_locals else None
        if given.get("exception") is None:
            if error is not None:
                draft.mechanism = GENERIC if mechanism is None else mechanism
                draft.chain = exceptions.take(error, variables)
            elif given.get("level") is None and (given.get("message") or given.get("logentry")):
                draft.level = "info"
            if error is None and self.settings.attach_stacktrace and given.get("threads") is None:
                draft.stack = stacktrace.take_callers(_caller(), variables)
        if given.get("event_id") is not None:
            draft.event_id = event_id_of(given["event_id"])
        draft.take_scope(scope, given)
        return draft

    def plain(self, entries: Mapping[str, object]) -> dict[str, Any]:
        """Return entries as plain JSON, cut to size; secrets in their names are hidden later."""
        normalizer = Normalizer(
            self.clock,
            max_bytes=self.settings.max_value_length,
            notes=Notes(),
            sensitive=self.scrubber.sensitive,
        )
        return normalizer.bag(entries, None)


class Draft:
    """What was taken, and how to make an event of it."""

    __slots__ = (
        "_harmless",
        "_made",
        "_notes",
        "_recorder",
        "_stowed",
        "_trace",
        "chain",
        "event_id",
        "level",
        "mechanism",
        "stack",
        "taken",
        "text",
        "thread",
        "timestamp",
    )
    event_id: str
    timestamp: float
    level: Level
    mechanism: Mechanism
    chain: TakenChain | None
    stack: TakenStack
    text: str | None
    taken: Event
    """What scopes and program said, repaired; empty from `stow` on."""
    thread: ThreadFacts
    _made: Normalizer | None
    _harmless: bool
    """Whether all breadcrumbs are the scope's own, and sealed."""
    _stowed: bytes | None

    def __init__(self, recorder: Recorder, scope: Scope, level: Level) -> None:
        self._recorder = recorder
        self._notes = Notes()
        self._made = None
        self.event_id = ids.event_id()
        self.timestamp = recorder.clock.time()
        self.level = level
        self.mechanism = GENERIC
        self.chain = None
        self.stack = _NO_STACK
        self.text = None
        self.taken = {}
        self._harmless = False
        self._stowed = None
        self.thread = thread_facts()
        self._trace = scope.own_trace()

    @property
    def _normalizer(self) -> Normalizer:
        """Made at first need: an event without scope data and variables has none on its way in."""
        normalizer = self._made
        if normalizer is None:
            recorder = self._recorder
            normalizer = self._made = Normalizer(
                recorder.clock,
                max_bytes=recorder.settings.max_value_length,
                notes=self._notes,
                sensitive=recorder.scrubber.sensitive,
            )
        return normalizer

    @property
    def repairer(self) -> Repairer:
        """What makes this draft's event one that servers take."""
        personal = self._recorder.settings.send_default_pii
        return Repairer(self._normalizer, personal=personal, now=self.timestamp)

    def take_scope(self, scope: Scope, given: dict[str, Any] | None = None) -> None:
        """Take what the scope says, below what the event itself says."""
        event: dict[str, Any] = {} if given is None else given
        merged = scopes_.apply(scope, event, breadcrumbs=False)  # type: ignore[arg-type]
        noted = scope.noted()
        own = merged.get("breadcrumbs")
        if noted and own is not None and foreign.attempt(bool, own):
            noted = []
        total = scope.breadcrumb_total
        if merged:
            self.taken = self.repairer.repaired(merged)
            self.level = self.taken.get("level", self.level)
        if noted:
            crumbs = self._breadcrumbs(noted)
            self.taken["breadcrumbs"] = {"values": crumbs}
            if total > len(crumbs):
                self._notes.shortened((None, "breadcrumbs"), total)

    def _breadcrumbs(self, noted: list[Noted]) -> list[Any]:
        """Return breadcrumbs of a scope as plain JSON; the sealed ones must not be changed."""
        seal = self._recorder.seal
        crumbs: list[Any] = []
        harmless = True
        path: Path = ((None, "breadcrumbs"), "values")
        for one in noted:
            crumb = one[0]
            if one[1] is not seal:
                copy = plain_crumb(crumb, self._normalizer.short)
                if copy and self._recorder.scrubber.harmless(copy):
                    # In this order: who sees the seal sees what was sealed.
                    crumb = one[0] = copy
                    one[1] = seal
                else:
                    harmless = False
                    crumb = self.repairer.breadcrumb(crumb, (path, len(crumbs)))
            if crumb:
                crumbs.append(crumb)
        self._harmless = harmless
        return crumbs

    def local_variables(self, variables: Mapping[str, object]) -> Variables:
        """Return the variables of a frame as JSON; all frames share the event's time budget."""
        normalizer = self._normalizer
        mine, normalizer.notes = normalizer.notes, Notes()
        try:
            values = normalizer.local_variables(variables, None)
            return Variables(values, normalizer.notes.tree)
        finally:
            normalizer.notes = mine

    def stow(self) -> int:
        """Pack what waits for `finish`, and return how many bytes it takes until then.

        Thirty breadcrumbs take 13 KB as dicts and 3 KB as bytes, for 8 microseconds.
        """
        size = _DRAFT_BYTES + len(self.stack.frames) * _FRAME_BYTES
        if self.text is not None:
            size += len(self.text)
        if self.chain is not None:
            for one in self.chain.exceptions:
                size += _EXCEPTION_BYTES + len(one.message)
                size += len(one.stack.frames) * _FRAME_BYTES
        if self._made is not None:
            size += self._made.walked
        if self.taken:
            stowed = self._stowed = marshal.dumps(self.taken)  # type: ignore[arg-type]
            self.taken = {}
            size += len(stowed)
        return size

    def finish(self) -> bytes:
        """Return the event as it is sent: built, scrubbed, of bounded size."""
        taken = self._unstowed()
        event = self._built(taken)
        self._hide_secrets(event, _made_by_us(taken), breadcrumbs=not self._harmless)
        return self.encoded(event)

    def build(self) -> Event:
        """Return the whole event, not yet scrubbed."""
        return self._built(self._unstowed())

    def _built(self, given: Event) -> Event:
        settings = self._recorder.settings
        contexts: dict[str, Any] = self._recorder.facts.contexts()
        if self.thread.task is not None:
            contexts["task"] = {"name": self.thread.task}
        contexts["trace"] = self._trace_context()
        event: dict[str, Any] = {
            "event_id": self.event_id,
            "timestamp": self.timestamp,
            "platform": "python",
            "level": self.level,
            "environment": settings.environment,
        }
        for key, value in (
            ("release", settings.release),
            ("dist", settings.dist),
            ("server_name", settings.server_name),
        ):
            if value is not None:
                event[key] = value
        taken: dict[str, Any] = {**given}
        if self._harmless and self._stowed is None:
            taken["breadcrumbs"] = {
                "values": [_fresh(one) for one in plain.values(taken["breadcrumbs"])]
            }
        contexts.update(taken.pop("contexts", {}))
        event.update(taken)
        event["event_id"] = self.event_id
        event["level"] = self.level
        event["contexts"] = contexts
        self._add_what_happened(event)
        event.setdefault("sdk", self._sdk())
        event.setdefault("modules", self._recorder.facts.modules())
        if self._notes.tree:
            event["_meta"] = {**event.get("_meta", {}), **self._notes.tree}
        return event  # type: ignore[return-value]

    def repaired(self, event: Mapping[str, Any]) -> Event:
        """Return what a callback made of the event as plain JSON of the right shape."""
        notes = Notes(plain.members(event.get("_meta")))
        self._normalizer.notes = notes
        # Cookies and the like that are here now were put here on purpose.
        result = Repairer(self._normalizer, personal=True, now=self.timestamp).repaired(event)
        result["event_id"] = self.event_id
        result.setdefault("timestamp", self.timestamp)
        result.setdefault("platform", "python")
        result.setdefault("level", self.level)
        if notes.tree:
            result["_meta"] = notes.tree
        return result

    def checked(self, event: Event) -> Event:
        """Return what `before_send` made of the event, detached from what the program may change.

        The parts that programs put things into are made anew; the others are as we built them, or
        fail when they are encoded, see `encoded`.
        """
        if event.get("event_id") != self.event_id or not event.keys() <= FIELDS:
            return self.repaired(event)
        rest: dict[str, Any] = {}
        touched: dict[str, Any] = {}
        for key, value in event.items():
            if key not in _TOUCHED:
                rest[key] = value
            elif (copy := self._quick_copy(key, value)) is not None:
                rest[key] = copy
            else:
                touched[key] = value
        if not touched:
            return rest  # type: ignore[return-value]
        if "_meta" in rest:
            touched["_meta"] = rest.pop("_meta")
        return {**self.repaired(touched), **rest}  # type: ignore[typeddict-item]

    def _quick_copy(self, key: str, value: Any) -> Any:
        """Return a copy of a part that is as it should be, which is nearly always; else None."""
        if key == "level":
            return value if type(value) is str and value in scopes_.LEVELS else None
        if type(value) is not dict:
            return None
        entries = plain.members(value)  # pyright: ignore[reportUnknownArgumentType]
        flat = self._normalizer.is_flat
        if key == "contexts":
            if not all(type(one) is dict and flat(one) for one in entries.values()):
                return None
            return {name: context.copy() for name, context in entries.items()}
        if key == "request" or not flat(entries):
            return None
        texts: list[Any] = []
        if key == "tags":
            texts = list(entries.values())
        elif key == "user":
            texts = [entries.get("id", "-")]
        fits = all(type(text) is str and 0 < len(text) <= TAG_CHARACTERS for text in texts)
        return entries.copy() if fits else None

    def encoded(self, event: Event) -> bytes:
        """Return the JSON of `event`, of bounded size, whatever a callback put into it."""
        try:
            return trim.encoded(event)
        except (TypeError, ValueError, RuntimeError):
            # No plain JSON, or it still changes while we read it.
            repaired = self.repaired({**event, "_meta": None})
            return trim.encoded(repaired)

    def scrub(self, event: Event, *, as_built: bool = False) -> None:
        """Hide what is secret in `event`; `as_built`: nobody had it in hand since `build`."""
        known = _made_by_us(self.taken) if as_built else _NOTHING
        self._hide_secrets(event, known, breadcrumbs=not (as_built and self._harmless))

    def _hide_secrets(self, event: Event, known: Set[str], *, breadcrumbs: bool) -> None:
        notes = Notes(event.get("_meta"))
        self._recorder.scrubber.scrub(event, notes, known, breadcrumbs=breadcrumbs)
        if notes.tree:
            event["_meta"] = notes.tree

    def _unstowed(self) -> Event:
        stowed = self._stowed
        if stowed is None:
            return self.taken
        event: Event = marshal.loads(stowed)
        return event

    def _add_what_happened(self, event: dict[str, Any]) -> None:
        frames = self._recorder.frames
        thread: dict[str, Any] = {
            "id": self.thread.ident,
            "name": self.thread.name,
            "current": True,
            "main": self.thread.main,
        }
        if self.chain is not None:
            event["exception"] = {"values": self._exception_values(self.chain)}
            thread["crashed"] = self.mechanism.get("handled") is False
        elif self.stack.frames:
            built = frames.build(self.stack, {})
            if built:
                thread["stacktrace"] = {"frames": built}
        if self.text is not None:
            text = self._normalizer.text(self.text, ((None, "logentry"), "formatted"))
            event["logentry"] = {"formatted": text}
            event["message"] = text
        # That a message came from the main thread goes without saying.
        if self.chain is not None or "stacktrace" in thread or not self.thread.main:
            event.setdefault("threads", {"values": [thread]})

    def _exception_values(self, chain: TakenChain) -> list[dict[str, Any]]:
        frames = self._recorder.frames
        notes = Notes()
        values: list[dict[str, Any]]
        values = exceptions.build(chain, frames, self.mechanism, notes.tree)  # type: ignore[assignment]
        if notes.tree:
            self._notes.graft(((None, "exception"), "values"), notes.tree)
        path: Path = ((None, "exception"), "values")
        last = len(values) - 1
        if chain.total > len(values):
            self._notes.shortened(path, chain.total)
        for index, value in enumerate(values):
            taken = chain.exceptions[last - index]
            value["value"] = self._normalizer.text(value["value"], ((path, index), "value"))
            value["thread_id"] = self.thread.ident
            if taken.stack.total > len(taken.stack.frames):
                self._notes.shortened((((path, index), "stacktrace"), "frames"), taken.stack.total)
        if self.stack.frames:
            outermost = values[last].setdefault("stacktrace", {"frames": []})
            outermost["frames"] = [*frames.build(self.stack, {}), *outermost["frames"]]
            if not outermost["frames"]:
                del values[last]["stacktrace"]
        return values

    def _trace_context(self) -> dict[str, Any]:
        trace: Trace = self._trace
        context: dict[str, Any] = {"trace_id": trace.trace_id, "span_id": trace.span_id}
        if trace.parent_span_id is not None:
            context["parent_span_id"] = trace.parent_span_id
        return context

    def _sdk(self) -> dict[str, Any]:
        info: dict[str, Any] = dict(SDK_INFO)
        integrations = self._recorder.settings.integrations()
        if integrations:
            info["integrations"] = list(integrations)
        return info


def _fresh(crumb: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a plain breadcrumb that may be changed."""
    copy = crumb.copy()
    if "data" in copy:
        copy["data"] = copy["data"].copy()
    return copy


def _made_by_us(taken: Event) -> Set[str]:
    """Return the names of contexts that the program has no hand in."""
    return _OWN_CONTEXTS - taken.get("contexts", {}).keys()


def held_by(event: Event) -> int:
    """Return roughly how many bytes a built event takes in memory until it is encoded."""
    crumbs = plain.entries(plain.members(event.get("breadcrumbs")).get("values"))
    size = _BUILT_BYTES + len(crumbs) * _BUILT_ENTRY_BYTES
    for part in (event.get("exception"), event.get("threads")):
        for value in plain.values(part):
            frames = plain.entries(plain.members(value.get("stacktrace")).get("frames"))
            size += len(frames) * _BUILT_FRAME_BYTES
    return size


def _caller() -> FrameType | None:
    """Return the frame that crashfree was called from."""
    here: FrameType = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] -- no public way
    return stacktrace.outside(here)


def thread_facts() -> ThreadFacts:
    """Return the thread and the asyncio task that are running here."""
    thread = threading.current_thread()
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None and (loop := asyncio._get_running_loop()) is not None:
        current = foreign.attempt(asyncio.current_task, loop)
        task = None if current is None else foreign.attempt(current.get_name)
    return ThreadFacts(
        thread.ident or 0,
        rendering.text_of(thread.name),
        thread is threading.main_thread(),
        None if task is None else rendering.text_of(task),
    )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
