"""Any object becomes plain JSON, bounded, without running what it should not run."""

from __future__ import annotations

import array
import collections
import dataclasses
import decimal
import enum
import fractions
import json
import pathlib
import tracemalloc
import uuid
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._capture.meta import Notes
from crashfree._capture.normalize import CYCLIC, SKIPPED, Normalizer, cut_text
from tests.support.clock import FakeClock


def normalizer(max_bytes: int = 8192, **how: Any) -> Normalizer:
    return Normalizer(FakeClock(), max_bytes=max_bytes, notes=Notes(), **how)


def plain(value: object) -> Any:
    return normalizer().value(value, (None, "x"))


def strict(value: object) -> str:
    return json.dumps(value, allow_nan=False)


class Color(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2**53, 2**53),
        (2**53 + 1, "9007199254740993"),
        (-(2**60), "-1152921504606846976"),
        (10**5000, "<int of 16610 bits>"),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("text", "text"),
        (b"bytes \xff", "bytes \ufffd"),
        (bytearray(b"abc"), "abc"),
        (memoryview(b"abc"), "abc"),
        (datetime(2026, 11, 21, 1, 2, 3, 4, timezone.utc), "2026-11-21T01:02:03.000004Z"),
        (
            datetime(2026, 11, 21, 1, tzinfo=timezone(timedelta(hours=1))),
            "2026-11-21T00:00:00.000000Z",
        ),
        (date(2026, 11, 21), "2026-11-21"),
        (time(1, 2), "01:02:00"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (Color.RED, "<Color.RED: 1>"),
        (Number.ONE, "<Number.ONE: 1>"),
        (timedelta(seconds=1), "datetime.timedelta(seconds=1)"),
        (fractions.Fraction(1, 2), "Fraction(1, 2)"),
        ([1, (2, 3)], [1, [2, 3]]),
        (Point(1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ab"), ["a", "b"]),
        (collections.deque([1, 2]), [1, 2]),
        (array.array("i", [1, 2]), [1, 2]),
        ({"a": 1, 2: None, None: 3}, {"a": 1, "2": None, "None": 3}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ({1: "int", "1": "text"}, {"1": "int", "1 (2)": "text"}),
        ({"a": 1}.keys(), ["a"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_written_as_the_specification_says(value: object, expected: object) -> None:
    """Source: wire.md section 7, the table."""
    assert plain(value) == expected


def test_a_naive_datetime_is_local_time() -> None:
    naive = datetime(2026, 11, 21, 12)
    assert plain(naive) == plain(naive.astimezone())


def test_a_lone_surrogate_is_measured_like_its_replacement() -> None:
    assert cut_text("\ud800" * 10, 30) == ("\ud800" * 10, None)
    text, length = cut_text("\ud800" * 11, 30)
    assert length == 33
    assert len(text.encode("utf-8", "surrogatepass")) <= 30


@given(st.text(max_size=200), st.integers(4, 120))
def test_a_cut_text_fits_and_is_cut_at_a_character(text: str, limit: int) -> None:
    """Source: wire.md section 8.4, point 1."""
    size = len(text.encode("utf-8", "surrogatepass"))
    cut, length = cut_text(text, limit)
    if size <= limit:
        assert (cut, length) == (text, None)
        return
    assert length == size
    assert len(cut.encode("utf-8", "surrogatepass")) <= limit
    assert cut.endswith("...")
    assert text.startswith(cut[:-3])


def test_what_is_cut_is_noted_where_it_was() -> None:
    """Source: wire.md section 8.3."""
    own = normalizer(max_bytes=64)
    assert own.value({"deep": ["x" * 150]}, (None, "extra")) == {"deep": ["x" * 61 + "..."]}
    assert own.notes.tree == {
        "extra": {"deep": {"0": {"": {"len": 150, "rem": [["!limit", "x", 61, 64]]}}}}
    }
    own.value(list(range(200_000)), (None, "long"))
    assert own.notes.tree["long"] == {"": {"len": 200_000}}


def test_ten_entries_of_a_container_are_kept_and_a_hundred_at_the_top_of_a_bag() -> None:
    own = normalizer()
    bag = own.bag({f"k{n}": list(range(n)) for n in range(150)}, (None, "extra"))
    assert len(bag) == 100
    assert bag["k99"] == list(range(10))
    assert own.notes.tree["extra"][""] == {"len": 150}


def test_below_five_levels_a_value_becomes_text() -> None:
    deep: Any = "end"
    for _ in range(8):
        deep = {"below": deep}
    assert plain(deep) == {"below": {"below": {"below": {"below": {"below":
        "{'below': {'below': {'below': 'end'}}}"}}}}}  # fmt: skip


def test_cycles_end() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert plain(loop) == [1, CYCLIC]
    ring: dict[str, Any] = {}
    ring["self"] = ring
    assert plain(ring) == {"self": CYCLIC}
    shared = [1]
    assert plain([shared, shared]) == [[1], [1]]


class Loud(dict[str, int]):
    def items(self) -> Any:
        raise AssertionError("must not be asked")

    __iter__ = keys = values = __len__ = items


def test_builtin_containers_are_read_by_builtin_means() -> None:
    """A subclass may do anything in its own methods, a query for instance."""
    assert plain(Loud(a=1)) == {"a": 1}


class Liar:
    @property
    def __class__(self) -> Any:
        raise AssertionError("must not be asked")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("must not be asked")

    def __repr__(self) -> str:
        return "<liar>"


def test_types_are_not_asked_of_the_object() -> None:
    assert plain(Liar()) == "<liar>"


class Broken:
    def __repr__(self) -> str:
        raise ValueError("no")


class Wordy:
    def __repr__(self) -> str:
        return "w" * 100_000


class NotText:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class Lazy(Mapping[str, int]):
    """A queryset, say."""

    def __getitem__(self, key: str) -> int:
        raise AssertionError("must not be asked")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("must not be asked")

    def __len__(self) -> int:
        raise AssertionError("must not be asked")

    def __repr__(self) -> str:
        return "<lazy>"


class Endless(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            yield str(number)
            number += 1

    def __len__(self) -> int:
        return 10**9


def test_foreign_objects_are_shown_by_a_guarded_bounded_repr() -> None:
    assert plain(Broken()) == "<broken repr>"
    assert plain(NotText()) == "<broken repr>"
    assert plain(Wordy()) == "w" * 1021 + "..."
    assert plain(Lazy()) == "<lazy>"


def test_an_endless_mapping_ends() -> None:
    own = normalizer()
    assert own.value(Endless(), (None, "x")) == {str(n): 1 for n in range(10)}
    assert own.notes.tree["x"][""] == {"len": 10**9}


class Hooked:
    def __crashfree_repr__(self) -> str:
        return "own words"


class BadlyHooked:
    def __crashfree_repr__(self) -> str:
        raise ValueError


def test_a_class_may_say_what_is_safe_to_show() -> None:
    assert plain(Hooked()) == "own words"
    assert plain([BadlyHooked()]) == ["<unserializable: BadlyHooked>"]


@dataclasses.dataclass
class Login:
    user: str
    password: str
    broken: Any = dataclasses.field(default_factory=Broken)
    hidden: str = dataclasses.field(default="h", repr=False)


@dataclasses.dataclass(repr=False)
class Silent:
    value: int

    def __repr__(self) -> str:
        return "silent"


def test_dataclasses_are_rendered_field_by_field_and_their_secrets_hidden() -> None:
    own = normalizer(sensitive=lambda key: key == "password")
    expected = "Login(user='ada', password='[Filtered]', broken=<broken repr>)"
    assert own.value(Login("ada", "x"), (None, "x")) == expected
    assert plain(Silent(1)) == "silent"


def test_the_repr_of_builtin_containers_hides_secret_keys_and_stops_at_its_limit() -> None:
    own = normalizer(sensitive=lambda key: key == "password")
    assert own.rendered({"password": "x", "n": [1, (2,)]}) == (
        "{'password': '[Filtered]', 'n': [1, (2,)]}"
    )
    huge = dict.fromkeys(range(100000), "x" * 1000)
    assert len(own.rendered(huge)) <= 1024
    loop: list[Any] = []
    loop.append(loop)
    assert own.rendered(loop) == "[...]"


def test_local_variables_are_reprs_at_every_leaf() -> None:
    """Text keeps its quotes, so that 1 differs from '1'. Source: wire.md section 7."""
    own = normalizer()
    variables = own.local_variables(
        {"number": 1, "text": "1", "many": [1, "a", None, {"k": b"v"}], "long": "x" * 5000}, None
    )
    assert variables["number"] == "1"
    assert variables["text"] == "'1'"
    assert variables["many"] == ["1", "'a'", "None", {"k": "b'v'"}]
    assert len(str(variables["long"])) == 1026
    assert own.notes.tree["long"][""]["len"] == 5000


class Slow:
    asked = 0

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def __repr__(self) -> str:
        Slow.asked += 1
        self.clock.advance(0.02)
        return "slow"


def test_slow_reprs_are_cut_off_by_the_time_budget_of_the_event() -> None:
    """50 ms for all of them together. Source: wire.md section 7, complaints-transport.md 31."""
    clock = FakeClock()
    own = Normalizer(clock, max_bytes=8192, notes=Notes())
    Slow.asked = 0
    bag = own.bag({f"k{n}": Slow(clock) for n in range(100)}, None)
    assert list(bag.values()) == ["slow"] * 3 + [SKIPPED] * 97
    assert Slow.asked == 3


def test_input_is_never_changed() -> None:
    value = {"a": [1, {"b": {1, 2}}], "c": "x" * 10_000}
    before = repr(value)
    result = plain(value)
    result["a"].append("mine")
    assert repr(value) == before


def test_flat_bags_are_copies() -> None:
    value = {"a": 1}
    copy = normalizer().bag(value, None)
    assert copy == value
    assert copy is not value


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
    st.datetimes(), st.dates(), st.timedeltas(), st.uuids(), st.decimals(allow_nan=True),
    st.complex_numbers(), st.fractions(), st.builds(object), st.builds(Broken),
)  # fmt: skip
keys = st.one_of(st.text(max_size=300), st.integers(), st.floats(), st.none(), st.booleans())
trees = st.recursive(
    leaves,
    lambda below: st.one_of(
        st.lists(below, max_size=15),
        st.tuples(below, below),
        st.dictionaries(keys, below, max_size=15),
    ),
    max_leaves=60,
)


@given(trees)
def test_whatever_comes_in_strict_and_bounded_json_comes_out(value: object) -> None:
    own = normalizer(max_bytes=100)
    result = own.value(value, (None, "x"))
    strict(result)
    strict(own.notes.tree)
    check(result, 5)


def check(value: Any, depth: int) -> None:
    assert depth >= 0
    if isinstance(value, dict):
        assert len(value) <= 10
        for key, entry in value.items():
            assert type(key) is str
            assert len(key) <= 200 + 4
            check(entry, depth - 1)
    elif isinstance(value, list):
        assert len(value) <= 10
        for entry in value:
            check(entry, depth - 1)
    elif isinstance(value, str):
        assert len(value.encode("utf-8", "surrogatepass")) <= 100


def test_numpy_scalars_become_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert plain({"i": numpy.int64(5), "f": numpy.float32(0.5), "b": numpy.bool_(True)}) == {
        "i": 5, "f": 0.5, "b": True,
    }  # fmt: skip
    assert plain(numpy.zeros(3)) == "array([0., 0., 0.])"


def test_a_huge_mapping_is_not_copied_to_be_cut() -> None:
    """Source: complaints-transport.md, 28."""
    huge = dict.fromkeys(range(1_000_000), "value")
    tracemalloc.start()
    try:
        shown = normalizer().local_variables({"huge": huge}, None)["huge"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(shown) == 10  # type: ignore[arg-type]
    assert peak < 100_000
