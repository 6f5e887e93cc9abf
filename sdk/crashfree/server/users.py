"""Sets of users: exact, small on disk, quick to unite.

Users have dense numbers, so a set of them is a bit map. For every hour, day and block of 16 days,
release and environment the database holds the sets of the users seen, hurt, crashed and so on; a
range is covered by few large pieces and some small ones at its edges. What has just arrived waits
in `user_recent` as rows and is folded into the sets now and then; every answer counts both.

A set is stored as a bit map, or as a sorted list of numbers where that is shorter.

Invariants: a fold changes no answer; sets only grow, and where a user may have to leave one (a
status was raised) the hour is in `user_stale` until `settle` has counted it anew.

Threads: reading any, with a read transaction; folding under the write lock.
Source: sessions.md section 5.4.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from crashfree.server.sessions import KINDS, SessionRow, bucket_flags

HOUR_LEVEL: Final = 0
DAY_LEVEL: Final = 1
BLOCK_LEVEL: Final = 2
HOURS: Final = (1, 24, 384)
"""How many hours a piece of each level has."""
_HOUR_US: Final = 3_600_000_000
_BIG_ENDIAN: Final = sys.byteorder == "big"
_BIT_MAP: Final = 0
_LIST: Final = 1


class Piece(NamedTuple):
    """Slots `first` to `last` (included) of one level."""

    level: int
    first: int
    last: int


def cover(first_hour: int, end_hour: int) -> list[Piece]:
    """Return the fewest pieces that cover the hours from `first_hour` up to `end_hour`, exactly."""
    pieces: list[Piece] = []
    _cover(BLOCK_LEVEL, first_hour, end_hour, pieces)
    return pieces


def _cover(level: int, start: int, end: int, pieces: list[Piece]) -> None:
    if start >= end:
        return
    hours = HOURS[level]
    first, last = -(-start // hours), end // hours - 1
    if level == HOUR_LEVEL or first <= last:
        pieces.append(Piece(level, first, last))
        inner_start, inner_end = first * hours, (last + 1) * hours
        if level > HOUR_LEVEL:
            _cover(level - 1, start, inner_start, pieces)
            _cover(level - 1, inner_end, end, pieces)
        return
    _cover(level - 1, start, end, pieces)


class UserSet:
    """A set of user numbers being united."""

    __slots__ = ("_bits", "_numbers")
    _bits: int
    _numbers: array[int]

    def __init__(self) -> None:
        self._bits = 0
        self._numbers = array("I")

    def add(self, numbers: Iterable[int]) -> None:
        """Add users one by one."""
        self._numbers.extend(numbers)

    def add_stored(self, members: bytes) -> None:
        """Add a stored set."""
        if members[0] == _BIT_MAP:
            self._bits |= int.from_bytes(memoryview(members)[1:], "little")
        else:
            numbers = array("I")
            numbers.frombytes(memoryview(members)[1:])
            if _BIG_ENDIAN:
                numbers.byteswap()
            self._numbers.extend(numbers)

    def bits(self) -> int:
        """Return the set as a bit map: bit n stands for user n."""
        if self._numbers:
            self._bits |= _bit_map(self._numbers)
            self._numbers = array("I")
        return self._bits

    def __len__(self) -> int:
        if not self._bits and len(self._numbers) < 2:
            return len(self._numbers)
        return self.bits().bit_count()

    def stored(self) -> bytes:
        """Return the set as it is stored."""
        bits = self.bits()
        size = (bits.bit_length() + 7) // 8
        if bits.bit_count() * 4 >= size:
            return b"\x00" + bits.to_bytes(size, "little")
        numbers = array("I", _numbers_of(bits))
        if _BIG_ENDIAN:
            numbers.byteswap()
        return b"\x01" + numbers.tobytes()


def _bit_map(numbers: Sequence[int]) -> int:
    highest = max(numbers)
    if len(numbers) < 64:
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return bits
    # One character a bit: writing bytes one by one is the cheapest loop Python has, and reading
    # a text of binary digits is linear.
    digits = bytearray(b"0") * (highest + 1)
    for number in numbers:
        digits[highest - number] = 49
    return int(digits, 2)


def _numbers_of(bits: int) -> Iterator[int]:
    # Set bits by way of the binary text: find() skips runs of zeros at the speed of memchr.
    digits = bin(bits)[:1:-1]
    at = digits.find("1")
    while at >= 0:
        yield at
        at = digits.find("1", at + 1)


# Folding.


def recent_rows(db: sqlite3.Connection, limit: int) -> int:
    """Return how many rows wait to be folded, counting no further than `limit`."""
    row = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM user_recent LIMIT ?)", (limit,)
    ).fetchone()
    return int(row[0])


def fold(db: sqlite3.Connection, *, limit: int) -> int:
    """Move at most `limit` waiting rows into the sets; return how many were moved.

    The caller holds the write lock and commits.
    """
    rows = db.execute(
        "SELECT project_id, slot, release_id, environment_id, user_id, flags FROM user_recent"
        " ORDER BY project_id, slot, release_id, environment_id, user_id LIMIT ?",
        (limit,),
    ).fetchall()
    if not rows:
        return 0
    waiting: dict[tuple[int, int, int, int, int, int], list[int]] = {}
    for project, hour, release, environment, user, flags in rows:
        for kind in KINDS:
            if flags & kind:
                for level, hours in enumerate(HOURS):
                    key = (project, level, hour // hours, release, environment, kind)
                    waiting.setdefault(key, []).append(user)
    for key, numbers in waiting.items():
        _extend(db, key, numbers)
    last = rows[-1]
    # Everything up to the last row, in the order of the primary key, was read.
    db.execute(
        "DELETE FROM user_recent WHERE (project_id, slot, release_id, environment_id, user_id)"
        " <= (?, ?, ?, ?, ?)",
        tuple(last[:5]),
    )
    return len(rows)


def _extend(
    db: sqlite3.Connection, key: tuple[int, int, int, int, int, int], numbers: Sequence[int]
) -> None:
    users = UserSet()
    found = db.execute(
        "SELECT id, members FROM user_sets WHERE project_id = ? AND level = ? AND slot = ?"
        " AND release_id = ? AND environment_id = ? AND kind = ?",
        key,
    ).fetchone()
    if found is None:
        users.add(numbers)
        db.execute(
            "INSERT INTO user_sets (project_id, level, slot, release_id, environment_id, kind,"
            " members) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key, users.stored()),
        )
        return
    users.add_stored(found[1])
    before = users.bits()
    users.add(numbers)
    # Most users of a larger piece are in it already, and writing a large set is the dear part.
    if users.bits() != before:
        db.execute("UPDATE user_sets SET members = ? WHERE id = ?", (users.stored(), found[0]))


# Counting anew.


def settle(db: sqlite3.Connection) -> int:
    """Count anew the hours in which a user may have left a set; return how many there were.

    The caller holds the write lock and commits.
    """
    places = db.execute(
        "SELECT project_id, slot, release_id, environment_id FROM user_stale"
    ).fetchall()
    for project, hour, release, environment in places:
        place = (project, hour, release, environment)
        flags = _flags_of_hour(db, place)
        db.execute(
            "DELETE FROM user_recent WHERE project_id = ? AND slot = ? AND release_id = ?"
            " AND environment_id = ?",
            place,
        )
        for kind in KINDS:
            users = UserSet()
            users.add(user for user, bits in flags.items() if bits & kind)
            _replace(db, (project, HOUR_LEVEL, hour, release, environment, kind), users)
    for level in (DAY_LEVEL, BLOCK_LEVEL):
        inner = HOURS[level] // HOURS[level - 1]
        for project, slot, release, environment in {
            (project, hour // HOURS[level], release, environment)
            for project, hour, release, environment in places
        }:
            for kind in KINDS:
                users = UserSet()
                for (members,) in db.execute(
                    "SELECT members FROM user_sets WHERE project_id = ? AND level = ?"
                    " AND slot BETWEEN ? AND ? AND release_id = ? AND environment_id = ?"
                    " AND kind = ?",
                    (
                        project,
                        level - 1,
                        slot * inner,
                        slot * inner + inner - 1,
                        release,
                        environment,
                        kind,
                    ),
                ):
                    users.add_stored(members)
                _replace(db, (project, level, slot, release, environment, kind), users)
    db.execute("DELETE FROM user_stale")
    return len(places)


def _flags_of_hour(db: sqlite3.Connection, place: tuple[int, int, int, int]) -> dict[int, int]:
    project, hour, release, environment = place
    flags: dict[int, int] = {}
    span = (project, hour * _HOUR_US, (hour + 1) * _HOUR_US, release, environment)
    for user, status, errors, mechanism in db.execute(
        "SELECT user_id, status, errors, mechanism FROM sessions WHERE project_id = ?"
        " AND started_us >= ? AND started_us < ? AND release_id = ? AND environment_id = ?"
        " AND user_id > 0",
        span,
    ):
        row = SessionRow(release, environment, user, status, errors, True, 0, 0, None, mechanism)
        flags[user] = flags.get(user, 0) | row.flags
    for user, *columns in db.execute(
        "SELECT user_id, exited, errored, crashed, abnormal, unhandled FROM aggregates"
        " WHERE project_id = ? AND started_us >= ? AND started_us < ? AND release_id = ?"
        " AND environment_id = ? AND user_id > 0",
        span,
    ):
        flags[user] = flags.get(user, 0) | bucket_flags(*columns)
    return flags


def _replace(
    db: sqlite3.Connection, key: tuple[int, int, int, int, int, int], users: UserSet
) -> None:
    db.execute(
        "DELETE FROM user_sets WHERE project_id = ? AND level = ? AND slot = ?"
        " AND release_id = ? AND environment_id = ? AND kind = ?",
        key,
    )
    if len(users):
        db.execute(
            "INSERT INTO user_sets (project_id, level, slot, release_id, environment_id, kind,"
            " members) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key, users.stored()),
        )
