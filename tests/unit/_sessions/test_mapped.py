"""Bytes that are there as a whole after any death."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._sessions.mapped import Bank, read_bank

SIZE = 256


def torn_states(before: bytes, after: bytes) -> list[bytes]:
    """Every state in which the differing bytes were written up to some point, both ways."""
    different = [i for i in range(len(before)) if before[i] != after[i]]
    states: list[bytes] = []
    for count in range(len(different) + 1):
        state = bytearray(before)
        for i in different[:count]:
            state[i] = after[i]
        states.append(bytes(state))
    return states


def test_what_was_written_last_is_read() -> None:
    memory = bytearray(SIZE)
    bank = Bank(memoryview(memory))
    assert read_bank(bytes(memory)) is None
    for text in (b"one", b"two", b"", b"three"):
        bank.write(text)
        assert read_bank(bytes(memory)) == text


def test_too_much_is_refused_and_changes_nothing() -> None:
    memory = bytearray(SIZE)
    bank = Bank(memoryview(memory))
    bank.write(b"kept")
    with pytest.raises(ValueError):
        bank.write(bytes(bank.capacity + 1))
    bank.write(bytes(bank.capacity))
    assert read_bank(bytes(memory)) == bytes(bank.capacity)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_a_death_between_any_two_stores_leaves_the_old_or_the_new(texts: list[bytes]) -> None:
    """The stores of a write are replayed one by one: number to 0, bytes, head, number."""
    memory = bytearray(SIZE)
    bank = Bank(memoryview(memory))
    last: bytes | None = None
    for text in texts:
        before = bytes(memory)
        bank.write(text)
        after = bytes(memory)
        start = (
            0 if struct.unpack_from("@Q", after, 0) > struct.unpack_from("@Q", before, 0) else 128
        )
        zeroed = bytearray(before)
        zeroed[start : start + 8] = bytes(8)
        body = bytearray(zeroed)
        body[start + 8 : start + 128] = after[start + 8 : start + 128]
        for state in (
            *torn_states(before, bytes(zeroed)),
            *torn_states(bytes(zeroed), bytes(body)),
        ):
            assert read_bank(state) == last
        assert read_bank(after) == text
        last = text


@given(st.binary(max_size=600))
def test_any_bytes_can_be_read(data: bytes) -> None:
    read_bank(data)


def test_a_broken_sum_falls_back_to_the_other_place() -> None:
    memory = bytearray(SIZE)
    bank = Bank(memoryview(memory))
    bank.write(b"older")
    bank.write(b"newer")
    memory[16] ^= 0xFF
    assert read_bank(bytes(memory)) == b"older"
