"""A unit of work: one request, one task, one connection, from its first to its last byte.

It owns an isolation scope (made only when somebody writes to it), is its own session, and ends
once. Work may run in segments, on any thread: a WSGI body is produced long after the callable
returned, an ASGI task is resumed by whoever is there. Cost counts here: no generator context
managers, no lock, one object, nothing made that a request that goes well does not need.

Threads: a segment belongs to one thread at a time; `crash` and `end` may come from any.
Fork: the child's copy of a unit counts nothing. Source: sessions.md section 3.6.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from crashfree._capture.scope import Scope
from crashfree._client import current, guard
from crashfree._client.client import Client
from crashfree._client.current import PLACE
from crashfree._ground.typed import TypeAlias, TypeVar
from crashfree._sessions.unitsession import PARALLEL, UnitSession
from crashfree.types import Mechanism, Request, User

RequestSource: TypeAlias = "Callable[..., Request | None]"
U = TypeVar("U", bound="Unit")

# What every request calls is asked for once: an interpreter that specializes what it runs often
# cannot do so with the method of a variable that was imported, or with a function kept in a slot.
_here = PLACE.get
_put = PLACE.set
_back = PLACE.reset


class Service:
    """What the units of one framework have in common. Made once, never changed.

    `request`, called with what a unit was begun with, describes the request that it serves; called
    when an event is made. None: nobody knows. `sessions=False`: they are not counted.
    """

    __slots__ = ("client", "mechanism", "request", "sessions")
    client: Client
    """The client they count for, also after another one was made."""
    mechanism: str
    request: RequestSource | None
    sessions: bool

    def __init__(
        self,
        client: Client,
        mechanism: str,
        request: RequestSource | None = None,
        *,
        sessions: bool = True,
    ) -> None:
        self.client = client
        self.mechanism = mechanism
        self.request = request
        self.sessions = sessions

    def of(self, client: Client) -> Service:
        """Return the same for another client."""
        return Service(client, self.mechanism, self.request, sessions=self.sessions)


class Unit(UnitSession):
    """One unit of work. Context manager around all of it, or entered and left by hand.

    `serving` begins those of requests, `begin_unit` all others.
    """

    __slots__ = (
        "__weakref__",
        "_current",
        "_entered",
        "_given",
        "_outer",
        "_own",
        "_request",
        "service",
    )
    service: Service
    applies: Scope
    """The isolation scope that applies: the process's, until somebody wants to write to it."""
    _given: tuple[object, ...]
    _entered: current.Entry | None
    # Not there before they are needed:
    _own: bool
    """Whether the scope is this unit's alone."""
    _request: RequestSource
    """Asked instead of the service's."""
    _current: Scope | None
    _outer: tuple[current.Entry, ...]
    """Where it was entered before and is not left yet, first entry first."""

    # One function, and no `__init__`: to call one takes as long as all these assignments.
    @classmethod
    def serving(cls: type[U], service: Service, given: tuple[object, ...] = ()) -> U | None:
        """Begin a unit that serves a request, and work for it from here on, until `leave`.

        None when a unit of the same client is running in this context: `unit` returns it. One that
        is not `joinable` is none: some servers begin the next request of a connection in the
        context of the one before. The cheapest way to begin a unit.
        """
        place = _here()
        if place is not None and _is_running(place[0], service.client):
            return None
        unit = cls()
        unit.applies = current.process_scope() if place is not None else current.of_process
        unit.service = service
        unit._given = given
        sessions = service.client.unit_sessions
        if sessions is None or not service.sessions:
            _begin(unit, service.sessions and service.client.options.auto_session_tracking)
        else:
            # `RequestSessions.begin_as`, written out.
            now = sessions.clock.time()
            minute = sessions.aggregator.minute
            if not minute.start <= now < minute.end:
                minute = sessions.aggregator.turn(now)
            write = minute.ledger.write
            try:
                write(minute.begun)
            except ValueError:
                minute.full(minute.begun)
            if PARALLEL:
                unit.turn = [None]
            unit.minute = minute
            unit.plain = unit.unended = unit.live = True
        unit._entered = _put((unit, None, None))
        return unit

    @classmethod
    def paused(cls: type[U], service: Service, session: bool) -> U:
        """Begin a unit that nobody works for yet. `session`: whether it is counted."""
        unit = cls()
        unit.applies = current.process_scope()
        unit.service = service
        unit._given = ()
        unit._entered = None
        _begin(unit, session)
        return unit

    @property
    def client(self) -> Client:
        """The client it counts for, also after another one was made."""
        return self.service.client

    @property
    def mechanism(self) -> str:
        """What its errors say of how they were caught."""
        return self.service.mechanism

    @property
    def session(self) -> UnitSession:
        """Its session: the unit itself."""
        return self

    @property
    def joinable(self) -> bool:
        """Whether what begins to serve in its context serves for it, and is no unit of its own."""
        return not self.ended

    @property
    def scope(self) -> Scope:
        """The isolation scope of this unit; a copy of the process's, made at first need."""
        if not getattr(self, "_own", False):
            self.applies = self.applies.fork()
            self._own = True
        return self.applies

    def peek_scope(self) -> Scope:
        """The scope that applies, without making one."""
        return self.applies

    def set_request(self, source: RequestSource, *given: object) -> None:
        """Say how to find out which request is being served; asked only when an event is made.

        It is called with `given`: saves making a function for each request.
        """
        self._request = source
        self._given = given

    def request(self) -> Request | None:
        """Return the request that is being served; None when nobody said."""
        source = getattr(self, "_request", None) or self.service.request
        return None if source is None else _request_from(source, self._given)

    def set_transaction(self, name: str) -> None:
        """Name the route (its template, not the path) that this unit serves."""
        self.scope.set_transaction(name)

    def set_user(self, user: User | None) -> None:
        """Say who is served; known before the end, it counts in crash-free users."""
        self.scope.set_user(user)

    def segment(self) -> Segment:
        """Return a context manager: inside it, this thread or task works for this unit."""
        return Segment(self)

    def crash(self, error: BaseException, *, mechanism: str | None = None) -> str | None:
        """Report an error that left the unit; returns the event's id, None when none was made.

        How a unit ends by will (Ctrl-C, a client that went away, a cancelled task, exit with
        status 0) is no crash and makes no event. Does not end the unit.
        """
        return _crash(self, error, mechanism or self.service.mechanism)

    def fail(self) -> None:
        """Count the unit as crashed without an error to show (a status in `crashed_statuses`)."""
        self.account("crashed")

    def answered(self, status: int) -> None:
        """Say which HTTP status was sent; some may count as crashes by `crashed_statuses`."""
        if status in self.service.client.crashed_statuses:
            self.account("crashed")

    def enter(self) -> None:
        """Work for this unit from here on, in this context.

        An isolation_scope() block around the whole unit does not hide the unit's own scope.
        """
        if self._entered is not None:
            self._outer = (*getattr(self, "_outer", ()), self._entered)
        self.plain = False
        self._entered = _put((self, None, getattr(self, "_current", None)))

    def leave(self) -> None:
        """Stop working for this unit in this context."""
        entered = self._entered
        if entered is None:
            return
        self._entered = None
        place = None
        if not self.plain:
            place = _here()
            outer = getattr(self, "_outer", ())
            if outer:
                *outer, self._entered = outer
                self._outer = tuple(outer)
        try:
            _back(entered)
        except (ValueError, RuntimeError):
            # A coroutine that was thrown away is closed by the collector, in whatever context it
            # finds, or while its unit was paused; there is nothing to leave there.
            return
        if place is not None:
            # The innermost scope stays the unit's, for its next segment.
            self._current = place[2]

    def __enter__(self) -> Unit:
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.crash(error)
        self.leave()
        self.end()


