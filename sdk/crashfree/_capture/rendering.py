"""Bounded text for any object: builtin containers by our own hand, the rest by guarded `repr`.

What `repr` and `str` of a container cost and produce has no bound; here it ends with the room
there is. Small values come out exactly as Python writes them. Secret keys can be hidden on the way.

Invariants: never raises (but BaseException of foreign code), never changes its input. Threads: any.
Source: wire.md section 7.
"""

# What is rendered here has no static type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from crashfree._capture import foreign
from crashfree._ground.typed import Any

CHARACTERS = foreign.REPR_CHARACTERS
"""The usual room."""
MESSAGE_CHARACTERS = 16_384
DEPTH = 6
SKIPPED = "<skipped: time budget>"
HIDDEN = "[Filtered]"
UNPRINTABLE_EXCEPTION = "<unprintable exception>"

_FIELDS = 100
_EMPTY: dict[str, str] = {}
_VIEWS: tuple[type, ...] = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))
_CONTAINERS = frozenset((dict, list, tuple, set, frozenset, deque, *_VIEWS))
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def _never(key: str) -> bool:
    return False


def _always() -> bool:
    return True


def text_of(value: object, limit: int = MESSAGE_CHARACTERS) -> str:
    """Return what `str(value)` says, as an exact str; a container's ends at `limit` characters."""
    kind: type[Any] = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if kind is int:
        return foreign.integer_text(value)  # type: ignore[arg-type]
    if is_container(kind) or kind is bytes or kind is bytearray:
        return rendered(value, limit)
    text = foreign.text_of(value)
    return foreign.repr_of(value) if text is None else text


def message_of(error: BaseException) -> str:
    """Return what an exception says: `str`, else `repr`, else a marker.

    Source: wire.md section 6.1.
    """
    kind = type(error)
    if type(kind) is type and kind.__str__ is _PLAIN_STR:
        # What `str` would do, but bounded: somebody may have put a whole table in.
        arguments = _ARGUMENTS(error)
        if len(arguments) == 1:
            return text_of(arguments[0])
        return rendered(arguments, MESSAGE_CHARACTERS) if arguments else ""
    said = foreign.text_of(error)
    if said is not None:
        return said
    text = foreign.repr_of(error)
    return UNPRINTABLE_EXCEPTION if text == foreign.BROKEN_REPR else text


def rendered(
    value: object,
    limit: int = CHARACTERS,
    *,
    hide: Callable[[str], bool] = _never,
    may_ask: Callable[[], bool] = _always,
) -> str:
    """Return something like `repr(value)` of at most `limit` characters.

    `hide` names the keys and fields whose values are not to be shown; `may_ask` is asked before
    each foreign `repr` and may refuse it.
    """
    rendering = _Rendering(hide, may_ask)
    rendering.add(value, limit, DEPTH)
    text = "".join(rendering.parts)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _Rendering:
    """One rendering: its parts so far and the containers it is inside of."""

    __slots__ = ("_hide", "_may_ask", "_open", "parts")
    parts: list[str]
    _open: set[int]
    _hide: Callable[[str], bool]
    _may_ask: Callable[[], bool]

    def __init__(self, hide: Callable[[str], bool], may_ask: Callable[[], bool]) -> None:
        self.parts = []
        self._open = set()
        self._hide = hide
        self._may_ask = may_ask

    def add(self, value: object, room: int, depth: int) -> int:
        """Append `value`; return the room that is left, negative when there was not enough."""
        kind: type[Any] = type(value)
        base = container(kind)
        if base is None:
            fields = _dataclass_fields(value, kind)
            if fields is not None and depth > 0:
                return self._members(foreign.type_name(kind), fields, room, depth)
            return room - self._put(self._leaf(value, kind, room))
        if id(value) in self._open or depth <= 0:
            return room - self._put("...")
        self._open.add(id(value))
        try:
            if base is dict:
                return self._members(None, items(value, room) or [], room, depth)
            return self._entries(base, first(value, room) or [], room, depth)
        finally:
            self._open.discard(id(value))

    def _entries(self, base: type, entries: list[object], room: int, depth: int) -> int:
        opening, closing = _BRACKETS.get(base, (f"{base.__name__}([", "])"))
        if base is set and not entries:
            opening, closing = "set(", ")"
        room -= self._put(opening)
        for index, entry in enumerate(entries):
            if index:
                room -= self._put(", ")
            room = self.add(entry, room, depth - 1)
            if room <= 0:
                break
        if base is tuple and len(entries) == 1:
            closing = ",)"
        return room - self._put(closing)

    def _members(
        self, name: str | None, members: list[tuple[object, object]], room: int, depth: int
    ) -> int:
        """Append a dict, or the fields of the object called `name`."""
        room -= self._put("{" if name is None else f"{name}(")
        for index, (key, entry) in enumerate(members):
            if index:
                room -= self._put(", ")
            if name is None:
                room = self.add(key, room, min(depth - 1, 1)) - self._put(": ")
            else:
                room -= self._put(f"{text_of(key, CHARACTERS)}=")
            if self._hide(text_of(key, CHARACTERS)):
                room -= self._put(repr(HIDDEN))
            else:
                room = self.add(entry, room, depth - 1)
            if room <= 0:
                break
        return room - self._put("}" if name is None else ")")

    def _put(self, text: str) -> int:
        self.parts.append(text)
        return len(text)

    def _leaf(self, value: Any, kind: type[Any], room: int) -> str:
        if kind is str or kind is bytes or kind is bytearray:
            return repr(value[: max(0, room) + 1])
        if kind is int:
            return foreign.integer_text(value)
        if value is None or kind is bool or kind is float:
            return repr(value)
        return foreign.repr_of(value) if self._may_ask() else SKIPPED


