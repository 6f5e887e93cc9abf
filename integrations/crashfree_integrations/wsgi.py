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
from contextvars import Context, copy_context
from typing import Any, Final, TypeAlias, cast

import crashfree
from crashfree.integration import Service, Unit, wsgi_request

Environ: TypeAlias = "dict[str, Any]"
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
Started: TypeAlias = Callable[[Unit, Environ], None]

MECHANISM = "wsgi"
_OVER: Final = object()


class WsgiMiddleware:
    """Wraps a WSGI application.

    `sessions=False` collects events and request data without counting sessions. Put around an
    application, it says that this process serves requests: see `session_mode` of `init`.
    """

    __slots__ = ("_app", "_service")
    _app: Application
    _service: Service

    def __init__(self, app: Application, *, sessions: bool = True) -> None:
        client = crashfree.get_client()
        self._app = app
        self._service = Service(client, MECHANISM, wsgi_request, sessions=sessions)
        if sessions:
            client.serves_units()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        service = self._service
        client = crashfree.get_client()
        if service.client is not client:
            service = self._service = service.of(client)
        begun = Unit.serving(service, (environ,))
        if begun is None:
            return self._app(environ, start_response)
        return serve(begun, self._app, environ, start_response)


class Strings(list[bytes]):
    """A body whose parts are all made, with something left to be closed."""

    __slots__ = ("close",)
    close: Callable[[], object]


def serve(
    begun: Unit,
    app: Application,
    environ: Environ,
    start_response: StartResponse,
    started: Started | None = None,
) -> Iterable[bytes]:
    """Let `app` answer a request as the work of `begun`, entered by now, which ends with the body.

    `started`: called once the application starts its answer, while it still knows the request.
    """

    def noting(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        if status >= "5" or begun.service.client.crashed_statuses:
            _judge(begun, status, exc_info)
        if started is not None:
            started(begun, environ)
        if exc_info:
            return start_response(status, headers, exc_info)
        return start_response(status, headers)

    try:
        return sent(begun, app(environ, noting), environ)
    except BaseException as error:
        begun.crash(error)
        begun.end()
        raise
    finally:
        begun.leave()


def sent(begun: Unit, body: Iterable[bytes], environ: Environ) -> Iterable[bytes]:
    """Return what to give to the server, so that `begun`, entered, ends with the body."""
    kind = type(body)
    if kind is list or kind is tuple or kind is Strings:
        # All of it is there: nothing of the program runs any more.
        begun.end()
        return body
    if _is_file_wrapper(body, environ):
        return _ended_by_close(body, begun)
    return Body(body, begun)


class Body:
    """The body of a response; ends the unit when it is closed, raises, or is thrown away.

    Made while its unit is entered: whatever produces it runs in a copy of that context. That costs
    a tenth of entering the unit for every part, and leaves no trace in a thread that serves the
    parts of several bodies in turns.
    """

    __slots__ = ("_close", "_context", "_source", "_unit")
    _context: Context
    _source: Iterator[bytes]
    _close: Callable[[], object] | None
    _unit: Unit

    def __init__(self, source: Iterable[bytes], unit: Unit) -> None:
        self._unit = unit
        self._close = getattr(source, "close", None)
        self._source = iter(source)
        self._context = copy_context()

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        try:
            part: Any = self._context.run(next, self._source, _OVER)
        except BaseException as error:
            self._context.run(self._unit.crash, error)
            # It is over, and not every server closes a body that has failed.
            self._unit.end()
            raise
        if part is _OVER:
            raise StopIteration
        return part  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close what the application returned, then end the unit."""
        try:
            if self._close is not None:
                self._context.run(self._close)
        except BaseException as error:
            self._context.run(self._unit.crash, error)
            raise
        finally:
            self._unit.end()

    def __del__(self) -> None:
        # A server that forgets close() must not cost a session its count.
        if self._unit.live:
            self._unit.end()


def _judge(begun: Unit, status: str, exc_info: Any) -> None:
    code = status[:3]
    if not code.isdecimal():
        return
    if code >= "500":
        error = exc_info[1] if exc_info else sys.exc_info()[1]
        if error is not None:
            begun.crash(error)
    begun.answered(int(code))


def _is_file_wrapper(body: object, environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, cast("type[object]", wrapper))
    # uWSGI gives a function that returns the file itself, mod_wsgi one that wraps it.
    return wrapper is not None and (hasattr(body, "read") or hasattr(body, "filelike"))


def _ended_by_close(body: Iterable[bytes], begun: Unit) -> Iterable[bytes]:
    original: Callable[[], object] | None = getattr(body, "close", None)

    run = copy_context().run

    def close() -> None:
        try:
            if original is not None:
                run(original)
        except BaseException as error:
            run(begun.crash, error)
            raise
        finally:
            begun.end()

    try:
        body.close = close  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    except AttributeError:
        # A file wrapper made in C: what is left is the server's work.
        begun.end()
    return body
