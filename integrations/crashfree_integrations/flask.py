"""Flask: a unit of work for each request, from `Flask.__call__` until its body has been sent.

    import crashfree, flask
    crashfree.init(...)         # attaches itself, before or after the application is made
    app = flask.Flask(__name__)

What crashes a request: an exception that nothing handled (signal `got_request_exception`), and one
that Flask or a registered error handler turned into an answer of 500 or above, `abort(503)` too.
Events name the route (`/users/<int:user>`); with `send_default_pii` they carry the form or JSON
that the view has read, and the user of Flask-Login, who also counts in crash-free users.

Hooks: the signal `got_request_exception`; `Kit.wrap` of `Flask.__call__` and `Flask.wsgi_app`
(Flask's own place for middleware is an attribute of each application, and those made before `init`
would be missed), of `Flask.handle_user_exception` (no signal tells of handled exceptions) and of
`Response.__call__` (which bodies are lists, and need no watching, is known nowhere else).
Tested with Flask 2.3 and 3.1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from types import MethodType
from typing import Any, Final

from crashfree.integration import Kit, Service, Unit, wsgi_request
from crashfree.types import Request, SessionMode
from crashfree_integrations import body
from crashfree_integrations.framework import framework, require
from crashfree_integrations.wsgi import WHOLE, Environ, StartResponse, sent, serve

OLDEST: Final = "2.3"
MECHANISM: Final = "flask"

_OLDEST_WERKZEUG: Final = "2.3"


class FlaskIntegration:
    """Attaches to every Flask application of the process."""

    name: str = "flask"
    mode: SessionMode | None = "request"

    def install(self, kit: Kit) -> None:
        flask = framework("flask", OLDEST)
        application = flask.Flask
        require(application, "wsgi_app", "handle_user_exception", "make_response")
        require(flask, "got_request_exception")
        serving = _Serving(kit)
        kit.wrap(application, "__call__", serving.with_middleware)
        kit.wrap(application, "wsgi_app", serving.alone)
        # The class that Flask's own comes from: answers that stand for exceptions are of this one.
        responses: Any = framework("werkzeug.wrappers", _OLDEST_WERKZEUG, distribution="werkzeug")
        kit.wrap(responses.Response, "__call__", serving.bodies)
        kit.wrap(application, "handle_user_exception", _telling_of_answers(kit))

        def failed(sender: object, *, exception: BaseException, **_: object) -> None:
            _crashed(kit, exception)

        signal = flask.got_request_exception
        signal.connect(failed, weak=False)
        kit.on_uninstall(lambda: signal.disconnect(failed))

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


class _Serving:
    """Makes units of requests."""

    __slots__ = ("_alone", "_kit", "_personal", "_service")
    _alone: object
    """What `alone` put in the place of `Flask.wsgi_app`."""
    _kit: Kit
    _personal: bool
    _service: Service

    def __init__(self, kit: Kit) -> None:
        self._alone = None
        self._kit = kit
        self._personal = kit.client.options.send_default_pii
        self._service = kit.service(MECHANISM, self._request)

    def with_middleware(
        self, original: Callable[..., Iterable[bytes]]
    ) -> Callable[..., Iterable[bytes]]:
        """Begin the units of applications that have middleware, or are classes of their own, at
        the outside of that."""
        kit = self._kit
        service = self._service
        started = self._started

        @wraps(original)
        def serving(app: Any, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            if getattr(app.wsgi_app, "__func__", None) is self._alone:
                return original(app, environ, start_response)
            begun = Unit.serving(service, (environ,))
            if begun is None:
                kit.unit(mechanism=MECHANISM).set_request(self._request, environ)
                return original(app, environ, start_response)
            return serve(begun, MethodType(original, app), environ, start_response, started)

        return serving

    def alone(self, original: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Begin the units of all others."""
        kit = self._kit
        service = self._service
        describe = self._request
        started = self._started
        judged = self._personal or bool(kit.client.crashed_statuses)
        # What every request asks for, found once.
        begin = Unit.serving

        @wraps(original)
        def serving(app: Any, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            begun = begin(service, (environ,))
            if begun is None:
                kit.unit(mechanism=MECHANISM).set_request(describe, environ)
                return original(app, environ, start_response)
            if judged:
                return serve(begun, MethodType(original, app), environ, start_response, started)
            # `serve`, written out, without a look at the status: Flask tells of each exception.
            try:
                try:
                    body = original(app, environ, start_response)
                finally:
                    # For what goes on after the answer, or has just failed.
                    whole = environ.get(WHOLE)
                    if whole is not None:
                        begun.set_request(describe, environ, whole[1])
                return sent(begun, body, environ)
            except BaseException as error:
                begun.crash(error)
                begun.end()
                raise
            finally:
                begun.leave()

        self._alone = serving
        return serving

    def bodies(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Note a body that is a list of strings: it need not be watched while it is sent."""
        kit = self._kit
        describe = self._request

        @wraps(original)
        def answering(response: Any, environ: Environ, start_response: StartResponse) -> Any:
            body = original(response, environ, start_response)
            # Flask forgets it when it returns.
            request = _parsed(environ)
            if type(response.response) is list and not getattr(response, "_on_close", True):
                environ[WHOLE] = (body, request)
            elif request is not None:
                begun = kit.unit(mechanism=MECHANISM, session=False)
                begun.set_request(describe, environ, request)
            return body

        return answering

    def _started(self, begun: Unit, environ: Environ) -> None:
        request = _parsed(environ)
        if request is not None:
            begun.set_request(self._request, environ, request)
        if self._personal and begun.peek_scope().user is None:
            user = _user()
            if user is not None:
                begun.set_user({"id": user})

    def _request(self, environ: Environ, request: Any = None) -> Request:
        if request is None:
            request = _parsed(environ)
        told = wsgi_request(environ)
        unit = self._kit.unit(mechanism=MECHANISM, session=False)
        rule = getattr(request, "url_rule", None)
        if rule is not None and unit.scope.transaction is None:
            unit.scope.set_transaction(rule.rule, "route")
        if self._personal:
            if request is not None:
                told["data"] = _data(request)
            if unit.scope.user is None:
                user = _user()
                if user is not None:
                    unit.set_user({"id": user})
        return told


def _telling_of_answers(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def handle_user_exception(app: Any, e: Exception) -> Any:
            answer = original(app, e)
            status: object = getattr(answer, "code", None)
            if type(status) is not int:
                # Flask does the same with it next, and takes a response as it is.
                answer = app.make_response(answer)
                status = answer.status_code
            if isinstance(status, int) and status >= 500:
                _crashed(kit, e)
            return answer

        return handle_user_exception

    return wrapped


def _crashed(kit: Kit, error: BaseException) -> None:
    # Outside of a unit (`test_request_context`) it is an event, and no crash of the process.
    kit.unit(mechanism=MECHANISM, session=False).crash(error)


def _parsed(environ: Environ) -> Any:
    """Return Werkzeug's request, once it was made and while it lives."""
    return environ.get("werkzeug.request")


def _data(request: Any) -> object:
    """Return the body as far as the view has read it."""
    kept: dict[str, Any] = request.__dict__
    fields = kept.get("form")
    if fields:
        return body.form(fields.to_dict(flat=False))
    raw = kept.get("_cached_data")
    return body.shown(raw, request.content_type) if isinstance(raw, bytes) else None


def _user() -> str | None:
    """Return the id of the user whom Flask-Login has loaded; loads none."""
    login = sys.modules.get("flask_login")
    flask = sys.modules.get("flask")
    if login is None or flask is None or not flask.has_request_context():
        return None
    if "_login_user" not in flask.g or not login.current_user.is_authenticated:
        return None
    return str(login.current_user.get_id())
