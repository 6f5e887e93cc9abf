"""Application mode: one session per process at a time, from start to end, with everything between.

    none ── begin · start · enter_foreground ──► live ── end · crash · background timeout ──► none

All that may change is one immutable `Situation` behind a `Cell`: every public call computes the
next one from the latest and replaces it, so threads, signal handlers and the worker's timers may
enter anywhere. Whoever replaced tells the transport; nothing else has effects.

The 30-second rule is looked at on every entry, and by a timer: a session whose program has been
in the background for `background_timeout` seconds ended when it was left. The timer only says so
earlier.

Invariants: at most one live session; nothing is said about a session after its end; the end of a
session that was left is the moment of leaving; durations come from the monotonic clock and hold no
time in the background.

Fork: the session is the parent's; `forget` drops it unsaid. Source: sessions.md sections 3 and 4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from crashfree._ground.clock import Clock, Mark
from crashfree._ground.typed import NamedTuple, Protocol, TypeAlias
from crashfree._protocol.session import UnhandledStatus, Verdict
from crashfree._sessions.cell import Cell
from crashfree._sessions.identity import did_of
from crashfree._sessions.journal import Entry, Journal
from crashfree._sessions.situation import Change, EndStatus, Rules, Situation, Step
from crashfree._sessions.unitsession import UnitSession
from crashfree.types import SessionAttributes, SessionUpdate

HEARTBEAT = 30.0
"""Seconds between two notes in the journal that the process lives."""


Job: TypeAlias = "Callable[[], object]"


class Timer(Protocol):
    """A job that waits for its time."""

    def cancel(self) -> None:
        """Let it not run any more; one that is running finishes."""
        ...


class Timers(Protocol):
    """Runs jobs later, on one thread, one at a time; a worker fits. Threads: any."""

    def at(self, deadline: float, job: Job) -> Timer:
        """Run `job` once, when the monotonic clock shows `deadline` or soon after."""
        ...

    def every(self, interval: float, job: Job) -> Timer:
        """Run `job` every `interval` seconds, for the first time after one interval."""
        ...


class SessionStatistics(NamedTuple):
    """How many application sessions: started = ended + withdrawn + alive."""

    started: int = 0
    ended: int = 0
    withdrawn: int = 0
    alive: int = 0
    unconfirmed: int = 0
    """Ended, and not yet through the transport."""


class ApplicationSessions:
    """The sessions of this process, one after another."""

    __slots__ = (
        "_away_timer",
        "_beat_timer",
        "_cell",
        "_clock",
        "_delay_timer",
        "_dirty",
        "_emit",
        "_initial_delay",
        "_journal",
        "_noting",
        "_open_journal",
        "_rules",
        "_timers",
    )
    _rules: Rules
    _cell: Cell[Situation]
    _clock: Clock
    _timers: Timers
    _emit: Callable[[SessionUpdate], bool]
    _initial_delay: float
    _open_journal: Callable[[], Journal | None] | None
    _journal: Journal | None
    _noting: threading.Lock
    _dirty: bool
    _delay_timer: Timer | None
    _away_timer: Timer | None
    _beat_timer: Timer | None

    def __init__(
        self,
        attributes: SessionAttributes,
        *,
        clock: Clock,
        timers: Timers,
        emit: Callable[[SessionUpdate], bool],
        background_timeout: float = 30.0,
        initial_delay: float = 10.0,
        open_journal: Callable[[], Journal | None] | None = None,
        installation: str | None = None,
        unhandled_status: UnhandledStatus = "unhandled",
        automatic: bool = True,
    ) -> None:
        """`emit` hands an update to the transport; False: it was refused.

        `open_journal` is called when the first session starts, and again in a forked child that
        starts one. `installation` stands in for a user that is not known at the first send.
        """
        self._rules = Rules(attributes, background_timeout, installation, unhandled_status)
        self._cell = Cell(Situation(automatic=automatic))
        self._clock = clock
        self._timers = timers
        self._emit = emit
        self._initial_delay = initial_delay
        self._open_journal = open_journal
        self._reset()

    def _reset(self) -> None:
        self._journal = None
        self._noting = threading.Lock()
        self._dirty = False
        self._delay_timer = None
        self._away_timer = None
        self._beat_timer = None

    # -- from start to end

    def begin(self) -> None:
        """Start the session of this process by itself; not in the background, nor while paused."""
        self._tell(_begin)

    def start(self, did: str | None = None) -> None:
        """Start a session; a live one ends first. In the background it is one for work there."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            change = rules.end(now, at, None)
            ended = change.situation
            if did is not None:
                ended = ended._replace(did=did)
            begun = rules.begin(ended, at, working=ended.left is not None)
            return Change(begun, change.updates)

        self._tell(step)

    def end(self, status: EndStatus | None = None) -> None:
        """End the live session: as `status`, else exited (unhandled, if such an error was seen)."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            return rules.end(now, at, status)

        self._tell(step)

    def navigate(self, route: str) -> None:
        """Note that the user went to another part; each one that differs is a session.

        In the background and while paused the new part is remembered, and no session starts.
        """

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            if now.route == route:
                return Change(now)
            first = now.route is None and now.session is not None
            now = now._replace(route=route)
            # The session that the program began with is the visit to its first route.
            if first or now.paused or now.left is not None:
                return Change(now)
            change = rules.end(now, at, None)
            return Change(rules.begin(change.situation, at), change.updates)

        self._tell(step)

    def pause(self) -> None:
        """End the live session; none starts by itself until `resume`."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            change = rules.end(now, at, None)
            return Change(change.situation._replace(paused=True), change.updates)

        self._tell(step)

    def resume(self) -> None:
        """Let sessions start by themselves again; one does, in the foreground."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            if not now.paused:
                return Change(now)
            return _begin(rules, now._replace(paused=False), at)

        self._tell(step)

    def withdraw(self) -> bool:
        """Make no session of this process any more: it turned out to serve units of work.

        One that was never announced is gone as if it had never been (True); one that was has to
        be ended (False).
        """
        self._change(_withdraw)
        version = self._cell.read().value
        if version.session is not None:
            self.end()
        self._rest()
        return self._cell.read().value.ended == 0

    # -- foreground and background

    def enter_background(self) -> None:
        """Note that the user has left. Called twice, the second time counts."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            return rules.lapse(now._replace(left=at), at)

        self._tell(step)
        self._await_lapse()

    def enter_foreground(self) -> None:
        """Note that the user is back: soon enough to the same session, else to a new one."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            if now.left is not None and now.session is not None and not now.working:
                return Change(now._replace(left=None, away=now.away + now.left.elapsed(at)))
            if now.working and not now.holds:
                # The program started this one itself, in the background: it goes on.
                return Change(now._replace(left=None, working=False))
            change = rules.end(now, at, None) if now.working else Change(now)
            here = change.situation._replace(left=None)
            if here.session is None and not here.paused and (here.automatic or here.lapsed):
                here = rules.begin(here, at)
            return Change(here, change.updates)

        self._tell(step)
        timer = self._away_timer
        if timer is not None:
            self._away_timer = None
            timer.cancel()

    def background_session(self) -> BackgroundSession:
        """Return a context manager around work that is meant to run while the user is away.

        Time in the background that outlasts the timeout is then a session of its own: from the
        moment of leaving (or from the beginning of the work) to the end of the work or the
        user's return.
        """
        return BackgroundSession(self)

    def hold(self) -> None:
        """Begin work that may run in the background."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            held = now._replace(holds=now.holds + 1, held_since=now.held_since or at)
            if held.session is None and held.left is not None and not held.paused:
                held = rules.begin(held, at, working=True)
            return Change(held)

        self._tell(step)

    def release(self) -> None:
        """End work that was begun by `hold`."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            if now.holds > 1:
                return Change(now._replace(holds=now.holds - 1))
            change = rules.end(now, at, None) if now.working else Change(now)
            return Change(change.situation._replace(holds=0, held_since=None), change.updates)

        self._tell(step)

    # -- who, and what happened

    def identify(self, user: Mapping[str, object] | None) -> None:
        """Note who uses the program; without effect on a session that was announced."""
        did = did_of(user)

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            session = now.session
            if session is not None and not session.announced:
                session = session._replace(did=did)
            if did == now.did and session == now.session:
                return Change(now)
            return Change(now._replace(did=did, session=session))

        self._tell(step)

    def account(self, verdict: Verdict, *, counted: bool = False) -> SessionUpdate | None:
        """Count an error for the live session; return the update that should go with its event.

        `counted`: the same error was counted before, so it may only make the status worse.
        """
        updates = self._change(lambda rules, now, at: rules.account(now, at, verdict, counted))
        return updates[-1] if updates else None

    # -- what became of updates

    def delivered(self, update: SessionUpdate) -> None:
        """Note that the transport is done with an update: sent, on disk, or dropped and counted."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            return Change(now.with_delivered(update))

        self._change(step)

    def refused(self, update: SessionUpdate) -> None:
        """Note that the transport refused an update: what it said must be said again."""

        def step(rules: Rules, now: Situation, at: Mark) -> Change:
            return Change(now.with_refused(update))

        self._change(step)

    def announce(self) -> None:
        """Tell about the live session now, if nothing was told; and again what was refused."""
        self._tell(_announce)

    def close(self) -> None:
        """End the live session and start none any more."""
        self.pause()
        self._rest()

    def finish(self) -> bool:
        """Remove the journal if the transport is done with everything; False: it must stay."""
        now = self._cell.read().value
        told = now.session is None and not now.untold
        journal = self._journal
        if journal is not None and told:
            self._journal = None
            journal.remove()
        return told

    def forget(self) -> None:
        """Drop all that belongs to the parent, in a forked child. No I/O."""
        now = self._cell.read().value
        self._cell = Cell(Situation(automatic=now.automatic, paused=now.paused, did=now.did))
        self._reset()

    @property
    def alive(self) -> bool:
        """Whether a session is live."""
        return self._cell.read().value.session is not None

    @property
    def sid(self) -> str | None:
        """The id of the live session."""
        session = self._cell.read().value.session
        return None if session is None else session.sid

    def stats(self) -> SessionStatistics:
        """Return how many sessions there were, and where they are."""
        now = self._cell.read().value
        return SessionStatistics(
            now.started, now.ended, now.withdrawn, int(now.session is not None), len(now.untold)
        )

    # -- one change

    def _tell(self, step: Step) -> None:
        for update in self._change(step):
            self._hand_over(update)

    def _change(self, step: Step) -> tuple[SessionUpdate, ...]:
        """Replace the situation by what `step` makes of it; return what is to be told.

        What a session that lapsed in the meantime has to say is handed over here.
        """
        rules = self._rules
        cell = self._cell
        at = Mark.of(self._clock)
        while True:
            seen = cell.read()
            lapsed = rules.lapse(seen.value, at)
            change = step(rules, lapsed.situation, at)
            if change.situation == seen.value:
                return ()
            if cell.replace(seen, change.situation):
                break
        if change.situation.started != seen.value.started:
            self._session_began()
        self._note()
        for update in lapsed.updates:
            self._hand_over(update)
        return change.updates

    def _hand_over(self, update: SessionUpdate) -> None:
        if not self._emit(update):
            self.refused(update)

    # -- time

    def _session_began(self) -> None:
        if self._journal is None and self._open_journal is not None:
            self._journal = self._open_journal()
        now = self._clock.monotonic()
        if self._delay_timer is not None:
            self._delay_timer.cancel()
        self._delay_timer = self._timers.at(now + self._initial_delay, self._announce_due)
        if self._beat_timer is None and self._journal is not None:
            self._beat_timer = self._timers.every(HEARTBEAT, self._note)

    def _announce_due(self) -> None:
        self._delay_timer = None
        self._tell(lambda rules, now, at: rules.announce(now, at))

    def _await_lapse(self) -> None:
        now = self._cell.read().value
        left = now.left
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None
        if left is None or now.session is None or now.working:
            return
        rest = self._rules.timeout - left.idle(Mark.of(self._clock))
        deadline = self._clock.monotonic() + max(0.0, rest)
        self._away_timer = self._timers.at(deadline, self._lapse_due)

    def _lapse_due(self) -> None:
        self._away_timer = None
        self._tell(lambda rules, now, at: Change(now))
        # Nothing, if it lapsed; the remainder, if the program was left again in the meantime.
        self._await_lapse()

    def _rest(self) -> None:
        for timer in (self._delay_timer, self._away_timer, self._beat_timer):
            if timer is not None:
                timer.cancel()
        self._delay_timer = self._away_timer = self._beat_timer = None

    # -- the journal

    def _note(self) -> None:
        """Write down how things stand. Whoever finds somebody writing leaves it to them."""
        journal = self._journal
        if journal is None:
            return
        self._dirty = True
        while self._dirty:
            if not self._noting.acquire(blocking=False):
                return
            try:
                self._dirty = False
                journal.write(self._entry())
            finally:
                self._noting.release()

    def _entry(self) -> Entry:
        now = self._cell.read().value
        at = Mark.of(self._clock)
        session = now.session
        worked = 0.0
        if session is not None:
            worked = session.started.elapsed(self._rules.moment(now, at))
        left = now.left.wall if now.left is not None and not now.working else None
        return Entry(
            session=session,
            confirmed=now.confirmed,
            seen=at.wall,
            worked=worked,
            left=left,
            untold=tuple(one.payload() for one in now.untold),
            unhandled_status=self._rules.unhandled_status,
        )