def is_container(kind: type[Any]) -> bool:
    """Return whether a class is a builtin container."""
    # A metaclass may have made its classes unhashable, or worse.
    return type(kind) is type and kind in _CONTAINERS


def container(kind: type[Any]) -> type | None:
    """Return the builtin container that a class is or extends; None when it is none."""
    if is_container(kind):
        return kind
    for base in (dict, tuple, list, set, frozenset, deque):
        if issubclass(kind, base):
            return base
    # Not imported for this: a program without the module has no arrays.
    array = sys.modules.get("array")
    return array.array if array is not None and issubclass(kind, array.array) else None


def items(value: Any, limit: int) -> list[tuple[object, object]] | None:
    """Return the first items of a mapping; None when it changes faster than it can be read."""
    if not issubclass(type(value), dict):
        return foreign.attempt(lambda: list(islice(value.items(), limit)))
    try:
        return list(islice(dict.items(value), max(0, limit)))
    except RuntimeError:
        # Another thread changes it; a copy is one step under the GIL.
        return foreign.attempt(lambda: list(islice(dict.copy(value).items(), max(0, limit))))


def first(value: Any, limit: int) -> list[object] | None:
    """Return the first entries of a builtin container (or of a subclass, by builtin means)."""
    kind: Any = container(type(value))
    if kind is None:
        return None
    try:
        return list(islice(kind.__iter__(value), max(0, limit)))
    except RuntimeError:
        return foreign.attempt(lambda: list(islice(_snapshot(value, kind), max(0, limit))))


def _snapshot(value: Any, kind: Any) -> Iterable[object]:
    copied: Iterable[object] = kind.copy(value) if hasattr(kind, "copy") else list(value)
    return copied


def _dataclass_fields(value: object, kind: type[Any]) -> list[tuple[object, object]] | None:
    """Return the fields of a dataclass whose repr is the generated one; None for others."""
    fields = foreign.declared(kind, "__dataclass_fields__")
    if type(fields) is not dict:
        return None
    generated = foreign.attribute(foreign.declared(kind, "__repr__"), "__wrapped__")
    code = foreign.attribute(generated, "__code__")
    if foreign.attribute(code, "co_filename") != "<string>":
        return None
    shown: list[tuple[object, object]] = []
    for name, field in islice(fields.items(), _FIELDS):
        if foreign.attribute(field, "repr") is True:
            shown.append((name, foreign.attempt(object.__getattribute__, value, name)))
    return shown


_PLAIN_STR: object = BaseException.__str__
_ARGUMENTS: Callable[[BaseException], tuple[object, ...]] = BaseException.__dict__["args"].__get__
