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

    class _CheckedType(type):
        """Lets `isinstance` ask for members, where the protocol says that it may."""

        def __instancecheck__(cls, instance):
            members = cls.__dict__.get("_crashfree_members")
            if members is None:
                return type.__instancecheck__(cls, instance)
            return all(hasattr(instance, name) for name in members)

        def __getitem__(cls, item):
            return cls

    class _Shape:
        """A protocol: it says what is there, and nothing is made of it.

        A class statement calls the type of its first base; this one makes a class, ten times as
        dear, only for who is `runtime_checkable`, or implements a protocol by name.
        """

        def __new__(cls, name, bases, space):
            if bases and Protocol not in bases:
                return _CheckedType(name, tuple(map(_class_of, bases)), space)
            return object.__new__(cls)

        def __init__(self, name, bases, space):
            self.__dict__ = space
            space["__name__"] = name
            space["_crashfree_bases"] = bases

        def __getitem__(self, item):
            return self

        def __or__(self, other):
            return self

        __ror__ = __or__

    Protocol = _Shape("Protocol", (), {})

    def _class_of(shape):
        """Return a protocol as a class."""
        if type(shape) is not _Shape:
            return shape
        space = vars(shape).copy()
        name, bases = space.pop("__name__"), space.pop("_crashfree_bases")
        return _CheckedType(name, tuple(_class_of(base) for base in bases), space)

    def runtime_checkable(protocol):
        made = _class_of(protocol)
        members = set()
        for base in made.__mro__[:-1]:
            members.update(base.__dict__.get("__annotations__", ()))  # noqa: RUF063
            members.update(name for name in vars(base) if not name.startswith("_"))
        made._crashfree_members = frozenset(members)
        return made

    class _TypedDictType(type):
        """What a TypedDict's class makes is a dict, no more and no less."""

        def __new__(mcs, name, bases, space, total=True):
            space["__total__"] = total
            return type.__new__(mcs, name, bases, space)

        def __init__(cls, name, bases, space, total=True):
            """Nothing: which keys are required is found out when somebody asks."""

        def __call__(cls, *entries, **more):
            return dict(*entries, **more)

        @property
        def __required_keys__(cls):
            return cls._keys(True)

        @property
        def __optional_keys__(cls):
            return cls._keys(False)

        def _keys(cls, total):
            spaces = [vars(base) for base in cls.__mro__[:-2]]
            chosen = [space for space in spaces if space["__total__"] is total]
            return frozenset().union(*(space.get("__annotations__", ()) for space in chosen))

    class TypedDict(dict, metaclass=_TypedDictType):
        """The shape of a dict."""

    # What a namedtuple has; one of each for all of them, where the standard library makes six
    # functions and compiles one for each: 80 microseconds, forty times.

    class _Record(tuple):
        """What every NamedTuple is."""

        __slots__ = ()

        def __new__(cls, /, *values, **named):
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

        def __repr__(self):
            pairs = zip(self._fields, self, strict=True)
            shown = ", ".join(f"{name}={value!r}" for name, value in pairs)
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self):
            return tuple(self)

        @classmethod
        def _make(cls, iterable):
            made = tuple.__new__(cls, iterable)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changes):
            made = self._make(map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return made

        __replace__ = _replace

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

    _FEW = 3
    _counts = {}

    class _Named:
        """Makes of a class body what `collections.namedtuple` would make of it.

        Called by the class statement, as the type of the base that stands there.
        """

        def __new__(cls, name, bases, space):
            names = tuple(space.get("__annotations__", ()))
            defaults = {field: space[field] for field in names if field in space}
            if names[len(names) - len(defaults) :] != tuple(defaults):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            for index, field in enumerate(names):
                space[field] = _getter(index, "")
            space["__slots__"] = ()
            space["_fields"] = space["__match_args__"] = names
            space["_field_defaults"] = defaults
            return type(name, (_Record,), space)

    NamedTuple = object.__new__(_Named)
