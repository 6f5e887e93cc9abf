from __future__ import annotations

import json as standard
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._ground import json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('ab"\\[]{}ü\n\u2028😀'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def depth_of(value: object) -> int:
    if isinstance(value, list):
        return 1 + max((depth_of(entry) for entry in value), default=0)
    if isinstance(value, dict):
        return 1 + max((depth_of(entry) for entry in value.values()), default=0)
    return 0


# -- out ------------------------------------------------------------------------------------


def test_json_is_written_compactly_in_utf_8() -> None:
    assert json.encode({"a": [1, 2.5, None, True], "ü": "😀\n"}) == (
        '{"a":[1,2.5,null,true],"ü":"😀\\n"}'.encode()
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_json_cannot_say_is_a_value_error(number: float) -> None:
    with pytest.raises(ValueError):
        json.encode({"a": [number]})


def test_what_json_does_not_know_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        json.encode({"a": object()})


def test_a_lone_surrogate_is_replaced_and_a_pair_is_kept() -> None:
    """Other readers refuse the whole event for one. Source: wire.md section 7."""
    assert json.encode("a\ud800b\udfffc") == '"a\ufffdb\ufffdc"'.encode()
    assert json.encode("\ud800 😀") == '"\ufffd 😀"'.encode()
    assert json.encode({"k\udc00": 1}) == '{"k\ufffd":1}'.encode()


@given(VALUES)
@settings(deadline=None)
def test_what_is_written_is_read_as_it_was_by_us_and_by_others(value: Any) -> None:
    data = json.encode(value)
    assert b"\n" not in data
    assert standard.loads(data) == value
    assert json.decode(data) == value
    assert json.decode(bytearray(data)) == value
    assert json.decode(memoryview(data)) == value


# -- in -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"NaN",
        b"[Infinity]",
        b'{"a":-Infinity}',
        b"1e999",
        b"[-1e999]",
        b"'a'",
        b'"\n"',
    ],
)
def test_what_is_no_strict_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        json.decode(data)


@pytest.mark.parametrize("escape", [b'"\\ud800"', b'"\\uD800"', b'"\\udfff"', b'"\\uDC00x"'])
def test_an_escaped_lone_surrogate_is_replaced(escape: bytes) -> None:
    """The Python SDK really sends them. Source: ingest.md section 3.3."""
    assert "\ufffd" in json.decode(escape)
    nested = json.decode(b'{"a":[%s],%s:1}' % (escape, escape))
    assert "\ufffd" in nested["a"][0]
    assert any("\ufffd" in key for key in nested)
    standard.dumps(nested, ensure_ascii=False).encode()


def test_an_escaped_pair_is_one_character() -> None:
    assert json.decode(b'"\\ud83d\\ude00"') == "😀"


def test_an_integer_may_have_400_digits_and_not_more() -> None:
    assert json.decode(b"9" * 400) == int("9" * 400)
    with pytest.raises(ValueError, match="digits"):
        json.decode(b"9" * 401)


@given(
    st.integers(0, 1700),
    st.integers(385, 415),
    st.integers(0, 900),
    st.sampled_from(['"%s"', "[%s]", '{"a":%s}', "-%s"]),
)
def test_a_long_integer_is_found_wherever_it_stands(
    before: int, digits: int, after: int, form: str
) -> None:
    """Digits in a string are no integer, and neither are two runs side by side."""
    number = form % ("1" * digits)
    text = f'["{"x" * before}",{number},"{"5x" * after}"]'
    if digits <= 400 or form == '"%s"':
        assert json.decode(text.encode())[1:2]
    else:
        with pytest.raises(ValueError):
            json.decode(text.encode())


def test_the_last_of_doubled_keys_wins_unless_the_caller_looks() -> None:
    data = b'{"a":1,"b":{"a":2},"a":3}'
    assert json.decode(data) == {"a": 3, "b": {"a": 2}}
    seen: list[list[tuple[str, Any]]] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen.append(pairs)
        return dict(pairs)

    assert json.decode(data, pairs_hook=look) == {"a": 3, "b": {"a": 2}}
    assert [[key for key, _ in pairs] for pairs in seen] == [["a"], ["a", "b", "a"]]


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_deep_nesting_ends_in_a_value_error(bracket: str) -> None:
    with pytest.raises(ValueError, match="nested"):
        json.decode((bracket * 100_000).encode())


def test_nesting_up_to_the_limit_is_read() -> None:
    assert json.decode(b"[" * 100 + b"]" * 100)
    with pytest.raises(ValueError, match="nested"):
        json.decode(b"[" * 101 + b"]" * 101)


def test_brackets_in_strings_do_not_count() -> None:
    text = '["' + "[{" * 200 + '\\"' + "[{" * 200 + '\\\\",[]]'
    assert json.decode(text.encode()) == standard.loads(text)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(json.decode(b"[" + b"[]," * 500 + b"[]]")) == 501


@given(VALUES, st.integers(0, 6))
@settings(deadline=None)
def test_the_depth_that_is_counted_is_the_depth(value: Any, limit: int) -> None:
    data = json.encode(value)
    if depth_of(value) <= limit:
        assert json.decode(data, max_depth=limit) == value
    else:
        with pytest.raises(ValueError, match="nested"):
            json.decode(data, max_depth=limit)


@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]",:\\u0d8e1-.nai '), max_size=40))
@settings(deadline=None)
def test_any_bytes_are_read_or_a_value_error(data: bytes | str) -> None:
    raw = data.encode() if isinstance(data, str) else data
    try:
        value = json.decode(raw)
    except ValueError:
        return
    assert json.decode(json.encode(value)) == value
