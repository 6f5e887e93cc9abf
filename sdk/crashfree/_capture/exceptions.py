"""Exceptions with all they hang on: causes, contexts, groups, notes, positions.

As with stack traces there are two halves. `take` runs where the error is: it calls `str` of each
exception and follows the chain. `build` makes the values of the event.

Invariants: bounded (50 exceptions, 250 frames each), cycles end at the second visit, ids and
parents describe the tree as Python holds it. Threads: any. Source: wire.md sections 6.1 and 6.2.
"""

from __future__ import annotations

import builtins
import errno
import sys
from collections.abc import Callable, Mapping
from types import TracebackType

from crashfree._capture import foreign, rendering
from crashfree._capture.stacktrace import Frames, Locals, TakenStack, take_traceback
from crashfree._ground.typed import Any, NamedTuple, TypeAlias
from crashfree.types import ExceptionValue, Mechanism

MAX_EXCEPTIONS = 50
_COUNTED = 10_000
_NAME_CHARACTERS = 256
_MAX_NOTES = 20

# By their own descriptors: a subclass may have overridden the attribute.
_Next: TypeAlias = "Callable[[BaseException], BaseException | None]"
_CAUSE: _Next = BaseException.__dict__["__cause__"].__get__
_CONTEXT: _Next = BaseException.__dict__["__context__"].__get__
_SUPPRESS: Callable[[BaseException], bool] = BaseException.__dict__["__suppress_context__"].__get__
_Traceback: TypeAlias = "Callable[[BaseException], TracebackType | None]"
_TRACEBACK: _Traceback = BaseException.__dict__["__traceback__"].__get__
_DICT: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__
_ERRNO: Callable[[BaseException], object] = OSError.__dict__["errno"].__get__
_GROUP: type[BaseException] | None = getattr(builtins, "BaseExceptionGroup", None)

GENERIC: Mechanism = {"type": "generic", "handled": True}


class Position(NamedTuple):
    """Where the parser stumbled."""

    filename: str
    line: int
    column: int | None
    text: str | None


class TakenException(NamedTuple):
    """What is kept of one exception."""

    kind: type[BaseException]
    message: str
    stack: TakenStack
    parent: int | None
    source: str | None
    group: bool
    errno: int | None
    position: Position | None


