"""Bounded by number and bytes, the oldest leaving first, the unhandled last."""

from __future__ import annotations

import gc
import threading

from hypothesis import given
from hypothesis import strategies as st

from crashfree._delivery.outbox import Entry, Outbox, QueueLimits
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import attachment_item, event_item
from crashfree.types import Event


class Box:
    """An outbox and what fell out of it."""

    def __init__(self, max_items: int = 3, max_bytes: int = 1 << 20) -> None:
        self.dropped: list[str] = []
        self.outbox = Outbox(QueueLimits(max_items, max_bytes), on_overflow=self.drop)

    def drop(self, envelope: Envelope) -> None:
        self.dropped.append(str(envelope.event_id))

    def put(
        self,
        name: str,
        *,
        unhandled: bool = False,
        event: bool = True,
        riders: bool = False,
        size: int = 0,
    ) -> None:
        self.outbox.put(
            Entry(
                Envelope.of([item(unhandled=unhandled, size=size)], event_id=name),
                event=event,
                riders=riders,
            )
        )

    def take_all(self) -> list[str]:
        names: list[str] = []
        while (entry := self.outbox.take()) is not None:
            names.append(str(entry.envelope.event_id))
            self.outbox.settle(entry)
        return names


def item(*, unhandled: bool = False, size: int = 0):  # type: ignore[no-untyped-def]
    def build() -> Event:
        return {}

    return event_item(build, size_hint=size, unhandled=unhandled)


def test_leaves_in_the_order_of_arrival() -> None:
    box = Box()
    for name in "abc":
        box.put(name)
    assert len(box.outbox) == 3
    assert box.take_all() == ["a", "b", "c"]
    assert len(box.outbox) == 0


def test_the_oldest_makes_room_for_the_newest() -> None:
    box = Box(max_items=3)
    for name in "abcde":
        box.put(name)
    assert box.take_all() == ["c", "d", "e"]
    assert box.dropped == ["a", "b"]


def test_an_unhandled_event_never_leaves_for_a_handled_one() -> None:
    box = Box(max_items=2)
    box.put("crash", unhandled=True)
    box.put("b")
    box.put("c")
    box.put("d")
    assert box.take_all() == ["crash", "d"]
    assert box.dropped == ["b", "c"]


def test_a_handled_event_finds_no_room_among_unhandled_ones() -> None:
    box = Box(max_items=2)
    box.put("one", unhandled=True)
    box.put("two", unhandled=True)
    box.put("handled")
    assert box.take_all() == ["one", "two"]
    assert box.dropped == ["handled"]


def test_among_unhandled_ones_the_oldest_leaves() -> None:
    box = Box(max_items=2)
    for name in ("one", "two", "three"):
        box.put(name, unhandled=True)
    assert box.take_all() == ["two", "three"]


def test_bytes_are_bounded_attachments_included() -> None:
    box = Box(max_items=100, max_bytes=10_000)
    big = attachment_item({"filename": "a", "data": b"x" * 6_000})
    for name in "ab":
        box.outbox.put(Entry(Envelope.of([big], event_id=name), event=True, riders=False))
    assert box.take_all() == ["b"]
    assert box.dropped == ["a"]
    assert box.outbox.size == 0


def test_what_is_larger_than_everything_may_be_falls_out_at_once() -> None:
    box = Box(max_bytes=10_000)
    box.put("huge", size=80_000)
    assert box.take_all() == []
    assert box.dropped == ["huge"]
    assert box.outbox.size == 0


def test_an_event_that_is_not_built_weighs_what_its_maker_says() -> None:
    box = Box()
    box.put("lazy", size=1_200)
    assert box.outbox.size == 1_200 + 512
    built = event_item({"message": "x" * 1000})
    box.outbox.put(Entry(Envelope.of([built]), event=True, riders=False))
    assert box.outbox.size == 1_200 + 512 + built.size_hint + 512


def test_the_lanes_do_not_push_each_other_out_by_number() -> None:
    box = Box(max_items=2)
    for name in "ab":
        box.put(name)
    for name in "123":
        box.put(name, event=False)
    assert sorted(box.take_all()) == ["2", "3", "a", "b"]
    assert box.dropped == ["1"]


def test_events_go_first_but_the_others_get_every_sixth_turn() -> None:
    """wire.md section 13."""
    box = Box(max_items=100)
    for number in range(12):
        box.put(f"e{number}")
    for number in range(3):
        box.put(f"o{number}", event=False)
    order = box.take_all()
    assert order[:7] == ["e0", "e1", "e2", "e3", "e4", "o0", "e5"]
    assert order[-1] == "o2"


