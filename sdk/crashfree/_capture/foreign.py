"""Calls into code that is not ours: `str`, `repr`, attribute hooks, iteration, callbacks.

All of them may raise, lie about their type or return nonsense; what comes out of this module is
what its name says. Types are asked by `type(value)`, never by `isinstance`, which consults
`__class__` and thereby runs code of the object. `BaseException` passes: Ctrl-C and a gevent
timeout belong to the program.

Threads: any; no lock of ours may be held (a repr may want one that the caller holds).
Source: wire.md section 7; complaints-transport.md, 17 and 32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

REPR_CHARACTERS = 1024
"""A foreign repr is cut to this many characters."""
BROKEN_REPR = "<broken repr>"
UNPRINTABLE_EXCEPTION = "<unprintable exception>"

# Printing an integer costs time quadratic in its digits, and beyond 4300 of them CPython refuses.
_PRINTABLE_BITS = 4096


def attempt(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Return what `function` returns; None when it raises."""
    try:
        return function(*args, **kwargs)
    except Exception:
        return None


def text_of(value: object) -> str:
    """Return `str(value)` as an exact str; a marker when that fails."""
    kind: type[Any] = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if kind is int:
        return integer_text(value)  # type: ignore[arg-type]
    try:
        return _exact(str(value))
    except Exception:
        return repr_of(value)


def repr_of(value: object, limit: int = REPR_CHARACTERS) -> str:
    """Return `repr(value)` as an exact str, cut to `limit` characters; a marker when it fails."""
    try:
        text = _exact(repr(value))
    except Exception:
        return BROKEN_REPR
    return text if len(text) <= limit else text[: limit - 3] + "..."


def message_of(error: BaseException) -> str:
    """Return what an exception says: `str`, else `repr`, else a marker.

    Source: wire.md section 6.1.
    """
    try:
        return _exact(str(error))
    except Exception:
        text = repr_of(error)
        return UNPRINTABLE_EXCEPTION if text == BROKEN_REPR else text


def integer_text(value: int) -> str:
    """Return the digits of an integer, or its size when nobody would read them."""
    bits = value.bit_length()
    return str(value) if bits <= _PRINTABLE_BITS else f"<int of {bits} bits>"


def type_name(kind: type[Any]) -> str:
    """Return the qualified name of a class without asking its metaclass."""
    return _exact(_QUALNAME(kind))


def module_name(kind: type[Any]) -> str | None:
    """Return the module of a class; None when it does not say."""
    module = attempt(_MODULE, kind)
    return _exact(module) if issubclass(type(module), str) else None


def declared(kind: type, name: str) -> Any:
    """Return what a class or one of its bases declares under `name`; None when none does.

    Without asking the metaclass, which may make things up.
    """
    for base in _MRO(kind):
        space: Mapping[str, Any] = _SPACE(base)
        if name in space:
            return space[name]
    return None


def attribute(value: object, name: str) -> object:
    """Return an attribute of a foreign object; None when there is none or reading it fails."""
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def mapping(value: object) -> dict[Any, Any] | None:
    """Return a mapping as a dict of its own; None for anything else."""
    kind: type[Any] = type(value)
    if issubclass(kind, dict):
        return _DICT_COPY(value)
    if issubclass(kind, Mapping):
        given: Any = value
        return attempt(lambda: dict(given))
    return None


def sequence(value: object) -> list[Any] | None:
    """Return a list or tuple as a list of its own; None for anything else."""
    kind: type[Any] = type(value)
    entries: Any = value
    if issubclass(kind, list):
        return _LIST_COPY(entries)
    if issubclass(kind, tuple):
        return list(_TUPLE_ITER(entries))
    return None


def _exact(text: Any) -> str:
    # A subclass of str may override anything, even its length.
    return text if type(text) is str else str.__str__(text)


# By the builtin's own methods: a subclass may have overridden them.
_DICT_COPY: Callable[[Any], dict[Any, Any]] = dict.__dict__["copy"]
_LIST_COPY: Callable[[Any], list[Any]] = list.__dict__["copy"]
_TUPLE_ITER: Callable[[Any], Iterator[Any]] = tuple.__dict__["__iter__"]
_QUALNAME: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_MRO: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_SPACE: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_MODULE: Callable[[type], object] = type.__dict__["__module__"].__get__
