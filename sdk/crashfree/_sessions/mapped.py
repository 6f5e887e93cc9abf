"""Files that are written through memory.

The space is reserved when the file is made: a store into a page that the disk has no room for
would end the process with SIGBUS.

`Bank`: bytes in such a file that are there as a whole after any death of the process. Two places,
written in turn. A place is

    u64 number · u32 length · u32 CRC-32 of the bytes · the bytes

in the byte order of the machine. Writing sets the number of the older place to 0, then the bytes,
their length and sum, then the number to one more than the other's: that single store of 8 aligned
bytes is the moment from which the new bytes count. A reader takes the place with the higher number
whose sum is right; the sum matters only where pages reached the disk in any order, after a power
failure.

Stores into a shared mapping survive SIGKILL, SIGSEGV and `os._exit`: the pages are the kernel's.

Threads: whoever makes the file; of a bank one writer at a time, which is for the owner to see to.
Fork: mappings are shared with the parent; the owner must stop writing in a child.
"""

from __future__ import annotations

import binascii
import errno
import mmap
import os
import sys

PIECE = 1 << 16
"""Mappings begin at multiples of this; 64 KiB is what Windows asks for, and enough for all."""

_HEAD = 16
"""Bytes of a number, a length and a sum. Written by hand: `struct` would be two more modules."""


def create(path: str, size: int) -> int:
    """Make a private file of `size` bytes, all zero, and return its descriptor.

    Raises OSError; FileExistsError when the name is taken.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        _reserve(descriptor, size)
    except OSError:
        os.close(descriptor)
        os.unlink(path)
        raise
    return descriptor


def view(descriptor: int, offset: int, size: int) -> mmap.mmap:
    """Map `size` bytes of a file, from `offset` on, for reading and writing."""
    return mmap.mmap(descriptor, size, offset=offset)


def anonymous() -> mmap.mmap:
    """Return a piece of memory that goes with the process, appendable as a file's is."""
    return mmap.mmap(-1, PIECE)


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            # Some file systems have no such call; then zeros are written below.
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            return
    zeros = bytes(PIECE)
    left = size
    while left > 0:
        left -= os.write(descriptor, zeros[: min(left, PIECE)])


_NOT_SUPPORTED = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))


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
        self.capacity = len(view) // 2 - _HEAD

    def write(self, data: bytes) -> None:
        """Put `data` in the place of what was written before. Raises ValueError if too long."""
        if len(data) > self.capacity:
            raise ValueError(f"{len(data)} bytes do not fit into {self.capacity}")
        number = self._number + 1
        view = self._view
        start = (number % 2) * (len(view) // 2)
        of_place = view[start : start + 8].cast("Q")
        of_place[0] = 0
        body = start + _HEAD
        view[body : body + len(data)] = data
        size = view[start + 8 : body].cast("I")
        size[0], size[1] = len(data), binascii.crc32(data)
        # Invariant: the one store from which the new bytes count.
        of_place[0] = number
        self._number = number


def read_bank(view: bytes | memoryview) -> bytes | None:
    """Return what was written last; None when nothing whole is there."""
    half = len(view) // 2
    found: tuple[int, bytes] | None = None
    for start in (0, half):
        if len(view) < start + _HEAD:
            continue
        body = start + _HEAD
        number, length, crc = (
            int.from_bytes(view[a:b], sys.byteorder)
            for a, b in ((start, start + 8), (start + 8, start + 12), (start + 12, body))
        )
        if number == 0 or length > half - _HEAD:
            continue
        data = bytes(view[body : body + length])
        if binascii.crc32(data) == crc and (found is None or number > found[0]):
            found = (number, data)
    return None if found is None else found[1]
