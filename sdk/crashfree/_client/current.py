"""What is current: the client of the process, and the scopes and the unit of this context.

This module alone holds product state. Everything else is handed what it works with.

State: the client slot, the global scope, the isolation scope of the process, and one ContextVar
(running unit, isolation scope, current scope). Each change is one assignment.
Fork: kept. Re-init: the slot is swapped, the old client closed after.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

from crashfree._capture.scope import Rules, Scope, set_rules
from crashfree._client.client import Client, Running
from crashfree._client.options import Options
from crashfree._delivery.transport import NullTransport
from crashfree._ground.typed import Final, NamedTuple, Protocol, TypeAlias


class RunningUnit(Running, Protocol):
    """The unit whose work this context does."""

    plain: bool
    """Whether it has nothing to keep when it is left."""

    @property
    def scope(self) -> Scope:
        """The isolation scope of the unit, made at first need."""
        ...

    def peek_scope(self) -> Scope:
        """The scope that applies to the unit, without making one."""
        ...


Place: TypeAlias = "tuple[RunningUnit | None, Scope | None, Scope | None]"
"""Where a context is: the unit it works for, the isolation scope of a block inside of that (which
hides the unit's), and its innermost scope. Immutable: a context that was copied goes its own way.
"""

Entry: TypeAlias = "Token[Place | None]"
"""What a unit needs to know to leave where it entered."""

Block: TypeAlias = "tuple[Place, Place | None]"
"""What the end of a block needs to know: where it was, and where its outside is."""

INERT = Client(Options(auto_session_tracking=False, spool=False), transport=NullTransport())
"""The client before `init` and after `close`: every call on it does nothing."""
INERT.closed = True

_client: Client = INERT
_global_scope = Scope()
of_process = Scope()
"""The isolation scope of the process."""
PLACE: Final[ContextVar[Place | None]] = ContextVar("crashfree_place", default=None)
"""Set by units (`_client.unit`), which enter and leave for every request, and in this module."""
_NOWHERE: Place = (None, None, None)


def client() -> Client:
    """Return the client of this process; there always is one."""
    return _client


def swap(new: Client) -> Client:
    """Put `new` into the slot and return what was there."""
    global _client
    old = _client
    _client = new
    options = new.options
    ask = None if options.before_breadcrumb is None else new.ask_about
    set_rules(Rules(options.max_breadcrumbs, ask, None if new.closed else new.plain))
    return old


def global_scope() -> Scope:
    """Return the scope that applies to every event of the process."""
    return _global_scope


def process_scope() -> Scope:
    """Return the isolation scope that a unit or a block begun here starts from."""
    place = PLACE.get()
    return of_process if place is None or place[1] is None else place[1]


def innermost() -> Scope | None:
    """Return the innermost scope of this context, without making one."""
    place = PLACE.get()
    return None if place is None else place[2]


def isolation_scope() -> Scope:
    """Return the scope of the innermost block or unit of this context, else of the process."""
    return _isolation_at(PLACE.get() or _NOWHERE)


def current_scope() -> Scope:
    """Return the innermost scope of this context, made at first need."""
    unit, isolation, scope = PLACE.get() or _NOWHERE
    if scope is None:
        scope = Scope()
        _entered((unit, isolation, scope))
    return scope


def unit() -> RunningUnit | None:
    """Return the unit whose work this context does; None outside of any."""
    place = PLACE.get()
    return None if place is None else place[0]


def scopes() -> tuple[Scope, ...]:
    """Return what applies to an event captured here, least specific first."""
    place = PLACE.get() or _NOWHERE
    isolation = _isolation_at(place)
    innermost = place[2]
    if innermost is None:
        return (_global_scope, isolation)
    return (_global_scope, isolation, innermost)


def _isolation_at(place: Place) -> Scope:
    unit, isolation, _ = place
    if isolation is not None:
        return isolation
    return of_process if unit is None else unit.scope


def enter_isolation(scope: Scope | None) -> Block:
    """Let `scope` be the isolation scope of this context; None: the unit's or the process's."""
    outside = PLACE.get()
    unit, _, innermost = outside or _NOWHERE
    return _entered((unit, scope, innermost)), outside


def leave_isolation(block: Block) -> None:
    """Give this context its former isolation scope."""
    place, outside = block
    here = PLACE.get()
    if here is place:
        PLACE.set(outside)
    elif here is not None:
        # Something else was entered inside and is not left yet, or a unit was left: it stays so.
        PLACE.set((here[0], None if outside is None else outside[1], here[2]))


def enter_current(scope: Scope | None) -> Block:
    """Let `scope` be the innermost scope of this context."""
    outside = PLACE.get()
    unit, isolation, _ = outside or _NOWHERE
    return _entered((unit, isolation, scope)), outside


def leave_current(block: Block) -> None:
    """Give this context its former innermost scope."""
    place, outside = block
    here = PLACE.get()
    if here is place:
        PLACE.set(outside)
    elif here is not None:
        PLACE.set((here[0], here[1], None if outside is None else outside[2]))


def _entered(place: Place) -> Place:
    if place[0] is not None:
        place[0].plain = False
    PLACE.set(place)
    return place


class Scopes(NamedTuple):
    """All that applies here: of the process, and of this context."""

    of_process: tuple[Scope, Scope]
    here: Place | None


def put_scopes(scopes: Scopes | None) -> Scopes:
    """Replace everything that applies here (None: by nothing), and return what did.

    For `crashfree.testing`, whose block must neither see the program's scopes nor leave its own.
    """
    global _global_scope, of_process
    before = Scopes((_global_scope, of_process), PLACE.get())
    put = scopes or Scopes((Scope(), Scope()), None)
    _global_scope, of_process = put.of_process
    PLACE.set(put.here)
    return before
