"""The envelope: a header and items, and how they are written.

Invariant: written lengths are exact. Reading them back: `decoding`. Pure; threads: any.
Source: wire.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from crashfree._ground import json
from crashfree._ground.typed import NamedTuple
from crashfree._protocol.items import Item
from crashfree._protocol.limits import SESSION_ITEMS
from crashfree._protocol.timestamps import parse_rfc3339, rfc3339
from crashfree._version import __version__
from crashfree.types import JSON

SDK_NAME = "crashfree.python"
"""How this SDK names itself on the wire. Source: wire.md sections 2.1 and 3.1."""
CLIENT = f"{SDK_NAME}/{__version__}"
"""For `User-Agent` and `sentry_client`."""
SDK_INFO: dict[str, JSON] = {"name": SDK_NAME, "version": __version__}
"""For the envelope header `sdk`, and the root of an event's `sdk`."""

_NEED_NO_EVENT = frozenset(("session", "sessions", "client_report"))
_OWNERS = frozenset(("event", "transaction", "feedback"))
_SESSION_TYPES = frozenset(("session", "sessions"))
_OF_THE_EVENT = frozenset(("event_id", "trace"))


class Envelope(NamedTuple):
    """A header and items.

    The header holds no `sent_at` but the one that was received: `encode` states its own, or none.
    """

    headers: Mapping[str, JSON]
    items: tuple[Item, ...]

    @classmethod
    def of(
        cls,
        items: Iterable[Item],
        *,
        event_id: str | None = None,
        trace: Mapping[str, JSON] | None = None,
        sdk: Mapping[str, JSON] = SDK_INFO,
    ) -> Envelope:
        """Make an envelope; `event_id` is needed with an event, a feedback or an attachment."""
        headers: dict[str, JSON] = {}
        if event_id is not None:
            headers["event_id"] = event_id
        headers["sdk"] = sdk
        if trace is not None:
            headers["trace"] = trace
        return cls(headers, tuple(items))

    @property
    def event_id(self) -> str | None:
        """32 lower-case hex digits, None when the header has none."""
        value = self.headers.get("event_id")
        return value if isinstance(value, str) else None

    @property
    def sent_at(self) -> float | None:
        """When it was sent, as the received header says."""
        value = self.headers.get("sent_at")
        return parse_rfc3339(value) if isinstance(value, str) else None

    @property
    def size_hint(self) -> int:
        """Bytes of all payloads, as far as they are known."""
        return sum(item.size_hint for item in self.items)

    def encode(self, *, sent_at: float | None = None) -> bytes:
        """Return the bytes; builds lazy payloads, and raises what building raises.

        `sent_at` is now on the wall clock, or None for bytes that are kept rather than sent.
        """
        header = {key: value for key, value in self.headers.items() if key != "sent_at"}
        if sent_at is not None:
            header["sent_at"] = rfc3339(sent_at)
        parts: list[bytes | memoryview] = [json.encode(header), b"\n"]
        for item in self.items:
            payload = item.view
            item_header = {"type": item.type, "length": len(payload), **item.headers}
            parts += (json.encode(item_header), b"\n", payload, b"\n")
        return b"".join(parts)

    def without(self, drop: Callable[[Item], bool]) -> tuple[Envelope | None, tuple[Item, ...]]:
        """Leave out the items that `drop` names; return what is left (None: nothing), and those.

        Attachments go when the event they belong to goes. Lazy payloads are not built.
        """
        going = [drop(item) for item in self.items]
        owners = [
            gone for item, gone in zip(self.items, going, strict=True) if item.type in _OWNERS
        ]
        if owners and all(owners):
            going = [
                gone or item.type == "attachment"
                for item, gone in zip(self.items, going, strict=True)
            ]
        if not any(going):
            return (self if self.items else None), ()
        kept = tuple(item for item, gone in zip(self.items, going, strict=True) if not gone)
        dropped = tuple(item for item, gone in zip(self.items, going, strict=True) if gone)
        return (self._with(kept) if kept else None), dropped

    def split(self, *, max_sessions: int = SESSION_ITEMS) -> tuple[Envelope, ...]:
        """Return envelopes of at most `max_sessions` session items each, in the same order.

        Everything that is not about sessions stays in the first one.
        """
        sessions = [item for item in self.items if item.type in _SESSION_TYPES]
        if len(sessions) <= max_sessions:
            return (self,)
        late = {id(item) for item in sessions[max_sessions:]}
        first = tuple(item for item in self.items if id(item) not in late)
        return (
            self._with(first),
            *(
                self._with(tuple(sessions[start : start + max_sessions]))
                for start in range(max_sessions, len(sessions), max_sessions)
            ),
        )

    def _with(self, items: tuple[Item, ...]) -> Envelope:
        """Return the same envelope around other items; what only an event needs goes with it."""
        headers = self.headers
        if all(item.type in _NEED_NO_EVENT for item in items):
            headers = {key: value for key, value in headers.items() if key not in _OF_THE_EVENT}
        return Envelope(headers, items)