def _begin(rules: Rules, now: Situation, at: Mark) -> Change:
    if now.session is not None or now.paused or not now.automatic or now.left is not None:
        return Change(now)
    return Change(rules.begin(now, at))


def _withdraw(rules: Rules, now: Situation, at: Mark) -> Change:
    now = now._replace(automatic=False, lapsed=False)
    if now.session is None or now.session.announced:
        return Change(now)
    return Change(now._replace(session=None, withdrawn=now.withdrawn + 1))


def _announce(rules: Rules, now: Situation, at: Mark) -> Change:
    return rules.announce(now, at)


class BackgroundSession:
    """Work that is meant to run while the user is away; sync and async context manager."""

    __slots__ = ("_sessions",)
    _sessions: ApplicationSessions | NoSessions

    def __init__(self, sessions: ApplicationSessions | NoSessions) -> None:
        self._sessions = sessions

    def __enter__(self) -> BackgroundSession:
        self._sessions.hold()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sessions.release()

    async def __aenter__(self) -> BackgroundSession:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sessions.release()


class NoSessions:
    """What a client without a release has in the place of both kinds of sessions: inert."""

    __slots__ = ()

    def begin(self, did: str | None = None) -> UnitSession:
        """Return a session that has not begun, and never will."""
        session = UnitSession()
        self.begin_as(session)
        return session

    def begin_as(self, session: UnitSession, did: str | None = None) -> None:
        """Begin nothing."""
        session.idle()

    def start(self, did: str | None = None) -> None:
        """Start nothing."""

    def end(self, status: EndStatus | None = None) -> None:
        """There is none."""

    def navigate(self, route: str) -> None:
        """There is none."""

    def pause(self) -> None:
        """There is none."""

    def resume(self) -> None:
        """Start nothing."""

    def withdraw(self) -> bool:
        """There is none."""
        return True

    def enter_background(self) -> None:
        """There is none."""

    def enter_foreground(self) -> None:
        """Start nothing."""

    def background_session(self) -> BackgroundSession:
        """Return a context manager that does nothing."""
        return BackgroundSession(self)

    def hold(self) -> None:
        """There is none."""

    def release(self) -> None:
        """There is none."""

    def identify(self, user: Mapping[str, object] | None) -> None:
        """There is none."""

    def account(self, verdict: Verdict, *, counted: bool = False) -> SessionUpdate | None:
        """Count nothing."""

    def delivered(self, update: SessionUpdate) -> None:
        """There was none."""

    def refused(self, update: SessionUpdate) -> None:
        """There was none."""

    def announce(self) -> None:
        """There is none."""

    def close(self) -> None:
        """There is none."""

    def finish(self) -> bool:
        """There is nothing to tell."""
        return True

    def forget(self) -> None:
        """There is none."""

    @property
    def alive(self) -> bool:
        """There is none."""
        return False

    @property
    def sid(self) -> str | None:
        """There is none."""
        return None

    def stats(self) -> SessionStatistics:
        """Return zeros."""
        return SessionStatistics()
