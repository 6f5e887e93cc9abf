"""Items: what an envelope carries.

An item is built by the factories below and by nothing else, so that type, data category and
payload always fit together. It does not change, except that an event's payload may be lazy: it is
built and encoded when somebody first asks for it, and kept. Asked by two threads at that moment,
both build and the first result is what both get; no lock is held.

Threads: any. Source: wire.md sections 4 and 12 (quantities).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crashfree._ground import json
from crashfree._ground.typed import Any
from crashfree.types import (
    JSON,
    Attachment,
    ClientReport,
    DataCategory,
    Event,
    SessionAggregates,
    SessionUpdate,
)

_CATEGORIES: Mapping[str, DataCategory] = {
    "event": "error",
    "session": "session",
    "sessions": "session",
    "client_report": "internal",
    "attachment": "attachment",
    "feedback": "feedback",
    "check_in": "monitor",
    "user_report": "user_report",
    "transaction": "transaction",
    "span": "span",
    "log": "log_item",
    "trace_metric": "trace_metric",
    "profile": "profile",
    "profile_chunk": "profile_chunk",
    "replay_event": "replay",
    "replay_recording": "replay",
    "replay_video": "replay",
    "statsd": "metric_bucket",
    "metric_buckets": "metric_bucket",
    "raw_security": "security",
    "security": "security",
}
_NO_COLUMNS = ("started", "did")
"""Of a bucket of aggregates: which one it is. All the others count sessions."""
_JSON_TYPE: Mapping[str, JSON] = {"content_type": "application/json"}


def category_of(item_type: str) -> DataCategory:
    """Return the data category of an item type; unknown types fall under `default`."""
    return _CATEGORIES.get(item_type, "default")


class Item:
    """One item. Made by the factories of this module only."""

    __slots__ = ("_build", "_payload", "_quantity", "_size_hint", "headers", "type", "unhandled")

    type: str
    headers: Mapping[str, JSON]
    """Item headers besides `type` and `length`."""
    unhandled: bool
    """True for an event that nobody handled: the last one to be given up."""
    _payload: bytes | memoryview | None
    _build: Callable[[], bytes] | None
    _quantity: int | None
    _size_hint: int

    def __init__(
        self,
        item_type: str,
        headers: Mapping[str, JSON],
        *,
        payload: bytes | memoryview | None = None,
        build: Callable[[], bytes] | None = None,
        size_hint: int = 0,
        quantity: int | None = None,
        unhandled: bool = False,
    ) -> None:
        self.type = item_type
        self.headers = headers
        self.unhandled = unhandled
        self._payload = payload
        self._build = build
        self._quantity = quantity
        self._size_hint = size_hint

    @property
    def category(self) -> DataCategory:
        """What rate limits and client reports call it."""
        return category_of(self.type)

    @property
    def built(self) -> bool:
        """Whether the payload is there already."""
        return self._payload is not None

    @property
    def payload(self) -> bytes:
        """The bytes; built now when they were not yet, and then whatever building raises."""
        payload = self._payload
        if payload is None:
            return self._built()
        if isinstance(payload, memoryview):
            payload = self._payload = bytes(payload)
        return payload

    @property
    def view(self) -> bytes | memoryview:
        """The payload without a copy; of a decoded item, a view of the envelope's bytes."""
        payload = self._payload
        return self._built() if payload is None else payload

    @property
    def size_hint(self) -> int:
        """Payload size in bytes; before a lazy payload is built, what its parts take in memory."""
        payload = self._payload
        return self._size_hint if payload is None else len(payload)

    @property
    def quantity(self) -> int:
        """How much is lost with it: bytes of an attachment, sessions of aggregates, else items."""
        quantity = self._quantity
        if quantity is None:
            quantity = self._quantity = _quantity(self)
        return quantity

    def _built(self) -> bytes:
        build = self._build
        if build is not None:
            built = build()
            # Invariant: the payload, once set, stays; a thread that was faster wins.
            if self._payload is None:
                self._payload = built
            self._build = None
        assert self._payload is not None
        return self.payload

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        return self.type == other.type and self.headers == other.headers and self.view == other.view

    def __repr__(self) -> str:
        return f"<Item {self.type}, {self.size_hint} bytes>"


