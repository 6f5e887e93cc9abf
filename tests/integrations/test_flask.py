"""Flask under the contract, and what only Flask has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import Context, copy_context
from typing import Any

import pytest

import crashfree
from crashfree.errors import IntegrationError
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.flask import FlaskIntegration
from crashfree_integrations.wsgi import Strings, WsgiMiddleware
from tests.support.http_calls import call_wsgi
from tests.support.http_contract import (
    Broken,
    Harness,
    HttpContract,
    Refused,
    captured_and_raised,
    counts,
    divide,
    quietly,
    users,
)

flask = pytest.importorskip("flask")
EnvironBuilder: Any = pytest.importorskip("werkzeug.test").EnvironBuilder

import werkzeug.wrappers


def program() -> Any:
    app = flask.Flask("contract")

    @app.get("/ok")
    def ok() -> str:
        return "fine"

    @app.get("/handled")
    def handled() -> str:
        quietly()
        return "handled"

    @app.get("/items/<int:item>/error")
    def error(item: int) -> str:
        return str(divide(item))

    @app.get("/reraised")
    def reraised() -> None:
        captured_and_raised()

    @app.get("/returned")
    def returned() -> tuple[str, int]:
        return "sorry", 500

    @app.get("/raised")
    def raised() -> None:
        flask.abort(500)

    @app.get("/turned")
    def turned() -> None:
        raise Broken

    @app.get("/refused")
    def refused() -> None:
        raise Refused

    @app.get("/missing")
    def missing() -> None:
        flask.abort(404)

    @app.post("/read-fails")
    def read_fails() -> None:
        flask.request.get_data()
        divide(1)

    @app.post("/form-fails")
    def form_fails() -> None:
        assert flask.request.form["name"] == "ada"
        divide(1)

    @app.get("/stream")
    @app.get("/stream-fails")
    @app.get("/endless")
    @app.get("/late-user")
    @app.get("/late-user-fails")
    def stream() -> Any:
        return flask.Response(parts(flask.request.path))

    @app.errorhandler(Broken)
    def broken(_: Broken) -> tuple[str, int]:
        return "broken", 503

    @app.errorhandler(Refused)
    def refuse(_: Refused) -> tuple[str, int]:
        return "refused", 400

    return app


def parts(path: str) -> Iterator[str]:
    yield "one"
    if path == "/stream-fails":
        raise BufferError("in the middle")
    if path.startswith("/late-user"):
        crashfree.set_user({"id": "late-7"})
    if path == "/late-user-fails":
        raise BufferError("in the middle")
    while path == "/endless":
        yield "more"
    yield "two"


class FlaskHarness:
    name = "flask"
    route = "/items/<int:item>/error"
    lacks = {  # noqa: RUF012
        "/background": "Flask runs nothing after the answer",
        "ws:/talk": "WSGI has no websockets",
        "ws:/talk-fails": "WSGI has no websockets",
        "cancel": "WSGI has no tasks",
    }
    patched = (
        (flask.Flask, "__call__"),
        (flask.Flask, "wsgi_app"),
        (flask.Flask, "handle_user_exception"),
        (flask.Response, "get_app_iter"),
        (werkzeug.wrappers.Response, "get_app_iter"),
    )

    def integrations(self) -> list[Integration]:
        return [FlaskIntegration()]

    def application(self) -> Any:
        return program()

    wrapped = staticmethod(WsgiMiddleware)
    talk = staticmethod(call_wsgi)

    def receivers(self) -> object:
        return set(flask.got_request_exception.receivers)


class TestFlask(HttpContract):
    harness: Harness = FlaskHarness()


class TestFlaskNamed(HttpContract):
    """The same by name, and with the middleware that is an attribute of the application."""

    class _Harness(FlaskHarness):
        def integrations(self) -> list[Any]:
            return ["flask"]

        def application(self) -> Any:
            app = program()
            app.wsgi_app = lambda environ, start, inner=app.wsgi_app: inner(environ, start)
            return app

    harness: Harness = _Harness()


def test_what_fails_in_an_application_class_around_flask_crashes_the_request() -> None:
    def signing(app: Any, environ: Any, start_response: Any) -> Any:
        body = flask.Flask.wsgi_app(app, environ, start_response)
        raise BufferError(f"cannot sign {body!r}")

    app = type("Signed", (flask.Flask,), {"wsgi_app": signing})("signed")
    app.add_url_rule("/ok", view_func=lambda: "fine")
    with capture(integrations=["flask"]) as seen:
        call_wsgi(app, "/ok")
    assert counts(seen) == {"crashed": 1}
    assert [event["exception"]["values"][0]["type"] for event in seen.events] == ["BufferError"]


@pytest.mark.parametrize("middleware", [False, True])
def test_what_fails_when_the_answer_is_made_names_its_route(middleware: bool) -> None:
    """Flask has forgotten the request by then."""
    app = program()
    if middleware:
        app.wsgi_app = lambda environ, start, inner=app.wsgi_app: inner(environ, start)

    @app.teardown_request
    def close(_: BaseException | None) -> None:
        raise BufferError("cannot be closed")

    with capture(integrations=["flask"]) as seen:
        talk = call_wsgi(app, "/ok")
    assert isinstance(talk.escaped, BufferError)
    assert counts(seen) == {"crashed": 1}
    assert seen.events[0].get("transaction") == "/ok"


@pytest.mark.parametrize("path", ["/kept", "/kept-stream"])
def test_work_that_outlives_its_request_still_names_its_route(path: str) -> None:
    app = program()
    kept: list[Context] = []

    @app.get("/kept")
    def whole() -> str:
        kept.append(copy_context())
        return "fine"

    @app.get("/kept-stream")
    def streamed() -> Any:
        kept.append(copy_context())
        return flask.Response(iter(("fi", "ne")))

    with capture(integrations=["flask"]) as seen:
        call_wsgi(app, path)
        kept[0].run(crashfree.capture_message, "later")
    assert counts(seen) == {"exited": 1}
    assert seen.events[0].get("transaction") == path


@pytest.mark.parametrize("debug", ["testing", "debug"])
def test_an_exception_that_flask_lets_through_is_one_event(debug: str) -> None:
    app = program()
    if debug == "testing":
        app.testing = True
    else:
        app.debug = True
    with capture(integrations=["flask"]) as seen:
        talk = call_wsgi(app, "/items/7/error")
    assert isinstance(talk.escaped, ZeroDivisionError)
    assert counts(seen) == {"crashed": 1}
    assert len(seen.events) == 1


def test_a_catch_all_error_handler_does_not_hide_crashes() -> None:
    app = program()

    @app.errorhandler(Exception)
    def anything(_: Exception) -> tuple[dict[str, str], int]:
        return {"error": "sorry"}, 500

    with capture(integrations=["flask"]) as seen:
        call_wsgi(app, "/items/7/error")
    assert counts(seen) == {"crashed": 1}
    assert seen.events[0]["exception"]["values"][-1]["type"] == "ZeroDivisionError"


def test_a_handler_for_500_and_one_that_fails_itself() -> None:
    app = program()

    @app.errorhandler(500)
    def internal(error: Any) -> tuple[str, int]:
        return "internal", 500

    @app.errorhandler(404)
    def lost(error: Any) -> str:
        raise BufferError("the handler itself")

    with capture(integrations=["flask"]) as seen:
        assert call_wsgi(app, "/items/7/error").body == b"internal"
        assert call_wsgi(app, "/nowhere").body == b"internal"
    assert counts(seen) == {"crashed": 2}
    assert [event["exception"]["values"][-1]["type"] for event in seen.events] == [
        "ZeroDivisionError",
        "BufferError",
    ]


def test_an_application_inside_of_another_one_counts_once() -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    outer = program()
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/inner": program()})
    with capture(integrations=["flask"]) as seen:
        call_wsgi(outer, "/inner/items/7/error")
    assert counts(seen) == {"crashed": 1}
    (event,) = seen.events
    assert event["transaction"] == "/items/<int:item>/error"
    assert event["request"]["url"].endswith("/inner/items/7/error")


def test_an_application_that_is_served_by_its_wsgi_app_counts() -> None:
    with capture(integrations=["flask"]) as seen:
        call_wsgi(program().wsgi_app, "/ok")
    assert counts(seen) == {"exited": 1}


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize(
    ("made", "sent"),
    [
        (lambda: "fine", [b"fine"]),
        (lambda: ("lost", 404), [b"lost"]),
        (lambda: flask.Response(["gr\u00fc", b"n"]), ["gr\u00fc".encode(), b"n"]),
        (lambda: flask.Response([]), []),
    ],
    ids=["one", "not found", "several", "none"],
)
def test_an_answer_of_strings_is_a_list(made: Any, sent: list[bytes], middleware: bool) -> None:
    """With each version of Werkzeug: nothing else shows that they are no longer recognized."""
    app = program()
    app.add_url_rule("/made", view_func=made)
    if middleware:
        app.wsgi_app = lambda environ, start, inner=app.wsgi_app: inner(environ, start)
    with capture(integrations=["flask"]) as seen:
        body = app(EnvironBuilder("/made").get_environ(), lambda *_: None)
    assert type(body) is Strings
    assert body == sent
    assert counts(seen) == {"exited": 1}


def test_what_is_to_be_closed_after_the_answer_was_made_is_closed() -> None:
    app = program()
    answers: list[Any] = []
    closed: list[str] = []

    @app.after_request
    def keep(answer: Any) -> Any:
        answers.append(answer)
        return answer

    @app.teardown_request
    def late(_: BaseException | None) -> None:
        answers[0].call_on_close(lambda: closed.append("late"))

    with capture(integrations=["flask"]) as seen:
        body = app(EnvironBuilder("/ok").get_environ(), lambda *_: None)
        assert closed == []
        body.close()
    assert type(body) is Strings
    assert closed == ["late"]
    assert counts(seen) == {"exited": 1}


@pytest.mark.parametrize(("path", "method"), [("/ok", "HEAD"), ("/empty", "GET")])
def test_what_has_no_body_gets_none(path: str, method: str) -> None:
    app = program()
    app.add_url_rule("/empty", view_func=lambda: ("not sent", 204))
    with capture(integrations=["flask"]) as seen:
        body = app(EnvironBuilder(path, method=method).get_environ(), lambda *_: None)
        assert b"".join(body) == b""
        if hasattr(body, "close"):
            body.close()
    assert counts(seen) == {"exited": 1}


def test_a_class_of_answers_with_a_close_of_its_own_is_closed_as_ever() -> None:
    closed: list[str] = []
    app = program()
    app.response_class = type(
        "Own", (flask.Response,), {"close": lambda answer: closed.append(answer.status)}
    )
    with capture(integrations=["flask"]) as seen:
        body = app(EnvironBuilder("/ok").get_environ(), lambda *_: None)
        assert not isinstance(body, list)
        body.close()
    assert closed == ["200 OK"]
    assert counts(seen) == {"exited": 1}


def test_a_class_of_answers_that_makes_its_strings_by_itself_is_watched() -> None:
    def one_by_one(answer: Any) -> Iterator[bytes]:
        yield answer.response[0]
        raise BufferError("in the middle")

    app = program()
    app.response_class = type("Own", (flask.Response,), {"iter_encoded": one_by_one})
    with capture(integrations=["flask"]) as seen:
        call_wsgi(app, "/ok")
    assert counts(seen) == {"crashed": 1}


def test_work_at_the_close_of_an_answer_still_belongs_to_the_request() -> None:
    app = program()

    @app.get("/closing")
    def closing() -> Any:
        answer = flask.Response("fine")

        @answer.call_on_close
        def close() -> None:
            raise BufferError("at the end")

        return answer

    with capture(integrations=["flask"]) as seen:
        call_wsgi(app, "/closing")
    assert counts(seen) == {"crashed": 1}


def test_a_wrapper_around_a_whole_answer_may_still_fail() -> None:
    app = program()
    inner = app.wsgi_app

    def failing(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from inner(environ, start_response)
        raise BufferError("in the wrapper")

    app.wsgi_app = failing
    with capture(integrations=["flask"]) as seen:
        call_wsgi(app, "/ok")
    assert counts(seen) == {"crashed": 1}


def test_an_explicit_transaction_name_is_kept() -> None:
    app = program()

    @app.get("/named")
    def named() -> None:
        crashfree.set_transaction_name("mine")
        divide(1)

    with capture(integrations=["flask"]) as seen:
        call_wsgi(app, "/named")
    assert seen.events[0]["transaction"] == "mine"


def test_a_form_is_told_when_it_was_read_and_personal_data_is_allowed() -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    with capture(integrations=["flask"], send_default_pii=True) as seen:
        call_wsgi(program(), "/form-fails", headers=kind, body=b"name=ada&tag=a&tag=b")
    assert seen.events[0]["request"]["data"] == {"name": "ada", "tag": ["a", "b"]}


def test_an_exception_in_a_test_request_context_is_no_crash_of_the_process() -> None:
    app = program()
    with capture(integrations=["flask"], session_mode="application") as seen:
        with app.test_request_context("/x"):
            try:
                divide(1)
            except ZeroDivisionError as error:
                app.handle_exception(error)
    assert seen.sessions[-1]["status"] == "exited"
    assert len(seen.events) == 1


@pytest.mark.parametrize("allowed", [True, False])
def test_the_user_of_flask_login_counts_when_personal_data_is_allowed(allowed: bool) -> None:
    login = pytest.importorskip("flask_login")
    app = program()
    app.secret_key = "x"
    manager = login.LoginManager(app)

    class Account(login.UserMixin):  # type: ignore[misc, name-defined]
        id = "u-9"

    manager.request_loader(lambda request: Account())

    @app.get("/mine")
    def mine() -> str:
        return str(login.current_user.id)

    @app.get("/mine-fails")
    def fails() -> None:
        divide(int(login.current_user.is_authenticated))

    with capture(integrations=["flask"], send_default_pii=allowed) as seen:
        call_wsgi(app, "/mine")
        call_wsgi(app, "/mine-fails")
        call_wsgi(app, "/ok")
    assert users(seen) == ({"u-9", None} if allowed else {None})
    assert ("user" in seen.events[0]) is allowed


def test_an_old_flask_is_refused_by_name_and_passed_over_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(vars(flask), "__version__", "2.0.3")
    with pytest.raises(IntegrationError, match=r"flask>=2\.3, found 2\.0\.3"):
        capture(integrations=["flask"]).__enter__()
    with capture(auto_integrations=True) as seen:
        assert "flask" not in seen.client.integrations


def test_a_missing_flask_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    with pytest.raises(IntegrationError, match=r"flask>=2\.3, found none.*pip install"):
        capture(integrations=["flask"]).__enter__()


def test_a_flask_that_has_changed_under_us_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(flask.Flask, "handle_user_exception")
    with pytest.raises(IntegrationError, match="has no handle_user_exception"):
        capture(integrations=["flask"]).__enter__()
    with capture(auto_integrations=True) as seen:
        assert "flask" not in seen.client.integrations
        assert call_wsgi(program(), "/ok").body == b"fine"
