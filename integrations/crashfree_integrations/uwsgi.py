"""uWSGI: its workers serve units of work, each counts for itself.

    import crashfree
    crashfree.init(...)         # in the module of the application; or `crashfree run -- uwsgi ...`

The master loads the application (without `lazy-apps`) and forks without telling Python; here every
worker, mule and spooler learns that it is a child. The master has no session. uWSGI calls
`sys.excepthook` for what leaves a request: that is the crash of the request, told already, and not
of the process. uWSGI calls an application from C, where nobody can put anything between: one whose
framework has no integration is wrapped in `crashfree_integrations.wsgi.WsgiMiddleware` by hand.

Without `enable-threads` nothing is sent between requests; see the warning at `init`. A worker that
uWSGI stops may be cut off at any point: what it has counted is told by a sibling or the next start,
events that it had not sent by then are lost.

Hooks: `uwsgi.post_fork_hook`, as uWSGI documents it; `sys.excepthook` is wrapped. Tested with uWSGI
2.0.30 and 2.0.31, with lazy applications and without.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations.framework import framework, require

OLDEST: Final = "2.0"
_HOOK: Final = "post_fork_hook"
_OURS: Final = __name__.partition(".")[0] + "."


class UwsgiIntegration:
    """Attaches to the uWSGI that this interpreter runs in."""

    name: str = "uwsgi"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        _after_fork(kit, framework("uwsgi", OLDEST))
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


def _after_fork(kit: Kit, uwsgi: ModuleType) -> None:
    space = vars(uwsgi)
    previous: Callable[[], object] | None = space.get(_HOOK)

    def hook() -> None:
        kit.client.forget()
        if previous is not None:
            previous()

    def undo() -> None:
        if space.get(_HOOK) is not hook:
            return
        if previous is None:
            del space[_HOOK]
        else:
            space[_HOOK] = previous

    space[_HOOK] = hook
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
