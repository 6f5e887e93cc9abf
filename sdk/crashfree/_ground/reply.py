"""What an HTTP server answered. Pure; threads: any."""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.typed import NamedTuple


class Reply(NamedTuple):
    """An HTTP answer. Header names are lower case; the body is cut at `max_body`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
