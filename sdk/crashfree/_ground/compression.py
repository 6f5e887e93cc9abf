"""Compression of request bodies.

gzip always works; brotli and Zstandard when they are asked for and their module is installed
(Zstandard is part of Python from 3.14). Level 6: level 9 costs several times the processor for a
few percent. Threads: the worker. Source: wire.md section 10.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable

from crashfree._ground import forkgate, log
from crashfree._ground.typed import Any, Literal, NamedTuple, TypeAlias

Compression: TypeAlias = Literal["gzip", "br", "zstd", "none"]

THRESHOLD = 1024
"""Bytes from which on a body is compressed."""

_GZIP_LEVEL = 6
_GZIP_WINDOW = 31
_BROTLI_QUALITY = 4


class Compressor(NamedTuple):
    """A coding by its name in `Content-Encoding`."""

    encoding: str
    compress: Callable[[bytes], bytes]


def compressor(wanted: Compression) -> Compressor | None:
    """Return what compresses; None for `none`. gzip, said once, when the module is missing."""
    if wanted == "none":
        return None
    made = _brotli() if wanted == "br" else _zstd() if wanted == "zstd" else None
    if made is None and wanted != "gzip":
        log.warning(f"compression {wanted!r} needs a module that is not installed; using gzip")
    return made or Compressor("gzip", _gzip)


def _gzip(data: bytes) -> bytes:
    worker = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return worker.compress(data) + worker.flush()


def _brotli() -> Compressor | None:
    module = _module("brotli") or _module("brotlicffi")
    if module is None:
        return None

    def compress(data: bytes) -> bytes:
        packed: bytes = module.compress(data, quality=_BROTLI_QUALITY)
        return packed

    return Compressor("br", compress)


def _zstd() -> Compressor | None:
    module = _module("compression.zstd") or _module("backports.zstd") or _module("zstandard")
    if module is None:
        return None

    def compress(data: bytes) -> bytes:
        packed: bytes = module.compress(data)
        return packed

    return Compressor("zstd", compress)


def _module(name: str) -> Any | None:
    with forkgate.importing():
        try:
            return importlib.import_module(name)
        except ImportError:
            return None
