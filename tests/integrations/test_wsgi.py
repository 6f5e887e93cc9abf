"""WSGI by hand: the middleware around a program that knows no framework."""

from __future__ import annotations

import gc
import io
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import crashfree
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.wsgi import WsgiMiddleware
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

PLAIN = [("Content-Type", "text/plain")]


def program(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    try:
        return respond(path, environ, start_response)
    except Refused:
        start_response("400 Bad Request", PLAIN, sys.exc_info())
        return [b"refused"]
    except Broken:
        start_response("503 Unavailable", PLAIN)
        return [b"broken"]
    except SystemError:
        start_response("500 Oh", PLAIN, sys.exc_info())
        return [b"raised"]
    except KeyError:
        start_response("404 Not Found", PLAIN, sys.exc_info())
        return [b"missing"]


def respond(path: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if path == "/items/7/error":
        divide(7)
    elif path == "/read-fails":
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        divide(7)
    elif path == "/handled":
        quietly()
    elif path == "/reraised":
        captured_and_raised()
    elif path == "/raised":
        raise SystemError("500")
    elif path == "/turned":
        raise Broken
    elif path == "/refused":
        raise Refused
    elif path == "/missing":
        raise KeyError(path)
    elif path == "/nowhere":
        start_response("404 Not Found", PLAIN)
        return [b"nowhere"]
    elif path == "/returned":
        start_response("500 Returned", PLAIN)
        return [b"sorry"]
    elif path != "/ok":
        start_response("200 OK", PLAIN)
        return parts(path)
    start_response("200 OK", PLAIN)
    return [b"fine"]


def parts(path: str) -> Iterator[bytes]:
    yield b"one"
    if path == "/stream-fails":
        raise BufferError("in the middle")
    if path.startswith("/late-user"):
        crashfree.set_user({"id": "late-7"})
    if path == "/late-user-fails":
        raise BufferError("in the middle")
    while path == "/endless":
        yield b"more"
    yield b"two"


class WsgiHarness:
    name = "wsgi"
    route = None
    lacks = {  # noqa: RUF012
        "/background": "a program that answers has nothing to run afterwards",
        "ws:/talk": "WSGI has no websockets",
        "ws:/talk-fails": "WSGI has no websockets",
        "cancel": "WSGI has no tasks",
        "data": "the body was the program's alone",
    }
    patched = ()

    def integrations(self) -> list[Integration]:
        return []

    def application(self) -> Any:
        return WsgiMiddleware(program)

    wrapped = staticmethod(WsgiMiddleware)
    talk = staticmethod(call_wsgi)

    def receivers(self) -> object:
        return None


class TestWsgi(HttpContract):
    harness: Harness = WsgiHarness()


class Closing:
    """A body that says when it was closed, and may fail in it."""

    def __init__(self, fail: bool = False) -> None:
        self.closed = 0
        self.fail = fail

    def __iter__(self) -> Iterator[bytes]:
        return iter((b"a", b"b"))

    def close(self) -> None:
        self.closed += 1
        if self.fail:
            raise BufferError("at the end")


def environ() -> dict[str, Any]:
    return {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}


def started(status: str, headers: Any, exc_info: Any = None) -> Any:
    return lambda data: None


def test_a_middleware_made_by_hand_puts_an_undecided_process_into_request_mode() -> None:
    with capture() as seen:
        WsgiMiddleware(program)
    assert seen.sessions == []
    with capture() as seen:
        WsgiMiddleware(program, sessions=False)
    assert len(seen.sessions) == 1


def test_a_middleware_made_before_init_counts_from_the_first_request_on() -> None:
    wrapped = WsgiMiddleware(program)
    with capture() as seen:
        call_wsgi(wrapped, "/ok")
    assert counts(seen) == {"exited": 1}
    assert seen.sessions == []


def test_the_body_is_closed_once_and_the_unit_ends_with_it() -> None:
    body = Closing()
    with capture(session_mode="request") as seen:
        answer = WsgiMiddleware(lambda environ, start: body)(environ(), started)
        assert list(answer) == [b"a", b"b"]
        seen.client.flush()
        assert counts(seen) == {}
        answer.close()  # type: ignore[attr-defined]
    assert counts(seen) == {"exited": 1}
    assert body.closed == 1


def test_a_failure_at_close_is_a_crash() -> None:
    with capture(session_mode="request") as seen:
        answer = WsgiMiddleware(lambda environ, start: Closing(fail=True))(environ(), started)
        with pytest.raises(BufferError):
            answer.close()  # type: ignore[attr-defined]
    assert counts(seen) == {"crashed": 1}
    assert len(seen.events) == 1


def test_a_body_that_no_server_closes_is_counted_by_its_finalizer() -> None:
    with capture(session_mode="request") as seen:
        answer = WsgiMiddleware(lambda environ, start: Closing())(environ(), started)
        del answer
        gc.collect()
        seen.client.flush()
        assert counts(seen) == {"exited": 1}


def test_a_body_that_fails_ends_its_unit_without_being_closed() -> None:
    """uvicorn's own bridge to WSGI closes nothing."""

    def failing() -> Iterator[bytes]:
        yield b"a"
        raise OSError("gone")

    with capture(session_mode="request") as seen:
        answer = WsgiMiddleware(lambda environ, start: failing())(environ(), started)
        with pytest.raises(OSError, match="gone"):
            list(answer)
        seen.client.flush()
        assert counts(seen) == {"crashed": 1}
        answer.close()  # type: ignore[attr-defined]
    assert counts(seen) == {"crashed": 1}


def test_lists_and_tuples_go_through_as_they_are() -> None:
    with capture(session_mode="request"):
        for body in ([b"a"], (b"a",)):
            assert (
                WsgiMiddleware(lambda environ, start, body=body: body)(environ(), started) is body
            )


def test_a_file_wrapper_goes_through_as_it_is_and_ends_the_unit_when_it_is_closed() -> None:
    """Servers look whether they get their own wrapper back, to use sendfile."""
    from wsgiref.util import FileWrapper

    made = FileWrapper(io.BytesIO(b"x"))
    around = {**environ(), "wsgi.file_wrapper": FileWrapper}
    with capture(session_mode="request") as seen:
        answer = WsgiMiddleware(lambda environ, start: made)(around, started)
        assert answer is made
        seen.client.flush()
        assert counts(seen) == {}
        answer.close()
    assert counts(seen) == {"exited": 1}


def test_a_file_of_a_server_whose_wrapper_is_a_function_goes_through_as_it_is() -> None:
    """uWSGI."""
    made = io.BytesIO(b"x")
    around = {**environ(), "wsgi.file_wrapper": lambda file, size=0: file}
    with capture(session_mode="request") as seen:
        answer = WsgiMiddleware(lambda environ, start: made)(around, started)
        assert answer is made
        answer.close()  # type: ignore[attr-defined]
    assert counts(seen) == {"exited": 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SystemExit(0), "exited"),
        (SystemExit(None), "exited"),
        (SystemExit(3), "crashed"),
        (KeyboardInterrupt(), "exited"),
        (GeneratorExit(), "exited"),
    ],
)
def test_how_a_request_ends_by_will(error: BaseException, outcome: str) -> None:
    def leaving(environ: Any, start: Any) -> Any:
        raise error

    with capture(session_mode="request") as seen, pytest.raises(type(error)):
        WsgiMiddleware(leaving)(environ(), started)
    assert counts(seen) == {outcome: 1}


