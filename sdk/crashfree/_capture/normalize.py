"""Any object becomes plain JSON: bounded in depth, breadth and text, never changed, never trusted.

A walk runs no code of the objects it meets, with three guarded exceptions: the `repr` of what is
neither a builtin nor a container, the iteration of foreign mappings, and `__crashfree_repr__`.
Builtin containers are read by the methods of their builtin type, whatever a subclass overrides. A
hanging `repr` cannot be interrupted; many slow ones are cut off by the time budget of the event.

Invariants: never raises (but BaseException of foreign code), never changes its input, output is
strict JSON with text keys. Threads: any, a `Normalizer` by one at a time.
Source: wire.md section 7.
"""

# What is walked here has no static type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from itertools import islice

from crashfree._capture import foreign, rendering
from crashfree._capture.meta import Notes, Path
from crashfree._ground.clock import Clock
from crashfree._ground.typed import Any
from crashfree.types import JSON

DEPTH = 5
BREADTH = 10
TOP_BREADTH = 100
KEY_CHARACTERS = 200
TIME_BUDGET = 0.05
"""Seconds of one event that foreign reprs may take together."""

CYCLIC = "<cyclic>"
SKIPPED = rendering.SKIPPED

_LEAF_BYTES = 85
_CONTAINER_BYTES = 240
_LARGEST = 1 << 53
_LONGEST_RENDERING = rendering.CHARACTERS


def never(key: str) -> bool:
    """The predicate of those who hide nothing."""
    return False


