"""JSON decoded by `msgspec`, where that is installed: several times as fast.

`decode` gives what the strict reader gives. `aggregates` decodes a `sessions` payload straight into
typed buckets. What does not fit exactly, unknown fields included, is then judged by the readers of
`quick` and of the protocol; so nothing is read differently, only sooner.

Threads: any. Source: ingest.md section 3.3, sessions.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import GenericAlias
from typing import Annotated, Any, Final

from crashfree._ground import jsondecode
from crashfree._protocol.attributes import Attributes
from crashfree._protocol.limits import COUNT

_TEXTS: Final = ("environment", "ip_address", "user_agent")


def _msgspec() -> Any:
    try:
        return import_module("msgspec")
    except ImportError:
        return None


def _payload(msgspec: Any) -> Any:
    """Return the type of a `sessions` payload."""
    text: Any = str | None
    count: Any = Annotated[int, msgspec.Meta(ge=0, le=COUNT)]
    options = {"forbid_unknown_fields": True, "gc": False}
    attrs = msgspec.defstruct(
        "Attrs", [("release", str), *((name, text, None) for name in _TEXTS)], **options
    )
    # Crashes and the like are rare: with them a bucket does not fit, and that is all they cost.
    bucket = msgspec.defstruct(
        "Bucket",
        [("started", str), ("did", text, None), ("exited", count, 0), ("errored", count, 0)],
        **options,
    )
    buckets = GenericAlias(list, bucket)
    return msgspec.defstruct("Payload", [("attrs", attrs), ("aggregates", buckets)], **options)


_MSGSPEC: Final = _msgspec()
_ANY: Final[Callable[[bytes], Any] | None] = _MSGSPEC and _MSGSPEC.json.Decoder().decode
_AGGREGATES: Final[Callable[[bytes], Any] | None] = (
    _MSGSPEC and _MSGSPEC.json.Decoder(_payload(_MSGSPEC)).decode
)


def decode(data: bytes | memoryview) -> Any:
    """Return the value that `data` spells. Raises ValueError: `jsondecode.decode` says for what."""
    raw = bytes(data)
    if (
        _ANY is not None
        and raw.count(b"{") + raw.count(b"[") <= jsondecode.MAX_DEPTH
        and (
            len(raw) <= jsondecode.MAX_DIGITS
            or not jsondecode.may_hold_long_integer(str(raw, "utf-8"))
        )
    ):
        try:
            return _ANY(raw)
        except ValueError:
            pass  # or what only the strict reader takes: lone surrogates
    return jsondecode.decode(raw)


class Aggregates:
    """The buckets of a `sessions` payload in which nothing crashed, by columns."""

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


def aggregates(raw: bytes) -> Aggregates | None:
    """Return what a `sessions` payload says; None: look closer."""
    if _AGGREGATES is None:
        return None
    try:
        return Aggregates(_AGGREGATES(raw))
    except ValueError:
        return None
