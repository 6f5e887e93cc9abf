"""uvicorn: what it serves is counted, whatever it runs.

    crashfree run -- uvicorn app:app        # without a change to the app

An application whose framework has no integration of its own gets the ASGI middleware around it, or
the WSGI middleware with `--interface wsgi`. A process that has uvicorn loaded serves units of work;
the parent of several workers has no session, each worker counts for itself. An application that
calls `crashfree.init` itself is being loaded at that moment: it wraps itself in
`crashfree_integrations.asgi.AsgiMiddleware`, or uses a framework with an integration.

Hook: there is none; `Config.load`, which loads the application, is wrapped. Tested with uvicorn
0.30 and 0.54, and with gunicorn's workers of uvicorn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations import loaded
from crashfree_integrations.framework import framework, require

OLDEST: Final = "0.30"
_OWN: Final = ("uvicorn.middleware.message_logger", "uvicorn.middleware.proxy_headers")
"""What uvicorn puts around an application, ours goes inside of that, as one put there by hand."""
_LOCAL_SERVER: Final = "crashfree.server.running"


class UvicornIntegration:
    """Attaches to every uvicorn server of the process."""

    name: str = "uvicorn"
    mode: SessionMode | None

    def __init__(self) -> None:
        # The local server runs on uvicorn too: it makes no server of its program.
        self.mode = None if _LOCAL_SERVER in sys.modules else "request"

    def install(self, kit: Kit) -> None:
        framework("uvicorn", OLDEST)
        config: Any = import_module("uvicorn.config").Config
        require(config, "load")
        kit.wrap(config, "load", _counted(kit))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _counted(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def load(self: Any) -> None:
            original(self)
            if type(self.app).__module__ != "crashfree.server.app":
                _wrap(kit, self)

        return load

    return wrapped


def _wrap(kit: Kit, config: Any) -> None:
    holder, name = config, "loaded_app"
    application: Any = config.loaded_app
    while type(application).__module__ in _OWN:
        holder, name, application = application, "app", application.app
    if config.interface != "wsgi":
        setattr(holder, name, loaded.asgi(kit, application))
    elif hasattr(application, "app"):
        # What is left is the bridge, which calls the application in a thread.
        application.app = loaded.wsgi(kit, application.app)