class Normalizer:
    """One event's worth of walking: its limits, its notes and its time."""

    __slots__ = (
        "_clock",
        "_deadline",
        "_open",
        "_sensitive",
        "budget",
        "max_bytes",
        "notes",
        "quoted",
        "short",
        "walked",
    )
    max_bytes: int
    """UTF-8 bytes of one text."""
    notes: Notes
    budget: float
    quoted: bool
    """True while walking local variables: every leaf becomes its repr."""
    _clock: Clock
    _deadline: float | None
    _open: set[int]
    _sensitive: Callable[[str], bool]
    short: int
    """Characters that are within the limit whatever they are."""
    walked: int
    """Roughly how many bytes the local variables take that were walked so far."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_bytes: int,
        notes: Notes,
        sensitive: Callable[[str], bool] = never,
        budget: float = TIME_BUDGET,
    ) -> None:
        self.max_bytes = max_bytes
        self.notes = notes
        self.budget = budget
        self.quoted = False
        self._clock = clock
        self._deadline = None
        self._open = set()
        self._sensitive = sensitive
        self.short = max_bytes // 4
        self.walked = 0

    # -- entrances

    def bag(self, entries: Mapping[str, object], path: Path) -> dict[str, JSON]:
        """Return a mapping whose top may hold 100 keys, each value a tree of its own."""
        if type(entries) is dict and not self.quoted and self.is_flat(entries):
            return entries.copy()
        return self._object(
            rendering.items(entries, TOP_BREADTH + 1), _length(entries), path, DEPTH, TOP_BREADTH
        )

    def is_flat(self, entries: dict[Any, Any]) -> bool:
        """Return whether nothing needs to be done but copying: by far the most frequent bag."""
        if len(entries) > TOP_BREADTH:
            return False
        safe = self.short
        try:
            for key, entry in entries.items():
                if type(key) is not str or len(key) > KEY_CHARACTERS:
                    return False
                kind: type[Any] = type(entry)
                if kind is str:
                    if len(entry) > safe:
                        return False
                elif kind is int:
                    if not -_LARGEST <= entry <= _LARGEST:
                        return False
                elif kind is float:
                    if entry - entry != 0.0:
                        return False
                elif entry is not None and kind is not bool:
                    return False
        except RuntimeError:
            # Changed while we looked at it.
            return False
        return True

    def local_variables(self, entries: Mapping[str, object], path: Path) -> dict[str, JSON]:
        """Return local variables: a bag in which every leaf is a repr."""
        self.quoted = True
        try:
            return self.bag(entries, path)
        finally:
            self.quoted = False

    def value(self, value: object, path: Path, depth: int = DEPTH) -> JSON:
        """Return any object as JSON, containers `depth` levels deep, 10 entries wide."""
        kind: type[Any] = type(value)
        if self.quoted:
            if not rendering.is_container(kind):
                leaf = self._leaf_repr(value, path, depth)
                self.walked += _LEAF_BYTES + (len(leaf) if type(leaf) is str else 0)
                return leaf
            self.walked += _CONTAINER_BYTES
        elif kind is str:
            text: str = value  # type: ignore[assignment]
            return text if len(text) <= self.short else self.text(text, path)
        elif value is None or kind is bool:
            return value  # type: ignore[return-value]
        elif kind is int:
            return _integer(value)  # type: ignore[arg-type]
        elif kind is float:
            return _number(value)  # type: ignore[arg-type]
        elif not rendering.is_container(kind):
            return self._other(value, path, depth)
        return self._container(value, kind, path, depth)

    def text(self, text: str, path: Path) -> str:
        """Return a text cut to the limit, at a character's boundary, with a note."""
        cut, length = cut_text(text, self.max_bytes)
        if length is not None:
            self.notes.shortened_text(path, length, len(cut.encode("utf-8", "surrogatepass")))
        return cut

    # -- containers

    def _container(self, value: object, kind: type[Any], path: Path, depth: int) -> JSON:
        if depth <= 0:
            return self.text(self.rendered(value), path)
        identity = id(value)
        if identity in self._open:
            return CYCLIC
        self._open.add(identity)
        try:
            if issubclass(kind, dict):
                return self._object(
                    rendering.items(value, BREADTH + 1), _length(value), path, depth, BREADTH
                )
            length = _length(value)
            entries = rendering.first(value, BREADTH + 1)
            if entries is None:
                return unserializable(value)
            below = [
                self.value(entry, (path, index), depth - 1)
                for index, entry in enumerate(entries[:BREADTH])
            ]
            if issubclass(kind, (set, frozenset)):
                below.sort(key=repr)
            if len(entries) > BREADTH:
                self.notes.shortened(path, max(length, len(entries)))
            return below
        finally:
            self._open.discard(identity)

    def _object(
        self,
        items: list[tuple[object, object]] | None,
        length: int,
        path: Path,
        depth: int,
        breadth: int,
    ) -> dict[str, JSON]:
        result: dict[str, JSON] = {}
        if items is None:
            return result
        for key, entry in items[:breadth]:
            name = key if type(key) is str and len(key) <= KEY_CHARACTERS else _key(key)
            if name in result:
                name = _another(name, result)
            result[name] = self.value(entry, (path, name), depth - 1)
        if len(items) > breadth:
            self.notes.shortened(path, max(length, len(items)))
        return result

    # -- leaves

    def _leaf_repr(self, value: object, path: Path, depth: int) -> JSON:
        kind: type[Any] = type(value)
        if kind is str:
            text: str = value  # type: ignore[assignment]
            if len(text) > _LONGEST_RENDERING:
                length = len(text)
                text = text[: _LONGEST_RENDERING - 3] + "..."
                self.notes.shortened_text(path, length, _LONGEST_RENDERING)
            return repr(text)
        if kind is int:
            return foreign.integer_text(value)  # type: ignore[arg-type]
        if value is None or kind is bool or kind is float:
            return repr(value)
        base = rendering.container(kind)
        if base is not None:
            return self._container(value, base, path, depth)
        return self.text(self.rendered(value), path)

    def _other(self, value: object, path: Path, depth: int) -> JSON:
        kind: type[Any] = type(value)
        own = foreign.declared(kind, "__crashfree_repr__")
        if own is not None:
            return self._budgeted(lambda: _own_words(own, value), path)
        base = rendering.container(kind)
        if base is not None:
            return self._container(value, base, path, depth)
        if _is_enum(kind):
            return self._budgeted(lambda: foreign.repr_of(value), path)
        if issubclass(kind, str):
            return self.text(_EXACT_TEXT(value), path)
        if issubclass(kind, int):
            return _integer(int.__int__(value))  # type: ignore[arg-type]
        if issubclass(kind, float):
            return _number(float.__float__(value))  # type: ignore[arg-type]
        if issubclass(kind, (bytes, bytearray, memoryview)):
            return self.text(_decoded(value, self.max_bytes), path)
        if issubclass(kind, datetime):
            return _moment(value)  # type: ignore[arg-type]
        if issubclass(kind, date):
            return rendering.text_of(value)
        return self._foreign(value, kind, path, depth)

    def _foreign(self, value: object, kind: type[Any], path: Path, depth: int) -> JSON:
        module = (foreign.module_name(kind) or "").partition(".")[0]
        if module == "numpy" and foreign.declared(kind, "__iter__") is None:
            scalar: Any = value
            plain = foreign.attempt(lambda: scalar.item())
            if type(plain) is not type(value) and type(plain).__module__ == "builtins":
                return self.value(plain, path, depth)
        if foreign.type_name(kind) in _AS_TEXT.get(module, ()):
            return self._budgeted(lambda: rendering.text_of(value), path)
        if depth > 0 and foreign.is_mapping(kind) and not _is_lazy(kind):
            items = foreign.attempt(lambda: list(islice(value.items(), BREADTH + 1)))  # type: ignore[attr-defined]
            if items is not None and all(type(item) is tuple and len(item) == 2 for item in items):
                return self._object(items, _length(value), path, depth, BREADTH)
        return self.text(self.rendered(value), path)

    def _budgeted(self, render: Callable[[], str], path: Path) -> str:
        return self.text(render(), path) if self._in_time() else SKIPPED

    def rendered(self, value: object) -> str:
        """Return something like `repr(value)`, bounded, without secrets, within the time budget."""
        return rendering.rendered(value, hide=self._sensitive, may_ask=self._in_time)

    def _in_time(self) -> bool:
        now = self._clock.monotonic()
        if self._deadline is None:
            self._deadline = now + self.budget
        return now <= self._deadline


