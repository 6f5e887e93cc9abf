"""A mirror of everything to a local Spotlight, the viewer for developers.

Uncompressed, without authentication, on the worker, with two seconds per request. Whatever it
answers is fine; when it is not there that is said once, and what comes meanwhile is dropped
silently: it is a mirror, nothing is lost.

Threads: any for `submit`; the worker sends. Fork: `forget`. Source: wire.md section 20.
"""

from __future__ import annotations

from collections import deque

from crashfree._delivery.backoff import Backoff
from crashfree._delivery.post import CONTENT_TYPE, buildable
from crashfree._delivery.worker import Worker
from crashfree._ground import log
from crashfree._ground.clock import Clock
from crashfree._ground.http import HttpClient, HttpSettings
from crashfree._protocol.envelope import CLIENT, Envelope
from crashfree._protocol.items import Item
from crashfree.errors import Unreachable

DEFAULT_URL = "http://localhost:8969/stream"
_TIMEOUT = 2.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_MAX_WAITING = 100


class SpotlightTransport:
    """Posts every envelope to a Spotlight."""

    __slots__ = ("_backoff", "_clock", "_closed", "_http", "_url", "_waiting", "_worker")
    _url: str
    _worker: Worker
    _clock: Clock
    _http: HttpClient
    _backoff: Backoff
    _waiting: deque[Envelope]
    _closed: bool

    def __init__(self, url: str = DEFAULT_URL, *, worker: Worker, clock: Clock) -> None:
        self._url = url
        self._worker = worker
        self._clock = clock
        # Never through a proxy: it is on this machine.
        self._http = HttpClient(HttpSettings(connect_timeout=_TIMEOUT), clock=clock)
        self._closed = False
        self._reset()

    def submit(self, envelope: Envelope) -> bool:
        if self._closed:
            return False
        if self._backoff.paused(self._clock.monotonic()):
            return True
        self._waiting.append(envelope)
        self._worker.submit(self._send_next)
        return True

    def flush(self, timeout: float) -> bool:
        """Wait for the worker; a mirror that lags is no reason to say that something is left."""
        self._worker.flush(timeout)
        return True

    def close(self, timeout: float) -> bool:
        self.flush(timeout)
        self._closed = True
        self._waiting.clear()
        self._http.close()
        return True

    def forget(self) -> None:
        """Drop what the parent recorded, in a forked child."""
        self._http.forget()
        self._reset()

    def _reset(self) -> None:
        self._waiting = deque(maxlen=_MAX_WAITING)
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)

    def _send_next(self) -> None:
        try:
            envelope = self._waiting.popleft()
        except IndexError:
            return
        if self._backoff.paused(self._clock.monotonic()):
            self._waiting.clear()
            return
        built = buildable(envelope, _unbuilt)
        if built is not None:
            self._post(built)

    def _post(self, envelope: Envelope) -> None:
        try:
            self._http.request(
                "POST",
                self._url,
                headers={"Content-Type": CONTENT_TYPE, "User-Agent": CLIENT},
                body=envelope.encode(sent_at=self._clock.time()),
                timeout=_TIMEOUT,
            )
        except Unreachable as error:
            if self._backoff.failures == 0:
                log.warning(f"Spotlight at {self._url} cannot be reached: {error}")
            self._backoff.failed(self._clock.monotonic())
        else:
            self._backoff.reset()


def _unbuilt(item: Item, error: BaseException) -> None:
    # Counted where the envelope is really sent; here it is only not shown.
    log.debug(f"an item of type {item.type} could not be built: {error}")
