"""`forkgate.Late`: what is made at first need, and who strikes in the middle of that."""

from __future__ import annotations

import threading

import pytest

from crashfree._ground.forkgate import Late


def test_it_is_made_once_and_not_before_it_is_asked_for() -> None:
    made: list[int] = []

    def make() -> object:
        made.append(1)
        return object()

    late = Late(make)
    assert made == []
    assert late.get() is late.get()
    assert made == [1]


def test_who_strikes_in_the_middle_gets_none_and_has_a_turn_afterwards() -> None:
    seen: list[object] = []

    def make() -> str:
        seen.append(late.get())
        late.postpone(lambda: seen.append(late.get()))
        return "it"

    late: Late[str] = Late(make)
    assert late.get() == "it"
    assert seen == [None, "it"]


def test_another_thread_makes_its_own_and_the_first_one_counts() -> None:
    inside, go = threading.Event(), threading.Event()
    results: list[object] = []

    def make() -> object:
        if not inside.is_set():
            inside.set()
            assert go.wait(5)
        return object()

    late = Late(make)
    slow = threading.Thread(target=lambda: results.append(late.get()))
    slow.start()
    assert inside.wait(5)
    first = late.get()
    go.set()
    slow.join()
    assert results == [first]


def test_a_making_that_fails_is_tried_again() -> None:
    failures = [ImportError("not now")]

    def make() -> str:
        if failures:
            raise failures.pop()
        return "it"

    late = Late(make)
    with pytest.raises(ImportError):
        late.get()
    assert late.get() == "it"


def test_a_forked_child_does_not_do_what_the_parent_had_postponed() -> None:
    done: list[int] = []
    late = Late(lambda: "it")
    late.postpone(lambda: done.append(1))
    late.forget()
    assert late.get() == "it"
    assert done == []
