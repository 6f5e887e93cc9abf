"""WSGI: one unit of work for each request, until its body has been sent.

    app = WsgiMiddleware(app)

A crash while the body streams counts as one, and so does a body that the server never closes: the
finalizer of the body ends its unit. Lists and tuples go through untouched, so that servers still
see their length; file wrappers go through untouched, so that servers can still use sendfile.

An answer of 500 or above that is given while an exception is being handled, or with its `exc_info`,
is a crash: the exception was turned into it.

Hook used: PEP 3333 itself. Threads: any; a body may be produced on another thread than the call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, cast

import crashfree
from crashfree.integration import JoinedUnit, Unit, unit, wsgi_request

Environ: TypeAlias = "dict[str, Any]"
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
Started: TypeAlias = Callable[[Unit, Environ], None]

MECHANISM = "wsgi"


class WsgiMiddleware:
    """Wraps a WSGI application.

    `sessions=False` collects events and request data without counting sessions. Put around an
    application, it says that this process serves requests: see `session_mode` of `init`.
    """

    __slots__ = ("_app", "_sessions")
    _app: Application
    _sessions: bool

    def __init__(self, app: Application, *, sessions: bool = True) -> None:
        self._app = app
        self._sessions = sessions
        if sessions:
            crashfree.get_client().serves_units()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        begun = unit(mechanism=MECHANISM, session=self._sessions)
        if isinstance(begun, JoinedUnit):
            return self._app(environ, start_response)
        begun.set_request(lambda: wsgi_request(environ))
        return serve(begun, self._app, environ, start_response)


def serve(
    begun: Unit,
    app: Application,
    environ: Environ,
    start_response: StartResponse,
    started: Started | None = None,
) -> Iterable[bytes]:
    """Let `app` answer a request as the work of `begun`, which ends with the body.

    `started`: called once the application starts its answer, while it still knows the request.
    """
    begun.enter()
    try:
        body = app(environ, _noting(begun, environ, start_response, started))
    except BaseException as error:
        begun.crash(error)
        begun.leave()
        begun.end()
        raise
    begun.leave()
    kind = type(body)
    if kind is list or kind is tuple:
        # All of it is there: nothing of the program runs any more.
        begun.end()
        return body
    if _is_file_wrapper(body, environ):
        return _ended_by_close(body, begun)
    return Body(body, begun)


class Body:
    """The body of a response; ends the unit when it is closed, raises, or is thrown away."""

    __slots__ = ("_iterator", "_source", "_unit")
    _source: Iterable[bytes]
    _iterator: Iterator[bytes] | None
    _unit: Unit

    def __init__(self, source: Iterable[bytes], unit: Unit) -> None:
        self._source = source
        self._iterator = None
        self._unit = unit

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        unit = self._unit
        unit.enter()
        try:
            if self._iterator is None:
                self._iterator = iter(self._source)
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException as error:
            unit.crash(error)
            raise
        finally:
            unit.leave()

    def close(self) -> None:
        """Close what the application returned, then end the unit."""
        unit = self._unit
        close = getattr(self._source, "close", None)
        if close is None:
            unit.end()
            return
        unit.enter()
        try:
            close()
        except BaseException as error:
            unit.crash(error)
            raise
        finally:
            unit.leave()
            unit.end()

    def __del__(self) -> None:
        # A server that forgets close() must not cost a session its count.
        self._unit.end()


def _noting(
    begun: Unit, environ: Environ, start_response: StartResponse, started: Started | None
) -> StartResponse:
    def noting(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        code = status[:3]
        if code.isdecimal():
            if code >= "500":
                error = exc_info[1] if exc_info else sys.exc_info()[1]
                if error is not None:
                    begun.crash(error)
            begun.answered(int(code))
        if started is not None:
            started(begun, environ)
        if exc_info:
            return start_response(status, headers, exc_info)
        return start_response(status, headers)

    return noting


def _is_file_wrapper(body: object, environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, cast("type[object]", wrapper))
    # uWSGI gives a function that returns the file itself, mod_wsgi one that wraps it.
    return wrapper is not None and (hasattr(body, "read") or hasattr(body, "filelike"))


def _ended_by_close(body: Iterable[bytes], begun: Unit) -> Iterable[bytes]:
    original: Callable[[], object] | None = getattr(body, "close", None)

    def close() -> None:
        try:
            if original is not None:
                original()
        except BaseException as error:
            begun.crash(error)
            raise
        finally:
            begun.end()

    try:
        body.close = close  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    except AttributeError:
        # A file wrapper made in C: what is left is the server's work.
        begun.end()
    return body
