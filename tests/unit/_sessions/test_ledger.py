"""The ledger: what its file says is the truth, whenever somebody looks."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._ground import log
from crashfree._sessions import windows
from crashfree._sessions.aggregator import with_user
from crashfree._sessions.ledger import Ledger
from crashfree._sessions.ledgerfile import SIZE, read_ledger
from crashfree._sessions.users import MAX_USERS
from tests.support.alarm import Alarm
from tests.support.units import ATTRIBUTES, Shop, untold

RECORDS_IN_A_WINDOW = 8192
LINES = {"ledger.py", "ledgerfile.py", "windows.py", "counts.py", "users.py", "bank.py"}


def at_every_line(watched: set[str], look: Callable[[], None]) -> Callable[..., Any]:
    """Return a trace function that looks before each line of the named functions' modules."""

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if not any(frame.f_code.co_filename.endswith(name) for name in watched):
            return None
        if event == "line":
            sys.settrace(None)
            try:
                look()
            finally:
                sys.settrace(trace)
        return trace

    return trace


def test_a_unit_is_on_disk_as_soon_as_it_begins(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    unit = shop.requests.begin()
    assert untold(shop.on_disk()) == {"open": 1}
    unit.account("errored")
    unit.end()
    assert untold(shop.on_disk()) == {"errored": 1}


def test_a_pre_forking_master_that_serves_nothing_has_no_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.flush() == {}
    assert shop.aggregator.close()
    assert shop.opened == 0


def test_the_file_is_private_and_its_space_is_reserved(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    assert shop.path is not None
    found = shop.path.stat()
    assert found.st_mode & 0o777 == 0o600
    assert found.st_size == SIZE
    assert found.st_blocks * 512 >= SIZE


def test_full_windows_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for _ in range(RECORDS_IN_A_WINDOW * 2 + 11):
        shop.serve()
    assert untold(shop.on_disk()) == {"exited": RECORDS_IN_A_WINDOW * 2 + 11}
    assert shop.flush() == {"exited": RECORDS_IN_A_WINDOW * 2 + 11}
    assert untold(shop.on_disk()) == {}


def test_a_loan_stays_on_disk_until_it_is_settled(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    batch = shop.aggregator.take()
    assert batch is not None
    assert shop.aggregator.take() is None
    assert untold(shop.on_disk()) == {"exited": 1}
    shop.aggregator.settle(batch)
    assert untold(shop.on_disk()) == {}
    assert shop.on_disk().settled == 1


def test_what_the_transport_refuses_goes_out_with_the_next_batch(tmp_path: Path) -> None:
    """W41: a send that fails once; the next one has both."""
    shop = Shop(tmp_path)
    shop.serve()
    batch = shop.aggregator.take()
    assert batch is not None
    shop.aggregator.give_back(batch)
    shop.serve("crashed")
    assert shop.flush() == {"exited": 1, "crashed": 1}


def test_two_loans_are_told_apart(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    first = shop.aggregator.take()
    shop.serve("crashed")
    second = shop.aggregator.take()
    assert first is not None
    assert second is not None
    shop.aggregator.settle(second)
    shop.aggregator.settle(second)
    assert untold(shop.on_disk()) == {"exited": 1}
    shop.aggregator.settle(first)
    assert untold(shop.on_disk()) == {}


def test_a_unit_that_has_crashed_and_is_in_flight_is_marked(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    unit = shop.requests.begin()
    shop.requests.begin()
    unit.account("crashed")
    unit.account("crashed")
    counts = shop.on_disk()
    assert counts.alive == 2
    assert sum(counts.marked.values()) == 1
    unit.end()
    assert sum(shop.on_disk().marked.values()) == 0


def test_a_death_between_any_two_lines_leaves_the_truth(tmp_path: Path) -> None:
    """At every line of recording, turning over, lending and settling, the file is read."""
    shop = Shop(tmp_path)
    shop.serve()
    # Leave room for a few records, so that the steps below meet full windows of both kinds.
    for _ in range((RECORDS_IN_A_WINDOW - 8) // 2):
        shop.serve()
    base = untold(shop.on_disk())["exited"]
    looks = 0
    allowed: list[Counter[str]] = [Counter()]

    def look() -> None:
        nonlocal looks
        looks += 1
        assert untold(shop.on_disk()) in allowed

    sys.settrace(at_every_line(LINES, look))
    try:
        done = base
        for index in range(12):
            allowed[:] = [
                Counter(exited=done),
                Counter(exited=done, open=1),
                Counter(exited=done + 1),
            ]
            shop.serve(user=f"user {index % 3}")
            done += 1
        allowed[:] = [Counter(exited=done)]
        batch = shop.aggregator.take()
        assert batch is not None
        shop.aggregator.give_back(batch)
        batch = shop.aggregator.take()
        assert batch is not None
        allowed.append(Counter())
        shop.aggregator.settle(batch)
    finally:
        sys.settrace(None)
    assert looks > 500
    assert untold(shop.on_disk()) == {}


def test_units_that_begin_and_end_between_any_two_lines_are_counted(tmp_path: Path) -> None:
    """A signal handler may serve a unit anywhere, in the middle of a turn-over too."""
    shop = Shop(tmp_path)
    shop.serve()
    for _ in range((RECORDS_IN_A_WINDOW - 8) // 2):
        shop.serve()
    served = 1 + (RECORDS_IN_A_WINDOW - 8) // 2
    limit = 400

    def enter() -> None:
        nonlocal served, limit
        if limit:
            limit -= 1
            served += 1
            shop.serve("errored")

    sys.settrace(at_every_line(LINES, enter))
    told: Counter[str] = Counter()
    try:
        while limit:
            for _ in range(6):
                shop.serve()
                served += 1
            told += shop.flush()
    finally:
        sys.settrace(None)
    told += shop.flush()
    assert sum(told.values()) == served


def test_ten_thousand_units_of_eight_threads_are_exact(tmp_path: Path, hasty_threads: None) -> None:
    shop = Shop(tmp_path)
    barrier = threading.Barrier(9)
    told: Counter[str] = Counter()

    def work(number: int) -> None:
        barrier.wait()
        for index in range(1250):
            verdicts = ("crashed",) if index % 10 == 0 else ()
            shop.serve(*verdicts, user=f"{number}" if index % 3 == 0 else None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    barrier.wait()
    while any(thread.is_alive() for thread in threads):
        told += shop.flush()
    for thread in threads:
        thread.join()
    told += shop.flush()
    assert told == {"exited": 9000, "crashed": 1000}
    stats = shop.aggregator.stats()
    assert (stats.begun, stats.alive, stats.waiting, stats.settled) == (10000, 0, 0, 10000)


def test_finalizers_end_units_wherever_the_collector_runs(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    class Body:
        def __init__(self) -> None:
            self.unit = shop.requests.begin()
            self.cycle = self

        def __del__(self) -> None:
            self.unit.end()

    threshold = gc.get_threshold()
    gc.set_threshold(7, 2, 2)
    try:
        for _ in range(6000):
            Body()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert shop.flush() == {"exited": 6000}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer here")
def test_signal_handlers_serve_units_too(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    in_handler = depth = 0

    # One strikes inside another; bounded, since a slow machine would do nothing else, and one that
    # strikes as its own thread takes the lock waits for it.
    until = time.monotonic() + 10

    def soon() -> float:
        return 0.0002 if in_handler < 1000 and time.monotonic() < until else 0

    def handler() -> None:
        nonlocal in_handler, depth
        in_handler += 1
        depth += 1
        if depth < 5:
            alarm.strike(soon())
        shop.serve("errored")
        depth -= 1
        alarm.strike(soon())

    told: Counter[str] = Counter()
    with Alarm(handler) as alarm:
        alarm.strike(0.0002)
        for _ in range(50):
            for _ in range(200):
                shop.serve()
            told += shop.flush()
    told += shop.flush()
    assert told == +Counter(exited=10_000, errored=in_handler)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_writes_nothing_into_its_parents_ledger(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    inherited = shop.requests.begin()
    pid = os.fork()
    if pid == 0:
        shop.path = tmp_path / "childs"
        shop.aggregator.forget()
        inherited.account("crashed")
        inherited.end()
        shop.serve("errored")
        ok = untold(shop.on_disk()) == {"errored": 1} and shop.flush() == {"errored": 1}
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert untold(shop.on_disk()) == {"exited": 1, "open": 1}
    inherited.end()
    assert shop.flush() == {"exited": 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_that_bypasses_python_is_noticed_at_the_next_minute(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    pid = os.fork()
    if pid == 0:
        shop.path = tmp_path / "childs"
        shop.clock.advance(60)
        shop.serve("errored")
        os._exit(0 if untold(shop.on_disk()) == {"errored": 1} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert untold(shop.on_disk()) == {"exited": 1}


def test_the_first_units_of_many_threads_open_one_file(tmp_path: Path) -> None:
    for number in range(20):
        directory = tmp_path / str(number)
        directory.mkdir()
        shop = Shop(directory)
        barrier = threading.Barrier(4)

        def first(shop: Shop = shop, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            shop.serve()

        threads = [threading.Thread(target=first) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shop.opened == 1
        assert untold(shop.on_disk()) == {"exited": 4}


def test_an_unwritable_place_means_memory_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.forget_repeats()
    shop = Shop(tmp_path / "missing")
    shop.serve()
    shop.clock.advance(60)
    shop.serve("crashed")
    assert shop.flush() == {"exited": 1, "crashed": 1}
    assert len(caplog.records) == 1
    assert "memory" in caplog.text


def test_closing_removes_a_file_that_is_told(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    assert not shop.aggregator.close()
    shop.flush()
    assert shop.aggregator.close()
    assert list(tmp_path.iterdir()) == []


def test_units_that_end_after_closing_are_left_for_the_next_start(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    unit = shop.requests.begin()
    assert not shop.aggregator.close()
    unit.end()
    assert untold(shop.on_disk()) == {"exited": 1}


def test_users_are_on_disk_by_name(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve(user="ann")
    shop.serve("crashed", user="zoë")
    shop.flush()
    shop.serve(user="ann")
    shop.serve(user="bob")
    keys = {did for _, did, _ in shop.on_disk().ended}
    assert keys == {"ann", "bob"}


def test_a_number_given_at_the_end_of_a_generation_still_names_its_user(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path / "l"), attributes=ATTRIBUTES)
    assert ledger is not None
    for book in (ledger, Ledger.in_memory()):
        number = book.user("ann")
        shop = Shop()
        minute = shop.aggregator.turn(shop.clock.time())
        book.write(minute.begun)
        book.write(with_user(minute.exited, number))
        assert book.lend() is not None
        late = with_user(minute.errored, number)
        book.write(minute.begun)
        book.write(late)
        loan = book.lend()
        assert loan is not None
        assert [did for _, did, _ in loan.counts] == ["ann"]
        book.write(minute.begun)
        book.write(late)
        loan = book.lend()
        assert loan is not None
        assert [did for _, did, _ in loan.counts] == [None]


def test_users_beyond_the_cap_count_without_a_name(tmp_path: Path) -> None:
    log.forget_repeats()
    shop = Shop(tmp_path)
    for number in range(MAX_USERS + 100):
        shop.serve(user=f"u{number}")
    batch = shop.aggregator.take()
    assert batch is not None
    buckets = [bucket for payload in batch.payloads for bucket in payload["aggregates"]]
    assert len(buckets) == MAX_USERS + 1
    assert [bucket.get("exited") for bucket in buckets if "did" not in bucket] == [100]


def test_long_names_that_fill_the_table_count_without(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for number in range(900):
        shop.serve(user=f"{number:03}" + "x" * 150)
    assert shop.flush() == {"exited": 900}


def test_books_that_outgrow_the_bank_keep_their_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    shop.serve()
    ledger: Any = shop.aggregator._ledger
    ledger._store._bank.capacity = 900
    for number in range(60):
        shop.clock.advance(60)
        shop.serve(user=f"user {number}")
        ledger.books()
    assert untold(shop.on_disk()) == {"exited": 61}
    assert shop.flush() == {"exited": 61}


def test_a_guarded_append_loses_nothing_without_a_global_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hasty_threads: None
) -> None:
    monkeypatch.setattr(windows, "_gil_enabled", lambda: False)
    test_ten_thousand_units_of_eight_threads_are_exact(tmp_path, None)


def test_a_signal_inside_a_guarded_append_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for itself; what it counts goes to memory until the next flush."""
    monkeypatch.setattr(windows, "_gil_enabled", lambda: False)
    monkeypatch.setattr(windows, "_PATIENCE", 3600.0)
    test_signal_handlers_serve_units_too(tmp_path)


@given(st.binary(max_size=400), st.integers(0, SIZE - 1))
def test_any_bytes_can_be_read(data: bytes, offset: int) -> None:
    assert read_ledger(data) is None
    padded = bytearray(SIZE)
    padded[offset : offset + len(data)] = data
    read_ledger(bytes(padded[:SIZE]))


@given(st.integers(0, SIZE - 1), st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, offset: int, value: int
) -> None:
    data = bytearray(_sample(tmp_path_factory))
    data[offset] = value
    found = read_ledger(bytes(data))
    assert found is None or found[1].begun >= 0


_samples: list[bytes] = []


def _sample(factory: pytest.TempPathFactory) -> bytes:
    if not _samples:
        shop = Shop(factory.mktemp("sample"))
        for number in range(50):
            shop.serve(user=f"u{number}")
        shop.requests.begin()
        assert shop.path is not None
        _samples.append(shop.path.read_bytes())
    return _samples[0]
