"""uvicorn: what it serves is counted, whatever it runs.

    crashfree run -- uvicorn app:app        # without a change to the app

An application whose framework has no integration of its own gets the ASGI middleware around it, or
the WSGI middleware with `--interface wsgi`. A process that has uvicorn loaded serves units of work;
the parent of several workers has no session, each worker counts for itself. An application that
calls `crashfree.init` itself is being loaded at that moment: it wraps itself in
`crashfree_integrations.asgi.AsgiMiddleware`, or uses a framework with an integration.

When the server shuts down, what is counted is sent: it ends the process by a signal next.

When an answer is complete, uvicorn sets a timer for the connection, which would keep the context of
the request, and its unit: it gets timers that do not (`crashfree_integrations.keepalive`).

Hook: there is none; `Config.load`, which loads the application, `Server.shutdown`, and
`connection_made` and `connection_lost` of uvicorn's protocols are wrapped.
Tested with uvicorn 0.30 and 0.54, and with gunicorn's workers of uvicorn.
"""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Awaitable, Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final, cast

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations import loaded
from crashfree_integrations.framework import framework, require
from crashfree_integrations.keepalive import ConnectionLoop

OLDEST: Final = "0.30"
_OWN: Final = ("uvicorn.middleware.message_logger", "uvicorn.middleware.proxy_headers")
"""What uvicorn puts around an application, ours goes inside of that, as one put there by hand."""
_PROTOCOLS: Final = "uvicorn.protocols.http."
_MADE: Final = "connection_made"
_LOST: Final = "connection_lost"
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
        server: Any = import_module("uvicorn.server").Server
        require(config, "load")
        require(server, "shutdown")
        kit.wrap(config, "load", _counted(kit))
        kit.wrap(server, "shutdown", _told(kit))
        # Where the application calls `crashfree.init`, they are loaded by now.
        _relieve(kit)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _counted(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def load(self: Any) -> None:
            original(self)
            _relieve(kit)
            if not _is_ours(self):
                _wrap(kit, self)

        return load

    return wrapped


def _told(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(original)
        async def shutdown(self: Any, *arguments: Any, **named: Any) -> Any:
            try:
                return await original(self, *arguments, **named)
            finally:
                if not _is_ours(self.config):
                    await get_running_loop().run_in_executor(None, kit.client.flush)

        return shutdown

    return wrapped


def _relieve(kit: Kit) -> None:
    """Wrap all protocols of uvicorn that were loaded and are not wrapped yet."""
    for name, module in sys.modules.copy().items():
        if not name.startswith(_PROTOCOLS):
            continue
        # A copy: another thread may be importing it.
        for found in vars(module).copy().values():
            if not isinstance(found, type) or not {_MADE, _LOST} <= vars(found).keys():
                continue
            protocol = cast("type[object]", found)
            if not hasattr(vars(protocol)[_MADE], "__crashfree__"):
                kit.wrap(protocol, _MADE, _relieved)
                kit.wrap(protocol, _LOST, _told_of_its_end)


def _relieved(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def connection_made(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        loop: object = getattr(self, "loop", None)
        if isinstance(loop, AbstractEventLoop):
            self.loop = ConnectionLoop(loop)

    connection_made.__crashfree__ = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    return connection_made


def _told_of_its_end(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def connection_lost(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        loop: object = getattr(self, "loop", None)
        if isinstance(loop, ConnectionLoop):
            loop.rest()

    return connection_lost


def _is_ours(config: Any) -> bool:
    """Return whether this is the local server."""
    kind = cast("type[object]", type(config.app))
    return kind.__module__ == "crashfree.server.app"


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
