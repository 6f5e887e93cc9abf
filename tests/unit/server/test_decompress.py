from __future__ import annotations

import base64
import gzip
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.server import decompress
from tests.support import vectors

_VECTORS = vectors.load("decompress.json")
_STATUS = {
    decompress.BadBody: 400,
    decompress.BodyTooLarge: 413,
    decompress.UnknownEncoding: 415,
}
_HAS_BROTLI = "br" in decompress.ACCEPTED


def _outcome(body: bytes, encoding: str | None, limit: int) -> tuple[int, bytes]:
    try:
        return 200, decompress.decoded(body, encoding, limit=limit)
    except tuple(_STATUS) as error:
        return _STATUS[type(error)], b""


@pytest.mark.parametrize("case", _VECTORS["cases"], ids=lambda case: case["name"])
def test_each_vector_gets_its_answer_within_its_memory(case: dict[str, Any]) -> None:
    """Source: ingest.md section 3.2; the peak stays below the limit plus a mebibyte."""
    encoding = case["content_encoding"]
    body = base64.b64decode(case["body_base64"])
    expected = case["http_status"]
    if encoding == "br" and not _HAS_BROTLI:
        expected = 415
    tracemalloc.start()
    try:
        status, plain = _outcome(body, encoding, _VECTORS["max_body"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == expected
    if status == 200:
        assert len(plain) == case["decoded_size"]
        assert zlib.crc32(plain) == case["decoded_crc32"]
    assert peak < _VECTORS["max_body"] + 2**20


def test_a_bomb_is_not_inflated_beyond_the_limit() -> None:
    """A quarter of a gigabyte of zeros in 256 KiB: only the limit is ever made."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(2**20)
    bomb = b"".join(stream.compress(block) for _ in range(256)) + stream.flush()
    tracemalloc.start()
    try:
        with pytest.raises(decompress.BodyTooLarge):
            decompress.decoded(bomb, "gzip", limit=2**20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20


@given(st.binary(max_size=5000), st.sampled_from(["gzip", "deflate", "raw", "none"]))
def test_what_was_compressed_comes_back(data: bytes, form: str) -> None:
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)
    body, encoding = {
        "gzip": (gzip.compress(data), "gzip"),
        "deflate": (zlib.compress(data), "deflate"),
        "raw": (raw.compress(data) + raw.flush(), "deflate"),
        "none": (data, None),
    }[form]
    # A raw stream may begin with two bytes that look like a zlib header.
    if (
        form == "raw"
        and len(body) > 1
        and body[0] & 15 == 8
        and int.from_bytes(body[:2], "big") % 31 == 0
    ):
        return
    assert decompress.decoded(body, encoding, limit=5000) == data


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br"]))
def test_any_bytes_end_in_an_answer(data: bytes, encoding: str) -> None:
    status, _ = _outcome(data, encoding, 1000)
    assert status in (200, 400, 413, 415)


@given(st.binary(min_size=1, max_size=500), st.data())
def test_a_cut_gzip_body_is_never_taken(data: bytes, draw: st.DataObject) -> None:
    """zlib hands out all data of a body without its last 8 bytes and does not complain."""
    body = gzip.compress(data)
    cut = draw.draw(st.integers(0, len(body) - 1))
    assert _outcome(body[:cut], "gzip", 1000)[0] == 400
