"""Nothing leaves before the user agrees."""

from __future__ import annotations

from crashfree._delivery.consent import MAX_WAITING, ConsentGate
from crashfree._delivery.memory import MemoryTransport
from crashfree._ground import ids
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import event_item


def event(message: str = "hello") -> Envelope:
    event_id = ids.event_id()
    return Envelope.of([event_item({"event_id": event_id, "message": message})], event_id=event_id)


def messages(transport: MemoryTransport) -> list[str]:
    return [str(event.get("message")) for event in transport.events]


def test_what_waits_goes_out_in_order_when_consent_is_given() -> None:
    inner = MemoryTransport()
    gate = ConsentGate(inner)
    assert gate.submit(event("one"))
    assert gate.submit(event("two"))
    assert messages(inner) == []
    assert not gate.flush(1.0)
    assert gate.stats().queued == 2
    gate.give()
    assert messages(inner) == ["one", "two"]
    gate.submit(event("three"))
    assert messages(inner) == ["one", "two", "three"]
    assert gate.flush(1.0)


def test_what_waits_is_dropped_when_consent_is_refused() -> None:
    inner = MemoryTransport()
    gate = ConsentGate(inner)
    gate.submit(event("one"))
    gate.revoke()
    gate.give()
    assert messages(inner) == []


def test_after_it_is_revoked_nothing_leaves_until_it_is_given_again() -> None:
    inner = MemoryTransport()
    gate = ConsentGate(inner, given=True)
    gate.submit(event("one"))
    gate.revoke()
    gate.submit(event("two"))
    assert messages(inner) == ["one"]
    gate.give()
    assert messages(inner) == ["one", "two"]


def test_what_waits_is_bounded_and_the_latest_stay() -> None:
    inner = MemoryTransport()
    gate = ConsentGate(inner)
    for number in range(MAX_WAITING + 5):
        gate.submit(event(str(number)))
    gate.give()
    assert messages(inner)[0] == "5"
    assert len(inner.events) == MAX_WAITING


def test_closing_without_consent_sends_nothing() -> None:
    inner = MemoryTransport()
    gate = ConsentGate(inner)
    gate.submit(event())
    gate.close(1.0)
    assert inner.envelopes == []


def test_those_who_write_files_are_told() -> None:
    told: list[bool] = []
    gate = ConsentGate(MemoryTransport(), on_change=told.append)
    gate.give()
    gate.give()
    gate.revoke()
    assert told == [True, False]


def test_a_child_keeps_the_consent_and_nothing_else() -> None:
    inner = MemoryTransport()
    gate = ConsentGate(inner)
    gate.submit(event())
    gate.forget()
    gate.give()
    assert inner.envelopes == []
    assert gate.given
