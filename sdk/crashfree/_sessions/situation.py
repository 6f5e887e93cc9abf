"""The situation of application mode, and what may become of it: pure transitions.

A `Step` takes the rules, the situation and the present instant, and says what follows: the next
situation, and the updates that are to be told, in order. Steps have no effects but new session
ids, so a step that lost a race is simply taken again.

Threads: any. Source: sessions.md sections 3.1 and 4.
"""

from __future__ import annotations

from collections.abc import Callable

from crashfree._ground.clock import Mark
from crashfree._ground.typed import Literal, NamedTuple, TypeAlias
from crashfree._protocol.session import SessionState, UnhandledStatus, Verdict, session_payload
from crashfree.types import SessionAttributes, SessionUpdate

EndStatus: TypeAlias = Literal["exited", "abnormal", "crashed", "unhandled"]

_MAX_UNTOLD = 20
# Timers and clocks are floats; a timer that rings a hair early is on time.
_TOLERANCE = 1e-6


class Untold(NamedTuple):
    """The last word about a session that has ended, while it is on its way."""

    update: SessionUpdate
    confirmed: bool
    """Whether an earlier update is through the transport, so that `init` has been said."""
    refused: bool = False
    """Whether the transport would not have it: it is told again at the next occasion."""

    def payload(self) -> SessionUpdate:
        """Return the update as a next start would have to send it."""
        if self.confirmed or self.update.get("init"):
            return self.update
        update = self.update.copy()
        update["init"] = True
        return update


class Situation(NamedTuple):
    """Everything that may change."""

    session: SessionState | None = None
    working: bool = False
    """The session is for work in the background: being there does not end it."""
    left: Mark | None = None
    """When the program went into the background; None in the foreground."""
    away: float = 0.0
    """Seconds of the session spent in the background."""
    did: str | None = None
    """The user, for the next session too."""
    automatic: bool = True
    paused: bool = False
    lapsed: bool = False
    """The last session ended by itself, in the background: coming back starts another."""
    holds: int = 0
    """How many `background_session` blocks are open."""
    held_since: Mark | None = None
    route: str | None = None
    confirmed: bool = False
    """Whether some update of the live session is through the transport."""
    untold: tuple[Untold, ...] = ()
    started: int = 0
    ended: int = 0
    withdrawn: int = 0

    def with_delivered(self, update: SessionUpdate) -> Situation:
        """Note that the transport is done with an update."""
        sid = update["sid"]
        session = self.session
        if session is not None and session.sid == sid:
            return self._replace(confirmed=True)
        left = [
            one._replace(confirmed=True) if one.update["sid"] == sid else one
            for one in self.untold
            if one.update != update
        ]
        return self._replace(untold=tuple(left))

    def with_refused(self, update: SessionUpdate) -> Situation:
        """Note that the transport would not have an update."""
        session = self.session
        if session is not None and session.sid == update["sid"]:
            if not update.get("init"):
                return self
            return self._replace(session=session._replace(announced=False))
        untold = tuple(
            one._replace(refused=True) if one.update == update else one for one in self.untold
        )
        return self._replace(untold=untold)


class Change(NamedTuple):
    """What a step makes of a situation, and what there is to tell."""

    situation: Situation
    updates: tuple[SessionUpdate, ...] = ()


Step: TypeAlias = Callable[["Rules", Situation, Mark], Change]


class Rules(NamedTuple):
    """What never changes, and the transitions; pure but for new session ids."""

    attributes: SessionAttributes
    timeout: float
    installation: str | None
    unhandled_status: UnhandledStatus

    def lapse(self, now: Situation, at: Mark) -> Change:
        """End a session that was left long enough ago; a held one goes on as another."""
        left = now.left
        if now.session is None or left is None or now.working:
            return Change(now)
        if left.idle(at) + _TOLERANCE < self.timeout:
            return Change(now)
        change = self.end(now, at, None)
        ended = change.situation._replace(lapsed=True)
        if ended.holds and not ended.paused:
            # The work goes on behind the user's back: a session of its own, without a gap.
            since = ended.held_since or left
            ended = self.begin(ended, max(left, since, key=_mono), working=True)
        return Change(ended, change.updates)

    def begin(self, now: Situation, at: Mark, *, working: bool = False) -> Situation:
        """Start a session where none is live."""
        return now._replace(
            session=SessionState.begin(self.attributes, at=at, did=now.did),
            working=working,
            away=0.0,
            lapsed=False,
            confirmed=False,
            started=now.started + 1,
        )

    def end(self, now: Situation, at: Mark, status: EndStatus | None) -> Change:
        """End the live session: when it was left, else now."""
        session = now.session
        if session is None:
            return Change(now)
        when = self.moment(now, at)
        if status == "crashed":
            # The process or the program says so; an error that was counted is not counted again.
            session = session.crashed(at=when, counted=session.errors > 0)
        elif status == "abnormal":
            session = session.ended("abnormal", at=when)
        else:
            if status == "unhandled":
                session = session.survived(counted=session.errors > 0)
            session = session.ended("exited", at=when)
        return self.close(now, session, at)

    def close(self, now: Situation, session: SessionState, at: Mark) -> Change:
        """Tell the last word about a session and let go of it."""
        session, update = self.tell(session, at)
        untold = (*now.untold, Untold(update, now.confirmed))[-_MAX_UNTOLD:]
        ended = now._replace(session=None, working=False, untold=untold, ended=now.ended + 1)
        return Change(ended, (update,))

    def tell(self, session: SessionState, at: Mark) -> tuple[SessionState, SessionUpdate]:
        """Return the update of this state, and the state after it was handed over."""
        if session.did is None and not session.announced and self.installation is not None:
            session = session._replace(did=self.installation)
        update = session_payload(session, timestamp=at.wall, unhandled_status=self.unhandled_status)
        return session.sent(), update

    def announce(self, now: Situation, at: Mark) -> Change:
        """Tell about a live session for the first time, and again what was refused."""
        again = tuple(one.update for one in now.untold if one.refused)
        if again:
            now = now._replace(untold=tuple(one._replace(refused=False) for one in now.untold))
        if now.session is None or now.session.announced:
            return Change(now, again)
        session, update = self.tell(now.session, at)
        return Change(now._replace(session=session), (*again, update))

    def account(self, now: Situation, at: Mark, verdict: Verdict, counted: bool) -> Change:
        """Count an error for the live session."""
        before = now.session
        if before is None or verdict == "none":
            return Change(now)
        if verdict == "crashed":
            moment = self.moment(now, at)._replace(wall=at.wall)
            return self.close(now, before.crashed(at=moment, counted=counted), at)
        if verdict == "errored":
            after = before if counted else before.errored()
        else:
            after = before.survived(counted=counted)
        # Worth telling at once only where servers believe it to be healthy.
        if before.errors == 0 and after.errors > 0 and before.announced:
            after, update = self.tell(after, at)
            return Change(now._replace(session=after), (update,))
        return Change(now if after == before else now._replace(session=after))

    def moment(self, now: Situation, at: Mark) -> Mark:
        """Return the end of the session, with the time in the background taken off its clock."""
        if now.left is not None and not now.working:
            at = now.left
        return at._replace(mono=at.mono - now.away)


def _mono(mark: Mark) -> float:
    return mark.mono
