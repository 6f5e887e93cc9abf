"""A transport that is made at first need, once, and by whom it belongs to."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from crashfree._delivery.latetransport import LateTransport
from crashfree._delivery.memory import MemoryTransport
from crashfree._delivery.transport import NO_STATISTICS, Statistics
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import attachment_item


class Told(MemoryTransport):
    """Takes everything, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def forget(self) -> None:
        self.told.append("forget")

    def stats(self) -> Statistics:
        return NO_STATISTICS

    def limited(self, category: str) -> bool:
        return category == "error"

    def resume(self) -> None:
        self.told.append("resume")

    def step_aside(self) -> None:
        self.told.append("step aside")


def late(on_make: Callable[[], object] = lambda: None) -> tuple[LateTransport, list[Told]]:
    made: list[Told] = []

    def make() -> Told:
        made.append(Told())
        on_make()
        return made[-1]

    return LateTransport(make, leave=lambda: None), made


def envelope() -> Envelope:
    return Envelope.of([attachment_item({"filename": "a.txt", "data": b"a"})])


def test_nothing_is_made_before_something_is_asked_of_it() -> None:
    transport, made = late()
    assert not made
    assert transport.submit(envelope())
    assert transport.flush(0.0)
    assert transport.limited("error")
    assert transport.stats() is NO_STATISTICS
    transport.resume()
    transport.step_aside()
    assert transport.close(0.0)
    [one] = made
    assert len(one.envelopes) == 1
    assert one.told == ["resume", "step aside"]


def test_of_two_that_are_made_at_the_same_moment_the_first_one_counts() -> None:
    both = threading.Barrier(2)
    transport, made = late(both.wait)
    threads = [
        threading.Thread(target=lambda: transport.submit(envelope()), daemon=True) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert len(made) == 2
    assert sorted(len(one.envelopes) for one in made) == [0, 2]


def test_a_child_tells_what_was_made_and_else_whoever_would_have_been_told() -> None:
    left: list[str] = []
    transport = LateTransport(Told, leave=lambda: left.append("spool"))
    transport.forget()
    assert left == ["spool"]
    transport, made = late()
    transport.resume()
    transport.forget()
    assert made[0].told == ["resume", "forget"]


def test_a_child_whose_fork_hooks_did_not_run_leaves_what_was_the_parents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[str] = []
    transport = LateTransport(Told, leave=lambda: left.append("spool"))
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    transport.submit(envelope())
    transport.submit(envelope())
    assert left == ["spool"]
