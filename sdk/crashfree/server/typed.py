"""Aggregates decoded straight into typed buckets, where `msgspec` is installed.

It is several times as fast as decoding any JSON and looking at what came out. What does not fit the
types exactly, unknown fields included, is None here, and then judged by the readers of `quick` and
of the protocol; so nothing is read differently.

Threads: any. Source: sessions.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain
from types import GenericAlias
from typing import Annotated, Any, Final, cast

from crashfree._protocol.attributes import Attributes
from crashfree._protocol.limits import COUNT

_TEXTS: Final = ("environment", "ip_address", "user_agent")
_RARE: Final = ("crashed", "abnormal", "unhandled")


def _decoder() -> Callable[[bytes], Any] | None:
    """Return what decodes a `sessions` payload, and raises ValueError; None without msgspec."""
    try:
        msgspec: Any = import_module("msgspec")
    except ImportError:
        return None
    text: Any = str | None
    count: Any = Annotated[int, msgspec.Meta(ge=0, le=COUNT)]
    options = {"forbid_unknown_fields": True, "gc": False}
    attrs = msgspec.defstruct(
        "Attrs", [("release", str), *((name, text, None) for name in _TEXTS)], **options
    )
    counts = [(name, count, 0) for name in ("exited", "errored", *_RARE)]
    bucket = msgspec.defstruct(
        "Bucket", [("started", str), ("did", text, None), *counts], **options
    )
    payload = msgspec.defstruct(
        "Payload", [("attrs", attrs), ("aggregates", GenericAlias(list, bucket))], **options
    )
    return cast("Callable[[bytes], Any]", msgspec.json.Decoder(payload).decode)


_DECODE: Final = _decoder()


class Aggregates:
    """The buckets of a `sessions` payload, by columns."""

    __slots__ = ("_buckets", "attributes")
    attributes: Attributes
    _buckets: list[Any]

    def __init__(self, payload: Any) -> None:
        attrs = payload.attrs
        self.attributes = Attributes(
            attrs.release, attrs.environment, attrs.ip_address, attrs.user_agent
        )
        self._buckets = payload.aggregates

    @property
    def starts(self) -> list[str]:
        """When each bucket starts, as it is spelled."""
        return [bucket.started for bucket in self._buckets]

    @property
    def users(self) -> list[str | None]:
        """Whose each bucket is."""
        return [bucket.did for bucket in self._buckets]

    @property
    def exited(self) -> list[int]:
        """How many sessions of each ended well."""
        return [bucket.exited for bucket in self._buckets]

    @property
    def errored(self) -> list[int]:
        """How many sessions of each had errors."""
        return [bucket.errored for bucket in self._buckets]

    @property
    def rare(self) -> Iterator[int]:
        """How many of each ended in the ways that hardly any does, all in one row."""
        return chain(
            [bucket.crashed for bucket in self._buckets],
            [bucket.abnormal for bucket in self._buckets],
            [bucket.unhandled for bucket in self._buckets],
        )


def aggregates(raw: bytes) -> Aggregates | None:
    """Return what a `sessions` payload says; None: look closer."""
    if _DECODE is None:
        return None
    try:
        return Aggregates(_DECODE(raw))
    except ValueError:
        return None
