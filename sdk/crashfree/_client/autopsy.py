"""How the runs before this one ended, and sending what they left.

A dead run's files are read by `_sessions.postmortem`; what they come to is settled in its own
directory in one step, so that a second death in the middle cannot count anything twice.

Threads: the worker. Source: sessions.md section 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crashfree._delivery import deadrun
from crashfree._delivery.deadrun import DeadRun
from crashfree._delivery.spool import Spool
from crashfree._delivery.transport import Transport
from crashfree._ground import forkgate
from crashfree._ground.clock import Clock
from crashfree._ground.typed import Any, Protocol
from crashfree._protocol.envelope import Envelope
from crashfree._protocol.items import Item, event_item, session_item, sessions_item
from crashfree._sessions.evidence import Ending
from crashfree.types import Event, SessionAggregates, SessionUpdate


class Findings(Protocol):
    """What a dead run comes to (`_sessions.postmortem.PostMortem`)."""

    @property
    def ending(self) -> Ending: ...
    @property
    def updates(self) -> tuple[SessionUpdate, ...]: ...
    @property
    def aggregates(self) -> tuple[SessionAggregates, ...]: ...
    @property
    def event(self) -> Event | None: ...


class Autopsy:
    """Adopts dead runs of one spool; remembers how the latest of them ended."""

    __slots__ = ("_clock", "_on_crash", "_others", "_spool", "previous_run")
    _spool: Spool
    _others: Sequence[Transport]
    _clock: Clock
    _on_crash: Callable[[Any], None] | None
    previous_run: Ending | None

    def __init__(
        self,
        spool: Spool,
        *,
        others: Sequence[Transport],
        clock: Clock,
        on_crash: Callable[[Any], None] | None,
    ) -> None:
        self._spool = spool
        self._others = others
        self._clock = clock
        self._on_crash = on_crash
        self.previous_run = None

    def perform(self) -> int:
        """Adopt what there is; return how many dead runs were settled."""
        dead_runs = deadrun.adopt(self._spool)
        if not dead_runs:
            return 0
        with forkgate.importing():
            # Most starts have nothing to look at.
            from crashfree._sessions import evidence, postmortem
        crashed: Ending | None = None
        for dead in sorted(dead_runs, key=lambda run: run.started):
            found = postmortem.examine(
                dead.files,
                now=self._clock.time(),
                evidence=evidence.read(),
                modified=dead.modified,
            )
            self._settle(dead, found)
            if found is not None:
                self.previous_run = found.ending
                crashed = found.ending if found.ending.crashed else crashed
        if crashed is not None and self._on_crash is not None:
            self._on_crash(crashed)
        return len(dead_runs)

    def _settle(self, dead: DeadRun, found: Findings | None) -> None:
        envelopes = () if found is None else envelopes_of(found)
        # A second destination has no run of its own; what the first one settles on disk goes to
        # the others from memory.
        for transport in self._others:
            for envelope in envelopes:
                transport.submit(envelope)
        dead.settle(envelopes)


def envelopes_of(found: Findings) -> tuple[Envelope, ...]:
    """Return what a dead run came to; the event travels with the update it belongs to."""
    envelopes: list[Envelope] = []
    items: list[Item] = [session_item(update) for update in found.updates]
    if found.event is not None:
        event = found.event
        envelopes.append(Envelope.of([event_item(event), *items], event_id=event.get("event_id")))
    elif items:
        envelopes.extend(Envelope.of(items).split())
    envelopes.extend(Envelope.of([sessions_item(entry)]) for entry in found.aggregates)
    return tuple(envelopes)