def test_helpers_leave_what_carries_sessions_to_the_worker() -> None:
    box = Box()
    box.put("with", riders=True)
    box.put("without")
    assert box.outbox.take(riders=False) is None
    first = box.outbox.take()
    assert first is not None
    assert first.envelope.event_id == "with"
    second = box.outbox.take(riders=False)
    assert second is not None
    assert second.envelope.event_id == "without"


def test_a_mark_is_reached_when_all_before_it_are_settled() -> None:
    box = Box(max_items=10)
    box.put("a")
    box.put("b")
    mark = box.outbox.mark()
    box.put("later")
    a, b = box.outbox.take(), box.outbox.take()
    assert a is not None
    assert b is not None
    assert not box.outbox.reached(mark)
    box.outbox.settle(b)
    assert not box.outbox.reached(mark)
    box.outbox.settle(a)
    assert box.outbox.reached(mark)
    assert not box.outbox.reached(box.outbox.mark())


def test_a_mark_of_an_empty_box_is_reached() -> None:
    box = Box()
    assert box.outbox.reached(box.outbox.mark())


def test_a_dropped_entry_holds_up_nobody() -> None:
    box = Box(max_items=1)
    box.put("a")
    mark = box.outbox.mark()
    box.put("b")
    assert box.outbox.mark() > mark
    entry = box.outbox.take()
    assert entry is not None
    box.outbox.settle(entry)
    assert box.outbox.reached(mark)


def test_what_is_left_at_the_end_includes_what_is_under_way() -> None:
    box = Box(max_items=10)
    for name in "abc":
        box.put(name)
    box.outbox.take()
    left = [entry.envelope.event_id for entry in box.outbox.unsettled()]
    assert left == ["a", "b", "c"]
    assert len(box.outbox) == 0
    assert box.outbox.size == 0


def test_two_can_claim_but_one_gets_it() -> None:
    entry = Entry(Envelope.of([item()], event_id="a"), event=True, riders=False)
    assert entry.claim()
    assert not entry.claim()
    assert entry.decide()
    assert not entry.decide()


def test_forgetting_drops_everything_uncounted() -> None:
    box = Box()
    box.put("a")
    box.outbox.forget()
    assert box.take_all() == []
    assert box.dropped == []


def test_an_abandoned_lock_stops_neither_sending_nor_the_bound() -> None:
    """An exception of a signal handler may strike right behind `acquire`."""
    box = Box(max_items=10)
    box.outbox._lock.acquire()
    for number in range(100):
        box.put(str(number))
    assert len(box.outbox) <= 10
    assert box.take_all() == [str(number) for number in range(90, 100)]
    assert len(box.dropped) == 90


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5_000)), max_size=120),
    st.integers(1, 20),
    st.integers(2_000, 30_000),
)
def test_nothing_is_both_kept_and_dropped_and_the_limits_hold(
    puts: list[tuple[bool, int]], max_items: int, max_bytes: int
) -> None:
    box = Box(max_items=max_items, max_bytes=max_bytes)
    for number, (unhandled, size) in enumerate(puts):
        box.put(str(number), unhandled=unhandled, size=size)
    box.outbox.mark()
    assert len(box.outbox) <= max_items
    assert box.outbox.size <= max_bytes
    kept = box.take_all()
    assert sorted(kept + box.dropped) == sorted(str(number) for number in range(len(puts)))
    assert kept == sorted(kept, key=int)
    assert box.outbox.size == 0


def test_finalizers_and_threads_lose_nothing() -> None:
    """Everything put is taken or dropped, also when the collector enters `put` from inside."""
    box = Box(max_items=100_000, max_bytes=1 << 40)
    stop = threading.Event()
    taken: list[str] = []
    finalized: list[None] = []

    class Captures:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            box.put("finalizer")
            finalized.append(None)

    def drain() -> None:
        while not stop.is_set():
            taken.extend(box.take_all())

    reader = threading.Thread(target=drain)
    reader.start()
    before = gc.get_threshold()
    gc.set_threshold(20)
    try:
        for _ in range(20_000):
            Captures()
            box.put("main")
    finally:
        gc.set_threshold(*before)
    gc.collect()
    stop.set()
    reader.join()
    taken.extend(box.take_all())
    assert box.dropped == []
    assert taken.count("main") == 20_000
    assert taken.count("finalizer") == len(finalized)
