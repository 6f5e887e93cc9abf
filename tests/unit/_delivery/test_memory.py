"""What tests of programs see."""

from __future__ import annotations

from crashfree._delivery.memory import MemoryTransport
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import (
    client_report_item,
    event_item,
    session_item,
    sessions_item,
)

STARTED = "2026-11-21T10:00:00Z"
ATTRS = {"release": "app@1"}


def test_views_by_kind() -> None:
    memory = MemoryTransport()
    sid = "7c7b6585-f901-4351-bf8d-02711b721929"
    event = event_item({"message": "hello"})
    session = session_item({"sid": sid, "started": STARTED, "attrs": {"release": "app@1"}})
    assert memory.submit(Envelope.of([event, session], event_id="0" * 32))
    counts = sessions_item(
        {"attrs": {"release": "app@1"}, "aggregates": [{"started": STARTED, "exited": 1}]}
    )
    memory.submit(Envelope.of([counts]))
    memory.submit(Envelope.of([client_report_item({"timestamp": 1, "discarded_events": []})]))
    assert len(memory.envelopes) == 3
    assert [found["message"] for found in memory.events] == ["hello"]
    assert [update["sid"] for update in memory.sessions] == [sid]
    assert [payload["attrs"] for payload in memory.aggregates] == [ATTRS]
    assert len(memory.client_reports) == 1
    memory.clear()
    assert memory.envelopes == []


def test_after_close_nothing_is_taken() -> None:
    memory = MemoryTransport()
    assert memory.flush(0.0)
    memory.close(0.0)
    assert memory.closed
    assert not memory.submit(Envelope.of([]))


def test_a_child_starts_with_nothing() -> None:
    memory = MemoryTransport()
    memory.submit(Envelope.of([event_item({})]))
    memory.forget()
    assert memory.envelopes == []
