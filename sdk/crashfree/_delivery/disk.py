"""Files and directories of ours: private, whole or not there, never through a symlink.

Directories are 0700, files 0600. A file is written under another name and renamed, so that
whoever reads, and whenever the writer is killed, it is there as a whole or not at all. A name
that turns out to be a symlink or no regular file is not touched.

Every function raises OSError; the caller decides what a full or read-only disk means.
Threads: the worker, and init. Source: wire.md section 17.
"""

from __future__ import annotations

import os
import stat

TMP_SUFFIX = ".tmp"

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_PIECE = 1 << 20


def make_directory(path: str) -> None:
    """Make a private directory; one that is there must be ours and no symlink."""
    try:
        os.mkdir(path, _DIRECTORY_MODE)
        return
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is no directory")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(path, _DIRECTORY_MODE)


def write(path: str, data: bytes) -> None:
    """Write `data` to `path`, replacing what is there, in one step."""
    temporary = path + TMP_SUFFIX
    try:
        _write_new(temporary, data)
    except FileExistsError:
        # Left by a process of our name that was killed here.
        os.unlink(temporary)
        _write_new(temporary, data)
    try:
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def _write_new(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.close(descriptor)
        remove(path)
        raise
    os.close(descriptor)


def read(path: str, limit: int) -> bytes | None:
    """Return the content of a regular file of at most `limit` bytes; None when it is none."""
    try:
        # Without O_NONBLOCK a FIFO planted under this name would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _BINARY)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        parts: list[bytes] = []
        size = 0
        while size <= limit:
            part = os.read(descriptor, _PIECE)
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
        return None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def remove(path: str) -> bool:
    """Remove a file; return whether it was this call that did."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def move(source: str, target: str) -> bool:
    """Rename a file; return False when it is not there (any more) or cannot be moved."""
    try:
        os.replace(source, target)
    except OSError:
        return False
    return True


def regular_files(directory: str) -> list[os.DirEntry[str]]:
    """Return the regular files in `directory` by name; none when it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            found = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []
    found.sort(key=lambda entry: entry.name)
    return found


def directories(directory: str) -> list[str]:
    """Return the names of the real directories in `directory`, sorted."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def remove_directory(path: str) -> bool:
    """Remove an empty directory."""
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True
