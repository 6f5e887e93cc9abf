"""The body's content encoding, undone step by step within a limit.

Invariant: no step makes more than `STEP` bytes at once, and nothing is made beyond the limit plus
one byte, whatever the body claims; a stream that is cut short or goes on behind its end is refused.
The encoding is what the header says: never sniffed, never undone twice. Pure; threads: any.

Source: ingest.md section 3.2.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from io import BytesIO
from typing import Any, Final, Protocol, cast

STEP: Final = 64 * 1024


class BadBody(Exception):
    """The bytes are not what the encoding's name promises (400)."""


class BodyTooLarge(Exception):
    """More bytes than the limit (413)."""


class UnknownEncoding(Exception):
    """An encoding that this server does not undo (415)."""


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Brotli(Protocol):
    def process(self, data: bytes, output_buffer_limit: int = ...) -> bytes: ...
    def can_accept_more_data(self) -> bool: ...
    def is_finished(self) -> bool: ...


def _bounded_brotli() -> Callable[[], _Brotli] | None:
    """Return a maker of decoders with bounded output; None without brotli >= 1.2."""
    try:
        module: Any = import_module("brotli")
    except ImportError:
        return None
    make = cast("Callable[[], _Brotli]", module.Decompressor)
    try:
        make().process(b"", output_buffer_limit=1)
    except TypeError:  # an older one, whose single calls make as much as they like
        return None
    return make


_BROTLI: Final = _bounded_brotli()
ACCEPTED: Final = "gzip, deflate" + (", br" if _BROTLI else "")
"""The value of `Accept-Encoding` in the answer to an unknown encoding."""


def decoded(body: bytes, encoding: str | None, *, limit: int) -> bytes:
    """Return the plain body.

    Raises UnknownEncoding, BadBody, or BodyTooLarge when it has more than `limit` bytes.
    """
    name = (encoding or "").strip().lower()
    if name in ("", "identity"):
        if len(body) > limit:
            raise BodyTooLarge(f"body of {len(body)} bytes, limit {limit}")
        return body
    if name in ("gzip", "x-gzip"):
        return _joined(_gzip(body), limit)
    if name == "deflate":
        return _joined(_deflate(body), limit)
    if name == "br" and _BROTLI is not None:
        return _joined(_brotli(body, _BROTLI()), limit)
    raise UnknownEncoding(name)


def _joined(steps: Iterator[bytes], limit: int) -> bytes:
    # getvalue() hands out the buffer itself: a list of parts would be copied to be joined.
    whole = BytesIO()
    size = 0
    for part in steps:
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"decoded body over {limit} bytes")
        whole.write(part)
    return whole.getvalue()


def _gzip(body: bytes) -> Iterator[bytes]:
    rest = body
    while True:
        # Window bits 31: a gzip frame, whose checksum and size zlib then checks.
        stream = zlib.decompressobj(31)
        yield from _inflated(stream, rest)
        rest = stream.unused_data
        if not rest:
            return
        if not rest.startswith(b"\x1f\x8b"):
            raise BadBody("bytes behind the end of the gzip stream")


def _deflate(body: bytes) -> Iterator[bytes]:
    # Two forms go by this name. A zlib header is told by its method and its checksum.
    framed = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    stream = zlib.decompressobj(15 if framed else -15)
    yield from _inflated(stream, body)
    if stream.unused_data:
        raise BadBody("bytes behind the end of the deflate stream")


def _inflated(stream: _Inflater, data: bytes) -> Iterator[bytes]:
    try:
        while not stream.eof:
            part = stream.decompress(data, STEP)
            data = stream.unconsumed_tail
            if part:
                yield part
            elif not data and not stream.eof:
                # zlib does not complain about a stream that is cut short.
                raise BadBody("the compressed stream is cut short")
    except zlib.error as error:
        raise BadBody(f"broken compression: {error}") from None


def _brotli(body: bytes, stream: _Brotli) -> Iterator[bytes]:
    data = body
    try:
        while not stream.is_finished():
            part = stream.process(data, output_buffer_limit=STEP)
            data = b""
            if part:
                yield part
            elif not stream.is_finished():
                raise BadBody("the brotli stream is cut short")
    except BadBody:
        raise
    except Exception as error:  # noqa: BLE001 -- brotli.error is not importable without brotli
        raise BadBody(f"broken compression: {error}") from None
