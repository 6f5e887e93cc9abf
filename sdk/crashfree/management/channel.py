"""`Channel`: requests to one server, with the token, until there is an answer to work with.

It joins the address, adds the headers, asks again where `retries` says so, and turns every answer
that is no success into an `ApiError`. Redirects are answers, never followed: the token goes to no
address that was not configured.

Threads: any; calls share nothing but the connection pool. Source: releases.md section 4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from crashfree._ground import ids, json, log
from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree._ground.http import Reply
from crashfree.errors import ApiError, ConfigurationError, Unreachable
from crashfree.management import cursors, problems
from crashfree.management.payloads import array
from crashfree.management.retries import Attempt, RetryPolicy, pause_before_next

READ_TIMEOUT = 60.0
MAX_BODY = 64 * 1024 * 1024
_MAX_PAGES = 10_000
_SLOWEST = 64 * 1024.0  # bytes a second that an upload may be slow

Query = Mapping[str, object]


class Http(Protocol):
    """Whoever sends one request and returns the answer, or raises `Unreachable`."""

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
    ) -> Reply: ...


@dataclass(frozen=True)
class Answer:
    """A success: the status tells 201 from 208, the value is the decoded body."""

    status: int
    value: Any
    headers: Mapping[str, str]


def path_of(*parts: str) -> str:
    """Return parts as a path under the API's root: `path_of("organizations", "acme")`.

    Every part is one segment; `@` stays readable, everything else that is not plain is encoded.
    """
    return "/".join(quote(part, safe="@") for part in parts) + "/"


class Channel:
    """One server, one token. See the module's text for what it takes care of."""

    base: str
    _http: Http
    _headers: dict[str, str]
    _policy: RetryPolicy
    _clock: Clock
    _pause: Callable[[float], None]
    _on_retry: Callable[[str], None]

    def __init__(
        self,
        url: str,
        token: str,
        *,
        http: Http,
        user_agent: str,
        headers: Mapping[str, str] | None = None,
        policy: RetryPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
        pause: Callable[[float], None] | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self.base = checked_address(url)
        self._http = http
        self._headers = {
            "Accept": "application/json",
            "User-Agent": user_agent,
            **(headers or {}),
            "Authorization": f"Bearer {token}",
        }
        self._policy = policy or RetryPolicy()
        self._clock = clock
        self._pause = pause or _wait
        self._on_retry = on_retry or log.debug

    def get(self, path: str, query: Query | None = None) -> Answer:
        """Read something; safe to repeat."""
        return self.call("GET", path, query=query)

    def pages(
        self, path: str, query: Query | None = None, *, limit: int | None = None
    ) -> Iterator[object]:
        """Read a list page by page; `limit` bounds the entries, None reads them all.

        A server that names the same cursor twice ends the list: it would never end otherwise.
        """
        seen: set[str] = set()
        cursor: str | None = None
        left = limit
        while len(seen) < _MAX_PAGES and (left is None or left > 0):
            answer = self.get(path, {**(query or {}), **({"cursor": cursor} if cursor else {})})
            entries = array(answer.value)
            if left is not None:
                entries = entries[:left]
                left -= len(entries)
            yield from entries
            cursor = cursors.next_cursor(answer.headers.get("link"))
            if cursor is None or cursor in seen:
                return
            seen.add(cursor)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        repeatable: bool = True,
        waits_for_conflict: bool = False,
    ) -> Answer:
        """Send JSON, return JSON. Raises ApiError and Unreachable when there is no more hope."""
        data = None if body is None else json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        reply = self._send(
            method,
            self._address(path, query),
            headers=headers,
            data=data,
            repeatable=repeatable,
            waits_for_conflict=waits_for_conflict,
        )
        return Answer(reply.status, _value(reply), reply.headers)

    def post(self, path: str, *, content_type: str, data: bytes, repeatable: bool = True) -> Answer:
        """Send bytes that are no JSON (uploads). `path` may be an address the server gave."""
        reply = self._send(
            "POST",
            self._address(path, None),
            headers={"Content-Type": content_type},
            data=data,
            repeatable=repeatable,
            waits_for_conflict=False,
        )
        value = _value(reply) if reply.body.lstrip()[:1] in (b"{", b"[") else None
        return Answer(reply.status, value, reply.headers)

    def wait(self, seconds: float) -> None:
        """Let time pass between two looks at work that the server does."""
        self._pause(seconds)

    def elapsed_since(self, mark: float) -> float:
        """Return the seconds since `mark`, a value of `elapsed_since(0)`."""
        return self._clock.monotonic() - mark

    def _address(self, path: str, query: Query | None) -> str:
        if "://" in path:
            if path.startswith("http://") and self.base.startswith("https://"):
                raise ApiError(0, f"the server names an address without encryption: {path}")
            address = path
        elif path.startswith("/"):
            address = self.base + path
        else:
            address = f"{self.base}/api/0/{path}"
        return f"{address}?{urlencode(dict(query), doseq=True)}" if query else address

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        data: bytes | None,
        repeatable: bool,
        waits_for_conflict: bool,
    ) -> Reply:
        began = self._clock.monotonic()
        number = 0
        while True:
            number += 1
            reply, failure = self._attempt(method, url, headers, data, began, repeatable)
            if reply is not None and 200 <= reply.status < 300:
                return reply
            pause = pause_before_next(
                self._policy,
                Attempt(
                    number=number,
                    elapsed=self._clock.monotonic() - began,
                    status=None if reply is None else reply.status,
                    sent=failure is None or failure.sent,
                    retry_after=None if reply is None else reply.headers.get("retry-after"),
                ),
                repeatable=repeatable,
                waits_for_conflict=waits_for_conflict,
                roll=ids.roll(),
                now=self._clock.time(),
            )
            if pause is None:
                if failure is not None:
                    raise failure
                assert reply is not None
                raise problems.error_of(reply.status, reply.body)
            cause = str(failure) if reply is None else f"status {reply.status}"
            self._on_retry(f"{method} {url}: {cause}; asking again in {pause:.1f} s")
            self._pause(pause)

    def _attempt(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        began: float,
        repeatable: bool,
    ) -> tuple[Reply | None, Unreachable | None]:
        # Large bodies take their time on a slow line; the budget is for waiting, not for sending.
        sending = len(data or b"") / _SLOWEST
        left = self._policy.budget + sending - (self._clock.monotonic() - began)
        try:
            reply = self._http.request(
                method,
                url,
                headers={**self._headers, **headers},
                body=data,
                timeout=max(1.0, min(READ_TIMEOUT + sending, left)),
                max_body=MAX_BODY,
                repeatable=repeatable,
            )
        except Unreachable as error:
            log.debug(f"{method} {url}: {error}")
            return None, error
        log.debug(f"{method} {url} -> {reply.status}")
        return reply, None


def checked_address(url: str) -> str:
    """Return a server's address without a trailing slash.

    Raises ConfigurationError for anything but scheme, host and port: the API lives at the root.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"the server address {url!r} cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"the server address {url!r} needs the form https://host or https://host:port"
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the server address {url!r} must not have a path; give scheme, host and port only"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("the server address must not hold a user or a password")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def _value(reply: Reply) -> Any:
    if not reply.body.strip():
        if reply.status in (204, 205):
            return None
        raise problems.NotJson(reply.status, "the server answered with nothing where JSON was due")
    try:
        return json.decode(reply.body)
    except (ValueError, RecursionError):
        hint = " (is this the address of the server, or of a proxy?)"
        detail = "the server's answer is not JSON" + (hint if reply.body[:1] == b"<" else "")
        raise problems.NotJson(reply.status, detail) from None


def _wait(seconds: float) -> None:
    # An Event nobody sets: interruptible by Ctrl-C, unlike time.sleep on Windows.
    threading.Event().wait(seconds)