class JoinedUnit:
    """The running unit, seen by a framework nested in the one that began it.

    Everything reaches the unit, but its end: that belongs to whoever began it.
    """

    __slots__ = ("_unit",)
    _unit: Unit

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    @property
    def client(self) -> Client:
        return self._unit.client

    @property
    def scope(self) -> Scope:
        return self._unit.scope

    @property
    def session(self) -> UnitSession:
        return self._unit.session

    @property
    def mechanism(self) -> str:
        return self._unit.mechanism

    def set_request(self, source: RequestSource, *given: object) -> None:
        # A framework nested in the first one knows more of the request: its parsed body.
        self._unit.set_request(source, *given)

    def set_transaction(self, name: str) -> None:
        self._unit.set_transaction(name)

    def set_user(self, user: User | None) -> None:
        self._unit.set_user(user)

    def segment(self) -> Segment:
        return self._unit.segment()

    def crash(self, error: BaseException, *, mechanism: str | None = None) -> str | None:
        return self._unit.crash(error, mechanism=mechanism)

    def fail(self) -> None:
        self._unit.fail()

    def answered(self, status: int) -> None:
        """Left to the framework that sends the answer."""

    def end(self) -> None:
        """Left to whoever began the unit."""

    def enter(self) -> None:
        self._unit.enter()

    def leave(self) -> None:
        self._unit.leave()

    def __enter__(self) -> JoinedUnit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """An error on its way out is reported where it leaves the unit."""


