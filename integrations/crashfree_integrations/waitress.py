"""waitress: what it serves is counted, whatever it runs.

    crashfree run -- waitress-serve app:app     # without a change to the app

An application whose framework has no integration of its own gets the WSGI middleware around it.

Hook: there is none; `BaseWSGIServer`, which holds the application, is wrapped where it is made.
Tested with waitress 3.0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations import loaded
from crashfree_integrations.framework import framework, require

OLDEST: Final = "3.0"


class WaitressIntegration:
    """Attaches to every waitress server of the process."""

    name: str = "waitress"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        framework("waitress", OLDEST)
        server: Any = import_module("waitress.server")
        require(server, "BaseWSGIServer")
        kit.wrap(server.BaseWSGIServer, "__init__", _counted(kit))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _counted(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def __init__(self: Any, application: Any, *arguments: Any, **named: Any) -> None:
            original(self, loaded.wsgi(kit, application), *arguments, **named)

        return __init__

    return wrapped
