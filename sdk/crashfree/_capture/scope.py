"""Scopes: what is known about the work at hand, kept as data until an event wants it.

Three of them apply to an event, less specific first: global, isolation (one per unit of work) and
current. A scope holds no session and no client. Everything is kept as it was given; it is turned
into JSON when an event is captured, so setting costs next to nothing.

Invariants: a fork is unaffected by later changes of its source, and the other way round; no
method raises. State: the rules for breadcrumbs, set by whoever puts a client in charge.
Threads: any; each change is one dict operation, one append or one assignment.
Fork: kept. Source: wire.md sections 5 and 8.4.
"""

# What programs put into scopes has no static type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from crashfree._capture import foreign, rendering
from crashfree._ground import ids, log
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._ground.tally import snapshot
from crashfree._ground.typed import Any, NamedTuple, TypeAlias
from crashfree._protocol import limits
from crashfree.types import Attachment, Breadcrumb, Event, EventProcessor, Level, Request, User

MAX_BREADCRUMBS = 100
_LONG_TEXT = 8192
_FEW = 50
MAX_KEYS = 1000
"""Tags, contexts or extras of one scope; an event takes fewer, this only stops a runaway loop."""

LEVELS = ("fatal", "error", "warning", "info", "debug")


Noted: TypeAlias = "list[Any]"
"""A breadcrumb, and the seal of who found it to be plain JSON without secrets; None before.

All forks and events share it, so that it is looked at once. Sealed, it never changes.
"""
_Ring: TypeAlias = "deque[tuple[int, Noted]]"


class Rules(NamedTuple):
    """What the client in charge says about breadcrumbs that are put into a scope directly."""

    limit: int = MAX_BREADCRUMBS
    """How many a scope keeps."""
    ask: Callable[[Breadcrumb], Breadcrumb | None] | None = None
    """Called with each; None drops it."""
    plain: Callable[[Mapping[str, object]], Mapping[str, object] | None] | None = None
    """Turns data that is not plain into what is; None: not now."""


_rules = Rules()
_limit, _ask = _rules[:2]


def set_rules(rules: Rules) -> None:
    """Let scopes follow `rules` from now on."""
    global _rules, _limit, _ask
    _rules = rules
    _limit, _ask = rules[:2]


class Trace(NamedTuple):
    """What makes the events of one unit of work findable together."""

    trace_id: str
    span_id: str
    parent_span_id: str | None = None


