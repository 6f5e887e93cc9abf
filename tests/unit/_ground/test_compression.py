"""gzip always; the others when they are asked for and there."""

from __future__ import annotations

import gzip
import importlib.util

import pytest

from crashfree._ground import compression, log
from crashfree._ground.compression import compressor

BODY = b'{"message":"hello"}' * 200


def test_gzip_is_there_and_can_be_read() -> None:
    made = compressor("gzip")
    assert made is not None
    assert made.encoding == "gzip"
    packed = made.compress(BODY)
    assert len(packed) < len(BODY) / 10
    assert gzip.decompress(packed) == BODY


def test_none_is_none() -> None:
    assert compressor("none") is None


@pytest.mark.parametrize(("wanted", "module"), [("br", "brotli"), ("zstd", "zstandard")])
def test_a_missing_module_falls_back_to_gzip_and_says_so(
    wanted: str, module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compression, "_module", lambda name: None)
    log.forget_repeats()
    made = compressor(wanted)  # type: ignore[arg-type]
    assert made is not None
    assert made.encoding == "gzip"
    assert wanted in caplog.text


def test_brotli_where_it_is_installed() -> None:
    if importlib.util.find_spec("brotli") is None:
        pytest.skip("brotli is not installed")
    import brotli

    made = compressor("br")
    assert made is not None
    assert made.encoding == "br"
    assert brotli.decompress(made.compress(BODY)) == BODY


@pytest.mark.parametrize("name", ["compression.zstd", "backports.zstd", "zstandard"])
def test_zstandard_from_each_place_it_may_come_from(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own from 3.14 on, its backport, and the older package."""
    module = pytest.importorskip(name)
    monkeypatch.setattr(compression, "_module", lambda asked: module if asked == name else None)
    made = compressor("zstd")
    assert made is not None
    assert made.encoding == "zstd"
    packed = made.compress(BODY)
    assert len(packed) < len(BODY) / 10
    assert module.decompress(packed) == BODY
