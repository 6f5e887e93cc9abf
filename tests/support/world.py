"""A client with a clock that stands still and a transport that keeps everything."""

from __future__ import annotations

from typing import Any

from crashfree._capture.scope import Scope
from crashfree._client.client import Client
from crashfree._client.options import Options
from crashfree._client.unit import Unit, begin_unit
from crashfree._delivery.memory import MemoryTransport
from crashfree._protocol.dsn import Dsn
from crashfree.release import Release
from crashfree.types import SessionUpdate
from tests.support.clock import FakeClock

UNHANDLED: Any = {"type": "test", "handled": False}


class World:
    """One program: its client, and what it said."""

    def __init__(
        self, *, release: str | None = "app@1.0", dsn: str | None = None, **options: Any
    ) -> None:
        """With a `dsn` it sends by HTTP, without a spool."""
        self.clock = FakeClock()
        self.transport = MemoryTransport()
        self.scope = Scope()
        if dsn is not None:
            options |= {"dsn": (Dsn.parse(dsn),), "spool": False, "compression": "none"}
        self.client = Client(
            Options(
                release=None if release is None else Release.parse(release),
                environment="test",
                **options,
            ),
            transport=self.transport if dsn is None else None,
            clock=self.clock,
        )

    def close(self) -> None:
        self.client.close(5.0)

    def wait(self, seconds: float) -> None:
        """Let time pass; what is due has run when this returns."""
        self.clock.advance(seconds)
        self.settle()

    def settle(self) -> None:
        """Let the worker do what it has to do, and no more."""
        assert self.client._parts.worker.flush(10.0)

    def identify(self, user: dict[str, Any]) -> None:
        self.scope.set_user(user)  # type: ignore[arg-type]
        self.client.identify(user)

    def fail(self, error: BaseException | str = "broken", **how: Any) -> str | None:
        """Capture an error that was handled, unless `mechanism` says otherwise."""
        raised = raise_and_catch(RuntimeError(error) if isinstance(error, str) else error)
        return self.client.capture_exception(raised, scopes=(Scope(), self.scope), **how)

    def crash(self, error: BaseException | str = "crash", **how: Any) -> str | None:
        return self.fail(error, mechanism=UNHANDLED, **how)

    def unit(self) -> Unit:
        begun = begin_unit(self.client, "test")
        assert isinstance(begun, Unit)
        return begun

    @property
    def ups(self) -> list[SessionUpdate]:
        return self.transport.sessions

    @property
    def events(self) -> list[Any]:
        return list(self.transport.events)

    def kinds(self) -> list[list[str]]:
        """Item types, envelope by envelope."""
        return [[item.type for item in envelope.items] for envelope in self.transport.envelopes]

    def totals(self) -> dict[str, int]:
        """All aggregates so far, flushed."""
        self.client.flush(5.0)
        found: dict[str, int] = {}
        for payload in self.transport.aggregates:
            for bucket in payload["aggregates"]:
                for column in ("exited", "errored", "crashed", "abnormal", "unhandled"):
                    if column in bucket:
                        found[column] = found.get(column, 0) + bucket[column]
        return found


def raise_and_catch(error: BaseException) -> BaseException:
    """Give an error a traceback."""
    if error.__traceback__ is None:
        try:
            raise error
        except BaseException as caught:
            return caught
    return error
