"""Compare-and-replace without a lock."""

from __future__ import annotations

import threading

from crashfree._sessions.cell import Cell


def add_one(cell: Cell[int]) -> None:
    while True:
        seen = cell.read()
        if cell.replace(seen, seen.value + 1):
            return


def test_a_replacement_is_what_is_read_next() -> None:
    cell = Cell("a")
    assert cell.replace(cell.read(), "b")
    assert cell.read().value == "b"


def test_only_one_of_two_that_saw_the_same_replaces_it() -> None:
    cell = Cell("a")
    seen = cell.read()
    assert cell.replace(seen, "b")
    assert not cell.replace(seen, "c")
    assert cell.read().value == "b"


def test_an_old_version_can_never_be_replaced_again() -> None:
    cell = Cell(0)
    old = cell.read()
    for _ in range(1000):
        add_one(cell)
    assert not cell.replace(old, -1)
    assert cell.read().value == 1000


def test_a_place_that_was_set_back_still_leads_to_the_latest() -> None:
    """A thread stopped between winning and noting it must not turn back time."""
    cell = Cell(0)
    first = cell.read()
    for _ in range(5):
        add_one(cell)
    cell._latest = first
    assert cell.read().value == 5
    assert not cell.replace(first, 99)


def test_no_change_is_lost_between_threads(hasty_threads: None) -> None:
    cell = Cell(0)
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(500):
            add_one(cell)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cell.read().value == 4000
