"""Starts crashfree in a program that has never heard of it.

`crashfree run` puts this folder first on PYTHONPATH; Python imports `sitecustomize` at the start of
every process, children included. One that the installation has itself is loaded first, as if this
one were not here. Whatever goes wrong here is said in debug mode and never stops the program.

Not seen by interpreters that ignore the environment (`python -I`, `-E`) or run without site (`-S`).
Interpreters older than crashfree supports read this file too, as children of the program: it is
written in the Python that all of them have in common, and leaves them alone.
"""

# pyright: reportTypeCommentUsage=false

import os
import sys


def _load_the_other(own_folder):
    # type: (str) -> None
    """Import the `sitecustomize` that would have been found without this one."""
    this = sys.modules.pop("sitecustomize", None)
    places = [place for place in sys.path if os.path.abspath(place or ".") != own_folder]
    hidden, sys.path[:] = list(sys.path), places
    try:
        __import__("sitecustomize")
    except ImportError as error:
        # Without a name (Python 2) it cannot be told from one that the other one has met.
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
        if this is not None:
            sys.modules["sitecustomize"] = this
    finally:
        # The folder stays on PYTHONPATH for the children, not on the path of this process.
        sys.path[:] = [place for place in hidden if os.path.abspath(place or ".") != own_folder]


def _kind_of_process():
    # type: () -> str
    """Return what runs here: `program`, `uwsgi`, a `worker` or a `helper` of multiprocessing."""
    words = list(getattr(sys, "orig_argv", ()))
    # The server has Python inside, or is a script of it.
    for word in words[1:2] + [sys.executable or ""]:  # noqa: RUF005 -- Python 2
        if os.path.basename(word) in ("uwsgi", "pyuwsgi"):
            return "uwsgi"
    for word in words:
        # billiard is Celery's multiprocessing.
        for package in ("multiprocessing", "billiard"):
            for helper in ("resource_tracker", "semaphore_tracker", "forkserver"):
                if package + "." + helper in word:
                    return "helper"
            if package + ".spawn" in word:
                return "worker"
    return "program"


def _start():
    # type: () -> None
    """Call `crashfree.init`; options come from the environment."""
    try:
        kind = _kind_of_process()
        if kind == "helper":
            return
        if kind == "uwsgi" and "uwsgi" not in sys.modules:
            # Its module, which says how it was set up, is made before it loads anything.
            try:
                # It cleans up after itself at exit: not before a worker's last words.
                __import__("ssl")
            except ImportError:
                pass
            from crashfree._launch.later import once_there  # noqa: PLC0415

            once_there("uwsgi", _start)
            return
        import crashfree  # noqa: PLC0415

        # A worker that multiprocessing spawned belongs to its parent's session, as a forked one.
        client = crashfree.init(session_mode="request" if kind == "worker" else None)
        # The program may call init itself, a moment later: then this was no session.
        client.provisional = True
    except Exception as error:  # noqa: BLE001 -- a launcher must never stop the program
        if os.environ.get("CRASHFREE_DEBUG"):  # noqa: TID251
            sys.stderr.write(" [crashfree] not started: %s: %s\n" % (type(error).__name__, error))  # noqa: UP031


try:
    _load_the_other(os.path.dirname(os.path.abspath(__file__)))
finally:
    if sys.version_info >= (3, 10):  # noqa: UP036 -- see the module
        _start()