class TakenChain(NamedTuple):
    """What is kept of an exception and everything it hangs on, the outermost first."""

    exceptions: list[TakenException]
    total: int
    """How many there were."""


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception, whatever its class says."""
    return _TRACEBACK(error)


def take(error: BaseException, local_variables: Locals | None = None) -> TakenChain:
    """Keep an exception and what it hangs on, in the order of their ids."""
    cause, context, suppressed = _CAUSE(error), _CONTEXT(error), _SUPPRESS(error)
    if cause is None and (context is None or suppressed) and not _is_group(error):
        # By far the most frequent shape.
        return TakenChain([_take_one(error, None, None, False, local_variables)], 1)
    return _take_tree(error, local_variables)


def _take_tree(error: BaseException, local_variables: Locals | None) -> TakenChain:
    taken: list[TakenException] = []
    seen: set[int] = set()
    total = 0
    # Depth first, an explicit stack: a chain may be longer than Python may recurse.
    waiting: list[tuple[BaseException, int | None, str | None]] = [(error, None, None)]
    while waiting and total < _COUNTED:
        current, parent, source = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        number = total
        total += 1
        members = _members(current)
        if number < MAX_EXCEPTIONS:
            taken.append(_take_one(current, parent, source, members is not None, local_variables))
        for index in range(len(members or ()) - 1, -1, -1):
            assert members is not None
            waiting.append((members[index], number, f"exceptions[{index}]"))
        cause, context = _CAUSE(current), _CONTEXT(current)
        if cause is not None:
            waiting.append((cause, number, "__cause__"))
        elif context is not None and not _SUPPRESS(current):
            waiting.append((context, number, "__context__"))
    return TakenChain(taken, total)


def _take_one(
    error: BaseException,
    parent: int | None,
    source: str | None,
    group: bool,
    local_variables: Locals | None,
) -> TakenException:
    kind: type[Any] = type(error)
    message = rendering.message_of(error)
    notes = _DICT(error).get("__notes__")
    if notes is not None:
        message = _with_notes(message, notes)
    number: object = None
    position = None
    if issubclass(kind, OSError):
        number = _ERRNO(error)
    elif issubclass(kind, SyntaxError):
        position = _position(error)
    return TakenException(
        kind,
        message,
        take_traceback(_TRACEBACK(error), local_variables),
        parent,
        source,
        group,
        number if type(number) is int else None,
        position,
    )


def _with_notes(message: str, notes: object) -> str:
    copied = foreign.sequence(notes) or []
    lines = [str.__str__(note) for note in copied[:_MAX_NOTES] if issubclass(type(note), str)]
    return "\n".join((message, *lines)) if lines else message


def _position(error: BaseException) -> Position | None:
    filename = foreign.attribute(error, "filename")
    line = foreign.attribute(error, "lineno")
    column = foreign.attribute(error, "offset")
    text = foreign.attribute(error, "text")
    if type(filename) is not str or type(line) is not int:
        return None
    return Position(
        filename,
        line,
        column if type(column) is int else None,
        text[:1000] if type(text) is str else None,
    )


def _is_group(error: BaseException) -> bool:
    return _members(error) is not None


def _members(error: BaseException) -> tuple[BaseException, ...] | None:
    """Return the members of a group (of Python's, or of the backport's); None for others."""
    group = _GROUP
    if group is None:
        backport = sys.modules.get("exceptiongroup")
        group = None if backport is None else getattr(backport, "BaseExceptionGroup", None)
    if group is None or not issubclass(type(error), group):
        return None
    members = foreign.attribute(error, "exceptions")
    if not issubclass(type(members), (tuple, list)):
        return ()
    return tuple(one for one in members if issubclass(type(one), BaseException))  # type: ignore[attr-defined]


def build(
    chain: TakenChain, frames: Frames, mechanism: Mapping[str, Any], notes: dict[str, Any]
) -> list[ExceptionValue]:
    """Return the exception values of an event, the outermost last.

    What was cut of local variables is put into `notes`, by the index of the value.
    """
    handled = mechanism.get("handled", True)
    values: list[ExceptionValue] = []
    for number, taken in enumerate(chain.exceptions):
        how: dict[str, Any] = (
            dict(mechanism) if number == 0 else {"type": "chained", "handled": handled}
        )
        how["exception_id"] = number
        if taken.parent is not None:
            how["parent_id"] = taken.parent
        if taken.source is not None:
            how["source"] = taken.source
        if taken.group:
            how["is_exception_group"] = True
        if taken.errno is not None:
            meta = {"errno": {"number": taken.errno}}
            name = errno.errorcode.get(taken.errno)
            if name is not None:
                meta["errno"]["name"] = name  # type: ignore[assignment]
            how["meta"] = {**how.get("meta", {}), **meta}
        below: dict[str, Any] = {}
        values.append(_value(taken, frames, how, below))
        if below:
            index = str(len(chain.exceptions) - 1 - number)
            notes[index] = {"stacktrace": {"frames": below}}
    values.reverse()
    return values


def _value(
    taken: TakenException, frames: Frames, mechanism: dict[str, Any], notes: dict[str, Any]
) -> ExceptionValue:
    module = foreign.module_name(taken.kind)
    value: ExceptionValue = {
        "type": foreign.type_name(taken.kind)[:_NAME_CHARACTERS],
        "value": taken.message,
        "module": None if module in (None, "builtins") else module,
        "mechanism": mechanism,  # type: ignore[typeddict-item]
    }
    built = frames.build(taken.stack, notes)
    if taken.position is not None:
        where = taken.position
        built.append(frames.at(where.filename, where.line, where.column, where.text))
    if built:
        value["stacktrace"] = {"frames": built}
    return value
