"""What the server has told us, and one envelope taken to it accordingly.

Kept here: rate limits, the outage and its back-off, refusals of the whole DSN (said once, then
tried once a minute), client reports and when the next is due, and the counts of what was sent.

Invariant: a client report that did not arrive gives its counts back. Threads: those that send;
`limited`, `remaining` and the like any. Fork: `forget`.
Source: wire.md sections 11, 12 and 18.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crashfree._delivery.backoff import Backoff
from crashfree._delivery.discards import Counts, Discards
from crashfree._delivery.limiter import Limiter
from crashfree._delivery.outcome import Outcome
from crashfree._delivery.post import Post, Posted, described
from crashfree._ground import log
from crashfree._ground.clock import Clock
from crashfree._ground.tally import Tally
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item, client_report_item
from crashfree._protocol.ratelimits import response_limits
from crashfree._protocol.reports import client_reports
from crashfree.types import DataCategory

REPORT_ALONG = 30.0
REPORT_ALONE = 60.0
_REFUSALS = 3
_REFUSED_PAUSE = 60.0
_REFUSING = frozenset((401, 403, 404))
_STREAK = 3
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Courier:
    """Takes envelopes to one DSN, one at a time per caller."""

    __slots__ = (
        "_clock",
        "_discards",
        "_dsn",
        "_numbers",
        "_post",
        "_refusals",
        "_refused_until",
        "_reported_at",
        "_reports",
        "_sent",
        "failures",
        "last_error",
        "last_status",
        "limiter",
        "outage",
    )
    limiter: Limiter
    outage: Backoff
    """The pause after requests that nobody answered."""
    failures: int
    """How many requests nobody answered, ever."""
    last_error: str | None
    last_status: int | None
    _dsn: Dsn
    _post: Post
    _clock: Clock
    _discards: Discards
    _reports: bool
    _reported_at: float
    _refusals: int
    _refused_until: float
    _sent: Tally[DataCategory]
    _numbers: Tally[str]

    def __init__(
        self, dsn: Dsn, *, post: Post, clock: Clock, discards: Discards, reports: bool
    ) -> None:
        self._dsn = dsn
        self._post = post
        self._clock = clock
        self._discards = discards
        self._reports = reports
        self._reported_at = clock.monotonic()
        self._refusals = 0
        self._refused_until = 0.0
        self._sent = Tally()
        self._numbers = Tally()
        self.limiter = Limiter(clock=clock)
        self.outage = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self.failures = 0
        self.last_error = None
        self.last_status = None

    def carry(
        self,
        envelope: Envelope,
        *,
        timeout: float | None = None,
        counting: bool = False,
        may_write: Callable[[], bool] | None = None,
        report_after: float = REPORT_ALONG,
    ) -> Outcome:
        """Send it and note what the answer says; what becomes of its items is the caller's.

        A client report goes along when the last one was `report_after` seconds ago.
        """
        if self._clock.monotonic() < self._refused_until:
            return "refused"
        reported: Counts = {}
        if self.report_due(report_after) and not self.limiter.everything_limited():
            items, reported = self.take_report()
            envelope = Envelope(envelope.headers, envelope.items + items)
        outcome: Outcome = "failed"
        try:
            posted = self._post.send(
                envelope, timeout=timeout, counting=counting, may_write=may_write
            )
            outcome = posted.outcome
        finally:
            if outcome != "accepted":
                self._discards.give_back(reported)
        self._note(envelope, posted)
        return outcome

    def report_due(self, after: float) -> bool:
        """Return whether there is something to report, and the last time was that long ago."""
        return (
            self._reports
            and self._clock.monotonic() - self._reported_at >= after
            and self._discards.pending()
        )

    def report_at(self) -> float:
        """Return when a report may go alone, on the monotonic clock."""
        return self._reported_at + REPORT_ALONE

    def take_report(self) -> tuple[tuple[Item, ...], Counts]:
        """Return the client report as items, and the counts in it, to be given back if need be."""
        self._reported_at = self._clock.monotonic()
        counts = self._discards.take()
        reports = client_reports(counts, timestamp=self._clock.time())
        # One report holds some ninety kinds of loss; what a second would hold waits its turn.
        kept = {
            (row["reason"], row["category"])
            for report in reports[:1]
            for row in report["discarded_events"]
        }
        later = {key: n for key, n in counts.items() if key not in kept and key[1] != "internal"}
        self._discards.give_back(later)
        told = {key: n for key, n in counts.items() if key in kept}
        return tuple(client_report_item(report) for report in reports[:1]), told

    @property
    def host(self) -> str:
        """Whom it talks to, for log lines."""
        return self._dsn.host

    @property
    def sent(self) -> Mapping[DataCategory, int]:
        """Accepted quantities by category."""
        return self._sent.peek()

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies that were answered."""
        return self._numbers.peek().get("bytes", 0)

    @property
    def requests(self) -> int:
        """Requests begun."""
        return self._numbers.peek().get("requests", 0)

    @property
    def healthy(self) -> bool:
        """Whether what we send gets through, as far as limits and the network go."""
        return self.limiter.healthy() and self.outage.failures < _STREAK

    def forget(self) -> None:
        """Start counting anew, in a forked child; limits stay."""
        self._sent = Tally()
        self._numbers = Tally()
        self._reported_at = self._clock.monotonic()
        self.limiter.forget()

    def _note(self, envelope: Envelope, posted: Posted) -> None:
        if posted.outcome == "withdrawn":
            return
        self._numbers.add("requests")
        if posted.error is not None:
            self.last_error = posted.error
        if posted.reply is None:
            self._note_silence(posted)
            return
        status = posted.reply.status
        self.last_status = status
        self._numbers.add("bytes", posted.size)
        self.outage.reset()
        headers = posted.reply.headers
        limits = response_limits(
            status,
            headers.get("x-sentry-rate-limits"),
            headers.get("retry-after"),
            now=self._clock.time(),
        )
        fresh = self.limiter.update(limits)
        if fresh:
            # Once per limit, and quietly: it is the server's right, and some send one for kinds of
            # data that we never send with every single answer.
            log.debug(f"the server limits {', '.join(fresh)} for {max(limits.values()):.0f} s")
        if posted.outcome == "accepted":
            self._refusals = 0
            for item in envelope.items:
                if item.type != "client_report":
                    self._sent.add(item.category, item.quantity)
        elif posted.outcome != "limited":
            self._note_refusal(status, posted, envelope)

    def _note_silence(self, posted: Posted) -> None:
        self.failures += 1
        self.outage.failed(self._clock.monotonic())
        log.warning(
            f"{self._dsn.host} cannot be reached: {posted.error}", key=f"network {self._dsn.host}"
        )

    def _note_refusal(self, status: int, posted: Posted, envelope: Envelope) -> None:
        if status in _REFUSING:
            self._refusals += 1
            if self._refusals >= _REFUSALS:
                self._refused_until = self._clock.monotonic() + _REFUSED_PAUSE
                log.warning(
                    f"{self._dsn.redacted()} is refused by {self._dsn.host} ({status}); check the "
                    "DSN; it is tried once a minute",
                    key=f"refused {self._dsn.host}",
                )
                return
        else:
            self._refusals = 0
        sizes = f" (sent: {described(envelope)})" if posted.outcome == "too_large" else ""
        log.warning(f"{posted.error}{sizes}", key=f"status {status}")
