"""What a session belongs to, as a server reads it.

Types are checked here; whether a release or an environment is a valid name is not: the rules live
in `crashfree.release`. Pure; threads: any. Source: sessions.md section 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.typed import Any, NamedTuple
from crashfree._protocol import fields


class Attributes(NamedTuple):
    """The `attrs` of a session update or of aggregates."""

    release: str
    environment: str | None
    ip_address: str | None
    user_agent: str | None


def parse_attributes(payload: Mapping[str, Any]) -> Attributes:
    """Read `attrs`; raises ValueError with the reason."""
    attrs = fields.mapping(fields.required(payload, "attrs"), "attrs")
    release = fields.text(attrs, "release")
    if release is None:
        raise ValueError("attrs.release is missing")
    return Attributes(
        release,
        fields.text(attrs, "environment"),
        fields.text(attrs, "ip_address"),
        fields.text(attrs, "user_agent"),
    )
