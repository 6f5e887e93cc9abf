"""Passing everything on to an upstream Sentry as well, through a buffer on disk.

An envelope enters the buffer in the transaction that stores its facts, so that what was answered
200 is passed on even when this process dies in between; it leaves the buffer when the upstream has
answered. What the upstream refuses for good is dropped and counted, and so is the oldest when the
buffer is full. `sent_at` is moved by the time that was spent here, so that the upstream still sees
how far the client's clock was off.

Threads: `crashfree-server-forward`; the buffer is filled under the write lock.
Source: ingest.md (local server, forward), wire.md sections 11 and 17.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import Final, NamedTuple

from crashfree._ground import compression
from crashfree._ground.clock import Clock
from crashfree._ground.http import HttpClient, resolve_settings
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.envelope import CLIENT, Envelope
from crashfree._protocol.ratelimits import response_limits
from crashfree.errors import EnvelopeError, Unreachable
from crashfree.server.engine import Busy
from crashfree.server.store import Store
from crashfree.server.trouble import Troubles

MOST_BYTES: Final = 256 * 1024 * 1024
_BATCH: Final = 50
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_IDLE: Final = 0.5
_TIMEOUT: Final = 15.0
_DAY: Final = 86_400


class _Waiting(NamedTuple):
    """One envelope of the buffer."""

    id: int
    project_id: int
    received: float
    body: bytes


class Forward:
    """The way to one upstream project."""

    def __init__(self, store: Store, dsn: Dsn, clock: Clock) -> None:
        self._store = store
        self._dsn = dsn
        self._clock = clock
        self._http = HttpClient(resolve_settings())
        self._compressor = compression.compressor("gzip")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._troubles = Troubles()
        self._log = logging.getLogger("crashfree.server")
        self._said = ""
        self.passed = 0
        self.failures = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._run, name="crashfree-server-forward", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is left waits in the database for the next start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT + 5)
        self._http.close()

    def _run(self) -> None:
        pause = _IDLE
        while not self._stop.wait(pause):
            try:
                pause = self.turn()
            except (Busy, sqlite3.OperationalError):
                pause = _FIRST_PAUSE
            except Exception as error:  # noqa: BLE001 -- a bug here must not end the forwarding
                self._troubles.note(error, "forward")
                pause = _LONGEST_PAUSE

    def turn(self) -> float:
        """Pass on a batch; return how long to wait before the next one, in seconds."""
        with self._store.read() as db:
            rows = [
                _Waiting(*row)
                for row in db.execute(
                    "SELECT id, project_id, received, body FROM forwarding ORDER BY id LIMIT ?",
                    (_BATCH,),
                )
            ]
        for row in rows:
            if self._stop.is_set():
                return _IDLE
            pause = self._pass_on(row)
            if pause is not None:
                self.failures += 1
                trim(self._store, now=self._clock.time())
                return min(pause * float(1 << min(self.failures - 1, 6)), _LONGEST_PAUSE)
            self.failures = 0
        return 0.0 if len(rows) == _BATCH else _IDLE

    def _pass_on(self, row: _Waiting) -> float | None:
        """Send one envelope; return how long to wait before it is tried again, None when done."""
        body = self._body(row)
        if body is None:
            self._done(row, "unreadable")
            return None
        headers = {
            "Content-Type": "application/x-sentry-envelope",
            "User-Agent": CLIENT,
            "X-Sentry-Auth": self._dsn.auth_header(CLIENT),
        }
        if self._compressor is not None:
            headers["Content-Encoding"] = self._compressor.encoding
            body = self._compressor.compress(body)
        try:
            reply = self._http.request(
                "POST", self._dsn.envelope_url, headers=headers, body=body, timeout=_TIMEOUT
            )
        except Unreachable:
            self._tell("cannot be reached; envelopes wait in the database")
            return _FIRST_PAUSE
        if reply.status >= 500:
            self._tell(f"answers {reply.status}; envelopes wait in the database")
            return _FIRST_PAUSE
        if reply.status == 429:
            self._tell("asks for a pause (429); envelopes wait in the database")
            limits = response_limits(
                429,
                reply.headers.get("x-sentry-rate-limits"),
                reply.headers.get("retry-after"),
                now=self._clock.time(),
            )
            return max([_FIRST_PAUSE, *limits.values()])
        if reply.status < 300:
            self._tell("")
            self._done(row, None)
        else:
            self._tell(f"refuses envelopes ({reply.status}); they are dropped, and counted")
            self._done(row, f"refused_{reply.status}")
        return None

    def _tell(self, trouble: str) -> None:
        """Say what keeps envelopes from the upstream, once, and when that is over."""
        if trouble != self._said:
            where = f"{self._dsn.host}:{self._dsn.port}"
            self._log.warning("forward: %s %s", where, trouble or "takes envelopes; it goes on")
            self._said = trouble

    def _body(self, row: _Waiting) -> bytes | None:
        try:
            envelope = decode_envelope(row.body)
        except EnvelopeError:
            return None
        headers = {key: value for key, value in envelope.headers.items() if key != "dsn"}
        sent_at = envelope.sent_at
        if sent_at is not None:
            sent_at += max(0.0, self._clock.time() - row.received)
        return Envelope(headers, envelope.items).encode(sent_at=sent_at)

    def _done(self, row: _Waiting, fault: str | None) -> None:
        with self._store.write() as db:
            db.execute("DELETE FROM forwarding WHERE id = ?", (row.id,))
            if fault is not None:
                count(db, row.project_id, self._clock.time(), fault)
        if fault is None:
            self.passed += 1


def count(db: sqlite3.Connection, project: int, at: float, fault: str, n: int = 1) -> None:
    """Count what was not passed on."""
    db.execute(
        "INSERT INTO tallies (project_id, day, what, category, reason, quantity)"
        " VALUES (?, ?, 'not_forwarded', 'envelope', ?, ?)"
        " ON CONFLICT (project_id, day, what, category, reason)"
        " DO UPDATE SET quantity = quantity + excluded.quantity",
        (project, int(at // _DAY), fault, n),
    )


def trim(store: Store, *, now: float, most_bytes: int = MOST_BYTES) -> int:
    """Drop the oldest envelopes of a buffer that is too large; return how many."""
    with store.read() as db:
        (size,) = db.execute("SELECT coalesce(sum(length(body)), 0) FROM forwarding").fetchone()
    dropped = 0
    while size > most_bytes:
        with store.write() as db:
            oldest = db.execute(
                "SELECT id, project_id, length(body) AS size FROM forwarding ORDER BY id LIMIT 100"
            ).fetchall()
            for row in oldest:
                if size <= most_bytes:
                    break
                db.execute("DELETE FROM forwarding WHERE id = ?", (row["id"],))
                count(db, row["project_id"], now, "buffer_full")
                size -= row["size"]
                dropped += 1
    return dropped
