"""What is current: the client of the process, and the scopes and the unit of this context.

This module alone holds product state. Everything else is handed what it works with.

State: the client slot, the global scope, the isolation scope of the process, and three ContextVars
(isolation scope, current scope, running unit). Each change is one assignment.
Fork: kept. Re-init: the slot is swapped, the old client closed after.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

from crashfree._capture.scope import Scope
from crashfree._client.client import Client, Running
from crashfree._client.options import Options
from crashfree._delivery.transport import NullTransport
from crashfree._ground.typed import NamedTuple, Protocol


class RunningUnit(Running, Protocol):
    """The unit whose work this context does."""

    @property
    def scope(self) -> Scope:
        """The isolation scope of the unit, made at first need."""
        ...

    def peek_scope(self) -> Scope:
        """The scope that applies to the unit, without making one."""
        ...


Entry = tuple[
    "Token[RunningUnit | None]", "Token[Scope | None] | None", "Token[Scope | None] | None"
]
"""What `leave` needs to know of `enter`."""

INERT = Client(Options(auto_session_tracking=False, spool=False), transport=NullTransport())
"""The client before `init` and after `close`: every call on it does nothing."""
INERT.closed = True

_client: Client = INERT
_global_scope = Scope()
_process_scope = Scope()
_isolation: ContextVar[Scope | None] = ContextVar("crashfree_isolation_scope", default=None)
_current: ContextVar[Scope | None] = ContextVar("crashfree_current_scope", default=None)
_unit: ContextVar[RunningUnit | None] = ContextVar("crashfree_unit", default=None)


def client() -> Client:
    """Return the client of this process; there always is one."""
    return _client


def swap(new: Client) -> Client:
    """Put `new` into the slot and return what was there."""
    global _client
    old = _client
    _client = new
    return old


def global_scope() -> Scope:
    """Return the scope that applies to every event of the process."""
    return _global_scope


def process_scope() -> Scope:
    """Return the isolation scope that a unit or a block begun here starts from."""
    scope = _isolation.get()
    return _process_scope if scope is None else scope


def innermost() -> Scope | None:
    """Return the innermost scope of this context, without making one."""
    return _current.get()


def isolation_scope() -> Scope:
    """Return the scope of the innermost block or unit of this context, else of the process."""
    scope = _isolation.get()
    if scope is not None:
        return scope
    unit = _unit.get()
    return _process_scope if unit is None else unit.scope


def current_scope() -> Scope:
    """Return the innermost scope of this context, made at first need."""
    scope = _current.get()
    if scope is None:
        scope = Scope()
        _current.set(scope)
    return scope


def unit() -> RunningUnit | None:
    """Return the unit whose work this context does; None outside of any."""
    return _unit.get()


def scopes() -> tuple[Scope, ...]:
    """Return what applies to an event captured here, least specific first."""
    current = _current.get()
    isolation = _isolation.get()
    if isolation is None:
        unit = _unit.get()
        isolation = _process_scope if unit is None else unit.scope
    if current is None:
        return (_global_scope, isolation)
    return (_global_scope, isolation, current)


def enter(unit: RunningUnit, scope: Scope | None) -> Entry:
    """Let this context work for `unit`, with `scope` as its innermost one.

    One function, and only the variables that change: this and `leave` run for every request.
    """
    return (
        _unit.set(unit),
        None if scope is None and _current.get() is None else _current.set(scope),
        # An isolation_scope() block around the whole unit must not hide the unit's own scope.
        None if _isolation.get() is None else _isolation.set(None),
    )


def leave(entry: Entry) -> Scope | None:
    """Let this context work for whom it worked before; returns the innermost scope it had."""
    scope = _current.get()
    unit, inner, isolation = entry
    try:
        if isolation is not None:
            _isolation.reset(isolation)
        if inner is not None:
            _current.reset(inner)
        elif scope is not None:
            _current.set(None)
        _unit.reset(unit)
    except ValueError:
        # A coroutine that was thrown away is closed by the collector, in whatever context it
        # finds; there is nothing to leave there.
        pass
    return scope


def enter_isolation(scope: Scope | None) -> Token[Scope | None]:
    """Let `scope` be the isolation scope of this context; None: the unit's or the process's."""
    return _isolation.set(scope)


def leave_isolation(token: Token[Scope | None]) -> None:
    """Give this context its former isolation scope."""
    _isolation.reset(token)


def enter_current(scope: Scope | None) -> Token[Scope | None]:
    """Let `scope` be the innermost scope of this context."""
    return _current.set(scope)


def leave_current(token: Token[Scope | None]) -> None:
    """Give this context its former innermost scope."""
    _current.reset(token)


class Scopes(NamedTuple):
    """All that applies here: of the process, and of this context."""

    of_process: tuple[Scope, Scope]
    isolation: Scope | None
    current: Scope | None
    unit: RunningUnit | None


def put_scopes(scopes: Scopes | None) -> Scopes:
    """Replace everything that applies here (None: by nothing), and return what did.

    For `crashfree.testing`, whose block must neither see the program's scopes nor leave its own.
    """
    global _global_scope, _process_scope
    before = Scopes((_global_scope, _process_scope), _isolation.get(), _current.get(), _unit.get())
    put = scopes or Scopes((Scope(), Scope()), None, None, None)
    _global_scope, _process_scope = put.of_process
    _isolation.set(put.isolation)
    _current.set(put.current)
    _unit.set(put.unit)
    return before
