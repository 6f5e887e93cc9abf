"""Calls into code that is not ours: `str`, `repr`, attribute hooks, iteration, callbacks.

All of them may raise, lie about their type or return nonsense; what comes out of this module is
what its name says. Types are asked by `type(value)`, never by `isinstance`, which consults
`__class__` and thereby runs code of the object. `BaseException` passes: Ctrl-C and a gevent
timeout belong to the program. While it runs the recursion mark stands: a `repr` that captures
would be asked for its repr again.

Threads: any; no lock of ours may be held (a repr may want one that the caller holds).
Source: wire.md section 7; complaints-transport.md, 17 and 32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from crashfree._ground import log
from crashfree._ground.typed import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

REPR_CHARACTERS = 1024
"""A foreign repr is cut to this many characters."""
BROKEN_REPR = "<broken repr>"
ENTRIES = 1000
"""Of a foreign container no more are looked at."""

# Printing an integer costs time quadratic in its digits, and beyond 4300 of them CPython refuses.
_PRINTABLE_BITS = 4096


def attempt(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Return what `function` returns; None when it raises."""
    outside = log.inside.set(True)
    try:
        return function(*args, **kwargs)
    except Exception:
        return None
    finally:
        log.inside.reset(outside)


def text_of(value: object) -> str | None:
    """Return `str(value)` as an exact str; None when it fails."""
    outside = log.inside.set(True)
    try:
        return exact(str(value))
    except Exception:
        return None
    finally:
        log.inside.reset(outside)


def repr_of(value: object, limit: int = REPR_CHARACTERS) -> str:
    """Return `repr(value)` as an exact str, cut to `limit` characters; a marker when it fails."""
    outside = log.inside.set(True)
    try:
        text = exact(repr(value))
    except Exception:
        return BROKEN_REPR
    finally:
        log.inside.reset(outside)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def integer_text(value: int) -> str:
    """Return the digits of an integer, or its size when nobody would read them."""
    bits = value.bit_length()
    return str(value) if bits <= _PRINTABLE_BITS else f"<int of {bits} bits>"


def type_name(kind: type[Any]) -> str:
    """Return the qualified name of a class without asking its metaclass."""
    return exact(_QUALNAME(kind))


def module_name(kind: type[Any]) -> str | None:
    """Return the module of a class; None when it does not say."""
    try:
        module = _MODULE(kind)
    except Exception:
        # Its namespace has none.
        return None
    return exact(module) if issubclass(type(module), str) else None


def bases(kind: type) -> tuple[type, ...]:
    """Return a class and everything it inherits from, without asking its metaclass."""
    return _MRO(kind)


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
    outside = log.inside.set(True)
    try:
        return getattr(value, name, None)
    except Exception:
        return None
    finally:
        log.inside.reset(outside)


def is_mapping(kind: type) -> bool:
    """Return whether a class says it is a mapping."""
    try:
        return issubclass(kind, Mapping)
    except Exception:
        # Registered classes are looked up by hash, which a metaclass may have taken away.
        return False


def mapping(value: object) -> dict[str, Any] | None:
    """Return a mapping as a dict of its own, of at most 1000 entries; None for anything else.

    Its keys are text, so that looking something up runs no code of theirs.
    """
    kind: type[Any] = type(value)
    given: Any = value
    if issubclass(kind, dict):
        if _DICT_LEN(given) <= ENTRIES:
            copied: dict[Any, Any] = _DICT_COPY(given)
            for key in copied:
                if type(key) is not str:
                    return _text_keys(copied.items())
            return copied
        return attempt(lambda: _text_keys(islice(_DICT_ITEMS(given), ENTRIES)))
    if is_mapping(kind):
        return attempt(lambda: _text_keys(islice(given.items(), ENTRIES)))
    return None


def _text_keys(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    return {key if type(key) is str else _key(key): value for key, value in items}


def _key(key: Any) -> str:
    text = text_of(key)
    return repr_of(key) if text is None else text


def sequence(value: object) -> list[Any] | None:
    """Return a list or tuple as a list of its own, the ends of a long one; None for others."""
    given: Any = value
    kind: type[Any] = type(value)
    base: Any = list if issubclass(kind, list) else tuple if issubclass(kind, tuple) else None
    if base is None:
        return None
    take = base.__getitem__
    if base.__len__(given) <= ENTRIES:
        return list(take(given, slice(None)))
    half = ENTRIES // 2
    return [*take(given, slice(half)), *take(given, slice(-half, None))]


def exact(text: Any) -> str:
    """Return a str, or one of a subclass, as a plain str."""
    # A subclass of str may override anything, even its length.
    return text if type(text) is str else str.__str__(text)


# By the builtin's own methods: a subclass may have overridden them.
_DICT_COPY: Callable[[Any], dict[Any, Any]] = dict.__dict__["copy"]
_DICT_LEN: Callable[[Any], int] = dict.__dict__["__len__"]
_DICT_ITEMS: Callable[[Any], Iterable[tuple[Any, Any]]] = dict.__dict__["items"]
_QUALNAME: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_MRO: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_SPACE: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_MODULE: Callable[[type], object] = type.__dict__["__module__"].__get__
