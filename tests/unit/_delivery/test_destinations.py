"""Several destinations: each gets everything, none can harm another."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from crashfree._delivery.destinations import FanOutTransport, combined
from crashfree._delivery.discards import Discards
from crashfree._delivery.httptransport import HttpTransport
from crashfree._delivery.memory import MemoryTransport
from crashfree._delivery.transport import (
    NO_STATISTICS,
    ForkAware,
    NullTransport,
    Reporting,
    Transport,
)
from crashfree._delivery.worker import Worker
from crashfree._ground import ids
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import event_item
from tests.support.stub import Stub


def event(message: str = "hello") -> Envelope:
    event_id = ids.event_id()
    return Envelope.of([event_item({"event_id": event_id, "message": message})], event_id=event_id)


class Broken:
    """A program's own transport, with the three methods that it takes, all of them bad."""

    def submit(self, envelope: Envelope) -> bool:
        raise RuntimeError("mine")

    def flush(self, timeout: float) -> bool:
        raise RuntimeError("mine")

    def close(self, timeout: float) -> bool:
        raise RuntimeError("mine")


def test_everything_goes_to_everybody() -> None:
    one, two = MemoryTransport(), MemoryTransport()
    both = FanOutTransport([one, two], clock=SYSTEM_CLOCK)
    assert both.submit(event())
    assert both.flush(1.0)
    assert len(one.events) == len(two.events) == 1
    assert both.close(1.0)
    assert one.closed
    assert two.closed


def test_a_transport_that_raises_does_not_stop_the_others() -> None:
    good = MemoryTransport()
    both = FanOutTransport([Broken(), good], clock=SYSTEM_CLOCK)
    assert both.submit(event())
    assert len(good.events) == 1
    assert not both.flush(1.0)
    assert not both.close(1.0)
    assert good.closed


def test_three_methods_make_a_transport() -> None:
    transport: Transport = Broken()
    assert not isinstance(transport, ForkAware)
    assert not isinstance(transport, Reporting)
    both = FanOutTransport([transport], clock=SYSTEM_CLOCK)
    both.forget()
    assert both.stats() == NO_STATISTICS


def test_a_null_transport_does_nothing_well() -> None:
    nothing = NullTransport()
    assert nothing.submit(event())
    assert nothing.flush(0.0)
    assert nothing.close(0.0)
    assert nothing.stats() == NO_STATISTICS


def test_statistics_add_up() -> None:
    first = NO_STATISTICS._replace(
        queued=1, sent={"error": 2}, dropped={("send_error", "error"): 1}, rate_limits={"*": 3.0}
    )
    second = NO_STATISTICS._replace(
        sent={"error": 1, "session": 4}, last_error="away", healthy=False, rate_limits={"*": 5.0}
    )
    both = combined((first, second))
    assert both.queued == 1
    assert both.sent == {"error": 3, "session": 4}
    assert both.dropped == {("send_error", "error"): 1}
    assert both.rate_limits == {"*": 5.0}
    assert both.last_error == "away"
    assert not both.healthy


@pytest.fixture
def stubs() -> Iterator[tuple[Stub, Stub]]:
    with Stub() as one, Stub() as two:
        yield one, two


def test_two_servers_each_with_their_own_limits_and_losses(stubs: tuple[Stub, Stub]) -> None:
    worker = Worker(clock=SYSTEM_CLOCK)
    transports = [
        HttpTransport(Dsn.parse(stub.dsn), worker=worker, clock=SYSTEM_CLOCK, discards=Discards())
        for stub in stubs
    ]
    both = FanOutTransport(transports, clock=SYSTEM_CLOCK)
    stubs[0].answer(status=429)
    both.submit(event("one"))
    assert both.flush(5.0)
    both.submit(event("two"))
    assert both.flush(5.0)
    assert [len(stub.items("event")) for stub in stubs] == [1, 2]
    assert transports[0].stats().dropped == {("ratelimit_backoff", "error"): 1}
    assert transports[1].stats().dropped == {}
    both.close(1.0)
    worker.close(1.0)


def test_a_hanging_server_does_not_keep_the_other_waiting(stubs: tuple[Stub, Stub]) -> None:
    worker = Worker(clock=SYSTEM_CLOCK)
    transports = [
        HttpTransport(
            Dsn.parse(stub.dsn),
            worker=worker,
            clock=SYSTEM_CLOCK,
            discards=Discards(),
        )
        for stub in stubs
    ]
    both = FanOutTransport(transports, clock=SYSTEM_CLOCK)
    stubs[0].answer(hang=True)
    both.submit(event("one"))
    both.submit(event("two"))
    began = time.monotonic()
    assert transports[1].flush(5.0)
    assert time.monotonic() - began < 2.0
    assert [payload["message"] for payload in stubs[1].items("event")] == ["one", "two"]
    assert not both.close(0.5)
    for stub in stubs:
        stub.stop()
    worker.close(1.0)
