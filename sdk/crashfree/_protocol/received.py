"""A session update as a server reads it. Writing one: `session`.

Pure; threads: any. Source: sessions.md section 1.
"""

from __future__ import annotations

from crashfree._ground.typed import NamedTuple
from crashfree._protocol import fields, limits
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
