"""Files that are written through memory.

The space is reserved when the file is made: a store into a page that the disk has no room for
would end the process with SIGBUS.

Threads: whoever makes the file. Fork: mappings are shared with the parent; the owner must stop
writing in a child.
"""

from __future__ import annotations

import errno
import mmap
import os

PIECE = 1 << 16
"""Mappings begin at multiples of this; 64 KiB is what Windows asks for, and enough for all."""


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
