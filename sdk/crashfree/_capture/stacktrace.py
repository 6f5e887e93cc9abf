"""Stack traces, in two halves.

`take` runs where the error is and keeps only what does not change: code objects, positions, the
globals' names, and local variables when they are wanted. `Frames` turns that into frames of an
event, mostly on the worker: names, paths, source lines, in-app.

Invariants: a live frame is never kept (it would keep every local variable alive); no user code
runs but guarded reprs of locals; at most 250 frames per stack, of which at most 100 have source.
Threads: any. Source: wire.md sections 6.3 and 6.4.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import CodeType, FrameType, TracebackType

from crashfree._capture.inapp import InApp
from crashfree._capture.source import SourceReader, Stamp
from crashfree._ground.typed import Any, NamedTuple, TypeAlias
from crashfree.types import JSON, Frame

OLDEST = 100
NEWEST = 150
RICH = 50
"""So many of the newest frames, and so many in-app ones, have source lines and variables."""

_WALKED = 100_000
_REMEMBERED = 2000
_HIDDEN = ("__tracebackhide__", "__traceback_hide__")
_POSITIONS = sys.version_info >= (3, 11)


class Variables(NamedTuple):
    """The local variables of a frame as JSON."""

    values: dict[str, JSON]
    notes: dict[str, Any]
    """What was cut of them, in the shape of `values`; see `crashfree._capture.meta`."""


Locals = Callable[[Mapping[str, object]], Variables]
"""Makes them from the live ones."""


class TakenFrame(NamedTuple):
    """What is kept of a frame."""

    code: CodeType
    line: int | None
    instruction: int
    module_globals: Mapping[str, Any]
    variables: Variables | None = None


class TakenStack(NamedTuple):
    """What is kept of a stack, oldest call first."""

    frames: list[TakenFrame]
    total: int
    """How many frames there were."""


# A frame costs half as much this way as by its own constructor.
_new_frame: Callable[[type[TakenFrame], tuple[Any, ...]], TakenFrame] = tuple.__dict__["__new__"]


def take_traceback(traceback: TracebackType | None, local_variables: Locals | None) -> TakenStack:
    """Keep the frames of a traceback."""
    tracebacks: list[TracebackType] = []
    append = tracebacks.append
    while traceback is not None:
        append(traceback)
        traceback = traceback.tb_next
    total = len(tracebacks)
    if total > OLDEST + NEWEST:
        tracebacks = tracebacks[:OLDEST] + tracebacks[-NEWEST:]
    taken: list[TakenFrame] = []
    rich_from = len(tracebacks) - RICH
    for index, traceback in enumerate(tracebacks):
        frame = traceback.tb_frame
        code = frame.f_code
        names = code.co_varnames
        if ("__tracebackhide__" in names or "__traceback_hide__" in names) and _hides(frame):
            total -= 1
            continue
        variables = None
        if local_variables is not None and index >= rich_from:
            variables = _variables(frame, local_variables)
        taken.append(
            _new_frame(
                TakenFrame,
                (code, traceback.tb_lineno, traceback.tb_lasti, frame.f_globals, variables),
            )
        )
    return TakenStack(taken, total)


def take_callers(frame: FrameType | None, local_variables: Locals | None) -> TakenStack:
    """Keep a live frame and those that called it."""
    frames: list[FrameType] = []
    while frame is not None and len(frames) < _WALKED:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    total = len(frames)
    if total > OLDEST + NEWEST:
        frames = frames[:OLDEST] + frames[-NEWEST:]
    taken: list[TakenFrame] = []
    rich_from = len(frames) - RICH
    for index, one in enumerate(frames):
        code = one.f_code
        if not set(_HIDDEN).isdisjoint(code.co_varnames) and _hides(one):
            total -= 1
            continue
        variables = None
        if local_variables is not None and index >= rich_from:
            variables = _variables(one, local_variables)
        taken.append(TakenFrame(code, one.f_lineno, one.f_lasti, one.f_globals, variables))
    return TakenStack(taken, total)


def outside(frame: FrameType | None) -> FrameType | None:
    """Return the first frame, going to the callers, that is none of crashfree's or logging's."""
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if type(module) is not str or module.partition(".")[0] not in _BETWEEN:
            return frame
        frame = frame.f_back
    return None


_OWN = frozenset(("crashfree", "crashfree_integrations"))
_BETWEEN = _OWN | {"logging"}


def _hides(frame: FrameType) -> bool:
    found = frame.f_locals
    return any(found.get(name) is True for name in _HIDDEN)


def _variables(frame: FrameType, local_variables: Locals) -> Variables | None:
    # The "locals" of a module are its settings, imports and secrets.
    if frame.f_code.co_name == "<module>":
        return None
    return local_variables(frame.f_locals)


class _Made(NamedTuple):
    """A frame made before; the same place in the same code gives the same again."""

    code: CodeType
    """Kept, so that its identity, which is the key, stays its own."""
    module: str | None
    path: str
    stamp: Stamp
    frame: Frame


class Frames:
    """Makes frames of an event; one per client, for its caches."""

    __slots__ = ("_cwd", "_in_app", "_made", "_source")
    _in_app: InApp
    _source: SourceReader | None
    _cwd: str
    _made: dict[tuple[int, int, bool], _Made]

    def __init__(self, in_app: InApp, source: SourceReader | None, cwd: str) -> None:
        self._in_app = in_app
        self._source = source
        self._cwd = cwd
        self._made = {}

    def build(self, stack: TakenStack, notes: dict[str, Any]) -> list[Frame]:
        """Return the frames of a stack; those of the SDK itself are left out.

        What was cut of their variables is put into `notes`, by the index of the frame.
        """
        frames: list[Frame] = []
        newest = len(stack.frames) - RICH
        in_app_sources = RICH
        now = 0.0 if self._source is None else self._source.now()
        for index, taken in enumerate(stack.frames):
            module = taken.module_globals.get("__name__")
            module = module if type(module) is str else None
            if module is not None and module.partition(".")[0] in _OWN:
                continue
            rich = index >= newest
            if not rich and in_app_sources:
                rich = self._in_app(module, self._absolute(taken.code.co_filename))
                in_app_sources -= rich
            frame = self._frame(taken, module, rich, now)
            if taken.variables is not None and taken.variables.values:
                # Each event a dict of its own: the scrubber changes it.
                frame["vars"] = dict(taken.variables.values)
                if taken.variables.notes:
                    notes[str(len(frames))] = {"vars": taken.variables.notes}
            frames.append(frame)
        return frames

    def at(self, path: str, line: int, column: int | None, text: str | None) -> Frame:
        """Return a frame for a place in a file that never ran: a syntax error."""
        absolute = self._absolute(path)
        frame: Frame = {
            "filename": os.path.basename(path) or path,
            "abs_path": absolute,
            "function": "<module>",
            "lineno": max(1, line),
            "in_app": self._in_app(None, absolute),
        }
        if column is not None and column > 0:
            frame["colno"] = column
        self._add_source(frame, absolute, None)
        if "context_line" not in frame and text:
            frame["context_line"] = text.rstrip("\r\n")
        return frame

    def _frame(self, taken: TakenFrame, module: str | None, rich: bool, now: float) -> Frame:
        """Return a frame without variables, made now or before."""
        key = (id(taken.code), taken.instruction, rich)
        made = self._made.get(key)
        stamp = None
        if self._source is not None:
            stamp = self._source.stamp(made.path if made else self._path(taken), now)
        if made is None or made.stamp != stamp or made.module != module:
            if len(self._made) >= _REMEMBERED:
                self._made = {}
            frame = self._make(taken, module, rich)
            made = _Made(taken.code, module, self._path(taken), stamp, frame)
            self._made[key] = made
        frame = made.frame.copy()
        # Callbacks may change an event as they like.
        more: dict[str, Any] = frame  # type: ignore[assignment]
        if "data" in more:
            more["data"] = more["data"].copy()
        if "pre_context" in frame:
            frame["pre_context"] = frame["pre_context"].copy()
        if "post_context" in frame:
            frame["post_context"] = frame["post_context"].copy()
        return frame

    def _make(self, taken: TakenFrame, module: str | None, rich: bool) -> Frame:
        code = taken.code
        path = self._path(taken)
        frame: Frame = {
            "filename": _relative(path, module),
            "abs_path": path,
            "function": getattr(code, "co_qualname", None) or code.co_name or "<unknown>",
            "in_app": self._in_app(module, path),
        }
        if module is not None:
            frame["module"] = module
        if taken.line is not None and taken.line >= 1:
            frame["lineno"] = taken.line
            if rich:
                self._add_source(frame, path, taken.module_globals)
                self._add_columns(frame, taken)
        return frame

    def _path(self, taken: TakenFrame) -> str:
        return self._absolute(taken.code.co_filename)

    def _add_source(
        self, frame: Frame, path: str, module_globals: Mapping[str, Any] | None
    ) -> None:
        if self._source is None:
            return
        excerpt = self._source.excerpt(path, frame.get("lineno", 0), module_globals)
        if excerpt is None:
            return
        frame["context_line"] = excerpt.line
        if excerpt.before:
            frame["pre_context"] = excerpt.before
        if excerpt.after:
            frame["post_context"] = excerpt.after

    def _add_columns(self, frame: Frame, taken: TakenFrame) -> None:
        """Set where on the line it was, counted in characters from 1. Python counts bytes from 0.

        The wire has a place for the first column only; the end goes into the frame's free data.
        """
        if not _POSITIONS or taken.instruction < 0:
            return
        line, end_line, column, end_column = _position(taken.code, taken.instruction)
        if column is None or line != taken.line:
            return
        text = frame.get("context_line")
        frame["colno"] = _characters(text, column) + 1
        more: dict[str, Any] = frame  # type: ignore[assignment]
        if end_line == line and end_column is not None:
            more["data"] = {"end_colno": _characters(text, end_column) + 1}
        elif end_line is not None:
            more["data"] = {"end_lineno": end_line}

    def _absolute(self, path: str) -> str:
        # "<string>" and "<frozen importlib._bootstrap>" are no files; a relative path was
        # relative to the directory that the program was started in.
        if path.startswith("<") or os.path.isabs(path):
            return path
        return os.path.normpath(os.path.join(self._cwd, path))


_Positions: TypeAlias = "tuple[int | None, int | None, int | None, int | None]"


def _position(code: CodeType, instruction: int) -> _Positions:
    """Return first and last line, first and last column of an instruction."""
    described: Any = code
    positions: Iterable[_Positions] = described.co_positions()
    return next(islice(positions, instruction // 2, None), (None, None, None, None))


def _characters(text: str | None, size: int) -> int:
    """Return how many characters of a line its first `size` bytes are."""
    if text is None or text.isascii():
        return size
    return len(text.encode("utf-8", "replace")[:size].decode("utf-8", "replace"))


def _relative(path: str, module: str | None) -> str:
    """Return a path relative to the folder that holds the frame's top package."""
    if path.startswith("<"):
        return path
    parts = path.replace("\\", "/").split("/")
    if module is None or ("." not in module and parts[-1] != "__init__.py"):
        return parts[-1]
    depth = module.count(".") + (2 if parts[-1] == "__init__.py" else 1)
    package = module.partition(".")[0]
    if len(parts) > depth and parts[-depth] == package:
        return "/".join(parts[-depth:])
    return parts[-1]
