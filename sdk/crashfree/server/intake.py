"""The ingest paths: from an HTTP request to facts that are written, and the answer.

    path, method -> framing -> credentials in header and query -> body, bounded -> content encoding
    -> envelope -> credentials in the envelope -> rules across items -> facts -> written -> answer

Spoken in plain ASGI, because every microsecond here is paid per request. A body may not be larger,
slower or more deeply nested than the settings allow, and all bodies in work together are bounded.

Threads: the event loop's; large bodies are decompressed and parsed on a pool thread.
Source: ingest.md sections 1 to 3 and 5.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, cast

from starlette.concurrency import run_in_threadpool

from crashfree._ground import json
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope, check, decode_envelope
from crashfree._protocol.items import received_item
from crashfree._protocol.limits import Limits
from crashfree.errors import EnvelopeError
from crashfree.server import auth, decompress, ingest
from crashfree.server.context import Context
from crashfree.server.facts import Facts
from crashfree.server.faults import Fault
from crashfree.server.ingest import InvalidEvent, Policy, Sender, TooMany
from crashfree.server.projects import Projects
from crashfree.server.quotas import Limited, Quotas
from crashfree.server.trouble import Troubles
from crashfree.server.writer import GroupCommit, Overloaded

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

_CORS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"X-Sentry-Error, X-Sentry-Rate-Limits, Retry-After",
    ),
)
_PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-max-age", b"3600"),
    (
        b"access-control-allow-headers",
        b"X-Sentry-Auth, X-Requested-With, Origin, Accept, Content-Type, Authentication,"
        b" Authorization, Content-Encoding, sentry-trace, baggage, X-CSRFToken",
    ),
)
_JSON: Final = (b"content-type", b"application/json")
_PATHS: Final = frozenset(("envelope", "store"))
_ON_A_THREAD: Final = 256 * 1024
"""From this body size on, decompressing and parsing would hold up the loop."""
_DRAINED: Final = 256 * 1024
_DRAIN_TIME: Final = 1.0
_WATCHED_EVERY: Final = 0.25
_TOO_MANY_AGGREGATES: Final = 2**31


class Refusal(Exception):
    """An answer of 400 or more."""

    status: int
    detail: str
    causes: tuple[str, ...]
    headers: tuple[Header, ...]

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        causes: Iterable[str] = (),
        headers: Iterable[Header] = (),
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.causes = tuple(causes)
        self.headers = tuple(headers)


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class _Head(NamedTuple):
    """What the head of a request says."""

    auth: tuple[str, ...]
    encoding: str | None
    length: int | None
    user_agent: str | None
    forwarded: str | None


class Intake:
    """The ingest paths of one server."""

    __slots__ = (
        "_commit",
        "_context",
        "_in_work",
        "_limits",
        "_projects",
        "_quotas",
        "_reset",
        "_troubles",
        "_watch",
    )
    _context: Context
    _projects: Projects
    _commit: GroupCommit
    _quotas: Quotas
    _troubles: Troubles
    _in_work: int
    _reset: Callable[[Scope], None]
    _watch: _Watch
    _limits: Limits

    def __init__(
        self,
        context: Context,
        projects: Projects,
        troubles: Troubles,
        *,
        reset: Callable[[Scope], None] = lambda scope: None,
    ) -> None:
        self._context = context
        self._projects = projects
        self._commit = GroupCommit(context.store)
        self._quotas = Quotas(context.clock)
        self._troubles = troubles
        self._in_work = 0
        self._reset = reset
        self._watch = _Watch()
        # Aggregates are counted when they are read; `check` would parse them once more for that.
        self._limits = context.settings.limits._replace(aggregates=_TOO_MANY_AGGREGATES)

    @property
    def quotas(self) -> Quotas:
        """The rate limits this server gives."""
        return self._quotas

    @staticmethod
    def owns(path: str) -> bool:
        """Return whether a path is one of ours: `/api/<project>/envelope/` or `/store/`."""
        parts = path.split("/")
        if len(parts) == 5 and not parts[4]:
            parts.pop()
        return len(parts) == 4 and parts[1] == "api" and parts[3] in _PATHS and parts[2].isdigit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "OPTIONS":
            await _answer(send, 200, (*_CORS, *_PREFLIGHT), b"")
            return
        body = _Body(receive, self._context, scope["headers"], self._watch)
        try:
            if method != "POST":
                raise Refusal(
                    405, f"method not allowed: {method}", headers=[(b"allow", b"POST, OPTIONS")]
                )
            await self._post(scope, body, send)
        except Refusal as refusal:
            await self._refuse(refusal, body, send)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 -- the last resort: a bug of ours, told by number
            number = self._troubles.note(error, scope["path"])
            await self._refuse(Refusal(500, f"internal error {number}"), body, send)
        finally:
            self._in_work -= body.charged

    async def _post(self, scope: Scope, body: _Body, send: Send) -> None:
        fault = self._context.faults.take()
        if fault is not None:
            await self._misbehave(fault, scope, body, send)
            return
        facts, limited = await self._take(scope, body)
        await self._write(facts)
        await self._reply(send, facts, limited)

    async def _take(self, scope: Scope, body: _Body) -> tuple[Facts, Limited]:
        head = _head(scope["headers"])
        _, _, project_text, endpoint, *_ = scope["path"].split("/")
        project_id = int(project_text[:18])
        try:
            key = auth.sender_key(head.auth, scope["query_string"].decode("latin-1"))
        except auth.Refused as refused:
            raise Refusal(refused.status, refused.detail) from None
        if key is not None:
            self._admit(project_id, key)
        raw = await body.read(head, self._charge)
        work = _Work(self._context, self._limits, head.encoding, endpoint == "store")
        if (head.encoding is not None and len(raw) > _ON_A_THREAD // 8) or len(raw) > _ON_A_THREAD:
            envelope = await run_in_threadpool(work.envelope, raw)
        else:
            envelope = work.envelope(raw)
        self._charge(body, work.decoded_size)
        stated = envelope.headers.get("dsn")
        if isinstance(stated, str):
            dsn = Dsn.parse(stated)
            if int(dsn.project_id[:18]) != project_id or key not in (None, dsn.public_key):
                raise Refusal(400, "dsn does not fit the request: another project or key")
            if key is None:
                key = dsn.public_key
                self._admit(project_id, key)
        if key is None:
            raise Refusal(401, "no key in header, query or envelope")
        limited = self._quotas.apply(project_id, key, envelope, self._projects.limits(project_id))
        sender = Sender(
            project_id,
            self._context.clock.time(),
            self._client_ip(scope, head),
            head.user_agent,
        )
        policy = Policy(
            self._projects.filters(project_id),
            self._context.settings.keep_attachments,
            self._context.settings.limits.aggregates,
        )
        try:
            if len(raw) > _ON_A_THREAD:
                facts = await run_in_threadpool(ingest.read, limited.envelope, sender, policy)
            else:
                facts = ingest.read(limited.envelope, sender, policy)
        except InvalidEvent as error:
            raise Refusal(400, "invalid event", causes=[str(error)]) from None
        except TooMany as error:
            raise Refusal(413, f"too large: {error}") from None
        if self._context.settings.forward is not None:
            facts = facts._replace(forwarded=envelope.encode(sent_at=envelope.sent_at))
        return facts, limited

    def _admit(self, project_id: int, key: str) -> None:
        if not self._projects.accepts(project_id, key):
            # One text for a wrong key, a missing and a disabled project: no oracle for keys.
            raise Refusal(403, "project or key not accepted")

    def _charge(self, body: _Body, size: int) -> None:
        self._in_work += size
        body.charged += size
        if self._in_work > self._context.settings.max_in_work:
            raise Refusal(503, "overloaded: too much in work", headers=[(b"retry-after", b"1")])

    def _client_ip(self, scope: Scope, head: _Head) -> str | None:
        if self._context.settings.trust_proxy and head.forwarded:
            return head.forwarded
        client = scope.get("client")
        return str(client[0]) if client else None

    async def _write(self, facts: Facts) -> None:
        try:
            await self._commit.write(facts)
        except (Overloaded, sqlite3.OperationalError):
            raise Refusal(
                503, "overloaded: the database is locked or full", headers=[(b"retry-after", b"1")]
            ) from None

    async def _reply(self, send: Send, facts: Facts, limited: Limited) -> None:
        headers = (_JSON, *_CORS)
        if limited.header:
            headers = (*headers, (b"x-sentry-rate-limits", limited.header.encode("latin-1")))
        if limited.dropped:
            await self._refuse_limited(send, limited)
            return
        if facts.event_id is None:
            await _answer(send, 200, headers, b"{}")
        else:
            await _answer(send, 200, headers, b'{"id":"%s"}' % facts.event_id.encode("ascii"))

    async def _refuse_limited(self, send: Send, limited: Limited) -> None:
        refusal = Refusal(
            429,
            "rate limited",
            headers=[
                (b"x-sentry-rate-limits", limited.header.encode("latin-1")),
                (b"retry-after", str(limited.retry_after).encode("ascii")),
            ],
        )
        await _answer(send, 429, _refusal_headers(refusal), _refusal_body(refusal))

    async def _refuse(self, refusal: Refusal, body: _Body, send: Send) -> None:
        headers = _refusal_headers(refusal)
        if not await body.drained():
            # Closing with unread bytes makes the kernel reset the connection, and the client would
            # never see the answer; so the connection is given up in the open.
            headers = (*headers, (b"connection", b"close"))
        await _answer(send, refusal.status, headers, _refusal_body(refusal))

    async def _misbehave(self, fault: Fault, scope: Scope, body: _Body, send: Send) -> None:
        if fault.store:
            facts, _ = await self._take(scope, body)
            await self._write(facts)
        else:
            await body.drained()
        if fault.hang:
            await body.gone()
            return
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.reset == "before":
            self._reset(scope)
            return
        headers = [
            *_CORS,
            *(
                (name.lower().encode("latin-1"), text.encode("latin-1"))
                for name, text in fault.headers
            ),
        ]
        if fault.reset == "after":
            headers.append((b"content-length", str(len(fault.body) + 1000).encode()))
            await send({"type": "http.response.start", "status": fault.status, "headers": headers})
            await send(
                {"type": "http.response.body", "body": fault.body[:1] or b"{", "more_body": True}
            )
            self._reset(scope)
            return
        await _answer(send, fault.status, (_JSON, *headers), fault.body)


class _Work:
    """Decompressing and parsing, on whichever thread."""

    __slots__ = ("_context", "_encoding", "_limits", "_single_event", "decoded_size")
    _context: Context
    _limits: Limits
    _encoding: str | None
    _single_event: bool
    decoded_size: int

    def __init__(
        self, context: Context, limits: Limits, encoding: str | None, single_event: bool
    ) -> None:
        self._context = context
        self._limits = limits
        self._encoding = encoding
        self._single_event = single_event
        self.decoded_size = 0

    def envelope(self, raw: bytes) -> Envelope:
        """Return the envelope in a body; raises Refusal."""
        settings = self._context.settings
        try:
            plain = decompress.decoded(raw, self._encoding, limit=settings.max_decoded)
        except decompress.BodyTooLarge as error:
            raise Refusal(413, f"too large: {error}") from None
        except decompress.BadBody as error:
            raise Refusal(400, f"bad request body: {error}") from None
        except decompress.UnknownEncoding as error:
            raise Refusal(
                415,
                f"unsupported content encoding {str(error)[:40]!r}",
                headers=[(b"accept-encoding", decompress.ACCEPTED.encode("ascii"))],
            ) from None
        self.decoded_size = len(plain)
        try:
            if self._single_event:
                return Envelope({}, (received_item("event", {}, plain),))
            envelope = decode_envelope(plain, limits=settings.limits)
            check(envelope, limits=self._limits)
        except EnvelopeError as error:
            raise _refused_envelope(error) from None
        return envelope


def _refused_envelope(error: EnvelopeError) -> Refusal:
    if error.code in ("too_large", "header_too_large"):
        return Refusal(413, f"too large: {error}", causes=[error.code])
    if error.code == "conflicting_items":
        return Refusal(400, f"conflicting items: {error}", causes=[error.code])
    return Refusal(400, f"invalid envelope: {error}", causes=[error.code])


class _Body:
    """The body of one request, read within limits of size and time."""

    __slots__ = ("_asked", "_complete", "_context", "_headers", "_receive", "_watch", "charged")
    _receive: Receive
    _context: Context
    _headers: Sequence[Header]
    _watch: _Watch
    _asked: bool
    _complete: bool
    charged: int

    def __init__(
        self, receive: Receive, context: Context, headers: Sequence[Header], watch: _Watch
    ) -> None:
        self._receive = receive
        self._watch = watch
        self._context = context
        self._headers = headers
        self._asked = False
        self._complete = False
        self.charged = 0

    async def read(self, head: _Head, charge: Callable[[_Body, int], None]) -> bytes:
        """Return the whole body; raises Refusal, or ClientGone.

        `charge` is told of every part of a body that comes in parts.
        """
        limit = self._context.settings.max_body
        if head.length is not None and head.length > limit:
            raise Refusal(413, f"too large: body of {head.length} bytes, limit {limit}")
        settings = self._context.settings
        with _Deadline(self._watch, settings.body_pause, settings.body_time) as deadline:
            first = await self._next(deadline)
            if self._complete:
                if len(first) > limit:
                    raise Refusal(413, f"too large: body over {limit} bytes")
                return first
            parts = [first]
            size = len(first)
            charge(self, size)
            while not self._complete:
                part = await self._next(deadline)
                size += len(part)
                if size > limit:
                    raise Refusal(413, f"too large: body over {limit} bytes")
                charge(self, len(part))
                parts.append(part)
        return b"".join(parts)

    async def _next(self, deadline: _Deadline) -> bytes:
        self._asked = True
        deadline.touch()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if deadline.expired:
                deadline.swallow()
                raise Refusal(408, "timeout: the body did not come") from None
            raise
        if message["type"] == "http.disconnect":
            self._complete = True
            raise ClientGone
        if not message.get("more_body"):
            self._complete = True
        return cast("bytes", message.get("body", b""))

    async def drained(self) -> bool:
        """Read and throw away the rest, a little of it; return whether that was all."""
        if not self._asked and any(name == b"expect" for name, _ in self._headers):
            return False  # asking for the body would tell the client to send it
        size = 0
        try:
            with _Deadline(self._watch, _DRAIN_TIME, _DRAIN_TIME) as deadline:
                while not self._complete:
                    size += len(await self._next(deadline))
                    if size > _DRAINED:
                        return False
        except (Refusal, ClientGone):
            return False
        return True

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return


class _Watch:
    """Cancels the tasks that wait for a body for too long.

    One timer for all of them: two timers a request are dear, and nobody minds a quarter of a
    second.
    """

    __slots__ = ("_loop", "_timer", "_waiting")
    _loop: asyncio.AbstractEventLoop | None
    _timer: asyncio.TimerHandle | None
    _waiting: set[_Deadline]

    def __init__(self) -> None:
        self._loop = None
        self._timer = None
        self._waiting = set()

    def now(self) -> float:
        """Return the time of the loop."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop.time()

    def add(self, deadline: _Deadline) -> None:
        """Begin to watch a wait."""
        self._waiting.add(deadline)
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(_WATCHED_EVERY, self._look)

    def remove(self, deadline: _Deadline) -> None:
        """Stop watching a wait."""
        self._waiting.discard(deadline)

    def _look(self) -> None:
        self._timer = None
        now = self.now()
        for deadline in self._waiting:
            deadline.check(now)
        if self._waiting and self._loop is not None:
            self._timer = self._loop.call_later(_WATCHED_EVERY, self._look)


