"""A session: an immutable value and its transitions, and the update that tells it.

    begin ── identified · errored · survived ──► live ── crashed · ended ──► terminal
                                 (sent: any state, notes one transmission)

Invariants: the status leaves `ok` once and for all, and every transition of a terminal value but
`sent` returns it unchanged; `errors` never falls, is at least 1 when crashed or unhandled, and
stays at 65,535; `sequence` grows; `announced` never returns to False; sid, started and attributes
never change, nor does did after the first announcement; a duration is never negative.

Pure (a new sid is the only thing taken from outside); threads: any.

Source: sessions.md sections 1 and 3.1; duration and end of background sessions: section 4.
"""

from __future__ import annotations

from crashfree._ground import ids
from crashfree._ground.clock import Mark
from crashfree._ground.typed import Literal, NamedTuple
from crashfree._protocol import limits
from crashfree._protocol.timestamps import rfc3339
from crashfree.types import (
    AbnormalMechanism,
    SessionAttributes,
    SessionStatus,
    SessionUpdate,
)

UnhandledStatus = Literal["unhandled", "crashed"]
Verdict = Literal["none", "errored", "unhandled", "crashed"]
"""What an error means for the session it happens in. `errored`: handled. `unhandled`: nobody
handled it, the process lives. `crashed`: the end."""


class SessionState(NamedTuple):
    """One session at one moment. Transitions return the next value."""

    sid: str
    did: str | None
    started: Mark
    attributes: SessionAttributes
    status: SessionStatus = "ok"
    errors: int = 0
    sequence: int = 0
    """Number of the next update."""
    announced: bool = False
    """Whether some update has been handed over; the first one carries `init`."""
    pending: bool = False
    """Whether an error that nobody handled was survived: an exit becomes unhandled then."""
    ended_at: Mark | None = None
    duration: float | None = None
    mechanism: AbnormalMechanism | None = None

    @classmethod
    def begin(
        cls,
        attributes: SessionAttributes,
        *,
        at: Mark,
        did: str | None = None,
        sid: str | None = None,
    ) -> SessionState:
        """Start a session; `sid` None makes a new one."""
        return cls(sid or ids.session_id(), did or None, at, attributes.copy())

    @property
    def terminal(self) -> bool:
        """Whether the session has ended; nothing but `sent` changes it then."""
        return self.status != "ok"

    def identified(self, did: str) -> SessionState:
        """Say who it belongs to; has no effect once the session was announced."""
        if self.terminal or self.announced or not did:
            return self
        return self._replace(did=did)

    def errored(self) -> SessionState:
        """Count one handled error."""
        if self.terminal:
            return self
        return self._replace(errors=self._one_more(False))

    def survived(self, *, counted: bool = False) -> SessionState:
        """Note an error that nobody handled and the process survived.

        The session goes on and will end as unhandled, or worse. `counted`: this same error was
        counted before, when it was captured.
        """
        if self.terminal:
            return self
        return self._replace(errors=self._one_more(counted), pending=True)

    def crashed(self, *, at: Mark, counted: bool = False) -> SessionState:
        """End with an unhandled error. `counted`: this same error was counted before."""
        if self.terminal:
            return self
        return self._end("crashed", at, self._one_more(counted), None)

    def ended(
        self,
        status: Literal["exited", "abnormal"] = "exited",
        *,
        at: Mark,
        mechanism: AbnormalMechanism | None = None,
    ) -> SessionState:
        """End without a crash; after `survived`, an exit becomes unhandled.

        `at` may lie in the past: a session that was left in the background ended when it was
        left. `mechanism` goes with `abnormal` only.
        """
        if self.terminal:
            return self
        if status == "abnormal":
            return self._end("abnormal", at, self.errors, mechanism)
        return self._end("unhandled" if self.pending else "exited", at, self.errors, None)

    def sent(self) -> SessionState:
        """Note that an update with this state was handed over."""
        return self._replace(announced=True, sequence=self.sequence + 1)

    def _one_more(self, counted: bool) -> int:
        errors = self.errors if counted else self.errors + 1
        return min(max(errors, 1), limits.ERRORS)

    def _end(
        self,
        status: SessionStatus,
        at: Mark,
        errors: int,
        mechanism: AbnormalMechanism | None,
    ) -> SessionState:
        return self._replace(
            status=status,
            errors=errors,
            ended_at=at,
            duration=self.started.elapsed(at),
            mechanism=mechanism,
        )


def session_payload(
    state: SessionState,
    *,
    timestamp: float,
    unhandled_status: UnhandledStatus = "unhandled",
) -> SessionUpdate:
    """Return the update that tells the whole state.

    `timestamp` is now on the wall clock; a session that has ended states the time of its end
    instead. It is never before the start, even when somebody set the clock back.
    `unhandled_status="crashed"` is for servers that do not know the fifth status.
    """
    started = state.started.wall
    changed = timestamp if state.ended_at is None else state.ended_at.wall
    update: SessionUpdate = {
        "sid": state.sid,
        "seq": state.sequence,
        "started": rfc3339(started),
        "timestamp": rfc3339(max(started, changed)),
        "status": unhandled_status if state.status == "unhandled" else state.status,
        "errors": state.errors,
        "attrs": state.attributes,
    }
    if not state.announced:
        update["init"] = True
    if state.did is not None:
        update["did"] = state.did
    if state.duration is not None:
        update["duration"] = state.duration
    if state.mechanism is not None:
        update["abnormal_mechanism"] = state.mechanism
    return update