def cut_text(text: str, max_bytes: int) -> tuple[str, int | None]:
    """Return a text of at most `max_bytes` in UTF-8, and its former length when it was longer."""
    size = len(text)
    if size * 4 <= max_bytes or (size <= max_bytes and text.isascii()):
        return text, None
    # A megabyte is encoded in a millisecond; nobody needs the exact length of more than that.
    data = text[: 1 << 20].encode("utf-8", "surrogatepass")
    length = len(data) + max(0, size - (1 << 20))
    if length <= max_bytes:
        return text, None
    end = max(0, max_bytes - 3)
    while end > 0 and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[:end].decode("utf-8", "surrogatepass") + "...", length


def unserializable(value: object) -> str:
    """Return the marker for what could not be walked."""
    return f"<unserializable: {foreign.type_name(type(value))}>"


# -- what things are, without asking them

_EXACT_TEXT: Callable[[object], str] = str.__dict__["__str__"]
# Types whose `str` says it better than their repr, by top-level module: importing those modules
# to compare the classes would cost more than the comparison is worth.
_AS_TEXT: dict[str, frozenset[str]] = {
    "decimal": frozenset(("Decimal",)),
    "_decimal": frozenset(("Decimal",)),
    "uuid": frozenset(("UUID",)),
    "datetime": frozenset(("time",)),
    "pathlib": frozenset(
        ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
    ),
}


def _is_enum(kind: type[Any]) -> bool:
    enum = sys.modules.get("enum")
    return enum is not None and issubclass(type(kind), enum.EnumMeta)


def _is_lazy(kind: type[Any]) -> bool:
    """Whether walking it would make it do its work, a database query for instance."""
    name = foreign.type_name(kind).lower()
    return "lazy" in name or "proxy" in name


def _length(value: object) -> int:
    base = rendering.container(type(value))
    if base is not None:
        known: int = base.__len__(value)  # type: ignore[attr-defined]
        return known
    length = foreign.attempt(len, value)  # type: ignore[arg-type]
    return length if type(length) is int else 0


def _own_words(hook: Any, value: object) -> str:
    """Return what the class itself says is safe to show of an object."""
    said = foreign.attempt(hook, value)
    return unserializable(value) if said is None else rendering.text_of(said)


def _key(key: object) -> str:
    if key is None or type(key) in (bool, float):
        return repr(key)
    return rendering.text_of(key)[:KEY_CHARACTERS]


def _another(name: str, taken: Mapping[str, object]) -> str:
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"


def _integer(value: int) -> JSON:
    return value if -_LARGEST <= value <= _LARGEST else foreign.integer_text(value)


def _number(value: float) -> JSON:
    return value if value - value == 0.0 else repr(value)


def _decoded(value: object, limit: int) -> str:
    data = foreign.attempt(lambda: bytes(memoryview(value)[: limit + 4]))  # type: ignore[arg-type]
    return unserializable(value) if data is None else data.decode("utf-8", "replace")


def _moment(value: datetime) -> str:
    text = foreign.attempt(
        lambda: datetime.astimezone(value, timezone.utc).isoformat(timespec="microseconds")
    )
    return foreign.repr_of(value) if text is None else text[:-6] + "Z"