class _Deadline:
    """One wait for a body: a bound for every pause in it, and one for all of it."""

    __slots__ = ("_end", "_pause", "_pause_end", "_task", "_watch", "expired")
    _watch: _Watch
    _task: asyncio.Task[Any] | None
    _pause: float
    _pause_end: float
    _end: float
    expired: bool

    def __init__(self, watch: _Watch, pause: float, total: float) -> None:
        now = watch.now()
        self._watch = watch
        self._task = asyncio.current_task()
        self._pause = pause
        self._pause_end = now + pause
        self._end = now + total
        self.expired = False

    def __enter__(self) -> _Deadline:
        self._watch.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.remove(self)

    def touch(self) -> None:
        """Begin a new pause."""
        self._pause_end = self._watch.now() + self._pause

    def check(self, now: float) -> None:
        """Cancel the wait if it has taken too long."""
        if now >= min(self._pause_end, self._end) and not self.expired and self._task is not None:
            self.expired = True
            self._task.cancel()

    def swallow(self) -> None:
        """Say that the cancellation was ours and has been dealt with."""
        uncancel = getattr(self._task, "uncancel", None)
        if uncancel is not None:
            uncancel()


def _head(headers: Sequence[Header]) -> _Head:
    credentials: list[str] = []
    encoding = user_agent = forwarded = None
    length: int | None = None
    chunked = False
    for name, value in headers:
        if name == b"x-sentry-auth":
            credentials.append(value.decode("latin-1"))
        elif name == b"content-length":
            if not value.isdigit() or len(value) > 15:
                raise Refusal(400, "bad request body: unreadable Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"content-encoding":
            encoding = value.decode("latin-1")
        elif name == b"user-agent":
            user_agent = value.decode("latin-1")
        elif name == b"x-forwarded-for":
            forwarded = value.decode("latin-1").split(",")[0].strip()
        elif name == b"forwarded" and forwarded is None:
            forwarded = _forwarded_for(value.decode("latin-1"))
    if length is not None and chunked:
        raise Refusal(400, "bad request body: both Content-Length and Transfer-Encoding")
    if length is None and not chunked:
        raise Refusal(411, "length required")
    return _Head(tuple(credentials), encoding, length, user_agent, forwarded)


def _forwarded_for(value: str) -> str | None:
    for pair in value.split(",")[0].split(";"):
        name, _, text = pair.strip().partition("=")
        if name.lower() == "for":
            return text.strip('"').removeprefix("[").partition("]")[0]
    return None


def _refusal_headers(refusal: Refusal) -> tuple[Header, ...]:
    line = refusal.detail.replace("\r", " ").replace("\n", " ")
    told = line.encode("ascii", "replace")[:1024]
    return (_JSON, *_CORS, (b"x-sentry-error", told), *refusal.headers)


def _refusal_body(refusal: Refusal) -> bytes:
    body: dict[str, object] = {"detail": refusal.detail}
    if refusal.causes:
        body["causes"] = list(refusal.causes)
    return json.encode(body)


async def _answer(send: Send, status: int, headers: Iterable[Header], body: bytes) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})