class Scope:
    """Tags, user, contexts, breadcrumbs and the like for the events captured under it.

    May be made, forked and written to on any thread. An empty one costs nothing but itself.
    """

    __slots__ = (
        "_attachments",
        "_breadcrumbs",
        "_contexts",
        "_extra",
        "_numbers",
        "_processors",
        "_tags",
        "fingerprint",
        "last_event_id",
        "level",
        "request",
        "trace",
        "transaction",
        "transaction_source",
        "user",
    )
    _tags: dict[str, object] | None
    _contexts: dict[str, Mapping[str, Any]] | None
    _extra: dict[str, object] | None
    _breadcrumbs: _Ring | None
    _numbers: count[int]
    _processors: tuple[EventProcessor, ...]
    _attachments: tuple[Attachment, ...]
    user: User | None
    level: Level | None
    fingerprint: list[str] | None
    transaction: str | None
    transaction_source: str | None
    request: Request | None
    trace: Trace | None
    last_event_id: str | None
    """Id of the event captured last under this scope; not inherited by forks."""

    def __init__(self) -> None:
        self._tags = None
        self._contexts = None
        self._extra = None
        self._breadcrumbs = None
        self._processors = ()
        self._attachments = ()
        self.user = None
        self.level = None
        self.fingerprint = None
        self.transaction = None
        self.transaction_source = None
        self.request = None
        self.trace = None
        self.last_event_id = None

    # -- tags, contexts, extra

    def set_tag(self, key: str, value: object) -> None:
        """Set a tag, for searching. It is sent as text of at most 200 characters."""
        if type(key) is not str:
            key = rendering.text_of(key)
        tags = self._tags
        if tags is None:
            tags = self._tags = {}
        tags[key] = value
        if len(tags) > MAX_KEYS:
            _shed(tags, "tags")

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set several tags at once."""
        for key, value in _entries(tags):
            self.set_tag(key, value)

    def remove_tag(self, key: str) -> None:
        """Take a tag out of this scope; one from a less specific scope shows again."""
        if self._tags is not None:
            self._tags.pop(key, None)

    def set_context(self, key: str, value: Mapping[str, Any] | None) -> None:
        """Set a named group of facts; None takes it out."""
        if type(key) is not str:
            key = rendering.text_of(key)
        contexts = self._contexts
        if value is None:
            if contexts is not None:
                contexts.pop(key, None)
            return
        if contexts is None:
            contexts = self._contexts = {}
        contexts[key] = _copied(value)
        if len(contexts) > MAX_KEYS:
            _shed(contexts, "contexts")

    def remove_context(self, key: str) -> None:
        """Take a context out of this scope."""
        self.set_context(key, None)

    def set_extra(self, key: str, value: object) -> None:
        """Set one fact of any type, not for searching."""
        if type(key) is not str:
            key = rendering.text_of(key)
        extra = self._extra
        if extra is None:
            extra = self._extra = {}
        extra[key] = value
        if len(extra) > MAX_KEYS:
            _shed(extra, "extra")

    def set_extras(self, extras: Mapping[str, object]) -> None:
        """Set several facts at once."""
        for key, value in _entries(extras):
            self.set_extra(key, value)

    def remove_extra(self, key: str) -> None:
        """Take a fact out of this scope."""
        if self._extra is not None:
            self._extra.pop(key, None)

    # -- single values

    def set_user(self, user: User | Mapping[str, Any] | None) -> None:
        """Say who uses the program; None: nobody known in this scope."""
        self.user = None if user is None else _copied(user)  # type: ignore[assignment]

    def set_level(self, level: Level | None) -> None:
        """Give the events this level; None: leave it to them."""
        if level is not None and (type(level) is not str or level not in LEVELS):
            given = foreign.repr_of(level, 60)
            log.warning(f"set_level({given}) is ignored; levels are {', '.join(LEVELS)}")
            return
        self.level = level

    def set_fingerprint(self, fingerprint: Iterable[str] | None) -> None:
        """Say which events belong together; `{{ default }}` stands for the server's own rule."""
        if fingerprint is None:
            self.fingerprint = None
        elif type(fingerprint) is str:
            self.fingerprint = [fingerprint]
        else:
            self.fingerprint = [
                rendering.text_of(part) for part in foreign.attempt(list, fingerprint) or ()
            ]

    def set_transaction(self, name: str, source: str | None = None) -> None:
        """Name what the program does: the template of a route, a task, a command."""
        self.transaction = rendering.text_of(name)
        self.transaction_source = source

    set_transaction_name = set_transaction

    def set_request(self, request: Request | None) -> None:
        """Say which HTTP request is being served."""
        self.request = request

    def set_trace(self, trace_id: str, parent_span_id: str | None = None) -> None:
        """Join the trace that a caller began; ids are 32 and 16 hex digits, others are ignored."""
        if _hex(trace_id, 32):
            parent = parent_span_id if parent_span_id and _hex(parent_span_id, 16) else None
            self.trace = Trace(trace_id.lower(), ids.span_id(), parent)

    def own_trace(self) -> Trace:
        """Return the trace of this scope, begun now when it had none."""
        trace = self.trace
        if trace is None:
            trace = self.trace = Trace(ids.trace_id(), ids.span_id())
        return trace

    # -- breadcrumbs

    def add_breadcrumb(
        self,
        crumb: Breadcrumb | Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        **fields: Any,
    ) -> None:
        """Note something that happened; `crumb` is copied.

        The newest `max_breadcrumbs` are kept, and `before_breadcrumb` is asked. Given a `limit`,
        that many are kept and nobody is asked.
        """
        given: Any = crumb
        note: dict[str, Any]
        # `_copied`, for what nearly every crumb is; a call costs more than all that it does.
        if type(given) is dict and len(given) < _FEW:
            note = given.copy()
            for key in note:
                if type(key) is not str:
                    note = _copied(given)
                    break
        else:
            note = _copied(given) if given else {}
        if fields:
            note.update(fields)
        if "timestamp" not in note:
            note["timestamp"] = SYSTEM_CLOCK.time()
        if limit is None:
            limit, ask = _limit, _ask
            if ask is not None:
                asked = ask(note)  # type: ignore[arg-type]
                if asked is None:
                    return
                note = _copied(asked)
        data = note.get("data")
        if data is not None:
            # Hardly ever there is more in it than this; looked at here because a call costs more.
            heavy = type(data) is not dict
            try:
                for value in () if heavy else data.values():
                    kind: type[Any] = type(value)
                    if kind is str:
                        if len(value) > _LONG_TEXT:
                            heavy = True
                    elif kind is not int and kind is not float and kind is not bool:
                        heavy = heavy or value is not None
            except RuntimeError:
                # Another thread changes it at this moment.
                heavy = True
            if heavy:
                note["data"] = _detached(data)
        ring = self._breadcrumbs
        if ring is None or ring.maxlen != limit:
            ring = self._ring(limit)
        ring.append((next(self._numbers), [note, None]))

    def clear_breadcrumbs(self) -> None:
        """Forget what happened so far."""
        self._breadcrumbs = None

    def breadcrumbs(self) -> list[Breadcrumb]:
        """Return those that are kept, oldest first."""
        return [one[0] for one in self.noted()]

    def noted(self) -> list[Noted]:
        """Return the breadcrumbs as they are kept."""
        ring = self._breadcrumbs
        return [] if ring is None else [one for _, one in snapshot(ring)]

    @property
    def breadcrumb_total(self) -> int:
        """How many there were, those that were pushed out included."""
        ring = self._breadcrumbs
        if not ring:
            return 0
        try:
            return ring[-1][0] + 1
        except IndexError:
            return 0

    # -- processors, attachments

    def add_event_processor(self, processor: EventProcessor) -> None:
        """Let `processor(event, hint)` change each event under this scope, or drop it (None)."""
        self._processors = (*self._processors, processor)

    def add_attachment(
        self,
        bytes: bytes | None = None,
        filename: str | None = None,
        path: str | None = None,
        content_type: str | None = None,
        add_to_transactions: bool = False,
    ) -> None:
        """Send a file with the events under this scope.

        Either `bytes` or the `path` of a file, which is read now. Refused, with a warning, over
        10 MiB and where it would bring the scope over 15 MiB.
        """
        name = rendering.text_of(filename if filename is not None else path or "unnamed")
        data = _file_bytes(path) if bytes is None and path is not None else bytes
        if data is None:
            log.warning(f"attachment {name!r} is left out: there are no bytes")
            return
        attached = sum(len(one["data"]) for one in self._attachments)
        if len(data) > limits.ATTACHMENT_BYTES or attached + len(data) > limits.ATTACHMENTS_BYTES:
            log.warning(
                f"attachment {name!r} of {len(data)} bytes is left out: one may have "
                f"{limits.ATTACHMENT_BYTES} bytes, all of a scope {limits.ATTACHMENTS_BYTES}"
            )
            return
        attachment: Attachment = {"filename": name, "data": data}
        if content_type is not None:
            attachment["content_type"] = content_type
        self._attachments = (*self._attachments, attachment)

    def clear_attachments(self) -> None:
        """Take the files of this scope out again."""
        self._attachments = ()

    @property
    def processors(self) -> tuple[EventProcessor, ...]:
        """The event processors of this scope, in order of addition."""
        return self._processors

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files of this scope."""
        return self._attachments

    @property
    def tags(self) -> dict[str, object]:
        """A copy of the tags, as they were given."""
        return self._tags.copy() if self._tags else {}

    @property
    def contexts(self) -> dict[str, Mapping[str, Any]]:
        """A copy of the contexts."""
        return self._contexts.copy() if self._contexts else {}

    @property
    def extra(self) -> dict[str, object]:
        """A copy of the extra facts."""
        return self._extra.copy() if self._extra else {}

    # -- whole scopes

    def fork(self) -> Scope:
        """Return a copy; later changes do not cross either way. It begins a trace of its own."""
        fork = Scope.__new__(Scope)
        tags = self._tags
        fork._tags = tags.copy() if tags else None
        contexts = self._contexts
        fork._contexts = contexts.copy() if contexts else None
        extra = self._extra
        fork._extra = extra.copy() if extra else None
        ring = self._breadcrumbs
        if ring:
            fork._take_ring(snapshot(ring))
        else:
            fork._breadcrumbs = None
        fork._processors = self._processors
        fork._attachments = self._attachments
        fork.user = self.user
        fork.level = self.level
        fork.fingerprint = self.fingerprint
        fork.transaction = self.transaction
        fork.transaction_source = self.transaction_source
        fork.request = self.request
        fork.trace = None
        fork.last_event_id = None
        return fork

    def absorb(self, other: Scope) -> None:
        """Take over what `other` says; where both say something, it wins."""
        tags, contexts, extra = other._tags, other._contexts, other._extra
        if tags:
            self._tags = {**self._tags, **tags.copy()} if self._tags else tags.copy()
        if contexts:
            own = self._contexts
            self._contexts = {**own, **contexts.copy()} if own else contexts.copy()
        if extra:
            self._extra = {**self._extra, **extra.copy()} if self._extra else extra.copy()
        ring = other._breadcrumbs
        if ring:
            mine = self._breadcrumbs
            self._take_ring(_interleaved(mine, snapshot(ring)) if mine else snapshot(ring))
        if other._processors:
            self._processors += other._processors
        if other._attachments:
            self._attachments += other._attachments
        if other.user is not None:
            self.user = other.user
        if other.level is not None:
            self.level = other.level
        if other.fingerprint is not None:
            self.fingerprint = other.fingerprint
        if other.transaction is not None:
            self.transaction = other.transaction
            self.transaction_source = other.transaction_source
        if other.request is not None:
            self.request = other.request
        if other.trace is not None:
            self.trace = other.trace

    def clear(self) -> None:
        """Forget everything that was set."""
        self.__init__()  # type: ignore[misc]

    def _ring(self, limit: int) -> _Ring:
        """Make the ring, or one of another size."""
        ring: _Ring
        old = self._breadcrumbs
        if old is None:
            self._numbers = count()
            self._breadcrumbs = ring = deque(maxlen=limit)
        else:
            self._breadcrumbs = ring = deque(snapshot(old), limit)
        return ring

    def _take_ring(self, ring: _Ring) -> None:
        self._breadcrumbs = ring
        self._numbers = count(ring[-1][0] + 1) if ring else count()


def merged(*scopes: Scope) -> Scope:
    """Return one scope with what all of them say, later ones winning: a snapshot of its own.

    Breadcrumbs are brought into the order of their times, processors run in the order of scopes.
    """
    result = Scope()
    for scope in scopes:
        result.absorb(scope)
    return result


def apply(scope: Scope, event: Event, *, breadcrumbs: bool = True) -> Event:
    """Put what `scope` knows into `event` and return it; without its breadcrumbs if so wanted.

    The level of the scope wins over the event's, tags, extra and contexts of the event over the
    scope's; the rest is filled in where the event says nothing.
    """
    if scope.level is not None:
        event["level"] = scope.level
    for key, own in (("tags", scope.tags), ("extra", scope.extra), ("contexts", scope.contexts)):
        if own:
            given = event.get(key)
            event[key] = {**own, **given} if type(given) is dict else own  # type: ignore[literal-required]
    if scope.user and not event.get("user"):
        event["user"] = dict(scope.user)
    if scope.fingerprint and not event.get("fingerprint"):
        event["fingerprint"] = scope.fingerprint
    if scope.transaction and not event.get("transaction"):
        event["transaction"] = scope.transaction
        fields: dict[str, Any] = event  # type: ignore[assignment]
        fields["transaction_info"] = {"source": scope.transaction_source or "custom"}
    if scope.request and not event.get("request"):
        event["request"] = dict(scope.request)
    crumbs = scope.breadcrumbs() if breadcrumbs else []
    if crumbs and not event.get("breadcrumbs"):
        event["breadcrumbs"] = {"values": crumbs}
    return event


def _interleaved(one: _Ring, other: _Ring) -> _Ring:
    """Return the crumbs of both in the order of their times, numbered on from those lost."""
    longest = max(one.maxlen or 0, other.maxlen or 0)
    total = one[-1][0] + 1 + other[-1][0] + 1
    crumbs = sorted((noted for ring in (one, other) for _, noted in ring), key=_moment)[-longest:]
    return deque(enumerate(crumbs, total - len(crumbs)), longest)


def _moment(noted: Noted) -> float:
    timestamp = noted[0].get("timestamp")
    return timestamp if type(timestamp) is float else 0.0


def _detached(data: object) -> object:
    """Return data as plain JSON of bounded size: a crumb must not keep large objects alive.

    Source: complaints-transport.md, 27.
    """
    plain = _rules.plain
    made = None if plain is None else plain(_copied(data))
    return data if made is None else made


def _copied(value: object) -> dict[str, Any]:
    """Return a mapping as a dict of its own; anything else as the only entry of one."""
    copy = foreign.mapping(value)
    return {"value": value} if copy is None else copy


def _entries(mapping: Mapping[str, object]) -> list[tuple[str, object]]:
    return list(_copied(mapping).items())


def _shed(entries: dict[str, Any], what: str) -> None:
    log.warning(f"a scope holds over {MAX_KEYS} {what}; the oldest are forgotten")
    oldest = next(iter(entries.copy()), None)
    if oldest is not None:
        entries.pop(oldest, None)


def _file_bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(limits.ATTACHMENT_BYTES + 1)
    except (OSError, ValueError) as error:
        log.warning(f"attachment {path!r} cannot be read: {error}")
        return None


def _hex(text: object, digits: int) -> bool:
    return (
        type(text) is str
        and len(text) == digits
        and not text.strip("0123456789abcdefABCDEF")
        and bool(text.strip("0"))
    )