AnyUnit = Unit | JoinedUnit


class Segment:
    """A stretch of work for a unit. Slotted: a generator context manager costs ten times more."""

    __slots__ = ("_unit",)
    _unit: Unit

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def __enter__(self) -> None:
        self._unit.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._unit.leave()


def unit(*, mechanism: str, session: bool = True) -> AnyUnit:
    """Begin a unit of work for the client of the moment; see `Kit.unit`."""
    return begin_unit(current.client(), mechanism, session=session)


def begin_unit(
    client: Client, mechanism: str, *, session: bool = True, automatic: bool = True
) -> AnyUnit:
    """Begin a unit for `client`, or join the one that this context already works for.

    `automatic`: nobody asked for this one by name, so `auto_session_tracking` decides.
    """
    running = current.unit()
    if isinstance(running, Unit) and running.service.client is client:
        return JoinedUnit(running)
    return Unit.paused(
        Service(client, mechanism),
        session and (client.options.auto_session_tracking or not automatic),
    )


def _is_running(running: object, client: Client) -> bool:
    return isinstance(running, Unit) and running.service.client is client and running.joinable


def _begin(unit: Unit, session: bool) -> None:
    if not session:
        unit.idle()
        return
    client = unit.service.client
    if not client.counting:
        _start_counting(client)
    client.sessions.requests.begin_as(unit)


@guard.boundary(None)
def _start_counting(client: Client) -> None:
    client.start_counting()


@guard.boundary(None)
def _crash(unit: Unit, error: BaseException, mechanism: str) -> str | None:
    if ends_by_will(error):
        return None
    how: Mechanism = {"type": mechanism, "handled": False}
    return unit.client.capture_exception(error, mechanism=how, scopes=_scopes(unit), unit=unit)


@guard.boundary(None)
def _request_from(source: RequestSource, given: tuple[object, ...]) -> Request | None:
    # A request that cannot be described must not cost the crash its count.
    return source(*given)


def _scopes(unit: Unit) -> tuple[Scope, ...]:
    innermost = current.innermost() if current.unit() is unit else None
    base = (current.global_scope(), unit.scope)
    return base if innermost is None else (*base, innermost)


def ends_by_will(error: BaseException) -> bool:
    """Return whether this is how a unit stops on purpose: nothing went wrong in the program."""
    if isinstance(error, Exception):
        return False
    if isinstance(error, SystemExit):
        return error.code in (None, 0)
    # KeyboardInterrupt, GeneratorExit (the client left), asyncio.CancelledError, trio.Cancelled.
    return True
