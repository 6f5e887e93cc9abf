"""The usual request, found in the bytes of a connection."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.server import auth, heads, usual
from crashfree.server.answers import Refusal
from tests.support import vectors

_CASES = vectors.load("ingest_requests.json")["cases"]
_KEY = "a" * 32
_LINES = (
    b"POST /api/42/envelope/ HTTP/1.1",
    b"Host: 127.0.0.1:8787",
    b"X-Sentry-Auth: Sentry sentry_key=" + _KEY.encode() + b", sentry_version=7",
    b"Content-Type: application/x-sentry-envelope",
    b"User-Agent: sentry.python/2.0",
    b"Content-Length: 3",
)


def _request(*lines: bytes, body: bytes = b"{}\n") -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_usual_request_is_found_with_all_that_its_head_says() -> None:
    data = _request(*_LINES, b"Content-Encoding: gzip", b"X-Forwarded-For: 10.0.0.1, 10.0.0.2")
    found = usual.find(data + b"POST")
    assert found is not None
    assert data[found.begin : found.end] == b"{}\n"
    assert found.head == usual.Head(
        project_id=42,
        single_event=False,
        key=_KEY,
        encoding="gzip",
        user_agent="sentry.python/2.0",
        forwarded="10.0.0.1",
        largest=usual.LARGEST_COMPRESSED,
    )


def test_the_body_need_not_be_there_yet() -> None:
    found = usual.find(_request(*_LINES, body=b"{"))
    assert found is not None
    assert found.end - found.begin == 3


def test_a_known_head_with_another_length_is_the_same_head() -> None:
    first = usual.find(_request(*_LINES))
    second = usual.find(_request(*_LINES[:-1], b"Content-Length: 1234"))
    assert first is not None
    assert second is not None
    assert first.head is second.head
    assert second.end - second.begin == 1234


def test_the_key_may_be_in_the_query_or_in_the_envelope() -> None:
    lines = (b"POST /api/42/store?sentry_key=abc HTTP/1.1", *_LINES[1:2], _LINES[-1])
    found = usual.find(_request(*lines))
    assert found is not None
    assert found.head.key == "abc"
    assert found.head.single_event
    found = usual.find(_request(_LINES[0], _LINES[1], _LINES[-1]))
    assert found is not None
    assert found.head.key is None


@pytest.mark.parametrize(
    "lines",
    [
        (b"GET /api/42/envelope/ HTTP/1.1", *_LINES[1:]),
        (b"POST /api/42/envelope/ HTTP/1.0", *_LINES[1:]),
        (b"POST /api/x/envelope/ HTTP/1.1", *_LINES[1:]),
        (b"POST /api/42/envelope/more HTTP/1.1", *_LINES[1:]),
        (b"POST http://h/api/42/envelope/ HTTP/1.1", *_LINES[1:]),
        (b"POST /api/42/envelope/?a=b#c HTTP/1.1", *_LINES[1:]),
        (*_LINES, b"Content-Length: 3"),
        (*_LINES, b"content-length: 4"),
        (*_LINES, b"CONTENT-LENGTH: 4"),
        (*_LINES, b"Transfer-Encoding: chunked"),
        (*_LINES, b"Expect: 100-continue"),
        (*_LINES, b"Connection: close"),
        (*_LINES, b"Upgrade: h2c"),
        (*_LINES, b"Host: another"),
        (*_LINES, b"X-Sentry-Auth: Sentry sentry_key=" + _KEY.encode()),
        (*_LINES, b" folded: line"),
        (*_LINES, b"No-Colon"),
        (*_LINES, b"Blank : before"),
        (*_LINES, b"Bell: \x07"),
        (*_LINES, b"Null: \x00"),
        (*_LINES, b"Bare: \n return"),
        (_LINES[0], *_LINES[2:]),
        (*_LINES[:-1], b"Content-Length: +3"),
        (*_LINES[:-1], b"Content-Length: 3 "),
        (*_LINES[:-1], b"Content-Length: "),
        (*_LINES[:-1], b"Content-Length:  3"),
        (*_LINES[:-1], b"X-Content-Length: 3"),
        (*_LINES[:-1], b"X-Content-Length: 3", b"Content-Length: 3"),
        (*_LINES[:-1], b"X: Content-Length: 3", b"Content-Length: 3"),
        (*_LINES[:-1], b"Content-Length: 99999999"),
        (*_LINES[:-1], b"Content-Length: %d" % (usual.LARGEST + 1)),
        (*_LINES[:-1], b"Content-Encoding: gzip", b"Content-Length: 32769"),
        (*_LINES[:2], b"X-Sentry-Auth: Basic abc", *_LINES[3:]),
        (*_LINES, *(b"X-%d: y" % number for number in range(50))),
        (*_LINES, b"X: " + b"y" * 4096),
    ],
    ids=lambda lines: str(lines[-1][:40]),
)
def test_whatever_is_unusual_is_left_to_the_parser(lines: tuple[bytes, ...]) -> None:
    assert usual.find(_request(*lines)) is None
    # Nor does it become usual by being seen again.
    assert usual.find(_request(*lines)) is None


def test_an_unfinished_head_is_left_to_the_parser() -> None:
    assert usual.find(b"\r\n".join(_LINES)) is None
    assert usual.find(b"") is None


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_a_request_of_the_vectors_is_read_as_by_the_other_way(case: dict[str, Any]) -> None:
    """What is usual says what the reader of all heads says, and that one does not refuse it."""
    headers = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in case["headers"]]
    lines = [b"%s %s HTTP/1.1" % (case["method"].encode(), case["path"].encode()), b"Host: x"]
    lines += [b"%s: %s" % header for header in headers]
    if not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
        lines.append(b"Content-Length: 3")
        headers.append((b"content-length", b"3"))
    found = usual.find(_request(*lines))
    if found is None:
        return
    try:
        read = heads.read([(name.lower(), text) for name, text in headers])
        key = auth.sender_key(read.auth, case["path"].partition("?")[2])
    except (Refusal, auth.Refused) as refusal:
        pytest.fail(f"refused on the other way: {refusal}")
    assert (found.head.key, found.head.encoding, found.end - found.begin) == (
        key,
        read.encoding,
        read.length,
    )


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*_LINES, b"Transfer-Encoding: chunked", b"content-length: 5", b""]),
            st.binary(max_size=40),
        ),
        max_size=8,
    )
)
def test_no_request_has_two_lengths(lines: list[bytes]) -> None:
    """Two servers that disagree about where a request ends can be talked past each other."""
    data = _request(_LINES[0], _LINES[1], *lines)
    found = usual.find(data)
    if found is None:
        return
    head = data[: found.begin].lower()
    assert head.count(b"\r\ncontent-length:") == 1
    assert b"transfer-encoding" not in head.replace(b"post /api/", b"")
    assert head.count(b"\n") == head.count(b"\r\n")
