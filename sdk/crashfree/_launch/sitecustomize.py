"""Starts crashfree in a program that has never heard of it.

`crashfree run` puts this folder first on PYTHONPATH; Python imports `sitecustomize` at the start of
every process, children included. One that the installation has itself is loaded first, as if this
one were not here. Whatever goes wrong here is said in debug mode and never stops the program.

Not seen by interpreters that ignore the environment (`python -I`, `-E`) or run without site (`-S`).
"""

from __future__ import annotations

import os
import sys


def _load_the_other(own_folder: str) -> None:
    """Import the `sitecustomize` that would have been found without this one."""
    this = sys.modules.pop("sitecustomize", None)
    places = [place for place in sys.path if os.path.abspath(place or ".") != own_folder]
    hidden, sys.path[:] = list(sys.path), places
    try:
        __import__("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if this is not None:
            sys.modules["sitecustomize"] = this
    finally:
        # The folder stays on PYTHONPATH for the children, not on the path of this process.
        sys.path[:] = [place for place in hidden if os.path.abspath(place or ".") != own_folder]


def _kind_of_process() -> str:
    """Return what runs here: `program`, a `worker` or a `helper` of multiprocessing."""
    for word in getattr(sys, "orig_argv", ()):
        if "multiprocessing.resource_tracker" in word or "multiprocessing.forkserver" in word:
            return "helper"
        if "multiprocessing.spawn" in word:
            return "worker"
    return "program"


def _start() -> None:
    """Call `crashfree.init`; options come from the environment."""
    try:
        import crashfree  # noqa: PLC0415

        kind = _kind_of_process()
        if kind == "helper":
            return
        # A worker that multiprocessing spawned belongs to its parent's session, as a forked one.
        client = crashfree.init(session_mode="request" if kind == "worker" else None)
        # The program may call init itself, a moment later: then this was no session.
        client.provisional = True
    except Exception as error:  # noqa: BLE001 -- a launcher must never stop the program
        if os.environ.get("CRASHFREE_DEBUG"):  # noqa: TID251
            sys.stderr.write(f" [crashfree] not started: {type(error).__name__}: {error}\n")


try:
    _load_the_other(os.path.dirname(os.path.abspath(__file__)))
finally:
    _start()
