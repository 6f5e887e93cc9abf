"""Django: a unit of work for each request, under WSGI and under ASGI; Django REST framework.

    # settings.py
    import crashfree
    crashfree.init(...)         # attaches itself

What crashes a request: an exception that Django turned into its 500 (signal
`got_request_exception`), one that `process_exception` of a middleware turned into an answer of 500
or above, one that comes while the body streams; in Django REST framework an `APIException` of 500
or above. Events name the route (`/users/<int:user>/`); with `send_default_pii` they carry the body
that the view has read, and the user, if the view has asked for it, who also counts in crash-free
users. A process that runs a management command is one session, `runserver` excepted.

Hooks: the signal `got_request_exception`; `Kit.wrap` of `WSGIHandler.__call__` and
`ASGIHandler.__call__` (the signals `request_started` and `request_finished` come in different
contexts, and the second not at all when a server does not close the body), of `get_response`,
sync and async (the only place that knows the request without a place in the program's
`MIDDLEWARE`), of `process_exception_by_middleware`, of `BaseCommand.run_from_argv` and of
`APIView.handle_exception` (no signal tells of these). Tested with Django 4.2 and 5.2, Django REST
framework 3.15 and 3.18.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from typing import Any, Final

import crashfree
from crashfree.integration import JoinedUnit, Kit, Unit, asgi_request, wsgi_request
from crashfree.types import Request, SessionMode, User
from crashfree_integrations import asgi, body, wsgi
from crashfree_integrations.framework import framework, require

OLDEST: Final = "4.2"
OLDEST_REST: Final = "3.15"
MECHANISM: Final = "django"

_COMMAND: Final = "task"


class DjangoIntegration:
    """Attaches to Django's handlers."""

    name: str = "django"
    mode: SessionMode | None = None
    """Says nothing: settings are loaded by servers and by management commands alike. A process
    serves requests once it makes a handler, or runs `runserver`."""

    def install(self, kit: Kit) -> None:
        framework("django", OLDEST)
        base = _part("django.core.handlers.base").BaseHandler
        require(
            base, "get_response", "get_response_async", "process_exception_by_middleware",
            "load_middleware",
        )  # fmt: skip
        signal = _part("django.core.signals").got_request_exception
        served = _Serving(kit)
        kit.wrap(_part("django.core.handlers.wsgi").WSGIHandler, "__call__", served.by_wsgi)
        kit.wrap(_part("django.core.handlers.asgi").ASGIHandler, "__call__", served.by_asgi)
        kit.wrap(base, "load_middleware", _telling_of_handlers(kit))
        kit.wrap(base, "get_response", served.knowing)
        kit.wrap(base, "get_response_async", served.knowing)
        kit.wrap(base, "process_exception_by_middleware", _telling_of_answers(kit))
        command = _part("django.core.management.base").BaseCommand
        kit.wrap(command, "run_from_argv", _telling_of_commands(kit))

        def failed(sender: object, **_: object) -> None:
            error = sys.exc_info()[1]
            if error is not None and not _client_is_gone(error):
                _crashed(kit, error)

        signal.connect(failed, weak=False)
        kit.on_uninstall(lambda: signal.disconnect(failed))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


