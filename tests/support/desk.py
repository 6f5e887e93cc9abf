"""An application with its sessions, a clock that stands still, and everything that was told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crashfree._protocol.session import UnhandledStatus
from crashfree._sessions.application import ApplicationSessions
from crashfree._sessions.journal import Journal
from crashfree.types import SessionUpdate
from tests.support.clock import FakeClock
from tests.support.timers import ManualTimers


class Desk:
    """`sessions`, and what they told: `told` in order."""

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        automatic: bool = True,
        delay: float = 10.0,
        installation: str | None = None,
        unhandled_status: UnhandledStatus = "unhandled",
        open_journal: Callable[[], Journal | None] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.timers = ManualTimers(self.clock)
        self.told: list[SessionUpdate] = []
        self.accepting = True
        self.sessions = ApplicationSessions(
            {"release": "app@1.0", "environment": "test"},
            clock=self.clock,
            timers=self.timers,
            emit=self.take,
            background_timeout=timeout,
            initial_delay=delay,
            open_journal=open_journal,
            installation=installation,
            automatic=automatic,
            unhandled_status=unhandled_status,
        )

    def take(self, update: SessionUpdate) -> bool:
        if self.accepting:
            self.told.append(update)
        return self.accepting

    def fail(self, verdict: Any = "errored", *, counted: bool = False) -> SessionUpdate | None:
        """Let an error happen; the update that would ride with its event counts as told."""
        update = self.sessions.account(verdict, counted=counted)
        if update is not None:
            self.take(update)
        return update

    def wait(self, seconds: float) -> None:
        self.timers.advance(seconds)

    @property
    def last(self) -> SessionUpdate:
        return self.told[-1]

    @property
    def sids(self) -> list[str]:
        """Distinct sids in the order they were first told of."""
        return list(dict.fromkeys(update["sid"] for update in self.told))

    def ended(self) -> list[SessionUpdate]:
        return [update for update in self.told if update.get("status") != "ok"]
