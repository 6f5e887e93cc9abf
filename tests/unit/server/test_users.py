from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.server.users import HOURS, UserSet, cover

_NUMBERS = st.lists(st.integers(1, 5000), max_size=300)
_HOURS = st.integers(0, 2000)


@given(_HOURS, _HOURS)
def test_a_cover_has_every_hour_once(start: int, end: int) -> None:
    hours: list[int] = []
    for level, first, last in cover(start, end):
        for slot in range(first, last + 1):
            hours.extend(range(slot * HOURS[level], (slot + 1) * HOURS[level]))
    assert sorted(hours) == list(range(start, end))


def test_a_long_range_is_covered_by_few_pieces() -> None:
    assert len(cover(7, 90 * 24 + 11)) <= 5


@given(st.lists(_NUMBERS, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_union_has_every_user_once(parts: list[list[int]], stored: list[bool]) -> None:
    united = UserSet()
    for numbers, through_storage in zip(parts, stored, strict=False):
        if through_storage:
            part = UserSet()
            part.add(numbers)
            united.add_stored(part.stored())
        else:
            united.add(numbers)
    expected = {number for numbers in parts for number in numbers}
    assert len(united) == len(expected)
    assert united.bits() == sum(1 << number for number in expected)


@given(_NUMBERS)
def test_a_stored_set_is_never_larger_than_its_list(numbers: list[int]) -> None:
    users = UserSet()
    users.add(numbers)
    assert len(users.stored()) <= 1 + 4 * len(set(numbers))


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 1000])
def test_few_and_many_users_are_counted_alike(count: int) -> None:
    users = UserSet()
    users.add(range(10, 10 + count))
    users.add(range(10, 10 + count))
    assert len(users) == count


def test_a_million_users_take_little_room() -> None:
    users = UserSet()
    users.add(range(1, 1_000_001))
    assert len(users.stored()) < 130_000
