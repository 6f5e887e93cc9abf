"""The words of `typing`, without importing it.

`import typing` costs 8 ms on CPython 3.11, and each NamedTuple that it makes compiles its
annotations once more (0.16 ms, of which 0.12 are spared here): together more than half of what
`init` may cost. Type checkers read the first half of this module and see the real thing. The
running program reads the second: stand-ins that do nothing but be there, since under
`from __future__ import annotations` nobody ever looks at them, and a NamedTuple that is
`collections.namedtuple` with methods.

What is public for introspection (`crashfree.types`) stays a plain class with `__annotations__`.

Invariants: a NamedTuple made here behaves as one of `typing`; a protocol marked
`runtime_checkable` checks what `typing`'s checks. Pure; threads: any.
"""

from __future__ import annotations

# Type checkers know the name; `typing` has the same.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from datetime import datetime as datetime
    from datetime import timedelta as timedelta
    from importlib.machinery import ModuleSpec as ModuleSpec
    from typing import Any as Any
    from typing import ClassVar as ClassVar
    from typing import Final as Final
    from typing import Generic as Generic
    from typing import Literal as Literal
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import ParamSpec as ParamSpec
    from typing import Protocol as Protocol
    from typing import TypeAlias as TypeAlias
    from typing import TypedDict as TypedDict
    from typing import TypeVar as TypeVar
    from typing import cast as cast
    from typing import runtime_checkable as runtime_checkable
else:
    from collections import namedtuple as _namedtuple

    try:
        from _collections import _tuplegetter as _getter
    except ImportError:
        from operator import itemgetter as _itemgetter

        def _getter(index, doc):
            return property(_itemgetter(index), doc=doc)

    class _Word:
        """Stands where a type would; may be subscripted, called and joined by `|`."""

        def __init__(self, *ignored, **also_ignored):
            self.args = self.kwargs = None

        def __getitem__(self, item):
            return self

        def __call__(self, *ignored, **also_ignored):
            return self

        def __or__(self, other):
            return self

        __ror__ = __or__

        def __mro_entries__(self, bases):
            return ()

    Any = ClassVar = Final = Generic = Literal = NoReturn = TypeAlias = _Word()
    ParamSpec = TypeVar = _Word
    # Foreign classes that annotations of the init path name, and whose modules it can do without.
    ModuleSpec = datetime = timedelta = _Word()

    def cast(kind, value):
        return value

    class _ProtocolType(type):
        """Lets `isinstance` ask for members, where the protocol says that it may."""

        def __instancecheck__(cls, instance):
            members = cls.__dict__.get("_crashfree_members")
            if members is None:
                return type.__instancecheck__(cls, instance)
            return all(hasattr(instance, name) for name in members)

        def __getitem__(cls, item):
            return cls

    class Protocol(metaclass=_ProtocolType):
        """A protocol says what is there; nothing is made of it."""

        __slots__ = ()

    def runtime_checkable(protocol):
        members = set()
        for base in protocol.__mro__:
            if base not in (Protocol, object):
                members.update(base.__dict__.get("__annotations__", ()))  # noqa: RUF063
                members.update(name for name in vars(base) if not name.startswith("_"))
        protocol._crashfree_members = frozenset(members)
        return protocol

    class _TypedDictType(type):
        """What a TypedDict's class makes is a dict, no more and no less."""

        def __new__(mcs, name, bases, space, total=True):
            return type.__new__(mcs, name, bases, space)

        def __init__(cls, name, bases, space, total=True):
            type.__init__(cls, name, bases, space)
            own = frozenset(space.get("__annotations__", ()))
            inherited = [base for base in bases if isinstance(base, _TypedDictType)]
            required = [getattr(base, "__required_keys__", frozenset()) for base in inherited]
            optional = [getattr(base, "__optional_keys__", frozenset()) for base in inherited]
            cls.__total__ = total
            cls.__required_keys__ = frozenset().union(*required, own if total else ())
            cls.__optional_keys__ = frozenset().union(*optional, () if total else own)

        def __call__(cls, *entries, **more):
            return dict(*entries, **more)

    class TypedDict(dict, metaclass=_TypedDictType):
        """The shape of a dict."""

    # What a namedtuple has; one of each for all of them, where the standard library makes six
    # functions and compiles one for each: 80 microseconds, forty times.

    def _first(cls, *values, **named):
        """Make the first instances; the constructor is compiled for who turns out to be many.

        And for whoever gives the wrong fields: its complaint is the one that is known.
        """
        owner = next(base for base in cls.__mro__ if "_fields" in base.__dict__)
        made = _counts[owner] = _counts.get(owner, 0) + 1
        if made <= _FEW:
            given = dict(zip(owner._fields, values, strict=False))
            whole = owner._field_defaults | given | named
            twice = len(given) < len(values) or given.keys() & named.keys()
            if not twice and whole.keys() == set(owner._fields):
                return tuple.__new__(cls, [whole[name] for name in owner._fields])
        defaults = owner._field_defaults.values()
        model = _namedtuple(owner.__name__, owner._fields, defaults=defaults)
        owner.__new__ = staticmethod(model.__new__)
        _counts.pop(owner, None)
        return owner.__new__(cls, *values, **named)

    _FEW = 3
    _counts = {}

    def _made_of(cls, iterable):
        made = tuple.__new__(cls, iterable)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replaced(self, /, **changes):
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise ValueError(f"Got unexpected field names: {list(changes)!r}")
        return made

    def _shown(self):
        pairs = zip(self._fields, self, strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"

    _COMMON = {
        "__slots__": (),
        "__new__": staticmethod(_first),
        "__repr__": _shown,
        "__getnewargs__": lambda self: tuple(self),
        "__replace__": _replaced,
        "_make": classmethod(_made_of),
        "_replace": _replaced,
        "_asdict": lambda self: dict(zip(self._fields, self, strict=True)),
    }

    class _NamedTupleType(type):
        """Makes of a class body what `collections.namedtuple` would make of it."""

        def __new__(mcs, name, bases, space):
            fields = space.get("__annotations__", {})
            names = tuple(fields)
            defaults = {field: space[field] for field in names if field in space}
            if names[len(names) - len(defaults) :] != tuple(defaults):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            made = {field: _getter(index, "") for index, field in enumerate(names)}
            made |= _COMMON
            made |= {key: value for key, value in space.items() if key not in fields}
            made |= {"_fields": names, "_field_defaults": defaults, "__match_args__": names}
            return type(name, (tuple,), made)

    class _NamedTupleWord:
        def __mro_entries__(self, bases):
            return (_NAMED_TUPLE,)

    _NAMED_TUPLE = type.__new__(_NamedTupleType, "NamedTuple", (), {})
    NamedTuple = _NamedTupleWord()
