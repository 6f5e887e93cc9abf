"""The quick readers against the strict ones: they may decline, never disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._ground.jsondecode import decode
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.limits import LIMITS
from crashfree._protocol.timestamps import parse_rfc3339
from crashfree.server import ingest, quick
from crashfree.server.ingest import Policy, Sender
from tests.support import vectors
from tests.support.serving import case_body, envelope

_NOON = parse_rfc3339("2024-05-10T12:00:00Z")
_ALWAYS = (-(2**62), 2**62)


class _Open:
    """A filter that lets everything pass, and so keeps the quick readers out."""

    def event(self, event: Mapping[str, Any], /, *, client_ip: str | None) -> str | None:
        return None

    def session(
        self, attrs: Mapping[str, Any], /, *, client_ip: str | None, user_agent: str | None
    ) -> str | None:
        return None


_TIMES = st.sampled_from(
    [
        "2024-05-10T11:00:00Z",
        "2024-05-10T11:00:00.5Z",
        "2024-05-10T11:59:59.123Z",
        "2024-05-10T11:59:59.123456Z",
        "2024-05-10T11:59:60Z",
        "2024-05-10T11:59:61Z",
        "2024-05-10T11:00:00",
        "2024-05-10t11:00:00Z",
        "2024-05-10T11:00:00+00:00",
        "2024-05-10T13:00:00Z",
        "2024-05-01T11:00:00Z",
        "2024-05-10T11:00:0٣Z",
        "2024-05-10T11:00:1_0Z",
        "2024-13-10T11:00:00Z",
        "Z",
        "",
    ]
)
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([2**32 - 1, 2**32, 2**62, 2**64, 1e300, -0.5, 1.5]),
    st.text(max_size=3),
    _TIMES,
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
_SIDS = st.sampled_from(
    [
        "8333339f-5675-4f89-a9a0-1c935255ab58",
        "8333339F-5675-4F89-A9A0-1C935255AB58",
        "8333339f56754f89a9a01c935255ab58",
        "8333339f-5675-4f89-a9a0-1c935255ab5 ",
        "8333339f-5675-4f89-a9a0-1c93525 ab58",
        "8333339f-56-5-4f89-a9a0-1c935255ab58",
        "nope",
    ]
)
_ATTRS = st.one_of(
    st.fixed_dictionaries(
        {"release": st.sampled_from(["app@1.0", "a/b", "", "latest"])},
        optional={"environment": st.sampled_from(["prod", "a/b", "None", "", None, 5])},
    ),
    _ODD,
)
_SESSION = st.fixed_dictionaries(
    {"attrs": _ATTRS, "started": st.one_of(_TIMES, _ODD)},
    optional={
        "sid": st.one_of(_SIDS, _ODD),
        "did": st.one_of(
            st.sampled_from(["u", "0" * 32, "00000000-0000-0000-0000-000000000000"]), _ODD
        ),
        "status": st.one_of(
            st.sampled_from(["ok", "exited", "crashed", "abnormal", "unhandled", "foo"]), _ODD
        ),
        "errors": _ODD,
        "seq": _ODD,
        "init": _ODD,
        "timestamp": st.one_of(_TIMES, _ODD),
        "duration": _ODD,
        "abnormal_mechanism": st.sampled_from(["anr_foreground", "x", None, 5]),
    },
)


def _facts(kind: str, payload: object, policy: Policy) -> Any:
    data = decode_envelope(envelope((kind, payload)))
    facts = ingest.read(data, Sender(1, _NOON), policy)
    # Without a sid each reading makes one of its own.
    sessions = [
        fact._replace(sid=b"") if "sid" not in json.dumps(payload) else fact
        for fact in facts.sessions
    ]
    return facts._replace(sessions=tuple(sessions))


@settings(max_examples=1500)
@given(_SESSION)
def test_a_session_is_read_alike(payload: dict[str, Any]) -> None:
    assert _facts("session", payload, Policy()) == _facts("session", payload, Policy(_Open()))


_BUCKET = st.one_of(
    st.dictionaries(
        st.sampled_from(
            ["started", "did", "exited", "errored", "crashed", "abnormal", "unhandled", "x"]
        ),
        _ODD,
    ),
    st.fixed_dictionaries(
        {"started": _TIMES},
        optional={"exited": st.integers(0, 3), "crashed": st.integers(-1, 3), "did": _ODD},
    ),
    _ODD,
)


@settings(max_examples=1500)
@given(
    st.fixed_dictionaries(
        {}, optional={"attrs": _ATTRS, "aggregates": st.one_of(st.lists(_BUCKET, max_size=3), _ODD)}
    )
)
def test_buckets_are_read_alike(payload: dict[str, Any]) -> None:
    try:
        strict: object = ingest._buckets(payload)
    except ValueError:
        strict = None
    raw = json.dumps(payload).encode()
    try:
        found = quick.buckets(payload, raw, _ALWAYS)
    except ValueError:
        assert strict is None
    else:
        assert found is None or found == strict
    found = quick.aggregates(raw, _ALWAYS)
    assert found is None or found == strict


_SPELLINGS = st.sampled_from(
    [b"5", b"-0", b"5.0", b"5e0", b"05", b"+5", b"true", b"null", b'"5"', b"4294967296", b"1E400"]
)
_TEXTS = st.sampled_from(
    [
        b'"a"',
        b'"\\ud800"',
        b'"\xff"',
        b'"a\x01"',
        b'"\\u0000"',
        b'"\xed\xa0\x80"',
        b'"\xc3\xa4"',
        b'""',
    ]
)


@settings(max_examples=500)
@given(
    count=_SPELLINGS,
    did=_TEXTS,
    release=_TEXTS,
    more=st.sampled_from(
        [b"", b',"exited":1', b',"x":[[[]]]', b',"errored":2', b',"crashed":1', b",", b'}{"a":1']
    ),
    end=st.sampled_from([b"", b"\n", b"\x0b", b" x", b"}"]),
)
def test_aggregates_are_read_alike_however_they_are_spelled(
    count: bytes, did: bytes, release: bytes, more: bytes, end: bytes
) -> None:
    raw = (
        b'{"attrs":{"release":%s},"aggregates":[{"started":"2024-05-10T11:00:00Z","did":%s,'
        b'"exited":%s%s}]}%s' % (release, did, count, more, end)
    )
    try:
        strict: object = ingest._buckets(decode(raw))
    except ValueError:
        strict = None
    found = quick.aggregates(raw, _ALWAYS)
    assert found is None or found == strict


def test_usual_aggregates_are_read_quickly() -> None:
    """Else the quick reader is worth nothing, and nobody would notice."""
    raw = (
        b'{"attrs":{"release":"a","environment":"b"},"aggregates":['
        b'{"started":"2024-05-10T11:00:00Z","exited":5},'
        b'{"started":"2024-05-10T11:01:00.000Z","exited":5,"errored":2}]}'
    )
    found = quick.buckets(json.loads(raw), raw, _ALWAYS)
    assert found is not None
    assert found == ingest._buckets(json.loads(raw))
    if find_spec("msgspec"):
        assert quick.aggregates(raw, _ALWAYS) == found


@given(st.text(max_size=30) | _TIMES)
def test_an_instant_is_read_alike(text: str) -> None:
    found = quick.instant_us(text)
    if found is not None:
        assert found == round(parse_rfc3339(text) * 1e6)


@pytest.mark.parametrize(
    "payload",
    [
        {
            "sid": "8333339f-5675-4f89-a9a0-1c935255ab58",
            "did": "user-1",
            "init": True,
            "started": "2024-05-10T11:59:00.123456Z",
            "timestamp": "2024-05-10T11:59:59Z",
            "status": "exited",
            "errors": 0,
            "seq": 3,
            "duration": 12.5,
            "attrs": {"release": "a", "environment": "b"},
        },
        {
            "sid": "8333339f-5675-4f89-a9a0-1c935255ab58",
            "started": "2024-05-10T11:59:00Z",
            "attrs": {"release": "a"},
        },
    ],
)
def test_what_clients_send_is_read_quickly(payload: dict[str, Any]) -> None:
    """Else the quick reader is worth nothing, and nobody would notice."""
    assert quick.session(payload, int(_NOON * 1e6), _ALWAYS) is not None


_BODIES = [case_body(case) for case in vectors.load("envelopes/malformed.json")["cases"]] + [
    vectors.read(f"envelopes/{case['file']}")
    for case in vectors.load("envelopes/index.json")["envelopes"]
    if case["file"].endswith(".envelope")
]


def _agrees(body: bytes) -> bool:
    """Whether the quick reader took a body; the strict one must read the same."""
    found = quick.envelope(body, LIMITS)
    if found is None:
        return False
    assert found == decode_envelope(body)
    return True


def test_quick_and_strict_reading_of_envelopes_agree_on_the_vectors() -> None:
    assert sum(map(_agrees, _BODIES)) >= 10


@given(st.sampled_from(_BODIES), st.data())
def test_quick_and_strict_reading_of_damaged_envelopes_agree(
    body: bytes, data: st.DataObject
) -> None:
    """Bytes changed near the header lines, where the rules are."""
    head = min(len(body), 400)
    at = data.draw(st.integers(0, head))
    gone = data.draw(st.integers(0, 3))
    put = data.draw(
        st.one_of(
            st.binary(max_size=3),
            st.sampled_from([b"\n", b"{", b"}", b'"', b"\\u0065", b',"dsn":"x"', b' "length": 3,']),
        )
    )
    _agrees(body[:at] + put + body[at + gone :])
