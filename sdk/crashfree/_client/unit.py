"""A unit of work: one request, one task, one connection, from its first to its last byte.

It owns an isolation scope (made only when somebody writes to it) and a session, and ends once.
Work may run in segments, on any thread: a WSGI body is produced long after the callable returned,
an ASGI task is resumed by whoever is there. Cost counts here: no generator context managers, no
lock, nothing allocated that a request that goes well does not need.

Threads: a segment belongs to one thread at a time; `crash` and `end` may come from any.
Fork: the child's copy of a unit counts nothing. Source: sessions.md section 3.6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType

from crashfree._capture.scope import Scope
from crashfree._client import current, guard
from crashfree._client.client import Client
from crashfree._client.current import PLACE
from crashfree._ground.typed import TypeAlias, TypeVar
from crashfree._sessions.unitsession import NO_SESSION, UnitSession
from crashfree.types import Mechanism, Request, User

RequestSource: TypeAlias = "Callable[..., Request | None]"
T = TypeVar("T")


class Unit:
    """One unit of work. Context manager around all of it, or begun here and run in segments."""

    __slots__ = (
        "__weakref__",
        "_current",
        "_entered",
        "_given",
        "_outer",
        "_parent",
        "_request",
        "_scope",
        "client",
        "mechanism",
        "session",
    )
    client: Client
    """The client it counts for, also after another one was made."""
    _parent: Scope
    _scope: Scope | None
    _current: Scope | None
    _request: RequestSource | None
    _given: tuple[object, ...]
    _entered: current.Entry | None
    _outer: tuple[current.Entry, ...]
    """Where it was entered before and is not left yet, first entry first."""
    session: UnitSession
    mechanism: str

    # No `__init__`: to call one takes as long as all these assignments.
    @staticmethod
    def begun(
        client: Client,
        session: UnitSession,
        mechanism: str,
        place: current.Place | None,
        request: RequestSource | None = None,
        given: tuple[object, ...] = (),
        entered: bool = False,
    ) -> Unit:
        """Return a new unit. For crashfree itself: others ask `Kit.unit` or `Kit.serve`.

        `place`: where this context is.
        """
        unit = Unit()
        unit.client = client
        unit.session = session
        unit.mechanism = mechanism
        unit._parent = current.of_process if place is None or place[1] is None else place[1]
        unit._scope = unit._current = None
        unit._entered = PLACE.set((unit, None, None)) if entered else None
        unit._request = request
        unit._given = given
        unit._outer = ()
        return unit

    @property
    def scope(self) -> Scope:
        """The isolation scope of this unit; a copy of the process's, made at first need."""
        scope = self._scope
        if scope is None:
            scope = self._scope = self._parent.fork()
        return scope

    def peek_scope(self) -> Scope:
        """The scope that applies, without making one."""
        return self._parent if self._scope is None else self._scope

    def set_request(self, source: RequestSource, *given: object) -> None:
        """Say how to find out which request is being served; asked only when an event is made.

        It is called with `given`: saves making a function for each request.
        """
        self._request = source
        self._given = given

    def request(self) -> Request | None:
        """Return the request that is being served; None when nobody said."""
        source = self._request
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
        return _crash(self, error, mechanism or self.mechanism)

    def fail(self) -> None:
        """Count the unit as crashed without an error to show (a status in `crashed_statuses`)."""
        self.session.account("crashed")

    def answered(self, status: int) -> None:
        """Say which HTTP status was sent; some may count as crashes by `crashed_statuses`."""
        if status in self.client.crashed_statuses:
            self.session.account("crashed")

    def end(self) -> None:
        """End the unit and count its session. Idempotent."""
        scope = self._scope
        user = (self._parent if scope is None else scope).user
        if user is None:
            self.session.end()
        else:
            _end(self.session, user)

    def enter(self) -> None:
        """Work for this unit from here on, in this context.

        An isolation_scope() block around the whole unit does not hide the unit's own scope.
        """
        if self._entered is not None:
            self._outer = (*self._outer, self._entered)
        # One variable and nothing read: this and `leave` run for every request.
        self._entered = PLACE.set((self, None, self._current))

    def leave(self) -> None:
        """Stop working for this unit in this context."""
        entered = self._entered
        if entered is None:
            return
        if self._outer:
            *outer, self._entered = self._outer
            self._outer = tuple(outer)
        else:
            self._entered = None
        place = PLACE.get()
        try:
            PLACE.reset(entered)
        except (ValueError, RuntimeError):
            # A coroutine that was thrown away is closed by the collector, in whatever context it
            # finds, or while its unit was paused; there is nothing to leave there.
            return
        # The innermost scope stays the unit's, for its next segment.
        self._current = None if place is None else place[2]

    async def outside(self, send: Callable[[T], Awaitable[None]], message: T) -> None:
        """Step out of the unit, as long as it takes to hand `message` to the server.

        Cheaper than `leave` and `enter`.
        """
        entered = self._entered
        place = PLACE.get()
        if entered is None or place is None:
            await send(message)
            return
        try:
            PLACE.reset(entered)
        except ValueError:
            # Some bridge between sync and async code answers, in a copy of our context.
            await send(message)
            return
        try:
            await send(message)
        except GeneratorExit:
            # Thrown away, by the collector perhaps, in whatever context it works.
            raise
        except BaseException:
            self._entered = PLACE.set(place)
            raise
        self._entered = PLACE.set(place)

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
    if isinstance(running, Unit) and running.client is client:
        return JoinedUnit(running)
    counted = _session(client, session=session, automatic=automatic)
    return Unit.begun(client, counted, mechanism, PLACE.get())


def serve_unit(
    client: Client | None,
    mechanism: str,
    request: RequestSource,
    given: tuple[object, ...],
    session: bool = True,
) -> Unit | None:
    """Begin a unit that serves a request, and work for it from here on; see `Kit.serve`.

    `client` None: the one of the moment.
    """
    if client is None:
        client = current.client()
    place = PLACE.get()
    if place is not None:
        running = place[0]
        if isinstance(running, Unit) and running.client is client:
            return None
    begin = client.begin_session
    counted = _session(client, session=session) if begin is None or not session else begin()
    return Unit.begun(client, counted, mechanism, place, request, given, True)


def _session(client: Client, *, session: bool, automatic: bool = True) -> UnitSession:
    if not session or (automatic and not client.options.auto_session_tracking):
        return NO_SESSION
    if not client.counting:
        _start_counting(client)
    return client.sessions.requests.begin()


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


@guard.boundary(None)
def _end(session: UnitSession, user: Mapping[str, object]) -> None:
    # A user is what the program made of it. Without one there is nothing to go wrong in.
    session.end(user)


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
