"""For the tests of programs that use crashfree: see what would have been sent.

    from crashfree.testing import capture

    def test_failed_payment_is_reported():
        with capture(release="shop@1.0.0") as seen:
            pay(0)
        assert seen.events[0]["exception"]["values"][-1]["type"] == "ZeroDivisionError"
        assert seen.sessions[-1]["errors"] == 1

Nothing leaves the process and nothing is written. The client of the program, if it has one, is put
back at the end of the block.
"""

from __future__ import annotations

from types import TracebackType

from crashfree._client import current, setup
from crashfree._client.client import Client
from crashfree._client.options import resolve_options
from crashfree._delivery.memory import MemoryTransport
from crashfree._ground.typed import Any
from crashfree.types import ClientReport, Event, SessionAggregates, SessionUpdate

__all__ = ("MemoryTransport", "capture")


class capture:
    """Context manager: inside the block a client runs that keeps everything in memory.

    Takes the options of `crashfree.init` as keywords. `release` defaults to `test@0.0.0`; the
    environment variables of the machine are not looked at, automatic integrations are off unless
    `auto_integrations=True`.

    Threads: the block replaces the client of the whole process. Raises ConfigurationError.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("release", "test@0.0.0")
        options.setdefault("auto_integrations", False)
        options.setdefault("spool", False)
        options.setdefault("chain_sigterm", False)
        self._integrations = options.pop("integrations", ())
        self._options = options
        self.transport = MemoryTransport()
        self._client: Client | None = None
        self._outer: Client = current.INERT
        self._scopes: current.Scopes | None = None

    def __enter__(self) -> capture:
        self._outer = current.client()
        self._scopes = current.put_scopes(None)
        self._client = setup.start(
            resolve_options(self._options, {}),
            transport=self.transport,
            integrations=self._integrations,
            environ={},
            replace=False,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        setup.stop(None)
        current.put_scopes(self._scopes)
        current.swap(self._outer)

    @property
    def client(self) -> Client:
        """The client of the block."""
        return current.INERT if self._client is None else self._client

    @property
    def events(self) -> list[Event]:
        """The events captured so far."""
        return self.transport.events

    @property
    def sessions(self) -> list[SessionUpdate]:
        """The updates of application sessions so far; the last one comes at the end."""
        return self.transport.sessions

    @property
    def aggregates(self) -> list[SessionAggregates]:
        """The counts of request sessions; they come at a flush and at the end."""
        return self.transport.aggregates

    @property
    def client_reports(self) -> list[ClientReport]:
        """What was dropped, as the server would be told."""
        return self.transport.client_reports
