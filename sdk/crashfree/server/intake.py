"""The ingest paths: from an HTTP request to facts that are written, and the answer.

    path, method -> framing -> credentials in header and query -> body, bounded -> content encoding
    -> envelope -> credentials in the envelope -> rules across items -> facts -> written -> answer

There are two ways in: plain ASGI for every request, and `take` for the usual ones (`usual`), which
the connection hands over whole. Both do the same; the second has no task, no messages and no wait
but the one for the commit. A body may not be larger, slower or more deeply nested than the settings
allow, and all bodies in work together are bounded.

Threads: the event loop's; large bodies are decompressed and parsed on a pool thread.
Source: ingest.md sections 1 to 3 and 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool

from crashfree._protocol.decoding import check, decode_envelope
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import received_item
from crashfree._protocol.limits import Limits
from crashfree.errors import EnvelopeError
from crashfree.server import answers, auth, decompress, heads, ingest, quick, usual
from crashfree.server.answers import CORS, JSON, PREFLIGHT, Receive, Refusal, Scope, Send
from crashfree.server.body import Body, ClientGone, Watch
from crashfree.server.context import Context
from crashfree.server.engine import Unavailable
from crashfree.server.facts import Facts
from crashfree.server.faults import Fault
from crashfree.server.ingest import InvalidEvent, Policy, Sender, TooMany
from crashfree.server.projects import Projects
from crashfree.server.quotas import Limited, Quotas
from crashfree.server.trouble import Troubles
from crashfree.server.writer import GroupCommit, Overloaded

Answer = Callable[[int, bytes], None]
"""Status, and the rest of the answer: headers, the blank line, the body."""

_PATHS: Final = frozenset(("envelope", "store"))
_ELSEWHERE: Final = frozenset(("security", "minidump", "unreal"))
"""What Sentry takes beside; clients that ask for it are told so, browsers included."""
_DIGITS: Final = 18
_TOO_MANY_AGGREGATES: Final = 2**31


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
    _watch: Watch
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
        self._watch = Watch()
        # Aggregates are counted when they are read; `check` would parse them once more for that.
        self._limits = context.settings.limits._replace(aggregates=_TOO_MANY_AGGREGATES)

    @property
    def quotas(self) -> Quotas:
        """The rate limits this server gives."""
        return self._quotas

    @staticmethod
    def owns(path: str) -> bool:
        """Return whether a path is for ingest: `/api/<project>/envelope/` and its like."""
        parts = path.split("/")
        if len(parts) < 4 or parts[1] != "api":
            return False
        if parts[3] in _PATHS:
            return len(parts) == 4 or (len(parts) == 5 and not parts[4])
        return parts[3] in _ELSEWHERE and parts[2] != "0"

    # The usual request.

    def take(self, head: usual.Head, raw: bytes, peer: str | None, answer: Answer) -> bool:
        """Take a usual request; False, and nothing has happened, when it must go the other way.

        `answer` is called once, at once or when the facts are written.
        """
        if self._context.faults.pending or len(raw) > self._context.settings.max_body:
            return False
        try:
            facts, limited, size = self._taken(head, raw, peer)
        except Refusal as refusal:
            answer(refusal.status, answers.refused(refusal))
        except Exception as error:  # noqa: BLE001 -- the last resort: a bug of ours, told by number
            number = self._troubles.note(error, f"/api/{head.project_id}/")
            answer(500, answers.refused(Refusal(500, f"internal error {number}")))
        else:
            self._in_work += size

            def written(fault: BaseException | None) -> None:
                self._in_work -= size
                if fault is None and not limited.header and not limited.dropped:
                    answer(200, answers.good(facts.event_id))
                else:
                    self._answer_oddly(head, facts, limited, fault, answer)

            self._commit.add(facts, written)
        return True

    def _taken(self, head: usual.Head, raw: bytes, peer: str | None) -> tuple[Facts, Limited, int]:
        if head.key is not None:
            self._admit(head.project_id, head.key)
        work = _Work(self._context, self._limits, head.encoding, head.single_event)
        envelope = work.envelope(raw)
        if self._in_work + work.decoded_size > self._context.settings.max_in_work:
            raise _too_much_in_work()
        key = self._settled_key(head.project_id, head.key, envelope)
        limited = self._quotas.apply(
            head.project_id, key, envelope, self._projects.limits(head.project_id)
        )
        if self._context.settings.trust_proxy and head.forwarded:
            peer = head.forwarded
        sender = Sender(head.project_id, self._context.clock.time(), peer, head.user_agent)
        facts = _read(limited.envelope, sender, self._policy(head.project_id))
        return self._forwarding(facts, envelope), limited, work.decoded_size

    def _answer_oddly(
        self,
        head: usual.Head,
        facts: Facts,
        limited: Limited,
        fault: BaseException | None,
        answer: Answer,
    ) -> None:
        if fault is None:
            refusal = _over_limit(limited)
            if refusal is None:
                answer(200, answers.good(facts.event_id, limits=limited.header))
                return
        elif isinstance(fault, (Overloaded, Unavailable)):
            refusal = _locked()
        else:
            number = self._troubles.note(fault, f"/api/{head.project_id}/")
            refusal = Refusal(500, f"internal error {number}")
        answer(refusal.status, answers.refused(refusal))

    # Every request.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "OPTIONS":
            await answers.send(send, 200, (*CORS, *PREFLIGHT), b"")
            return
        body = Body(receive, self._context, scope["headers"], self._watch)
        try:
            project, endpoint = scope["path"].split("/")[2:4]
            if endpoint in _ELSEWHERE or not (project.isascii() and project.isdigit()):
                raise Refusal(404, "not found: this server takes /api/<project>/envelope/")
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

    async def _post(self, scope: Scope, body: Body, send: Send) -> None:
        fault = self._context.faults.take()
        if fault is not None:
            await self._misbehave(fault, scope, body, send)
            return
        facts, limited = await self._take(scope, body)
        await self._write(facts)
        refusal = _over_limit(limited)
        if refusal is not None:
            await answers.send(send, 429, answers.refusal_headers(refusal), refusal.body)
        else:
            headers = answers.good_headers(limited.header)
            await answers.send(send, 200, headers, answers.good_body(facts.event_id))

    async def _take(self, scope: Scope, body: Body) -> tuple[Facts, Limited]:
        head = heads.read(scope["headers"])
        _, _, project_text, endpoint, *_ = scope["path"].split("/")
        # No project has a number that long.
        project_id = int(project_text) if len(project_text) <= _DIGITS else 0
        try:
            key = auth.sender_key(head.auth, scope["query_string"].decode("latin-1"))
        except auth.Refused as refused:
            raise Refusal(refused.status, refused.detail) from None
        if key is not None:
            self._admit(project_id, key)
        raw = await body.read(head, self._charge)
        work = _Work(self._context, self._limits, head.encoding, endpoint == "store")
        if len(raw) > (usual.LARGEST if head.encoding is None else usual.LARGEST_COMPRESSED):
            envelope = await run_in_threadpool(work.envelope, raw)
        else:
            envelope = work.envelope(raw)
        self._charge(body, work.decoded_size)
        key = self._settled_key(project_id, key, envelope)
        limited = self._quotas.apply(project_id, key, envelope, self._projects.limits(project_id))
        client_ip = self._client_ip(scope, head)
        sender = Sender(project_id, self._context.clock.time(), client_ip, head.user_agent)
        policy = self._policy(project_id)
        if len(raw) > usual.LARGEST:
            facts = await run_in_threadpool(_read, limited.envelope, sender, policy)
        else:
            facts = _read(limited.envelope, sender, policy)
        return self._forwarding(facts, envelope), limited

    def _admit(self, project_id: int, key: str) -> None:
        if not self._projects.accepts(project_id, key):
            # One text for a wrong key, a missing and a disabled project: no oracle for keys.
            raise Refusal(403, "project or key not accepted")

    def _settled_key(self, project_id: int, key: str | None, envelope: Envelope) -> str:
        """Return the key of a request, having looked into the envelope as well."""
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
        return key

    def _policy(self, project_id: int) -> Policy:
        settings = self._context.settings
        return Policy(
            self._projects.filters(project_id),
            settings.keep_attachments,
            settings.limits.aggregates,
        )

    def _forwarding(self, facts: Facts, envelope: Envelope) -> Facts:
        if self._context.settings.forward is None:
            return facts
        return facts._replace(forwarded=envelope.encode(sent_at=envelope.sent_at))

    def _charge(self, body: Body, size: int) -> None:
        self._in_work += size
        body.charged += size
        if self._in_work > self._context.settings.max_in_work:
            raise _too_much_in_work()

    def _client_ip(self, scope: Scope, head: heads.Head) -> str | None:
        if self._context.settings.trust_proxy and head.forwarded:
            return head.forwarded
        client = scope.get("client")
        return str(client[0]) if client else None

    async def _write(self, facts: Facts) -> None:
        try:
            await self._commit.write(facts)
        except (Overloaded, Unavailable):
            raise _locked() from None

    async def _refuse(self, refusal: Refusal, body: Body, send: Send) -> None:
        headers = answers.refusal_headers(refusal)
        if not await body.drained():
            # Closing with unread bytes makes the kernel reset the connection, and the client would
            # never see the answer; so the connection is given up in the open.
            headers = (*headers, (b"connection", b"close"))
        await answers.send(send, refusal.status, headers, refusal.body)

    async def _misbehave(self, fault: Fault, scope: Scope, body: Body, send: Send) -> None:
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
            *CORS,
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
        await answers.send(send, fault.status, (JSON, *headers), fault.body)


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
            envelope: Envelope | None
            if self._single_event:
                envelope = Envelope({}, (received_item("event", {}, plain),))
            else:
                envelope = quick.envelope(plain, settings.limits)
                if envelope is None:
                    envelope = decode_envelope(plain, limits=settings.limits)
            check(envelope, limits=self._limits)
        except EnvelopeError as error:
            raise _refused_envelope(error) from None
        return envelope


def _read(envelope: Envelope, sender: Sender, policy: Policy) -> Facts:
    try:
        return ingest.read(envelope, sender, policy)
    except InvalidEvent as error:
        raise Refusal(400, "invalid event", causes=[str(error)]) from None
    except TooMany as error:
        raise Refusal(413, f"too large: {error}") from None


def _over_limit(limited: Limited) -> Refusal | None:
    if not limited.dropped:
        return None
    return Refusal(
        429,
        "rate limited",
        headers=[
            (b"x-sentry-rate-limits", limited.header.encode("latin-1")),
            (b"retry-after", str(limited.retry_after).encode("ascii")),
        ],
    )


def _too_much_in_work() -> Refusal:
    return Refusal(503, "overloaded: too much in work", headers=[(b"retry-after", b"1")])


def _locked() -> Refusal:
    return Refusal(
        503, "overloaded: the database is locked or full", headers=[(b"retry-after", b"1")]
    )


def _refused_envelope(error: EnvelopeError) -> Refusal:
    if error.code in ("too_large", "header_too_large"):
        return Refusal(413, f"too large: {error}", causes=[error.code])
    if error.code == "conflicting_items":
        return Refusal(400, f"conflicting items: {error}", causes=[error.code])
    return Refusal(400, f"invalid envelope: {error}", causes=[error.code])
