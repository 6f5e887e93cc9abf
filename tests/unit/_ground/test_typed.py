"""The stand-ins for `typing` behave as what they stand for."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
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


def test_a_named_tuple_refuses_what_typings_refuses_in_the_same_words() -> None:
    for wrong in (
        lambda kind: kind(),
        lambda kind: kind(1, "a", 3),
        lambda kind: kind(1, colour="red"),
        lambda kind: kind(1)._replace(colour="red"),
        lambda kind: kind._make([1]),
    ):
        said: list[str] = []
        for kind in (Ours, Theirs):
            with pytest.raises((TypeError, ValueError)) as caught:
                wrong(kind)
            said.append(str(caught.value).replace(kind.__name__, "Kind"))
        assert said[0] == said[1]
    with pytest.raises(TypeError, match="without a default"):

        class Wrong(typed.NamedTuple):
            first: int = 1
            second: int  # type: ignore[misc]


def test_a_named_tuple_is_taken_apart_as_typings_is() -> None:
    ours, theirs = Ours(label="b", x=3), Theirs(label="b", x=3)
    assert ours._asdict() == theirs._asdict() == {"x": 3, "label": "b"}
    assert Ours._make([1, "z"]) == Theirs._make([1, "z"])
    assert Ours.__match_args__ == Theirs.__match_args__
    assert copy.deepcopy(ours) == ours
    assert not hasattr(ours, "__dict__")

    class Grown(Ours):
        """A subclass made before the first instance of its base would find its constructor."""

    assert Grown(4).double == 8
    assert type(Grown(4)._replace(x=5)) is Grown


def test_the_first_instances_may_be_made_by_many_threads() -> None:
    class Fresh(typed.NamedTuple):
        x: int
        y: int = 2

    ready = threading.Barrier(8)
    made: list[Fresh] = []

    def make(number: int) -> None:
        ready.wait()
        made.append(Fresh(number))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert sorted(made) == [(number, 2) for number in range(8)]


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
