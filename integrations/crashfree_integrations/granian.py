"""granian: what it serves is counted, whatever it runs.

    crashfree run -- granian --interface asgi app:app       # without a change to the app

An application whose framework has no integration of its own gets the ASGI or the WSGI middleware
around it; there is none for granian's own interface, RSGI. The parent serves nothing and has no
session; each worker counts for itself.

Hook: there is none; the functions that bind an application to the server are wrapped, wherever
the server's modules hold them, and `LifespanProtocol`. Tested with granian 2.8.0 and 2.8.7; earlier
ones, with or without us, may hang when they are told to stop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations import loaded
from crashfree_integrations.framework import framework, require

OLDEST: Final = "2.8"
_BINDING: Final = "_callback_wrapper"


class GranianIntegration:
    """Attaches to the parent and the workers of this process."""

    name: str = "granian"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        framework("granian", OLDEST)
        asgi: Any = import_module("granian.asgi")
        wsgi: Any = import_module("granian.wsgi")
        require(asgi, _BINDING, "LifespanProtocol")
        require(wsgi, _BINDING)
        lifespan = _first_argument(lambda app: loaded.asgi(kit, app), place=1)
        kit.wrap(asgi.LifespanProtocol, "__init__", lifespan)
        _replace(kit, asgi, _first_argument(lambda app: loaded.asgi(kit, app)))
        _replace(kit, wsgi, _first_argument(lambda app: loaded.wsgi(kit, app)))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _first_argument(
    middleware: Callable[[Any], Any], *, place: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def bind(*arguments: Any, **named: Any) -> Any:
            given = list(arguments)
            given[place] = middleware(given[place])
            return original(*given, **named)

        return bind

    return wrapped


def _replace(
    kit: Kit, owner: ModuleType, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Wrap what binds an application, in its own module and in those that have it by now."""
    original: object = vars(owner)[_BINDING]
    for module in [value for name, value in sys.modules.items() if name.startswith("granian.")]:
        for name, value in list(vars(module).items()):
            if value is original:
                kit.wrap(module, name, wrapper)
