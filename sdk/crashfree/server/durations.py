"""How long sessions lasted, day by day, sorted and packed, so that quantiles need no scan.

A day of a project is *sealed* when its durations are packed, one sorted list a release and
environment; any session of the day whose duration changes makes it *stale* again, and a stale day
is read from the sessions themselves. The answer is the same either way.

Threads: reading any, with a read transaction; sealing under the write lock.
Source: sessions.md section 5.7.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Sequence
from typing import Final

DAY_US: Final = 86_400_000_000
_BIG_ENDIAN: Final = sys.byteorder == "big"
_SHORT: Final = b"\x04"
_LONG: Final = b"\x08"


def packed(durations_us: Sequence[int]) -> bytes:
    """Return durations, sorted, as they are stored: four bytes each where that is enough."""
    numbers = sorted(durations_us)
    kind, mark = ("I", _SHORT) if numbers[-1] < 2**32 else ("Q", _LONG)
    packed_numbers = array(kind, numbers)
    if _BIG_ENDIAN:
        packed_numbers.byteswap()
    return mark + packed_numbers.tobytes()


def unpacked(members: bytes) -> Sequence[int]:
    """Return stored durations; still sorted."""
    numbers = array("I" if members[:1] == _SHORT else "Q")
    numbers.frombytes(memoryview(members)[1:])
    if _BIG_ENDIAN:
        numbers.byteswap()
    return numbers


def stale_days(db: sqlite3.Connection, project: int, first: int, last: int) -> list[int]:
    """Return the stale ones among some days, `last` included."""
    return [
        row[0]
        for row in db.execute(
            "SELECT slot FROM duration_stale WHERE project_id = ? AND slot BETWEEN ? AND ?"
            " ORDER BY slot",
            (project, first, last),
        )
    ]


def seal(db: sqlite3.Connection, project: int, day: int) -> None:
    """Pack the durations of a day anew; inside `write`."""
    found: dict[tuple[int, int], list[int]] = {}
    for release, environment, duration_us in db.execute(
        "SELECT release_id, environment_id, duration_us FROM sessions WHERE project_id = ?"
        " AND started_us >= ? AND started_us < ? AND duration_us IS NOT NULL",
        (project, day * DAY_US, (day + 1) * DAY_US),
    ):
        found.setdefault((release, environment), []).append(duration_us)
    db.execute("DELETE FROM duration_days WHERE project_id = ? AND slot = ?", (project, day))
    db.executemany(
        "INSERT INTO duration_days (project_id, slot, release_id, environment_id, members)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (project, day, release, environment, packed(numbers))
            for (release, environment), numbers in found.items()
        ],
    )
    db.execute("DELETE FROM duration_stale WHERE project_id = ? AND slot = ?", (project, day))
