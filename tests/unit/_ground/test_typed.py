"""The stand-ins for `typing` behave as what they stand for."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import typing

import pytest

from crashfree._ground import typed


class Ours(typed.NamedTuple):
    """A point."""

    x: int
    label: str | None = None

    @property
    def double(self) -> int:
        """Twice x."""
        return self.x * 2

    @classmethod
    def origin(cls) -> Ours:
        return cls(0)


class Theirs(typing.NamedTuple):
    """A point."""

    x: int
    label: str | None = None

    @property
    def double(self) -> int:
        """Twice x."""
        return self.x * 2

    @classmethod
    def origin(cls) -> Theirs:
        return cls(0)


def test_a_named_tuple_is_as_typing_makes_it() -> None:
    ours, theirs = Ours(2), Theirs(2)
    assert tuple(ours) == tuple(theirs) == (2, None)
    assert Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults
    assert repr(ours).replace("Ours", "Theirs") == repr(theirs)
    assert (Ours.__doc__, Ours.__module__, Ours.__qualname__) == ("A point.", __name__, "Ours")
    assert ours.double == 4
    assert Ours.origin() == (0, None)
    assert ours._replace(label="a") == (2, "a")
    assert ours == Ours(2)
    assert hash(ours) == hash(theirs)
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert type(copy.copy(ours)) is Ours
    with pytest.raises(TypeError):
        Ours()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        ours.x = 1  # type: ignore[misc]


def test_what_a_typed_dict_makes_is_a_dict() -> None:
    class Event(typed.TypedDict, total=False):
        a: int

    class More(Event):
        b: str

    assert type(Event(a=1)) is dict
    assert More(a=1, b="x") == {"a": 1, "b": "x"}


def test_a_checkable_protocol_asks_for_members() -> None:
    @typed.runtime_checkable
    class Named(typed.Protocol):
        name: str

        def run(self) -> None: ...

    class Fits:
        name = "x"

        def run(self) -> None: ...

    class DoesNot:
        name = "x"

    assert isinstance(Fits(), Named)
    assert not isinstance(DoesNot(), Named)


def test_words_can_be_written_wherever_a_type_can() -> None:
    K = typed.TypeVar("K", bound=int)

    class Box(typed.Generic[K]):
        pass

    class Holder(typed.Protocol[K]):
        pass

    alias: typing.Any = typed.Literal["a"] | None
    assert alias is not None
    assert Box() is not None
    assert Holder.__name__ == "Holder"
    assert typed.cast("int", "x") == "x"


def test_it_does_not_import_typing() -> None:
    code = (
        "import sys; import crashfree._ground.typed; "
        "assert 'typing' not in sys.modules, 'typing'; assert 're' not in sys.modules, 're'"
    )
    done = subprocess.run([sys.executable, "-E", "-S", "-c", code], capture_output=True, text=True)
    # -S leaves the installation out where it is found by a .pth file only.
    if "No module named 'crashfree'" in done.stderr:
        done = subprocess.run([sys.executable, "-E", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