class RestFrameworkIntegration:
    """Attaches to the views of Django REST framework."""

    name: str = "djangorestframework"
    mode: SessionMode | None = None

    def install(self, kit: Kit) -> None:
        framework("rest_framework", OLDEST_REST, distribution="djangorestframework")
        views = framework("rest_framework.views", OLDEST_REST, distribution="djangorestframework")
        require(views.APIView, "handle_exception")
        kit.wrap(views.APIView, "handle_exception", _telling_of_answers(kit))

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

    def by_wsgi(self, original: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        service = self._kit.service(MECHANISM, wsgi_request)

        @wraps(original)
        def serving(
            handler: Any, environ: wsgi.Environ, start_response: wsgi.StartResponse
        ) -> Iterable[bytes]:
            begun = Unit.serving(service, (environ,))
            if begun is None:
                return original(handler, environ, start_response)
            return wsgi.serve(begun, original.__get__(handler), environ, start_response)

        return serving

    def by_asgi(self, original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        service = self._kit.service(MECHANISM, asgi_request)

        @wraps(original)
        async def serving(
            handler: Any, scope: asgi.Message, receive: asgi.Receive, send: asgi.Send
        ) -> None:
            app = original.__get__(handler)
            if scope["type"] not in asgi.SERVED:
                await asgi.live(app, scope, receive, send)
                return
            begun = asgi.AsgiUnit.serving(service, (scope,))
            if begun is None:
                await app(scope, receive, send)
                return
            await asgi.serve(begun, app, scope, receive, send)

        return serving

    def knowing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Let the unit know its request; `original` may be a coroutine function."""
        kit = self._kit
        describe = self._request
        if self._personal:
            return self._knowing_users(original)

        @wraps(original)
        def get_response(handler: Any, request: Any) -> Any:
            begun = kit.unit(mechanism=MECHANISM, session=False)
            begun.set_request(describe, request)
            return original(handler, request)

        return get_response

    def _knowing_users(self, original: Callable[..., Any]) -> Callable[..., Any]:
        kit = self._kit
        describe = self._request

        def count(begun: Unit | JoinedUnit, request: Any) -> None:
            if begun.scope.user is None:
                user = _user(request)
                if user is not None:
                    begun.set_user(user)

        async def answered(begun: Unit | JoinedUnit, request: Any, answer: Awaitable[Any]) -> Any:
            response = await answer
            count(begun, request)
            return response

        @wraps(original)
        def get_response(handler: Any, request: Any) -> Any:
            begun = kit.unit(mechanism=MECHANISM, session=False)
            begun.set_request(describe, request)
            answer = original(handler, request)
            if hasattr(answer, "__await__"):
                return answered(begun, request, answer)
            count(begun, request)
            return answer

        return get_response

    def _request(self, request: Any) -> Request:
        connection = getattr(request, "scope", None)
        told = wsgi_request(request.META) if connection is None else asgi_request(connection)
        begun = self._kit.unit(mechanism=MECHANISM, session=False)
        match = request.resolver_match
        route: str | None = None if match is None else match.route
        scope = begun.scope
        if route is not None and (
            scope.transaction is None or scope.transaction_source == _COMMAND
        ):
            # A path() has no slash in front, a re_path() may have an anchor.
            name = route if route.startswith(("^", "/")) else f"/{route}"
            scope.set_transaction(name, "route")
        if self._personal:
            told["data"] = _data(request)
            if begun.scope.user is None:
                user = _user(request)
                if user is not None:
                    begun.set_user(user)
        return told


def _telling_of_handlers(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def load_middleware(handler: Any, *given: Any, **named: Any) -> Any:
            kit.client.serves_units()
            return original(handler, *given, **named)

        return load_middleware

    return wrapped


def _telling_of_answers(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wrap a method that makes an answer of an exception, its first argument."""

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def answering(owner: Any, error: BaseException, *rest: Any) -> Any:
            response = original(owner, error, *rest)
            status: object = getattr(response, "status_code", None)
            if isinstance(status, int) and status >= 500:
                _crashed(kit, error)
            return response

        return answering

    return wrapped


def _telling_of_commands(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def run_from_argv(command: Any, argv: list[str]) -> Any:
            name = argv[1] if len(argv) > 1 else ""
            if name.startswith("runserver"):
                # The parent of the reloader too: it makes no handler, and is no session.
                kit.client.serves_units()
            else:
                crashfree.get_isolation_scope().set_transaction(name, _COMMAND)
            return original(command, argv)

        return run_from_argv

    return wrapped


def _crashed(kit: Kit, error: BaseException) -> None:
    # Outside of a unit (the test client) it is an event, and no crash of the process.
    kit.unit(mechanism=MECHANISM, session=False).crash(error)


def _part(name: str) -> Any:
    return framework(name, OLDEST, distribution="django")


def _data(request: Any) -> object:
    """Return the body as far as the view has read it."""
    kept: dict[str, Any] = request.__dict__
    fields = kept.get("_post")
    if fields:
        return body.form(dict(fields.lists()))
    raw = kept.get("_body")
    return body.shown(raw, request.content_type) if isinstance(raw, bytes) else None


def _user(request: Any) -> User | None:
    """Return the user whom the program has asked for; loads none."""
    kept: dict[str, Any] = request.__dict__
    user: Any = kept.get("_cached_user") or kept.get("_acached_user")
    if user is None or not user.is_authenticated:
        return None
    told: User = {"id": str(user.pk), "username": str(user.get_username())}
    mail = getattr(user, user.get_email_field_name(), None)
    if mail:
        told["email"] = str(mail)
    return told


def _client_is_gone(error: BaseException) -> bool:
    """Return whether this only says that the client stopped sending its request."""
    requests = sys.modules.get("django.http.request")
    return requests is not None and isinstance(error, requests.UnreadablePostError)
