"""What is told about sessions, one by one and in aggregates, as a server reads it.

Writing it: `session` and `aggregates`. Pure; threads: any. Source: sessions.md sections 1 and 2.
"""

from __future__ import annotations

from crashfree._ground.typed import NamedTuple, cast
from crashfree._protocol import fields, limits
from crashfree._protocol.aggregates import OUTCOMES
from crashfree._protocol.attributes import Attributes, parse_attributes
from crashfree.types import AbnormalMechanism


class ReceivedSession(NamedTuple):
    """A `session` payload as a server read it; the names in its attributes are not checked."""

    sid: str | None
    """Dashed, lower case; None: the server makes one."""
    did: str | None
    seq: int | None
    """0 when `init`; None: the server takes its own time in milliseconds."""
    timestamp: float | None
    started: float
    init: bool
    duration: float | None
    status: str
    """As it was sent: words that we do not know are kept."""
    errors: int
    abnormal_mechanism: AbnormalMechanism | None
    attributes: Attributes


def parse_session_update(payload: object) -> ReceivedSession:
    """Read the decoded payload of a `session` item.

    Raises ValueError with the reason when a field is missing or of the wrong type. Release and
    environment are text here; whether they are valid names is for the caller to say.
    """
    update = fields.mapping(payload, "the payload")
    status = fields.text(update, "status") if "status" in update else "ok"
    if status is None:
        raise ValueError("status is not text")
    init = fields.flag(update, "init", False)
    seq = fields.count(update, "seq", 0, limits.COUNTER) if "seq" in update else None
    duration = fields.number(update, "duration")
    mechanism = fields.text(update, "abnormal_mechanism")
    return ReceivedSession(
        sid=_received_sid(update["sid"]) if "sid" in update else None,
        did=fields.identity(update, "did"),
        seq=0 if init else seq,
        timestamp=fields.instant(update, "timestamp") if "timestamp" in update else None,
        started=fields.instant(update, "started"),
        init=init,
        duration=None if duration is None or duration < 0 else duration,
        status=status,
        errors=fields.count(update, "errors", 0, limits.COUNTER),
        abnormal_mechanism=_received_mechanism(status, mechanism),
        attributes=parse_attributes(update),
    )


class ReceivedBucket(NamedTuple):
    """One bucket as a server read it. `started` is not rounded."""

    started: float
    did: str | None
    exited: int
    errored: int
    crashed: int
    abnormal: int
    unhandled: int

    @property
    def total(self) -> int:
        """All sessions of the bucket."""
        return self.exited + self.errored + self.crashed + self.abnormal + self.unhandled


class ReceivedAggregates(NamedTuple):
    """A `sessions` payload as a server read it; the names in it are not checked."""

    attributes: Attributes
    buckets: tuple[ReceivedBucket, ...]


def parse_session_aggregates(payload: object) -> ReceivedAggregates:
    """Read the decoded payload of a `sessions` item.

    Raises ValueError with the reason when any part of it is of the wrong type. Release and
    environment are text here; whether they are valid names is for the caller to say.
    """
    top = fields.mapping(payload, "the payload")
    attributes = parse_attributes(top)
    buckets: object = top.get("aggregates", [])
    if not isinstance(buckets, list):
        raise ValueError("aggregates is not a list")
    rows = cast("list[object]", buckets)
    return ReceivedAggregates(attributes, tuple(_parse_bucket(row) for row in rows))


def _parse_bucket(row: object) -> ReceivedBucket:
    bucket = fields.mapping(row, "a bucket")
    return ReceivedBucket(
        fields.instant(bucket, "started"),
        fields.identity(bucket, "did"),
        *(fields.count(bucket, outcome, 0, limits.COUNT) for outcome in OUTCOMES),
    )


def _received_sid(value: object) -> str:
    digits = fields.hex_id(value) if isinstance(value, str) else None
    if digits is None:
        raise ValueError("sid is not a UUID")
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _received_mechanism(status: str, mechanism: str | None) -> AbnormalMechanism | None:
    if status != "abnormal":
        return None
    if mechanism == "anr_foreground":
        return "anr_foreground"
    return "anr_background" if mechanism == "anr_background" else None
