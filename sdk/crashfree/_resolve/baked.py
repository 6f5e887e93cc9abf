"""Baked releases: a small file, written at build time, that says which release this is.

For what is built where git is and runs where it is not: wheels, zipapps, frozen programs,
containers. The file is called `crashfree-release.json` and holds `{"release": "myapp@1.0.0"}`; a
file that holds nothing but the name is as good. It lies in the project directory, beside the main
file, inside the archive or beside it, in the program's package, or in the bundle of a frozen
program; `CRASHFREE_RELEASE_FILE` points to any other place, and then no other is looked at.

Threads: any. Source: releases.md section 2.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from crashfree._ground import env, json
from crashfree._ground.text import trim
from crashfree._ground.typed import NamedTuple
from crashfree._resolve.program import Program, package_directory

FILE_NAME = "crashfree-release.json"
VARIABLE = "CRASHFREE_RELEASE_FILE"
_MAX_SIZE = 16 * 1024


class Baked(NamedTuple):
    """What a baked file says: a name, not yet checked."""

    path: str
    release: str


class BakedFault(Exception):
    """A baked file that is there (or was asked for) and does not say a release."""

    path: str

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path = path


def find_baked(program: Program, directory: str | None, environ: Mapping[str, str]) -> Baked | None:
    """Return the baked release of the program; None without a file.

    Raises: BakedFault.
    """
    named = env.variable(environ, VARIABLE)
    if named is not None:
        path = os.path.join(directory or "", named.value)
        data = _read(path)
        if data is None:
            raise BakedFault(path, f"does not exist ({VARIABLE} names it)")
        return Baked(path, _name(path, data))
    archived = _from_archive(program)
    if archived is not None:
        return archived
    for place in dict.fromkeys(_places(program, directory)):
        path = os.path.join(place, FILE_NAME)
        data = _read(path)
        if data is not None:
            return Baked(path, _name(path, data))
    return None


def content(release: str, source: str) -> bytes:
    """Return what to write into a baked file. The same input gives the same bytes."""
    return json.encode({"release": release, "source": source}) + b"\n"


def _places(program: Program, directory: str | None) -> Iterator[str]:
    yield from program.bundles
    if program.file is not None:
        yield os.path.dirname(program.archive or program.file)
    package = package_directory(program.top)
    if package is not None:
        yield package
    if directory is not None:
        yield directory


def _from_archive(program: Program) -> Baked | None:
    if program.read_archive is None or program.archive is None:
        return None
    path = os.path.join(program.archive, FILE_NAME)
    try:
        data = program.read_archive(path)
    except (OSError, ValueError, ImportError):
        return None  # the archive has none
    return Baked(path, _name(path, data))


def _read(path: str) -> bytes | None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise BakedFault(path, f"cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        # Opening a named pipe would wait for a writer.
        raise BakedFault(path, "is not a file")
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise BakedFault(path, f"cannot be read: {error.strerror}") from None


def _name(path: str, data: bytes) -> str:
    if len(data) > _MAX_SIZE:
        raise BakedFault(path, f"is larger than {_MAX_SIZE} bytes")
    try:
        # Windows editors and shells put a mark in front.
        text = trim(data.decode("utf-8-sig"))
        if not text.startswith("{"):
            return text
        value = json.decode(text.encode())
    except ValueError:
        raise BakedFault(path, 'is neither {"release": "NAME"} nor a name') from None
    name = value.get("release")
    if not isinstance(name, str):
        raise BakedFault(path, 'has no "release" that is a text')
    return name
