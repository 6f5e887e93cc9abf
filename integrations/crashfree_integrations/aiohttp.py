"""aiohttp, its server: a unit of work for each request, until its answer has been sent.

    import crashfree
    from aiohttp import web
    crashfree.init(...)         # attaches itself, before or after the application is made
    web.run_app(app)

What crashes a request: an exception that aiohttp turned into an answer of 500 or above,
`HTTPServiceUnavailable` and a handler's time-out too, and one that came while the answer was being
sent. A websocket is one unit. Events name the route (`/users/{user}`); with `send_default_pii`
they carry the body that the handler has read. The client side of aiohttp is left alone.

Hooks: `Kit.wrap` of `RequestHandler._handle_request`, `.finish_response` and `.handle_error`. A
middleware of the application, the official hook, has returned before the answer is sent: it sees
neither a body that fails nor the end. Tested with aiohttp 3.9 and 3.14.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

from crashfree.integration import Kit, Unit
from crashfree.types import Request, SessionMode
from crashfree_integrations import body
from crashfree_integrations.framework import framework, require

OLDEST: Final = "3.9"
MECHANISM: Final = "aiohttp"


class AiohttpIntegration:
    """Attaches to every aiohttp server of the process."""

    name: str = "aiohttp"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        framework("aiohttp", OLDEST)
        protocol = framework("aiohttp.web_protocol", OLDEST, distribution="aiohttp")
        handler = protocol.RequestHandler
        require(handler, "_handle_request", "finish_response", "handle_error")
        serving = _Serving(kit)
        kit.wrap(handler, "_handle_request", serving.handling)
        kit.wrap(handler, "finish_response", serving.finishing)
        kit.wrap(handler, "handle_error", serving.failing)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


class _Serving:
    """Makes units of requests."""

    __slots__ = ("_kit", "_personal")
    _kit: Kit
    _personal: bool

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._personal = kit.client.options.send_default_pii

    def handling(self, original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        kit = self._kit
        describe = self._request
        service = kit.service(MECHANISM, describe)

        @wraps(original)
        async def handle_request(handler: Any, request: Any, *rest: Any, **named: Any) -> Any:
            begun = Unit.serving(service, (request,))
            if begun is None:
                kit.unit(mechanism=MECHANISM).set_request(describe, request)
                return await original(handler, request, *rest, **named)
            try:
                answered = await original(handler, request, *rest, **named)
                begun.answered(getattr(answered[0], "status", 0))
                return answered
            except ConnectionError:
                # How aiohttp says that the answer could not be sent to its end.
                raise
            except BaseException as error:
                begun.crash(error)
                raise
            finally:
                begun.end()
                begun.leave()

        return handle_request

    def finishing(self, original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        kit = self._kit

        # aiohttp calls it inside of the `except` block of what was raised, and says so.
        @wraps(original)
        def finish_response(
            handler: Any, request: Any, resp: Any, *rest: Any, **named: Any
        ) -> Awaitable[Any]:
            status: object = getattr(resp, "status", None)
            if status is None:
                # A handler that returned no response; aiohttp makes a 500 of it, without an error.
                kit.unit(mechanism=MECHANISM, session=False).fail()
            elif isinstance(status, int) and status >= 500:
                error = sys.exc_info()[1]
                if error is not None and not _client_is_gone(error, handler):
                    kit.unit(mechanism=MECHANISM, session=False).crash(error)
            return original(handler, request, resp, *rest, **named)

        return finish_response

    def failing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        kit = self._kit

        @wraps(original)
        def handle_error(
            handler: Any,
            request: Any,
            status: int = 500,
            exc: BaseException | None = None,
            *rest: Any,
            **named: Any,
        ) -> Any:
            error = exc or sys.exc_info()[1]
            if status >= 500 and error is not None and not _client_is_gone(error, handler):
                kit.unit(mechanism=MECHANISM, session=False).crash(error)
            return original(handler, request, status, exc, *rest, **named)

        return handle_error

    def _request(self, request: Any) -> Request:
        told: Request = {
            "method": request.method,
            "url": f"{request.scheme}://{request.host}{request.path}",
            "query_string": request.query_string,
            "headers": dict(request.headers),
        }
        if request.remote:
            told["env"] = {"REMOTE_ADDR": request.remote}
        unit = self._kit.unit(mechanism=MECHANISM, session=False)
        resource = getattr(getattr(_match(request), "route", None), "resource", None)
        if resource is not None and unit.scope.transaction is None:
            unit.scope.set_transaction(resource.canonical, "route")
        raw = getattr(request, "_read_bytes", None)
        if self._personal and isinstance(raw, bytes):
            told["data"] = body.shown(raw, request.headers.get("Content-Type"))
        return told


def _match(request: Any) -> Any:
    # A request that no application has seen yet has none, and asserts that it has.
    return getattr(request, "_match_info", None)


def _client_is_gone(error: BaseException, handler: Any) -> bool:
    """Return whether this is how a handler hears that nobody is there any more."""
    transport = handler.transport
    return isinstance(error, ConnectionError) and (transport is None or transport.is_closing())
