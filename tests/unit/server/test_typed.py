"""The fast decoder against the strict one: the same values, the same refusals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._ground import jsondecode
from crashfree.server import typed

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def _agree(raw: bytes) -> None:
    try:
        strict = jsondecode.decode(raw)
    except ValueError:
        with pytest.raises(ValueError):
            typed.decode(raw)
        return
    found = typed.decode(raw)
    # 1 and 1.0 and True are equal; spelled out they are not.
    assert repr(found) == repr(strict)


@settings(max_examples=300)
@given(_VALUES, st.booleans())
def test_what_is_well_formed_is_read_alike(value: object, ascii_only: bool) -> None:
    _agree(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace"))


@settings(max_examples=500)
@given(_VALUES, st.data())
def test_what_is_damaged_is_read_or_refused_alike(value: object, data: st.DataObject) -> None:
    raw = json.dumps(value).encode()
    at = data.draw(st.integers(0, len(raw)))
    put = data.draw(
        st.sampled_from([b"", b",", b"}", b"[", b"\\", b"\xff", b"0", b"-", b".", b" "])
    )
    _agree(raw[:at] + put + raw[at + data.draw(st.integers(0, 2)) :])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" [1]\n",
        b"\xef\xbb\xbf[]",
        b"NaN",
        b"[Infinity]",
        b"1E400",
        b"1e-400",
        b"-0",
        b"-0.0",
        b"01",
        b"1.",
        b"[1,]",
        b'{"a":1,"a":2}',
        b'"\\ud83d\\ude00"',
        b'"\\ud800"',
        b'{"\\ud800":1}',
        b'"\xed\xa0\x80"',
        b'"a\x01"',
        b"7" * 400,
        b"7" * 401,
        b"[" + b"7" * 3000 + b"]",
        b'"' + b"7" * 3000 + b'"',
        b"[" * 100 + b"]" * 100,
        b"[" * 101 + b"]" * 101,
        b"[" * 5000,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b'["' + b"[" * 200 + b'"]',
    ],
    ids=lambda raw: str(raw[:20]),
)
def test_the_edges_of_json_are_read_alike(raw: bytes) -> None:
    _agree(raw)
