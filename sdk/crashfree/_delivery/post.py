"""One envelope, posted: bytes, compression, headers, and the outcome.

A payload that cannot be built (it may be lazy, and run foreign code) is left out and reported;
its neighbours go. Threads: the worker and its senders. Source: wire.md sections 2.1, 3.1 and 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crashfree._delivery.outcome import Outcome, outcome_of
from crashfree._ground import log
from crashfree._ground.clock import Clock
from crashfree._ground.compression import THRESHOLD, Compression, Compressor, compressor
from crashfree._ground.http import HttpClient, Reply
from crashfree._ground.typed import NamedTuple
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import CLIENT, Envelope
from crashfree._protocol.items import Item
from crashfree.errors import Unreachable

CONTENT_TYPE = "application/x-sentry-envelope"
_SHOWN = 512
# Aggregates go out once a minute, on a connection that a middlebox may have dropped in silence;
# they cannot be sent twice, so they do not take that risk.
_FRESH = 5.0
_MAX_IDLE = 60.0


class Posted(NamedTuple):
    """What became of it."""

    outcome: Outcome
    reply: Reply | None
    error: str | None
    """What to say about it; None when all is well."""
    size: int
    """Bytes of the body as it was sent."""


class Post:
    """The way to one DSN."""

    __slots__ = ("_clock", "_coder", "_compression", "_headers", "_http", "url")
    url: str
    _http: HttpClient
    _headers: Mapping[str, str]
    _clock: Clock
    _compression: Compression
    _coder: Compressor | None

    def __init__(
        self,
        dsn: Dsn,
        *,
        http: HttpClient,
        clock: Clock,
        compression: Compression = "gzip",
        user_agent: str = CLIENT,
    ) -> None:
        self.url = dsn.envelope_url
        self._http = http
        self._clock = clock
        self._compression = compression
        self._coder = None
        self._headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": user_agent,
            "X-Sentry-Auth": dsn.auth_header(CLIENT),
        }

    def send(
        self,
        envelope: Envelope,
        *,
        timeout: float | None = None,
        counting: bool = False,
        may_write: Callable[[], bool] | None = None,
    ) -> Posted:
        """Post it. `counting`: it holds aggregates, which must not go out twice."""
        body = envelope.encode(sent_at=self._clock.time())
        if log.debugging():
            log.debug(f"sending {described(envelope)} ({len(body)} bytes) to {self.url}")
        body, headers = self._coded(body)
        withdrawn = False

        def asked() -> bool:
            nonlocal withdrawn
            withdrawn = may_write is not None and not may_write()
            return not withdrawn

        began = self._clock.monotonic()
        try:
            reply = self._http.request(
                "POST",
                self.url,
                headers=headers,
                body=body,
                timeout=timeout,
                max_idle=_FRESH if counting else _MAX_IDLE,
                repeatable=not counting,
                may_write=asked,
            )
        except Unreachable as error:
            if withdrawn:
                return Posted("withdrawn", None, None, 0)
            return Posted(outcome_of(error), None, str(error), len(body))
        if log.debugging():
            took = self._clock.monotonic() - began
            log.debug(f"answer {reply.status} after {took:.3f} s: {reply.body[:_SHOWN]!r}")
        outcome = outcome_of(reply)
        complaint = None if outcome == "accepted" else _complaint(reply)
        return Posted(outcome, reply, complaint, len(body))

    def _coded(self, body: bytes) -> tuple[bytes, Mapping[str, str]]:
        if len(body) < THRESHOLD or self._compression == "none":
            return body, self._headers
        if self._coder is None:
            self._coder = compressor(self._compression)
        if self._coder is None:
            return body, self._headers
        return (
            self._coder.compress(body),
            {**self._headers, "Content-Encoding": self._coder.encoding},
        )


def buildable(
    envelope: Envelope, on_failure: Callable[[Item, BaseException], None]
) -> Envelope | None:
    """Build what is lazy; return the envelope without what cannot be built, None for nothing.

    `on_failure` is told of each item that is left out (of its attachments too).
    """
    broken: dict[int, BaseException] = {}
    for item in envelope.items:
        if item.built:
            continue
        try:
            assert item.payload is not None
        except (Exception, SystemExit) as fault:  # noqa: BLE001 -- it runs foreign code
            broken[id(item)] = fault
    if not broken:
        return envelope
    kept, dropped = envelope.without(lambda item: id(item) in broken)
    cause = next(iter(broken.values()))
    for item in dropped:
        on_failure(item, broken.get(id(item), cause))
    return kept


def described(envelope: Envelope) -> str:
    """Return item types and sizes, for a log line."""
    return ", ".join(f"{item.type} {item.size_hint} B" for item in envelope.items) or "nothing"


def _complaint(reply: Reply) -> str:
    said = reply.headers.get("x-sentry-error") or reply.body[:_SHOWN].decode("utf-8", "replace")
    return f"the server answered {reply.status}: {said.strip() or 'without a word'}"
