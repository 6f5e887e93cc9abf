"""`--dry-run`: requests that read are sent, requests that write are only kept.

A kept request is answered with its own body, which is close enough to what a server says for the
command to go on to its next one.

Threads: the main thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crashfree._ground import json
from crashfree._ground.http import Reply
from crashfree.management.channel import Http

_READING = frozenset(("GET", "HEAD"))


class Recorder:
    """Stands in front of the connection pool."""

    kept: list[dict[str, Any]]
    _http: Http

    def __init__(self, http: Http) -> None:
        self._http = http
        self.kept = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        max_body: int,
        repeatable: bool,
    ) -> Reply:
        """Send what reads; keep what writes."""
        if method in _READING:
            return self._http.request(
                method,
                url,
                headers=headers,
                body=body,
                timeout=timeout,
                max_body=max_body,
                repeatable=repeatable,
            )
        self.kept.append({"method": method, "url": url, "body": _shown(headers, body)})
        is_json = headers.get("Content-Type") == "application/json"
        return Reply(200, {}, body if body is not None and is_json else b"{}")


def _shown(headers: Mapping[str, str], body: bytes | None) -> object:
    if body is None:
        return None
    if headers.get("Content-Type") == "application/json":
        return json.decode(body)
    return f"{headers.get('Content-Type', '').partition(';')[0]}, {len(body)} bytes"
