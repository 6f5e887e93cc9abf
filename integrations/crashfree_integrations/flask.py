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
`Response.get_app_iter` (which bodies need no watching is known nowhere else).
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
from crashfree_integrations.wsgi import Environ, StartResponse, Strings, sent, serve

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
        require(responses.Response, "get_app_iter", "iter_encoded", "close")
        kit.wrap(responses.Response, "get_app_iter", _at_once(responses.Response))
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
            begun = begin(service, (environ, app))
            if begun is None:
                kit.unit(mechanism=MECHANISM).set_request(describe, environ, app)
                return original(app, environ, start_response)
            if judged:
                return serve(begun, MethodType(original, app), environ, start_response, started)
            # `serve`, written out, without a look at the status: Flask tells of each exception.
            try:
                body = original(app, environ, start_response)
                if type(body) is Strings:
                    # The same as below, without asking further.
                    begun.end()
                    return body
                return sent(begun, body, environ)
            except BaseException as error:
                begun.crash(error)
                begun.end()
                raise
            finally:
                begun.leave()

        self._alone = serving
        return serving

    def _started(self, begun: Unit, environ: Environ) -> None:
        request = _parsed(environ)
        if request is not None:
            begun.set_request(self._request, environ, None, request)
        if self._personal and begun.peek_scope().user is None:
            user = _user()
            if user is not None:
                begun.set_user({"id": user})

    def _request(self, environ: Environ, app: Any = None, request: Any = None) -> Request:
        if request is None:
            request = _parsed(environ)
        told = wsgi_request(environ)
        unit = self._kit.unit(mechanism=MECHANISM, session=False)
        if unit.scope.transaction is None:
            if request is None:
                rule = _found_again(app, environ)
            else:
                rule = getattr(request, "url_rule", None)
            if rule is not None:
                unit.scope.set_transaction(rule.rule, "route")
        if self._personal:
            if request is not None:
                told["data"] = _data(request)
            if unit.scope.user is None:
                user = _user()
                if user is not None:
                    unit.set_user({"id": user})
        return told


def _at_once(owner: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the body of an answer whose strings are there already a list.

    What cannot fail any more needs no watching, and to make the list is cheaper than what Werkzeug
    makes: a generator, and an iterator that closes the answer at the end. The server sees how many
    parts there are. Answers of any other kind stay as they are.
    """
    encoded: object = owner.iter_encoded
    closed: object = owner.close

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def get_app_iter(response: Any, environ: Environ) -> Any:
            try:
                kind = response.__class__
                strings: Any = response.response
                if (
                    strings.__class__ is list
                    and not response._on_close
                    and kind.iter_encoded is encoded
                    # Not every server closes a list; what is called at the close is none here yet.
                    and kind.close is closed
                    and not response.direct_passthrough
                    and (response._status_code == 200 or _has_body(response._status_code))
                    and environ["REQUEST_METHOD"] != "HEAD"
                ):
                    if len(strings) != 1 or type(strings[0]) is not bytes:
                        strings = response.iter_encoded()
                    body = Strings(strings)
                    body.close = response.close
                    return body
            except AttributeError:
                # Another Werkzeug than we know.
                pass
            return original(response, environ)

        return get_app_iter

    return wrapped


def _has_body(status: int) -> bool:
    """Return whether an answer of this status has one; others are left to Werkzeug."""
    return status >= 200 and status not in (204, 304)


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


def _found_again(app: Any, environ: Environ) -> Any:
    """Return the rule of a request that Flask has forgotten, since it has answered; None: none."""
    if app is None:
        return None
    errors: Any = framework("werkzeug.exceptions", _OLDEST_WERKZEUG, distribution="werkzeug")
    try:
        request = framework("flask", OLDEST).Request(environ, populate_request=False)
        return app.create_url_adapter(request).match(return_rule=True)[0]
    except errors.HTTPException:
        # Not found, not allowed, redirected.
        return None


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
