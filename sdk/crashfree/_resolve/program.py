"""What is running: the main file, its package, the archive or frozen bundle it comes from.

Read from `sys` and `__main__` in a few microseconds; nothing is imported for it.

Threads: any.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from crashfree._ground.typed import NamedTuple


class Program(NamedTuple):
    """The running program, as far as it can be told without importing anything."""

    file: str | None = None
    """The main file, absolute; None for a prompt, `-c` and embedded interpreters."""
    module: str | None = None
    """The dotted name given to `python -m`, without a final `__main__`."""
    entry: str | None = None
    """The top package that an installed console script calls."""
    bundles: tuple[str, ...] = ()
    """Directories of a frozen program (PyInstaller, cx_Freeze): the unpacked one, the binary's."""
    read_archive: Callable[[str], bytes] | None = None
    """Reads a file by its path inside the archive (zipapp) that the main file comes from."""

    @property
    def archive(self) -> str | None:
        """The zip file that the main file is in, if it is in one."""
        if self.file is None:
            return None
        holder = os.path.dirname(self.file)
        return holder if os.path.isfile(holder) else None

    @property
    def script(self) -> str | None:
        """The name of the installed script that was started, without the suffix of Windows."""
        if self.file is None:
            return None
        # On Windows the wrapper is `name.exe` with a zip behind it, run as `name.exe/__main__.py`.
        path = self.archive or self.file
        stem, suffix = os.path.splitext(os.path.basename(path))
        if suffix.lower() == ".exe":
            return stem
        return None if suffix or self.archive else stem

    @property
    def top(self) -> str | None:
        """The top package or module of the program, where it has a name."""
        name = self.module or self.entry
        return None if name is None else name.partition(".")[0]

    def describe(self) -> str:
        """Return what to call the program in a message."""
        return self.module or self.file or "an interactive or embedded interpreter"


def running_program() -> Program:
    """Return the program that this process runs."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    spec = getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    loader = getattr(main, "__loader__", None)
    if file is None and spec is None:
        file, name = started_as(sys.orig_argv)
    program = Program(
        file=os.path.abspath(file) if isinstance(file, str) else None,
        module=_without_main(name) if isinstance(name, str) else None,
        bundles=_bundles(),
        read_archive=getattr(loader, "get_data", None),
    )
    if main is None or program.script is None:
        return program
    return program._replace(entry=_called_by(main))


def started_as(command: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the file and the module that an interpreter's command line runs, where it says so.

    For code that runs before `__main__` is there, such as `sitecustomize`.
    """
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-"):
            inner = os.path.join(word, "__main__.py")
            return (inner if os.path.isdir(word) else word), None
        if word in ("-W", "-X", "--check-hash-based-pycs"):
            next(words, None)
        elif word in ("-", "-c") or word.startswith("-c"):
            return None, None
        elif word.startswith("-m"):
            return None, word[2:] or next(words, None)
    return None, None


def package_directory(name: str | None) -> str | None:
    """Return where the loaded package `name` lies; None for one that is not loaded."""
    if name is None:
        return None
    places = getattr(sys.modules.get(name), "__path__", None)
    try:
        return next(iter(places), None) if places is not None else None
    except TypeError:
        return None


def _without_main(name: str) -> str | None:
    if name == "__main__":
        return None  # a directory or an archive was run
    return name.removesuffix(".__main__")


def _bundles() -> tuple[str, ...]:
    if not getattr(sys, "frozen", False):
        return ()
    unpacked = getattr(sys, "_MEIPASS", None)
    beside = os.path.dirname(os.path.abspath(sys.executable))
    return tuple(dict.fromkeys(each for each in (unpacked, beside) if isinstance(each, str)))


def _called_by(main: ModuleType) -> str | None:
    """Return the package whose function a console script has imported to call it."""
    # An installer's wrapper holds `re`, `sys` and that one function, nothing else.
    for name, value in list(vars(main).items()):
        origin = getattr(value, "__module__", None)
        if not name.startswith("_") and callable(value) and isinstance(origin, str):
            return origin.partition(".")[0]
    return None
