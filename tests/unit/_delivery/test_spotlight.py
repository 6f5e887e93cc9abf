"""A mirror for developers: everything arrives, nothing waits for it. wire.md section 20."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from crashfree._delivery.spotlight import SpotlightTransport
from crashfree._delivery.worker import Worker
from crashfree._ground import ids, log
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import client_report_item, event_item
from tests.support.clock import FakeClock
from tests.support.stub import Stub, dead_port


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture
def worker(clock: FakeClock) -> Iterator[Worker]:
    log.forget_repeats()
    worker = Worker(clock=clock)
    yield worker
    worker.close(5.0)


def event(message: str = "hello") -> Envelope:
    event_id = ids.event_id()
    return Envelope.of([event_item({"event_id": event_id, "message": message})], event_id=event_id)


def test_everything_is_mirrored_uncompressed_and_without_authentication(
    stub: Stub, worker: Worker, clock: FakeClock
) -> None:
    mirror = SpotlightTransport(stub.url + "/stream", worker=worker, clock=clock)
    mirror.submit(event("long" * 1000))
    mirror.submit(Envelope.of([client_report_item({"timestamp": 0, "discarded_events": []})]))
    assert mirror.flush(5.0)
    first, second = stub.requests
    assert first.path == "/stream"
    assert first.headers["content-type"] == "application/x-sentry-envelope"
    assert "content-encoding" not in first.headers
    assert "x-sentry-auth" not in first.headers
    assert second.items[0][0] == "client_report"
    mirror.close(1.0)


def test_any_answer_is_fine(
    stub: Stub, worker: Worker, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    stub.answer(status=500)
    mirror = SpotlightTransport(stub.url, worker=worker, clock=clock)
    mirror.submit(event())
    mirror.submit(event())
    mirror.flush(5.0)
    assert len(stub.requests) == 2
    assert caplog.records == []
    mirror.close(1.0)


def test_when_it_is_not_there_that_is_said_once_and_it_is_left_alone_for_a_while(
    worker: Worker, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = SpotlightTransport(
        f"http://127.0.0.1:{dead_port()}/stream", worker=worker, clock=clock
    )
    for _ in range(10):
        mirror.submit(event())
        mirror.flush(5.0)
    assert len(caplog.records) == 1
    mirror.close(1.0)


def test_it_is_found_again(stub: Stub, worker: Worker, clock: FakeClock) -> None:
    from tests.support.stub import Answer

    stub.script(Answer(reset=True))
    mirror = SpotlightTransport(stub.url, worker=worker, clock=clock)
    mirror.submit(event("lost"))
    mirror.flush(5.0)
    mirror.submit(event("dropped"))
    mirror.flush(5.0)
    clock.advance(2.0)
    mirror.submit(event("seen"))
    mirror.flush(5.0)
    assert [payload["message"] for payload in stub.items("event")] == ["lost", "seen"]
    mirror.close(1.0)


def test_the_caller_never_waits_for_it(stub: Stub, worker: Worker, clock: FakeClock) -> None:
    """complaints-transport row 47."""
    stub.answer(hang=True)
    mirror = SpotlightTransport(stub.url, worker=worker, clock=clock)
    mirror.submit(event())
    began = time.perf_counter()
    for _ in range(100):
        mirror.submit(event())
    assert (time.perf_counter() - began) / 100 < 0.001
    stub.stop()
    mirror.close(0.1)
    assert not mirror.submit(event())
