"""`Bank`: bytes in a memory-mapped file that are there as a whole after any death of the process.

Two places, written in turn. A place is

    u64 number · u32 length · u32 CRC-32 of the bytes · the bytes

in the byte order of the machine. Writing sets the number of the older place to 0, then the bytes,
their length and sum, then the number to one more than the other's: that single store of 8 aligned
bytes is the moment from which the new bytes count. A reader takes the place with the higher number
whose sum is right; the sum matters only where pages reached the disk in any order, after a power
failure.

Stores into a shared mapping survive SIGKILL, SIGSEGV and `os._exit`: the pages are the kernel's.

Threads: one writer at a time, which is for the owner to see to.
"""

from __future__ import annotations

import binascii
import struct

_HEAD = struct.Struct("@QII")
_NUMBER = struct.Struct("@Q")


class Bank:
    """Two places of equal size in a writable view."""

    __slots__ = ("_number", "_view", "capacity")
    _view: memoryview
    _number: int
    capacity: int
    """Bytes that can be written at once."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._number = 0
        self.capacity = len(view) // 2 - _HEAD.size

    def write(self, data: bytes) -> None:
        """Put `data` in the place of what was written before. Raises ValueError if too long."""
        if len(data) > self.capacity:
            raise ValueError(f"{len(data)} bytes do not fit into {self.capacity}")
        number = self._number + 1
        view = self._view
        start = (number % 2) * (len(view) // 2)
        _NUMBER.pack_into(view, start, 0)
        body = start + _HEAD.size
        view[body : body + len(data)] = data
        _HEAD.pack_into(view, start, 0, len(data), binascii.crc32(data))
        # Invariant: the one store from which the new bytes count.
        _NUMBER.pack_into(view, start, number)
        self._number = number


def read_bank(view: bytes | memoryview) -> bytes | None:
    """Return what was written last; None when nothing whole is there."""
    half = len(view) // 2
    found: tuple[int, bytes] | None = None
    for start in (0, half):
        if len(view) < start + _HEAD.size:
            continue
        number, length, crc = _HEAD.unpack_from(view, start)
        body = start + _HEAD.size
        if number == 0 or length > half - _HEAD.size:
            continue
        data = bytes(view[body : body + length])
        if binascii.crc32(data) == crc and (found is None or number > found[0]):
            found = (number, data)
    return None if found is None else found[1]
