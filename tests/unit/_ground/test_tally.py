"""The sum of what is taken is the sum of what was added, whoever interrupts whom."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._ground.tally import Tally
from tests.support.alarm import Alarm


def test_counts_add_up_by_key() -> None:
    tally: Tally[str] = Tally()
    tally.add("a")
    tally.add("b", 5)
    tally.add("a", 2)
    assert tally.peek() == {"a": 3, "b": 5}
    assert tally.take() == {"a": 3, "b": 5}
    assert tally.take() == {}


def test_what_is_given_back_is_added_to_what_came_since() -> None:
    tally: Tally[str] = Tally()
    tally.add("a", 3)
    taken = tally.take()
    tally.add("a")
    tally.give_back(taken)
    assert tally.take() == {"a": 4}


def test_what_was_taken_is_not_touched_any_more() -> None:
    tally: Tally[str] = Tally()
    tally.add("a")
    taken = tally.take()
    tally.add("a")
    assert taken == {"a": 1}


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 9)) | st.sampled_from(["take", "back", "peek"])
)


@given(OPERATIONS)
@settings(deadline=None)
def test_any_order_of_calls_keeps_the_sum(operations: list[tuple[str, int] | str]) -> None:
    tally: Tally[str] = Tally()
    added: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for operation in operations:
        if isinstance(operation, tuple):
            tally.add(*operation)
            added[operation[0]] += operation[1]
        elif operation == "take":
            taken.update(tally.take())
        elif operation == "back":
            tally.give_back(taken)
            taken.clear()
        else:
            assert Counter(tally.peek()) + taken == added
    taken.update(tally.take())
    assert taken == added


class Entering:
    """A key that counts on the same tally while the tally looks it up: the worst moment."""

    def __init__(self, tally: Tally[object]) -> None:
        self.tally = tally
        self.entered = 0

    def __hash__(self) -> int:
        self.entered += 1
        self.tally.add("inner")
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


def test_a_call_from_within_a_call_neither_hangs_nor_loses() -> None:
    tally: Tally[object] = Tally()
    key = Entering(tally)
    for _ in range(100):
        tally.add(key)
    entered = key.entered
    assert entered >= 100
    counts = tally.take()
    by_name = {type(k).__name__: n for k, n in counts.items()}
    # Taking looked the key up again, and what that added is there for the next taking.
    late = tally.take().get("inner", 0)
    assert by_name == {"Entering": 100, "str": key.entered - late}


def test_threads_that_add_and_take_at_once_lose_nothing() -> None:
    tally: Tally[int] = Tally()
    adders, each = 6, 20_000
    barrier = threading.Barrier(adders + 2)
    running = threading.Event()
    taken: list[Counter[int]] = [Counter(), Counter()]

    def add(number: int) -> None:
        barrier.wait()
        for i in range(each):
            tally.add(number if i % 2 else -1)

    def take(mine: Counter[int]) -> None:
        barrier.wait()
        while running.is_set():
            mine.update(tally.take())

    running.set()
    threads = [threading.Thread(target=add, args=(n,)) for n in range(adders)]
    takers = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for thread in (*threads, *takers):
        thread.start()
    for thread in threads:
        thread.join(60)
    running.clear()
    for thread in takers:
        thread.join(60)
    total = Counter(tally.take())
    for mine in taken:
        total.update(mine)
    assert total == {-1: adders * each // 2, **dict.fromkeys(range(adders), each // 2)}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_a_signal_handler_that_counts_loses_nothing() -> None:
    tally: Tally[str] = Tally()
    entries = 0

    def handler() -> None:
        nonlocal entries
        entries += 1
        tally.add("signal")
        tally.add("both")

    total: Counter[str] = Counter()
    added = 0
    with Alarm(handler) as alarm:
        alarm.strike(0.0002, every=0.0002)
        deadline = time.monotonic() + 20
        while entries < 1000 and time.monotonic() < deadline:
            for _ in range(100):
                tally.add("both")
            added += 100
            total.update(tally.take())
    total.update(tally.take())
    assert entries >= 1000
    assert total == {"signal": entries, "both": added + entries}


def test_finalizers_that_count_lose_nothing() -> None:
    tally: Tally[str] = Tally()
    finalized = 0

    class Node:
        def __init__(self) -> None:
            self.ring = self

        def __del__(self) -> None:
            nonlocal finalized
            finalized += 1
            tally.add("finalizer")
            tally.add("both")

    thresholds = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    total: Counter[str] = Counter()
    try:
        for round_ in range(20_000):
            Node()
            tally.add("both")
            if round_ % 500 == 0:
                total.update(tally.take())
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    total.update(tally.take())
    assert finalized == 20_000
    assert total == {"finalizer": finalized, "both": 20_000 + finalized}


def held(tally: Tally[str]) -> threading.Lock:
    return tally._lock  # pyright: ignore[reportPrivateUsage]


def test_adding_never_waits_and_taking_waits_a_bounded_time() -> None:
    tally: Tally[str] = Tally()
    with held(tally):
        tally.add("a")
        start = time.monotonic()
        assert tally.take() == {}
        waited = time.monotonic() - start
        assert tally.peek() == {"a": 1}
    assert waited < 5
    assert tally.take() == {"a": 1}


def test_what_came_late_is_folded_in_by_the_next_call() -> None:
    """So that the memory for late ones stays small while nobody takes."""
    tally: Tally[str] = Tally()
    for _ in range(10):
        with held(tally):
            tally.add("a")
        tally.add("a")
        assert not tally._late  # pyright: ignore[reportPrivateUsage]
    assert tally.take() == {"a": 20}


@pytest.mark.slow
def test_a_lock_that_nobody_will_release_is_given_up() -> None:
    """An exception out of a signal handler can strike right after the lock was taken."""
    tally: Tally[str] = Tally()
    tally.add("a")
    held(tally).acquire()
    tally.add("a")
    # Two seconds of waiting: a thread that holds it and does not get its turn is not given up.
    assert [tally.take() for _ in range(40)] == [{}] * 40
    tally.add("a")
    assert tally.take() == {"a": 3}


def test_a_lock_that_was_merely_busy_is_kept() -> None:
    tally: Tally[str] = Tally()
    lock = held(tally)
    for _ in range(5):
        with lock:
            tally.take()
        tally.take()
    assert held(tally) is lock
