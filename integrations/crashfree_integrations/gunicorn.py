"""gunicorn: its workers serve units of work, whatever they run.

    gunicorn app:app            # with crashfree.init(...) in the configuration file or in the app
    crashfree run -- gunicorn app:app       # without a change to the app

The master serves nothing: it has no session and, when it forks, no thread of ours. Each worker
counts for itself. An application whose framework has no integration of its own is counted by the
WSGI or ASGI middleware around it. A request that the time-out of the worker aborts has crashed, and
its event shows where it hung; a worker that had to be killed leaves its requests in the ledger.

Hooks: `BaseApplication.wsgi`, where a worker gets the application it serves, is wrapped, and
`Worker.handle_abort`; the hooks of gunicorn's configuration belong to the program. Workers sync,
gthread, gevent, eventlet, tornado, asgi and uvicorn. Tested with gunicorn 21.2 and 27.0.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations import loaded
from crashfree_integrations.framework import framework, require

OLDEST: Final = "21.2"
_LAST_SECONDS: Final = 0.25
"""How long a worker that is aborted tries to send; then what is left goes to disk."""
_WSGI: Final = frozenset(
    f"gunicorn.workers.{name}"
    for name in ("sync", "gthread", "base_async", "ggevent", "geventlet", "gtornado")
)
_ASGI: Final = frozenset(("gunicorn.workers.gasgi", "uvicorn.workers", "uvicorn_worker._workers"))


class GunicornIntegration:
    """Attaches to the master and workers of this process."""

    name: str = "gunicorn"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        framework("gunicorn", OLDEST)
        base: Any = import_module("gunicorn.app.base")
        require(base.BaseApplication, "wsgi")
        kit.wrap(base.BaseApplication, "wsgi", _counted(kit))
        worker: Any = import_module("gunicorn.workers.base").Worker
        require(worker, "handle_abort")
        kit.wrap(worker, "handle_abort", _in_a_hurry(kit))
        _handle_anew(kit, worker)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _counted(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def wsgi(self: Any) -> Any:
            application: Any = original(self)
            speaks = _interface(self.cfg.worker_class)
            if speaks == "wsgi":
                return loaded.wsgi(kit, application)
            if speaks == "asgi" and loaded.is_asgi(application):
                return loaded.asgi(kit, application)
            return application

        return wsgi

    return wrapped


def _in_a_hurry(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def handle_abort(self: Any, *arguments: Any, **named: Any) -> Any:
            # The master kills it about a second later, and an event in memory would be lost. Run
            # first, this leaves nothing to do for what closes the client at every exit.
            atexit.register(kit.client.close, _LAST_SECONDS)
            return original(self, *arguments, **named)

        return handle_abort

    return wrapped


def _handle_anew(kit: Kit, kind: type[Any]) -> None:
    """In a worker that has installed its handlers already: `init` is called by the application."""
    handler: Any = signal.getsignal(signal.SIGABRT)
    worker: Any = getattr(handler, "__self__", None)
    if not isinstance(worker, kind) or handler.__name__ != "handle_abort":
        return
    replaced = worker.handle_abort

    def undo() -> None:
        if signal.getsignal(signal.SIGABRT) is replaced:
            signal.signal(signal.SIGABRT, handler)

    try:
        signal.signal(signal.SIGABRT, replaced)
    except ValueError:
        # Not the main thread, which alone may do that.
        return
    kit.on_uninstall(undo)


def _interface(worker: Any) -> str | None:
    """Return what a worker class calls; None for those that want something of their own."""
    for owner in getattr(worker, "__mro__", ()):
        if owner.__module__ in _ASGI:
            return "asgi"
        if owner.__module__ in _WSGI:
            return "wsgi"
    return None
