"""Talking to a `LocalServer` from tests: raw requests, envelopes, answers of the API."""

from __future__ import annotations

import base64
import http.client
import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from crashfree.server import LocalServer


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    url: str,
    method: str,
    path: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    length: bool = True,
) -> Answer:
    """Send one request exactly as given, on a connection of its own."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if length and (method == "POST" or body):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if body:
            connection.send(body)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def auth(server: LocalServer, project: str | None = None) -> tuple[str, str]:
    """Return the auth header of a client of the server."""
    key = urlsplit(server.dsn_of(project or server.project)).username
    return ("X-Sentry-Auth", f"Sentry sentry_key={key}, sentry_version=7")


def send(
    server: LocalServer,
    body: bytes,
    *,
    project: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    """Post an envelope as a client of the server."""
    dsn = urlsplit(server.dsn_of(project or server.project))
    path = f"/api{dsn.path}/envelope/"
    return request(server.url, "POST", path, headers=[auth(server, project), *headers], body=body)


def ask(server: LocalServer, path: str, **query: Any) -> Answer:
    """Get something from the management API, below `/api/0/organizations/<organization>/`."""
    text = urlencode(query, doseq=True)
    return call(server, "GET", f"/api/0/organizations/{server.organization}/{path}?{text}")


def call(server: LocalServer, method: str, path: str, body: object = None) -> Answer:
    """Call the management API with its token."""
    headers = [("Authorization", f"Bearer {server.token}")]
    data = b"" if body is None else json.dumps(body).encode()
    return request(server.url, method, path, headers=headers, body=data)


def totals(server: LocalServer, *fields: str, **query: Any) -> dict[str, Any]:
    """Return the totals of one ungrouped sessions query over the last 24 hours."""
    answer = ask(server, "sessions/", field=fields, **{"statsPeriod": "24h", **query})
    assert answer.status == 200, answer.body
    (group,) = answer.json["groups"]
    return dict(group["totals"])


def envelope(*items: tuple[str, object], header: Mapping[str, object] | None = None) -> bytes:
    """Write an envelope of (type, payload) by hand; bytes payloads go in as they are."""
    lines = [json.dumps(header or {}).encode()]
    for kind, payload in items:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        lines.append(json.dumps({"type": kind, "length": len(data)}).encode())
        lines.append(data)
    return b"\n".join(lines) + b"\n"


def session(
    started: float,
    *,
    sid: str | None = None,
    release: str = "app@1.0",
    environment: str | None = None,
    **fields: object,
) -> dict[str, Any]:
    """Return the payload of a session update."""
    attrs: dict[str, str] = {"release": release}
    if environment is not None:
        attrs["environment"] = environment
    return {
        "sid": sid or str(uuid.uuid4()),
        "started": rfc3339(started),
        "attrs": attrs,
        **fields,
    }


def rfc3339(seconds: float) -> str:
    """Return an instant as clients write it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def case_body(case: Mapping[str, Any]) -> bytes:
    """Return the body that a vector describes."""
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    if "body_parts" in case:
        return b"".join(text.encode() * count for text, count in case["body_parts"])
    return str(case["body_text"]).encode()
