"""hypercorn: what it serves is counted, whatever it runs.

    crashfree run -- hypercorn app:app      # without a change to the app

An application whose framework has no integration of its own gets the ASGI or the WSGI middleware
around it. The parent serves nothing and has no session; each worker counts for itself.

Hook: there is none; `ASGIWrapper` and `WSGIWrapper`, which hold the application, are wrapped where
they are made. Workers asyncio, uvloop and trio; `hypercorn.asyncio.serve` too. Tested with
hypercorn 0.16 and 0.18.
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

OLDEST: Final = "0.16"


class HypercornIntegration:
    """Attaches to the parent and the workers of this process."""

    name: str = "hypercorn"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        framework("hypercorn", OLDEST)
        wrappers: Any = import_module("hypercorn.app_wrappers")
        require(wrappers, "ASGIWrapper", "WSGIWrapper")
        kit.wrap(wrappers.ASGIWrapper, "__init__", _counted(kit, loaded.asgi))
        kit.wrap(wrappers.WSGIWrapper, "__init__", _counted(kit, loaded.wsgi))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _counted(
    kit: Kit, middleware: Callable[[Kit, Any], Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def __init__(self: Any, app: Any, *arguments: Any, **named: Any) -> None:
            original(self, middleware(kit, app), *arguments, **named)

        return __init__

    return wrapped
