"""From an envelope to facts: validation, clock drift, age, inbound filters.

What is wrong with one session, one bucket or one field is dropped alone and counted; its
neighbours stay. Only an event that is no JSON object refuses the envelope. Nothing here reads a
clock, a file or the database. Pure; threads: any.

Source: ingest.md sections 1, 4.1 and 6; sessions.md section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol, cast

from crashfree._ground import ids, json
from crashfree._ground.text import first_forbidden, same_ascii
from crashfree._protocol import limits
from crashfree._protocol.attributes import Attributes
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.fields import hex_id
from crashfree._protocol.items import Item, base_name
from crashfree._protocol.naming import valid_dist
from crashfree._protocol.received import parse_session_aggregates, parse_session_update
from crashfree._protocol.reports import parse_client_report
from crashfree._protocol.timestamps import parse_rfc3339, parse_timestamp
from crashfree.server import quick
from crashfree.server.facts import (
    AggregatesFact,
    AttachmentFact,
    BucketRow,
    DocumentFact,
    EventFact,
    Facts,
    SessionFact,
    TallyKey,
    packed,
    unpacked,
)
from crashfree.server.typed import decode

MICRO: Final = 1_000_000
_AGE_US: Final = limits.SESSION_AGE * MICRO
_FUTURE_US: Final = limits.FUTURE * MICRO
_EVENT_AGE: Final = 30 * 86_400
_LEVELS: Final = frozenset(("fatal", "error", "warning", "info", "debug"))
_ENDED_WELL: Final = frozenset(("ok", "exited"))
_LONGEST_STATUS: Final = 32
_LONGEST_NAME: Final = 255
_LARGEST: Final = 2**62
_MOST_TAGS: Final = 100


class InvalidEvent(Exception):
    """An event whose payload is no JSON object."""


class TooMany(Exception):
    """More aggregates in one item than are taken."""


class Filters(Protocol):
    """The inbound filters of a project. Each answers with the reason, or None."""

    def event(self, event: Mapping[str, Any], /, *, client_ip: str | None) -> str | None: ...

    def session(
        self, attrs: Mapping[str, Any], /, *, client_ip: str | None, user_agent: str | None
    ) -> str | None: ...


class Sender(NamedTuple):
    """Whose envelope it is and how it came."""

    project_id: int
    received: float
    client_ip: str | None = None
    user_agent: str | None = None


class Policy(NamedTuple):
    """What a project wants."""

    filters: Filters | None = None
    keep_attachments: bool = False
    most_aggregates: int = limits.AGGREGATE_BUCKETS


def read(envelope: Envelope, sender: Sender, policy: Policy) -> Facts:
    """Return the facts of an envelope that has passed the rules across items.

    Raises InvalidEvent and TooMany; nothing of the envelope counts then.
    """
    return _Reading(envelope, sender, policy).facts()


class _Reading:
    """One envelope being read."""

    __slots__ = (
        "aggregates",
        "attachments",
        "documents",
        "drift_us",
        "envelope",
        "event",
        "event_id",
        "policy",
        "received_us",
        "sender",
        "sessions",
        "tallies",
    )
    envelope: Envelope
    sender: Sender
    policy: Policy
    received_us: int
    drift_us: int
    event_id: str | None
    event: EventFact | None
    sessions: list[SessionFact]
    aggregates: list[AggregatesFact]
    attachments: list[AttachmentFact]
    documents: list[DocumentFact]
    tallies: dict[TallyKey, int]

    def __init__(self, envelope: Envelope, sender: Sender, policy: Policy) -> None:
        self.envelope = envelope
        self.sender = sender
        self.policy = policy
        self.received_us = int(sender.received * MICRO)
        self.drift_us = _drift_us(envelope, sender.received)
        self.event_id = envelope.event_id
        self.event = None
        self.sessions = []
        self.aggregates = []
        self.attachments = []
        self.documents = []
        self.tallies = {}

    def facts(self) -> Facts:
        items = self.envelope.items
        event_gone = False
        for item in items:
            # The event first: attachments go the way it goes, and may take their id from it.
            if item.type == "event":
                event_gone = not self._event(item)
        for item in items:
            kind = item.type
            if kind == "session":
                self._session(item)
            elif kind == "sessions":
                self._sessions(item)
            elif kind == "client_report":
                self._client_report(item)
            elif kind == "attachment":
                if not event_gone:
                    self._attachment(item)
            elif kind in ("feedback", "user_report", "check_in"):
                self._document(item)
            elif kind != "event":
                self._count("skipped", item.category, kind[:_LONGEST_STATUS])
        return Facts(
            project_id=self.sender.project_id,
            received=self.sender.received,
            event_id=self.event_id,
            event=self.event,
            sessions=tuple(self.sessions),
            aggregates=tuple(self.aggregates),
            attachments=tuple(self.attachments),
            documents=tuple(self.documents),
            tallies=self.tallies,
        )

    def _count(self, what: str, category: str, reason: str, n: int = 1) -> None:
        key = (what, category, reason)
        self.tallies[key] = self.tallies.get(key, 0) + n

    # Sessions.

    def _session(self, item: Item) -> None:
        try:
            payload = decode(item.view)
            if not self.drift_us and self.policy.filters is None:
                fact = quick.session(payload, self.received_us, self._window())
                if fact is not None and valid_release(fact.release):
                    environment = _environment(fact.environment or None)
                    self.sessions.append(
                        fact
                        if environment == fact.environment
                        else fact._replace(environment=environment)
                    )
                    return
            update = parse_session_update(payload)
        except ValueError:
            self._count("refused", "session", "invalid")
            return
        # Filters see a session before anything in it is mended or judged.
        if self._filtered(update.attributes, None) or not self._release_fits(update.attributes):
            return
        started_us = round(update.started * MICRO) + self.drift_us
        changed_us = (
            self.received_us
            if update.timestamp is None
            else round(update.timestamp * MICRO) + self.drift_us
        )
        changed_us = max(changed_us, started_us)
        fault = self._age_fault(started_us) or self._age_fault(changed_us)
        if fault is not None:
            self._count("refused", "session", fault)
            return
        errors = min(update.errors, _LARGEST)
        if update.status not in _ENDED_WELL:
            errors = max(errors, 1)
        rank = changed_us // 1000 if update.seq is None else update.seq
        duration = update.duration
        self.sessions.append(
            SessionFact(
                sid=bytes.fromhex((update.sid or ids.session_id()).replace("-", "")),
                release=update.attributes.release,
                environment=_environment(update.attributes.environment),
                did=update.did,
                started_us=started_us,
                changed_us=changed_us,
                rank=min(rank, _LARGEST),
                init=update.init,
                status=update.status[:_LONGEST_STATUS],
                errors=errors,
                duration_us=None if duration is None else min(round(duration * MICRO), _LARGEST),
                mechanism=update.abnormal_mechanism,
            )
        )

    def _sessions(self, item: Item) -> None:
        try:
            raw = item.payload
            usual = None if self.drift_us else quick.sessions(raw, self._window())
            attributes, rows = usual or _buckets(decode(raw))
        except ValueError:
            self._count("refused", "session", "invalid")
            return
        if len(rows) > self.policy.most_aggregates:
            raise TooMany(f"more than {self.policy.most_aggregates} aggregates in one item")
        if self._filtered(attributes, rows) or not self._release_fits(attributes):
            return
        if usual is None:
            rows = self._in_time(rows)
        if rows:
            environment = _environment(attributes.environment)
            self.aggregates.append(AggregatesFact(attributes.release, environment, tuple(rows)))

    def _in_time(self, rows: list[BucketRow]) -> list[BucketRow]:
        """Return the buckets that are not empty, too old or in the future, times corrected."""
        kept: list[BucketRow] = []
        for row in rows:
            started_us = row[0] + self.drift_us
            fault = self._age_fault(started_us)
            total = _total(row)
            if fault is not None:
                self._count("refused", "session", fault, total)
            elif total:
                kept.append((started_us, *row[1:]))
        return kept

    def _window(self) -> quick.Window:
        return (self.received_us - _AGE_US, self.received_us + _FUTURE_US)

    def _age_fault(self, instant_us: int) -> str | None:
        age = self.received_us - instant_us
        if age > _AGE_US:
            return "too_old"
        return "in_future" if age < -_FUTURE_US else None

    def _filtered(self, attributes: Attributes, rows: list[BucketRow] | None) -> bool:
        filters = self.policy.filters
        if filters is None:
            return False
        attrs = {key: value for key, value in attributes._asdict().items() if value is not None}
        if attrs.get("ip_address") == "{{auto}}":
            attrs["ip_address"] = self.sender.client_ip or ""
        reason = filters.session(
            attrs, client_ip=self.sender.client_ip, user_agent=self.sender.user_agent
        )
        if reason is not None:
            quantity = 1 if rows is None else sum(map(_total, rows))
            self._count("filtered", "session", reason, quantity)
        return reason is not None

    def _release_fits(self, attributes: Attributes) -> bool:
        if valid_release(attributes.release):
            return True
        self._count("refused", "session", "invalid_release")
        return False

    # Events and what goes with them.

    def _event(self, item: Item) -> bool:
        """Take the event; False when a filter dropped it."""
        raw = bytes(item.view)
        try:
            payload: Any = decode(raw)
        except ValueError as error:
            raise InvalidEvent(str(error)) from None
        if not isinstance(payload, dict):
            raise InvalidEvent("the payload is no JSON object")
        payload = cast("dict[str, Any]", payload)
        if self.event_id is None:
            own = payload.get("event_id")
            self.event_id = (hex_id(own) if isinstance(own, str) else None) or ids.event_id()
        filters = self.policy.filters
        reason = (
            None if filters is None else filters.event(payload, client_ip=self.sender.client_ip)
        )
        if reason is not None:
            self._count("filtered", "error", reason)
            return False
        self.event = self._event_fact(self.event_id, raw, payload)
        return True

    def _event_fact(self, event_id: str, raw: bytes, payload: dict[str, Any]) -> EventFact:
        notes: dict[str, str] = {}
        release = _name(payload, "release", valid_release, notes)
        environment = _name(payload, "environment", valid_environment, notes)
        dist = _name(payload, "dist", valid_dist, notes)
        tags = payload.get("tags")
        if isinstance(tags, dict) and len(cast("dict[str, Any]", tags)) > _MOST_TAGS:
            kept = list(cast("dict[str, Any]", tags).items())[:_MOST_TAGS]
            payload["tags"] = dict(kept)
            notes["tags"] = "limit"
        if notes:
            _annotate(payload, notes)
            raw = json.encode(payload)
        level = payload.get("level")
        platform = payload.get("platform")
        return EventFact(
            event_id=event_id,
            timestamp=self._event_time(payload.get("timestamp")),
            release=release,
            environment=environment or "",
            dist=dist if release is not None else None,
            level=level if isinstance(level, str) and level in _LEVELS else "error",
            platform=platform[:64] if isinstance(platform, str) else "other",
            raw=raw,
            payload=payload,
        )

    def _event_time(self, value: object) -> float:
        received = self.sender.received
        try:
            stated = parse_timestamp(value) + self.drift_us / MICRO
        except ValueError:
            return received
        return stated if received - _EVENT_AGE <= stated <= received + limits.FUTURE else received

    def _attachment(self, item: Item) -> None:
        if self.event_id is None:
            self._count("refused", "attachment", "no_event")
            return
        name = item.headers.get("filename")
        content_type = item.headers.get("content_type")
        kind = item.headers.get("attachment_type")
        self.attachments.append(
            AttachmentFact(
                event_id=self.event_id,
                name=base_name(name)[:_LONGEST_NAME] if isinstance(name, str) else "unnamed",
                content_type=content_type[:_LONGEST_NAME]
                if isinstance(content_type, str)
                else None,
                attachment_type=kind[:_LONGEST_NAME]
                if isinstance(kind, str)
                else "event.attachment",
                size=item.size_hint,
                data=bytes(item.view) if self.policy.keep_attachments else None,
            )
        )

    def _document(self, item: Item) -> None:
        raw = bytes(item.view)
        try:
            payload: Any = decode(raw)
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            self._count("refused", item.category, "invalid")
            return
        kind = "check_in" if item.type == "check_in" else "feedback"
        self.documents.append(DocumentFact(kind, self.event_id, raw))

    def _client_report(self, item: Item) -> None:
        try:
            counts = parse_client_report(decode(item.view))
        except ValueError:
            self._count("refused", "internal", "invalid")
            return
        for (reason, category), quantity in counts.items():
            self._count("discarded", category[:64], reason[:64], quantity)


def _buckets(payload: object) -> tuple[Attributes, list[BucketRow]]:
    """Return attributes and buckets of a `sessions` payload; raises ValueError."""
    read = parse_session_aggregates(payload)
    return read.attributes, [
        (
            round(bucket.started * MICRO),
            bucket.did,
            packed(
                bucket.exited,
                bucket.errored,
                bucket.crashed,
                bucket.abnormal,
                bucket.unhandled,
            ),
        )
        for bucket in read.buckets
    ]


def _total(row: BucketRow) -> int:
    return sum(unpacked(row[2]))


_known_releases: dict[str, bool] = {}
_MOST_KNOWN: Final = 2048


def valid_release(text: str) -> bool:
    """Return whether a release name of an event or session is taken. It is not trimmed.

    Source: sessions.md section 1 (attrs.release).
    """
    known = _known_releases.get(text)
    if known is None:
        if len(_known_releases) >= _MOST_KNOWN:
            _known_releases.clear()
        known = _known_releases[text] = _fits(text, limits.RELEASE_BYTES, "latest")
    return known


_known_environments: dict[str, bool] = {}


def valid_environment(text: str) -> bool:
    """Return whether an environment name of an event or session is taken."""
    known = _known_environments.get(text)
    if known is None:
        if len(_known_environments) >= _MOST_KNOWN:
            _known_environments.clear()
        known = _fits(text, limits.ENVIRONMENT_BYTES, "none")
        _known_environments[text] = known
    return known


def _fits(text: str, most_bytes: int, reserved: str) -> bool:
    return (
        bool(text.strip())
        and len(text) <= most_bytes
        and len(text.encode("utf-8", "replace")) <= most_bytes
        and text not in (".", "..")
        and not same_ascii(text, reserved)
        and first_forbidden(text) is None
    )


def _environment(text: str | None) -> str:
    return text if text is not None and valid_environment(text) else ""


def _drift_us(envelope: Envelope, received: float) -> int:
    stated = envelope.headers.get("sent_at")
    if not isinstance(stated, str):
        return 0
    sent_us = quick.instant_us(stated)
    drift = received - (parse_rfc3339(stated) if sent_us is None else sent_us / MICRO)
    return round(drift * MICRO) if abs(int(drift)) >= limits.CLOCK_DRIFT else 0


def _name(payload: dict[str, Any], key: str, valid: Any, notes: dict[str, str]) -> str | None:
    """Return a name of an event; a bad one becomes null, and a note says so."""
    value = payload.get(key)
    if value is None:
        return None
    if key == "release" and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        value = value.strip()
        if valid(value):
            return value
    payload[key] = None
    notes[key] = "invalid_data"
    return None


def _annotate(payload: dict[str, Any], notes: Mapping[str, str]) -> None:
    meta = payload.get("_meta")
    if not isinstance(meta, dict):
        meta = payload["_meta"] = {}
    for key, fault in notes.items():
        meta[key] = {"": {"err": [fault]}}
