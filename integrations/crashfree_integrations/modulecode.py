"""The end of a module's code: noticed right after its last line, before anybody looks inside.

Who imports a module asks a loader, which can be watched (`Kit.when_imported`); a server in C that
runs a file asks nobody. What is left is the interpreter's own way of telling what runs:
`sys.monitoring`, which costs nothing but for the code that is awaited, and before Python 3.12 a
trace function, which slows down what runs until then, and is gone afterwards. Neither takes the
place of a debugger or of anything else that watches: then nothing is noticed.

Threads: the one that loads modules. Not undone by a fork; `stop` is idempotent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

Namespace = dict[str, Any]
_MODULE: Final = "<module>"
_TOOLS: Final = (4, 3)
"""Numbers that Python leaves to anybody; those below and above are for debuggers and the like."""


class ModuleEnds:
    """Calls `ended(namespace)` once for each of `names` whose code has run to its end.

    Also for a module whose code is running now. `ended` must not raise.
    """

    __slots__ = ("_awaited", "_ended", "_listener")
    _awaited: set[str]
    _ended: Callable[[Namespace], None]
    _listener: _Monitor | _Tracer

    def __init__(self, names: Iterable[str], ended: Callable[[Namespace], None]) -> None:
        self._awaited = set(names)
        self._ended = ended
        self._listener = (_Tracer if sys.version_info < (3, 12) else _Monitor)(self)

    def listen(self) -> bool:
        """Begin; False when somebody else watches what runs."""
        running = {frame.f_globals.get("__name__") for frame in _running()}
        self._awaited = {
            name for name in self._awaited if name in running or name not in sys.modules
        }
        return not self._awaited or self._listener.begin()

    def stop(self) -> None:
        """Wait for no more. Idempotent."""
        self._listener.end()

    def awaits(self, code: CodeType, namespace: Namespace) -> bool:
        """Return whether this is code whose end is of interest."""
        return code.co_name == _MODULE and namespace.get("__name__") in self._awaited

    def note(self, namespace: Namespace) -> None:
        """Tell of the end of a module's code, once."""
        name: str = namespace["__name__"]
        if name not in self._awaited:
            return
        self._awaited.discard(name)
        if not self._awaited:
            self.stop()
        self._ended(namespace)


class _Monitor:
    """By `sys.monitoring`."""

    __slots__ = ("_ends", "_tool")
    _ends: ModuleEnds
    _tool: int | None

    def __init__(self, ends: ModuleEnds) -> None:
        self._ends = ends
        self._tool = None

    def begin(self) -> bool:
        monitoring = _monitoring()
        tool = next((tool for tool in _TOOLS if monitoring.get_tool(tool) is None), None)
        if tool is None:
            return False
        self._tool = tool
        events = monitoring.events
        monitoring.use_tool_id(tool, __name__)
        monitoring.register_callback(tool, events.PY_START, self._entered)
        monitoring.register_callback(tool, events.PY_RETURN, self._left)
        for frame in _running():
            self._follow(frame)
        monitoring.set_events(tool, events.PY_START)
        return True

    def end(self) -> None:
        tool, self._tool = self._tool, None
        if tool is None:
            return
        monitoring = _monitoring()
        monitoring.set_events(tool, monitoring.events.NO_EVENTS)
        for event in (monitoring.events.PY_START, monitoring.events.PY_RETURN):
            monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)

    def _follow(self, frame: FrameType) -> None:
        if self._ends.awaits(frame.f_code, frame.f_globals):
            monitoring = _monitoring()
            monitoring.set_local_events(self._tool, frame.f_code, monitoring.events.PY_RETURN)

    def _entered(self, code: CodeType, offset: int) -> object:
        if self._tool is not None and code.co_name == _MODULE:
            self._follow(_caller())
        # Not asked about this code again.
        return _monitoring().DISABLE

    def _left(self, code: CodeType, offset: int, value: object) -> None:
        frame = _caller()
        if self._tool is not None and frame.f_code is code:
            self._ends.note(frame.f_globals)


class _Tracer:
    """By a trace function."""

    __slots__ = ("_ends", "_function")
    _ends: ModuleEnds
    _function: Callable[[FrameType, str, Any], Any]

    def __init__(self, ends: ModuleEnds) -> None:
        self._ends = ends
        # One object, to be known again.
        self._function = self._entered

    def begin(self) -> bool:
        if sys.gettrace() is not None:
            return False
        for frame in _running():
            self._follow(frame)
        sys.settrace(self._function)
        return True

    def end(self) -> None:
        if sys.gettrace() is self._function:
            sys.settrace(None)

    def _follow(self, frame: FrameType) -> Any:
        if not self._ends.awaits(frame.f_code, frame.f_globals):
            return None
        frame.f_trace_lines = False
        frame.f_trace = self._inside
        return frame.f_trace

    def _entered(self, frame: FrameType, event: str, given: Any) -> Any:
        return self._follow(frame)

    def _inside(self, frame: FrameType, event: str, given: Any) -> Any:
        if event != "return":
            return self._inside
        frame.f_trace = None
        self._ends.note(frame.f_globals)
        return None


def _caller() -> FrameType:
    """Return the frame of who called the caller."""
    return sys._getframe(2)  # pyright: ignore[reportPrivateUsage]


def _running() -> Iterator[FrameType]:
    frame: FrameType | None = _caller()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _monitoring() -> Any:
    return getattr(sys, "monitoring")  # noqa: B009 -- Python 3.12