def test_a_body_may_be_produced_on_another_thread() -> None:
    with capture(session_mode="request") as seen:
        answer = WsgiMiddleware(program)({**environ(), "PATH_INFO": "/late-user"}, started)
        received: list[bytes] = []
        thread = threading.Thread(target=lambda: received.extend(answer))
        thread.start()
        thread.join()
        answer.close()  # type: ignore[attr-defined]
    assert received == [b"one", b"two"]
    assert users(seen) == {"late-7"}


def test_requests_leave_nothing_behind() -> None:
    """A scope for each connection that is kept alive is how programs grow."""
    wrapped = WsgiMiddleware(program)
    with capture(session_mode="request"):
        for path in ("/stream", "/ok", "/late-user"):
            call_wsgi(wrapped, path)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(1000):
            call_wsgi(wrapped, "/stream")
        gc.collect()
        assert len(gc.get_objects()) - before < 100


def test_a_request_makes_no_garbage_for_the_collector() -> None:
    """Cycles would keep request data alive until the collector comes by."""
    wrapped = WsgiMiddleware(program)
    with capture(session_mode="request"):
        call_wsgi(wrapped, "/stream")
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                answer = wrapped({**environ(), "PATH_INFO": "/stream"}, started)
                list(answer)
                answer.close()  # type: ignore[attr-defined]
            del answer
            assert gc.collect() == 0
        finally:
            gc.enable()
