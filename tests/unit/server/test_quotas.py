from __future__ import annotations

from typing import Any

from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import received_item
from crashfree.server.quotas import Quotas
from tests.support.clock import FakeClock


def _envelope(*types: str) -> Envelope:
    return Envelope({}, tuple(received_item(kind, {}, b"{}") for kind in types))


def _types(envelope: Envelope) -> list[str]:
    return [item.type for item in envelope.items]


_LIMIT: list[Any] = [{"categories": ["session"], "count": 2, "seconds": 60}]


def test_without_limits_everything_passes(clock: FakeClock) -> None:
    envelope = _envelope("session", "event")
    assert Quotas(clock).apply(1, "k", envelope, []) == (envelope, 0, "", 0)


def test_what_is_over_the_limit_is_dropped_until_the_window_has_moved_on(clock: FakeClock) -> None:
    quotas = Quotas(clock)
    limited = quotas.apply(1, "k", _envelope("session", "session", "session", "event"), _LIMIT)
    assert _types(limited.envelope) == ["session", "session", "event"]
    assert (limited.dropped, limited.retry_after) == (1, 60)
    assert limited.header == "60:session:project:quota"
    clock.advance(59)
    assert quotas.apply(1, "k", _envelope("session"), _LIMIT).dropped == 1
    clock.advance(1)
    limited = quotas.apply(1, "k", _envelope("session"), _LIMIT)
    assert (limited.dropped, limited.header) == (0, "")


def test_a_project_does_not_use_up_the_limit_of_another(clock: FakeClock) -> None:
    quotas = Quotas(clock)
    quotas.apply(1, "k", _envelope("session", "session"), _LIMIT)
    assert quotas.apply(2, "k", _envelope("session"), _LIMIT).dropped == 0
    assert quotas.apply(1, "other", _envelope("session"), _LIMIT).dropped == 1


def test_a_limit_of_the_organization_holds_for_all_projects(clock: FakeClock) -> None:
    quotas = Quotas(clock)
    limit: list[Any] = [{"count": 1, "seconds": 60, "scope": "organization"}]
    quotas.apply(1, "k", _envelope("event"), limit)
    limited = quotas.apply(2, "k", _envelope("session"), limit)
    assert limited.dropped == 1
    assert limited.header == "60::organization:quota", "no categories means all of them"


def test_an_attachment_goes_when_its_event_goes(clock: FakeClock) -> None:
    limit: list[Any] = [{"categories": ["error"], "count": 0, "seconds": 60}]
    limited = Quotas(clock).apply(1, "k", _envelope("event", "attachment", "session"), limit)
    assert _types(limited.envelope) == ["session"]
    assert limited.dropped == 2
