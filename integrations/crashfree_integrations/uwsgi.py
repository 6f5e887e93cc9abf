"""uWSGI: its workers serve units of work, each counts for itself, whatever they run.

    crashfree run -- uwsgi --module app:application ...     # without a change to the app
    crashfree.init(...)     # or by hand, in the module of the application

The master loads the application (without `lazy-apps`) and forks without telling Python; here every
worker, mule and spooler learns that it is a child. The master has no session. uWSGI calls
`sys.excepthook` for what leaves a request: that is the crash of the request, told already, and not
of the process.

An application whose framework has no integration of its own gets the WSGI middleware around it
where uWSGI is told to load it: `module`, `wsgi-file`, `callable`, `mount`, `eval`, a factory, a
table of applications. Loaded in any other way (`paste`, `pecan`, at a request, or where a debugger
is running at the start) one line does it:

    application = crashfree_integrations.wsgi.WsgiMiddleware(application)

A worker that ends by itself, is reloaded or is stopped between two requests sends what is waiting,
or leaves it on disk. uWSGI lets no Python run any more in one that is stopped amid a request, and
none at all with `skip-atexit`, after `harakiri` or out of mercy: what such a worker has counted is
told by a sibling or the next start, events that it had not sent by then are lost. Without
`enable-threads` or `threads` nothing is sent between requests; see the warning at `init`.

Hooks: `uwsgi.post_fork_hook`, as uWSGI documents it, and `uwsgi.atexit`; `sys.excepthook` is
wrapped. Tested with uWSGI 2.0.28 and 2.0.30.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial, wraps
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations.framework import framework, require
from crashfree_integrations.mounted import Applications

OLDEST: Final = "2.0"
_IN_ORDER: Final = (2, 0, 30)
"""From this version on the hooks for the exit of a worker are set once its applications are there:
what these have loaded is still whole when the hooks run."""
_OURS: Final = __name__.partition(".")[0] + "."


class UwsgiIntegration:
    """Attaches to the uWSGI that this interpreter runs in."""

    name: str = "uwsgi"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        uwsgi = framework("uwsgi", OLDEST)
        require(uwsgi, "worker_id")
        late = _load_tls(kit, uwsgi)
        applications = Applications(kit, uwsgi)
        _hook(kit, uwsgi, "post_fork_hook", first=partial(_forked, kit, applications))
        _hook(kit, uwsgi, "atexit", last=partial(_say_goodbye, kit, uwsgi, late))
        kit.wrap(sys, "excepthook", _of_the_process)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


class UwsgiDecoratorsIntegration:
    """Attaches to `uwsgidecorators`, which takes the hook for itself when it is imported."""

    name: str = "uwsgidecorators"
    mode: SessionMode | None = None

    def install(self, kit: Kit) -> None:
        decorators: Any = import_module("uwsgidecorators")
        require(decorators, "postfork_chain")
        chain: list[Callable[[], object]] = decorators.postfork_chain
        forget = kit.client.forget
        chain.insert(0, forget)
        kit.on_uninstall(lambda: chain.remove(forget))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _forked(kit: Kit, applications: Applications) -> None:
    kit.client.forget()
    applications.forked()


def _load_tls(kit: Kit, uwsgi: Any) -> bool:
    """Load what encrypts, which cleans up after itself at exit; return whether it is too late.

    Loaded by our own thread, while requests are served, it would be gone by the time uWSGI lets
    Python say good-bye, and to use it then ends in a segmentation fault.
    """
    worker: int = uwsgi.worker_id()
    late = bool(worker) and _version(uwsgi) < _IN_ORDER and "ssl" not in sys.modules
    if late and worker == 1:
        kit.warn(
            "before 2.0.30, with lazy applications, uWSGI takes OpenSSL away from a worker before "
            "its last events are sent; add 'shared-import = ssl' to its settings"
        )
    with suppress(ImportError):
        import_module("ssl")
    return late


def _version(uwsgi: Any) -> tuple[int, ...]:
    return tuple(part for part in getattr(uwsgi, "version_info", ()) if isinstance(part, int))[:3]


def _say_goodbye(kit: Kit, uwsgi: Any, late: bool) -> None:
    """Send what is waiting while the interpreter is whole; `atexit` closes the client after that.

    What cannot be sent goes to disk, and so does everything where nothing may be sent any more.
    """
    client = kit.client
    if late or not client.flush() or _leaves_python_out(uwsgi):
        client.close(0.0)


def _leaves_python_out(uwsgi: Any) -> bool:
    """Return whether uWSGI ends a worker without the exit functions of Python."""
    options: Mapping[str, object] = getattr(uwsgi, "opt", {})
    return not {"skip-atexit-teardown", "async", "gevent", "asyncio"}.isdisjoint(options)


def _hook(
    kit: Kit,
    uwsgi: ModuleType,
    name: str,
    *,
    first: Callable[[], None] | None = None,
    last: Callable[[], None] | None = None,
) -> None:
    """Do something before or after what the program has hung up there."""
    space = vars(uwsgi)
    previous: Callable[[], object] | None = space.get(name)

    def hook() -> None:
        try:
            if first is not None:
                first()
            if previous is not None:
                previous()
        finally:
            if last is not None:
                last()

    def undo() -> None:
        if space.get(name) is not hook:
            return
        if previous is None:
            del space[name]
        else:
            space[name] = previous

    space[name] = hook
    kit.on_uninstall(undo)


def _of_the_process(original: Callable[..., Any]) -> Callable[..., Any]:
    # What was there before ours: the same, without our telling of it.
    behind: Callable[..., Any] = getattr(original, "previous", sys.__excepthook__)

    @wraps(original)
    def excepthook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        (behind if _left_a_request(traceback) else original)(kind, error, traceback)

    return excepthook


def _left_a_request(traceback: TracebackType | None) -> bool:
    """Return whether this error has passed one of our integrations, which has told it."""
    while traceback is not None:
        if str(traceback.tb_frame.f_globals.get("__name__")).startswith(_OURS):
            return True
        traceback = traceback.tb_next
    return False
