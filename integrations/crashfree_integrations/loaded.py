"""An application that a server has loaded: the middleware around it, unless it is counted already.

A framework that has an integration of its own counts the requests itself, and better (routes,
users); so does an application that its author has wrapped. Around all others the server's
integration puts the middleware that the author could have put there by hand.

Threads: the one that loads the application.
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any, Final, cast

from crashfree.integration import Kit
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.wsgi import WsgiMiddleware

_COUNTED_BY: Final = {
    "flask.app.Flask": ("flask",),
    "django.core.handlers.wsgi.WSGIHandler": ("django",),
    "django.core.handlers.asgi.ASGIHandler": ("django",),
    "starlette.applications.Starlette": ("starlette", "fastapi"),
    "fastapi.applications.FastAPI": ("starlette", "fastapi"),
}
"""Whose `__call__` is watched by which integrations."""


def wsgi(kit: Kit, application: Any) -> Any:
    """Return what a server is to call instead of a WSGI application."""
    return application if is_counted(kit, application) else WsgiMiddleware(application)


def asgi(kit: Kit, application: Any) -> Any:
    """Return what a server is to call instead of an ASGI 3 application."""
    return application if is_counted(kit, application) else AsgiMiddleware(application)


def is_counted(kit: Kit, application: Any) -> bool:
    """Return whether every request that this application serves is a unit without our doing."""
    kind = cast("type[object]", type(application))
    if kind in (WsgiMiddleware, AsgiMiddleware):
        return True
    # The class whose method it is that the server will call.
    owner = next((base for base in kind.__mro__ if "__call__" in vars(base)), kind)
    integrations = _COUNTED_BY.get(f"{owner.__module__}.{owner.__qualname__}", ())
    return any(name in kit.client.integrations for name in integrations)


def is_asgi(application: Any) -> bool:
    """Return whether this is called as ASGI 3 is, and not as ASGI 2, or to make an application."""
    if isinstance(application, type):
        return False
    return iscoroutinefunction(application) or iscoroutinefunction(
        getattr(application, "__call__", None)  # noqa: B004 -- of what kind it is, not whether
    )
