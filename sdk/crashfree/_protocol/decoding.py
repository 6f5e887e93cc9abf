"""Reading envelopes: bytes back into a header and items, strictly.

Invariants: `decode_envelope(envelope.encode()) == envelope`; unknown items, item headers and
envelope headers survive; what is read is a view of the bytes it came in, so nothing is allocated
on the word of a header.

Apart from `envelope`, because a program that starts has only to write. Pure; threads: any.
Source: wire.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable

from crashfree._ground import json
from crashfree._ground.typed import Any, cast
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.fields import hex_id
from crashfree._protocol.items import Item, received_item
from crashfree._protocol.limits import LIMITS, Limits
from crashfree._protocol.timestamps import parse_rfc3339
from crashfree.errors import EnvelopeError, InvalidDsn
from crashfree.types import JSON

_KNOWN_KEYS = ("event_id", "dsn", "sent_at")


def decode_envelope(data: bytes | bytearray | memoryview, *, limits: Limits = LIMITS) -> Envelope:
    """Read an envelope strictly.

    Item payloads are views of `data`; `Item.payload` copies one out, `Item.view` does not. The
    rules across items are `check`'s.

    Raises EnvelopeError, whose code names the rule.
    """
    body = data if isinstance(data, bytes) else bytes(data)
    if not body:
        raise EnvelopeError("the body is empty", code="empty_body")
    line, position = _line(body, 0, limits.header_line)
    headers = _envelope_header(line)
    view = memoryview(body)
    items: list[Item] = []
    while position < len(body):
        if len(items) >= limits.items:
            raise EnvelopeError(f"more than {limits.items} items", code="too_large")
        line, position = _line(body, position, limits.header_line)
        item_type, length, item_headers = _item_header(line)
        end = _payload_end(body, position, length)
        items.append(received_item(item_type, item_headers, view[position:end]))
        position = end + 1
    return Envelope(headers, tuple(items))


def check(envelope: Envelope, *, limits: Limits = LIMITS) -> None:
    """Refuse an envelope that breaks the rules across items or a size limit.

    Raises EnvelopeError: `conflicting_items` for an event next to a transaction, `too_large` for
    every number that is exceeded.
    """
    numbers: dict[str, int] = {}
    sizes = {
        "event": limits.event,
        "transaction": limits.event,
        "feedback": limits.event,
        "session": limits.session,
        "sessions": limits.session_aggregates,
        "client_report": limits.client_report,
        "check_in": limits.check_in,
        "attachment": limits.attachment,
    }
    attachments = 0
    for item in envelope.items:
        numbers[item.type] = numbers.get(item.type, 0) + 1
        largest = sizes.get(item.type)
        if largest is not None and item.size_hint > largest:
            raise EnvelopeError(
                f"{item.type} of {item.size_hint} bytes, at most {largest} are taken",
                code="too_large",
            )
        if item.type == "attachment":
            attachments += item.size_hint
        if item.type == "sessions":
            _check_buckets(item, limits.aggregates)
    if attachments > limits.attachments:
        raise EnvelopeError(
            f"attachments of {attachments} bytes, at most {limits.attachments} are taken",
            code="too_large",
        )
    for item_type in ("event", "transaction", "feedback", "check_in"):
        if numbers.get(item_type, 0) > 1:
            raise EnvelopeError(f"more than one {item_type}", code="too_large")
    if numbers.get("session", 0) > limits.sessions:
        raise EnvelopeError(f"more than {limits.sessions} session items", code="too_large")
    if "event" in numbers and "transaction" in numbers:
        raise EnvelopeError("an event and a transaction", code="conflicting_items")


def _check_buckets(item: Item, highest: int) -> None:
    # The shortest list entry is `{},`: what is smaller cannot hold too many.
    if item.size_hint <= 3 * highest:
        return
    try:
        payload: object = json.decode(item.view)
    except ValueError:
        return
    if not isinstance(payload, dict):
        return
    buckets = cast("dict[str, object]", payload).get("aggregates")
    if isinstance(buckets, list) and len(cast("list[object]", buckets)) > highest:
        raise EnvelopeError(f"more than {highest} aggregates in one item", code="too_large")


def _line(body: bytes, start: int, longest: int) -> tuple[bytes, int]:
    """Return the line at `start` without its newline, and where the next one begins."""
    end = body.find(b"\n", start, start + longest + 1)
    if end < 0:
        end = len(body)
        if end - start > longest:
            raise EnvelopeError(
                f"a header line is longer than {longest} bytes", code="header_too_large"
            )
    return body[start:end], end + 1


def _envelope_header(line: bytes) -> dict[str, JSON]:
    # A known key that comes twice means two things to two readers.
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        # Called for each object, the outermost last.
        pairs[:] = found
        return dict(found)

    header = _object(line, "invalid_header", keep)
    names = [name for name, _ in pairs]
    for key in _KNOWN_KEYS:
        if names.count(key) > 1:
            raise EnvelopeError(f"the header has two {key}", code="invalid_header")
    if "event_id" in header:
        value = header["event_id"]
        event_id = hex_id(value) if isinstance(value, str) else None
        if event_id is None:
            raise EnvelopeError("the header's event_id is no UUID", code="invalid_header")
        header["event_id"] = event_id
    if "dsn" in header:
        _check_dsn(header["dsn"])
    if "sent_at" in header:
        _check_sent_at(header["sent_at"])
    return header


def _check_dsn(value: JSON) -> None:
    try:
        if isinstance(value, str):
            Dsn.parse(value)
            return
    except InvalidDsn:
        pass
    raise EnvelopeError("the header's dsn is no DSN", code="invalid_header")


def _check_sent_at(value: JSON) -> None:
    try:
        if isinstance(value, str):
            parse_rfc3339(value)
            return
    except ValueError:
        pass
    raise EnvelopeError("the header's sent_at is no RFC 3339 time", code="invalid_header")


def _item_header(line: bytes) -> tuple[str, int | None, dict[str, JSON]]:
    header = _object(line, "invalid_item_header", None)
    item_type = header.pop("type", None)
    length = header.pop("length", None)
    if not isinstance(item_type, str) or not item_type:
        raise EnvelopeError("an item has no type", code="invalid_item_header")
    if length is None:
        return item_type, None, header
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise EnvelopeError("an item's length is no size", code="invalid_item_header")
    return item_type, length, header


def _payload_end(body: bytes, start: int, length: int | None) -> int:
    if length is None:
        end = body.find(b"\n", start)
        return len(body) if end < 0 else end
    # An item header in the last line leaves `start` one past the end; only length 0 fits there.
    end = min(start, len(body)) + length
    if end > len(body):
        raise EnvelopeError("the body ends inside a payload", code="unexpected_eof")
    if end < len(body) and body[end] != 0x0A:
        raise EnvelopeError("no newline after a payload", code="missing_newline")
    return end


def _object(
    line: bytes, code: str, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None
) -> dict[str, JSON]:
    # json.loads would take blanks and carriage returns around the object.
    if not (line.startswith(b"{") and line.endswith(b"}")):
        raise EnvelopeError("a header line is no JSON object", code=code)
    try:
        value = json.decode(line, pairs_hook=pairs_hook)
    except ValueError as error:
        raise EnvelopeError(f"a header line is no JSON: {error}", code=code) from None
    return cast("dict[str, JSON]", value)
