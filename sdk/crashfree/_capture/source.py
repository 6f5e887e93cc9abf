"""Source lines around a frame: from the disk, a zip file, or whoever loaded the module.

Read on the worker where no callback needs the event earlier. The reader is our own: `linecache`
and `tokenize` would be imported in the middle of a crash. What is read is kept, bounded in files
and bytes, and checked against the file's time and size before it is used again, once a second.

Threads: any; the cache is a dict whose entries are replaced whole. Never raises.
Source: wire.md section 6.3.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Mapping

from crashfree._capture import foreign, plain
from crashfree._ground.clock import Clock
from crashfree._ground.typed import Any, NamedTuple, TypeAlias

LINES_AROUND = 5
MAX_BYTES = 1024 * 1024
LINE_CHARACTERS = 512

_CACHED_FILES = 100
_CACHED_BYTES = 4 * 1024 * 1024
_CHECKED_EVERY = 1.0

Stamp: TypeAlias = "tuple[int, int] | None"
"""Modification time and size of a file; None for what is no file."""


class _File(NamedTuple):
    stamp: Stamp
    lines: tuple[str, ...]
    size: int


class Excerpt(NamedTuple):
    """The line of a frame and its surroundings, without line ends."""

    before: list[str]
    line: str
    after: list[str]


class SourceReader:
    """Source files, read once."""

    __slots__ = ("_cache", "_clock", "_size", "_stamps")
    _clock: Clock
    _cache: dict[str, _File]
    _size: int
    _stamps: dict[str, tuple[Stamp, float]]

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cache = {}
        self._size = 0
        self._stamps = {}

    def now(self) -> float:
        """Return the time to hand to `stamp`, once for many files."""
        return self._clock.monotonic()

    def stamp(self, path: str, now: float) -> Stamp:
        """Return what tells this state of a file from another; at most a second old."""
        known = self._stamps.get(path)
        if known is not None and 0.0 <= now - known[1] < _CHECKED_EVERY:
            return known[0]
        if len(self._stamps) >= 10 * _CACHED_FILES:
            self._stamps = {}
        stamp = _stamp(path)
        self._stamps[path] = (stamp, now)
        return stamp

    def excerpt(
        self, path: str, line: int, module_globals: Mapping[str, Any] | None
    ) -> Excerpt | None:
        """Return line `line` (from 1) of a file with 5 lines around it; None when it is not had."""
        lines = self._lines(path, module_globals)
        if lines is None or not 1 <= line <= len(lines):
            return None
        first = max(0, line - 1 - LINES_AROUND)
        return Excerpt(
            [_short(text) for text in lines[first : line - 1]],
            _short(lines[line - 1]),
            [_short(text) for text in lines[line : line + LINES_AROUND]],
        )

    def _lines(self, path: str, module_globals: Mapping[str, Any] | None) -> tuple[str, ...] | None:
        stamp = self.stamp(path, self.now())
        cached = self._cache.get(path)
        if cached is not None and cached.stamp == stamp:
            return cached.lines
        text = _read(path, stamp) if stamp is not None else _loaded(path, module_globals)
        if text is None:
            return None
        lines = tuple(text.splitlines())
        self._keep(path, _File(stamp, lines, len(text)))
        return lines

    def _keep(self, path: str, file: _File) -> None:
        self._size += file.size
        if len(self._cache) >= _CACHED_FILES or self._size > _CACHED_BYTES:
            # All at once: what a program raises from is mostly a handful of files.
            self._cache = {}
            self._size = file.size
        self._cache[path] = file


def _stamp(path: str) -> Stamp:
    if path.startswith("<"):
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_mtime_ns, status.st_size)


def _read(path: str, stamp: tuple[int, int]) -> str | None:
    if stamp[1] > MAX_BYTES:
        return None
    try:
        with open(path, "rb") as file:
            return _decoded(file.read(MAX_BYTES))
    except (OSError, ValueError):
        return None


def _loaded(path: str, module_globals: Mapping[str, Any] | None) -> str | None:
    """Ask the module's loader (zip files, notebooks, import hooks), then the line cache."""
    if module_globals is not None:
        loader = module_globals.get("__loader__")
        spec = module_globals.get("__spec__")
        name = foreign.attribute(spec, "name") or module_globals.get("__name__")
        get_source: Any = foreign.attribute(loader, "get_source")
        if get_source is not None and not path.startswith("<frozen "):
            text = foreign.attempt(get_source, name)
            if type(text) is str and len(text) <= MAX_BYTES:
                return text
    # Notebooks and doctests put what they compile there; we only look, we do not fill it.
    linecache = sys.modules.get("linecache")
    if linecache is None:
        return None
    entry: Any = foreign.attempt(lambda: linecache.cache.get(path))
    lines = foreign.attempt(lambda: entry[2]) if entry is not None and len(entry) == 4 else None
    return "".join(plain.entries(lines)) or None


def _decoded(data: bytes) -> str:
    """Decode Python source by its byte order mark or coding line (PEP 263)."""
    if data.startswith(codecs.BOM_UTF8):
        return data[3:].decode("utf-8", "replace")
    encoding = _coding(data) or "utf-8"
    try:
        return data.decode(encoding, "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _coding(data: bytes) -> str | None:
    for line in data.split(b"\n", 2)[:2]:
        stripped = line.strip()
        if not stripped.startswith(b"#"):
            if stripped:
                return None
            continue
        at = stripped.find(b"coding")
        if at < 0 or stripped[at + 6 : at + 7] not in (b":", b"="):
            continue
        word = stripped[at + 7 :].strip()
        end = next((i for i, c in enumerate(word) if not (chr(c).isalnum() or c in b"-_.")), None)
        return word[:end].decode("ascii", "replace")
    return None


def _short(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS else line[: LINE_CHARACTERS - 3] + "..."
