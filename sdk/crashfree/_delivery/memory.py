"""`MemoryTransport`: keeps what was submitted, for tests.

Threads: any.
"""

from __future__ import annotations

from collections.abc import Sequence

from crashfree._ground import json
from crashfree._ground.typed import cast
from crashfree._protocol.envelope import Envelope
from crashfree.types import ClientReport, Event, SessionAggregates, SessionUpdate


class MemoryTransport:
    """Every envelope, in order, and views of what they hold."""

    __slots__ = ("_closed", "_envelopes")
    _envelopes: list[Envelope]
    _closed: bool

    def __init__(self) -> None:
        self._envelopes = []
        self._closed = False

    def submit(self, envelope: Envelope) -> bool:
        if self._closed:
            return False
        self._envelopes.append(envelope)
        return True

    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float) -> bool:
        self._closed = True
        return True

    def forget(self) -> None:
        """A forked child starts with nothing: what is here was its parent's."""
        self._envelopes = []

    def clear(self) -> None:
        """Drop what was kept so far."""
        self._envelopes.clear()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def envelopes(self) -> Sequence[Envelope]:
        """The envelopes so far; a copy."""
        return self._envelopes.copy()

    @property
    def events(self) -> list[Event]:
        """The payloads of all `event` items."""
        return [cast(Event, payload) for payload in self._payloads("event")]

    @property
    def sessions(self) -> list[SessionUpdate]:
        """The payloads of all `session` items."""
        return [cast(SessionUpdate, payload) for payload in self._payloads("session")]

    @property
    def aggregates(self) -> list[SessionAggregates]:
        """The payloads of all `sessions` items."""
        return [cast(SessionAggregates, payload) for payload in self._payloads("sessions")]

    @property
    def client_reports(self) -> list[ClientReport]:
        """The payloads of all `client_report` items."""
        return [cast(ClientReport, payload) for payload in self._payloads("client_report")]

    def _payloads(self, kind: str) -> list[object]:
        return [
            json.decode(item.payload)
            for envelope in self._envelopes.copy()
            for item in envelope.items
            if item.type == kind
        ]