def event_item(
    event: Event | Callable[[], Event | bytes],
    *,
    size_hint: int = 0,
    unhandled: bool | None = None,
) -> Item:
    """Make an `event` item.

    Given a function, it is called when the payload is first asked for (and once more when two
    threads ask at that same moment); it may return the event encoded already. `unhandled` None:
    looked up in an event that is there, False for one that is not.
    """
    if callable(event):
        build = event
        return Item(
            "event",
            _JSON_TYPE,
            build=lambda: _encoded(build()),
            size_hint=size_hint,
            quantity=1,
            unhandled=bool(unhandled),
        )
    if unhandled is None:
        unhandled = is_unhandled(event)
    return Item("event", _JSON_TYPE, payload=json.encode(event), quantity=1, unhandled=unhandled)


def _encoded(event: Event | bytes) -> bytes:
    return event if isinstance(event, bytes) else json.encode(event)


def session_item(update: SessionUpdate) -> Item:
    """Make a `session` item."""
    return Item("session", _JSON_TYPE, payload=json.encode(update), quantity=1)


def sessions_item(aggregates: SessionAggregates) -> Item:
    """Make a `sessions` item; its quantity is the number of sessions in it."""
    quantity = _sessions_in(aggregates)
    return Item("sessions", _JSON_TYPE, payload=json.encode(aggregates), quantity=quantity)


def client_report_item(report: ClientReport) -> Item:
    """Make a `client_report` item."""
    return Item("client_report", _JSON_TYPE, payload=json.encode(report), quantity=1)


def attachment_item(attachment: Attachment) -> Item:
    """Make an `attachment` item; the path is cut off its name."""
    headers: dict[str, JSON] = {"filename": base_name(attachment["filename"])}
    content_type = attachment.get("content_type")
    if content_type is not None:
        headers["content_type"] = content_type
    attachment_type = attachment.get("attachment_type")
    if attachment_type is not None:
        headers["attachment_type"] = attachment_type
    data = attachment["data"]
    return Item("attachment", headers, payload=data, quantity=max(1, len(data)))


def received_item(item_type: str, headers: Mapping[str, JSON], payload: bytes | memoryview) -> Item:
    """Make an item of what was read; of any type, known or not."""
    return Item(item_type, headers, payload=payload)


def base_name(filename: str) -> str:
    """Return a file name without path and control characters; `unnamed` when nothing is left."""
    last = filename.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = "".join(char for char in last if char.isprintable())
    return name if name.strip(". ") else "unnamed"


def is_unhandled(event: Mapping[str, Any]) -> bool:
    """Return whether some exception of the event says `handled: false`."""
    exceptions: Mapping[str, Any] = event.get("exception") or {}
    values: list[Mapping[str, Any]] = exceptions.get("values") or []
    return any(_mechanism(value).get("handled") is False for value in values)


def _mechanism(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return value.get("mechanism") or {}


def _quantity(item: Item) -> int:
    if item.type == "attachment":
        return max(1, item.size_hint)
    if item.type == "sessions":
        try:
            return max(1, _sessions_in(json.decode(item.view)))
        except ValueError:
            return 1
    count = item.headers.get("item_count")
    return count if isinstance(count, int) and count > 0 else 1


def _sessions_in(aggregates: Any) -> int:
    """Return how many sessions aggregates count; 0 in what is none.

    Source: sessions.md section 2.
    """
    total = 0
    try:
        for bucket in aggregates["aggregates"]:
            for column, count in bucket.items():
                if column not in _NO_COLUMNS and isinstance(count, int):
                    total += count
    except (KeyError, TypeError, AttributeError):
        return 0
    return total
