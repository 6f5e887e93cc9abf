"""The users of request mode: each gets a number, so that a record of 8 bytes can name them.

Numbers belong to a generation; each time counts are lent a new one begins, which bounds both the
memory and the buckets of one flush. The generation before is kept: a thread that was given a
number at the very end of it may still use that. An older number names nobody.

In a ledger's file a generation is a table: entries of

    u16 generation · u16 number · u16 length · UTF-8 text

native byte order, appended one atomic write each, before the number is first used.

Threads: `number` any; `name` and `turn` one at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import count

from crashfree._ground import log
from crashfree._ground.typed import TypeAlias

MAX_USERS = 1000
"""Distinct users of one flush; the rest is counted without."""
_GENERATIONS = 255
_NUMBER_BITS = 16
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_ENTRY = struct.Struct("@HHH")

Append: TypeAlias = "Callable[[bytes], object]"


class _Generation:
    """One generation; complete in itself, so that a thread that holds it never mixes two."""

    __slots__ = ("append", "following", "names", "number", "numbers")
    number: int
    numbers: dict[str, int]
    names: dict[int, str]
    following: count[int]
    append: Append | None

    def __init__(self, number: int, append: Append | None) -> None:
        self.number = number
        self.numbers = {}
        self.names = {}
        self.following = count(1)
        self.append = append


class Users:
    """Two generations of users."""

    __slots__ = ("_before", "_now", "_tables")
    _now: _Generation
    _before: _Generation | None
    _tables: tuple[Callable[[], Append], Callable[[], Append]] | None

    def __init__(
        self, tables: tuple[Callable[[], Append], Callable[[], Append]] | None = None
    ) -> None:
        """`tables`: each empties one table of a file and returns how to append to it."""
        self._tables = tables
        self._before = None
        self._now = _Generation(1, None if tables is None else tables[1]())

    def number(self, did: str) -> int:
        """Return the number of a user, made at need; 0 when there are too many."""
        generation = self._now
        known = generation.numbers.get(did)
        if known is None:
            known = _register(generation, did)
        return known

    def name(self, number: int) -> str | None:
        """Return who `number` is; None when nobody knows any more."""
        for generation in (self._now, self._before):
            if generation is not None and generation.number == number >> _NUMBER_BITS:
                return generation.names.get(number & _NUMBER_MASK)
        return None

    def turn(self) -> None:
        """Begin a new generation, if there was anybody in this one."""
        old = self._now
        if not old.numbers and self._before is None:
            return
        number = old.number % _GENERATIONS + 1
        tables = self._tables
        append = None if tables is None else tables[number % 2]()
        self._before = old if old.numbers else None
        self._now = _Generation(number, append)


def _register(generation: _Generation, did: str) -> int:
    position = next(generation.following)
    if position > MAX_USERS:
        log.warning(
            f"more than {MAX_USERS} users within one flush; the rest is counted without users",
            key="sessions.users",
        )
        return 0
    text = did.encode("utf-8", "replace")
    if generation.append is not None:
        try:
            generation.append(_ENTRY.pack(generation.number, position, len(text)) + text)
        except (ValueError, struct.error):
            return 0  # the table is full
    generation.names[position] = did
    number = generation.number << _NUMBER_BITS | position
    # Two threads may come with the same user: both numbers are good, one is remembered.
    return generation.numbers.setdefault(did, number)


def read_tables(*tables: bytes) -> dict[int, str]:
    """Return number → user from the tables of a file."""
    names: dict[int, str] = {}
    for table in tables:
        at = 0
        while at + _ENTRY.size <= len(table):
            generation, position, length = _ENTRY.unpack_from(table, at)
            at += _ENTRY.size
            if generation == 0 or at + length > len(table):
                break
            text = table[at : at + length].decode("utf-8", "replace")
            names[generation << _NUMBER_BITS | position] = text
            at += length
    return names
