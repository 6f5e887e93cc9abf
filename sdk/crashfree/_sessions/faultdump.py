"""Reading what Python's faulthandler writes when a signal ends the process.

    Fatal Python error: Segmentation fault

    Current thread 0x00007f2d3c5b1740 [name] (most recent call first):
      File "app.py", line 12 in crash
      File "app.py", line 20 in <module>

    Extension modules: ...

The name is there from 3.14 on, where a C stack may follow, too. Pure; threads: any.
"""

from __future__ import annotations

from crashfree._ground.typed import NamedTuple
from crashfree.types import Frame

SIGNALS = {
    "Segmentation fault": (11, "SIGSEGV"),
    "Aborted": (6, "SIGABRT"),
    "Bus error": (7, "SIGBUS"),
    "Illegal instruction": (4, "SIGILL"),
    "Floating-point exception": (8, "SIGFPE"),
    "Floating point exception": (8, "SIGFPE"),
}
"""faulthandler's words → number (as on Linux) and name."""

_FATAL = ("Fatal Python error: ", "Windows fatal exception: ")
_ORDER = "(most recent call first):"
_MAX_FRAMES = 250
_MAX_THREADS = 250


class DumpedThread(NamedTuple):
    """A thread at the moment of the crash; frames oldest call first."""

    ident: int
    name: str | None
    current: bool
    frames: tuple[Frame, ...]


class FaultDump(NamedTuple):
    """A crash."""

    reason: str
    number: int | None
    signal: str | None
    threads: tuple[DumpedThread, ...]

    @property
    def crashed_thread(self) -> DumpedThread | None:
        """The thread that the signal hit; None when it ran no Python."""
        for thread in self.threads:
            if thread.current:
                return thread
        return None


def parse(data: bytes) -> FaultDump | None:
    """Return the first crash in a faulthandler file; None when there is none.

    A file may hold other things (`dump_traceback_later` writes where it is told to), and end in
    the middle of a line.
    """
    lines = data.decode("utf-8", "replace").splitlines()
    for index, line in enumerate(lines):
        for prefix in _FATAL:
            if line.startswith(prefix):
                reason = line[len(prefix) :].strip()
                number, name = SIGNALS.get(reason, (None, None))
                return FaultDump(reason, number, name, tuple(_threads(lines[index + 1 :])))
    return None


def _threads(lines: list[str]) -> list[DumpedThread]:
    threads: list[DumpedThread] = []
    head: tuple[int, str | None, bool] | None = None
    frames: list[Frame] = []
    for line in [*lines, ""]:
        frame = _frame(line) if head is not None else None
        if frame is not None:
            frames.append(frame)
            continue
        if head is not None and line.strip() in ("...", "<no Python frame>", "<tstate is freed>"):
            continue
        if head is not None:
            threads.append(DumpedThread(*head, tuple(reversed(frames[:_MAX_FRAMES]))))
            if len(threads) >= _MAX_THREADS:
                break
        head, frames = _head(line), []
        if line.startswith(_FATAL):
            break
    return threads


def _head(line: str) -> tuple[int, str | None, bool] | None:
    """Read `Thread 0x1f [name] (most recent call first):`; None for any other line."""
    if not line.endswith(_ORDER):
        return None
    current = line.startswith("Current thread 0x")
    if not current and not line.startswith("Thread 0x"):
        return None
    body = line[line.index("0x") : -len(_ORDER)].strip()
    digits, _, rest = body.partition(" ")
    try:
        ident = int(digits, 16)
    except ValueError:
        return None
    name = rest.strip()
    return ident, name[1:-1] if name[:1] == "[" and name[-1:] == "]" else None, current


def _frame(line: str) -> Frame | None:
    """Read `  File "app.py", line 12 in crash`."""
    if not line.startswith('  File "'):
        return None
    path, quote, rest = line[8:].rpartition('", line ')
    if not quote:
        return None
    number, _, function = rest.partition(" in ")
    frame: Frame = {"filename": path, "abs_path": path, "function": function or "???"}
    if number.isascii() and number.isdigit():
        frame["lineno"] = int(number)
    return frame
