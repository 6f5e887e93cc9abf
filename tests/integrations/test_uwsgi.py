"""uWSGI as its workers see it: a module made in C. The real one: journeys/test_servers_real.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import crashfree
from crashfree.testing import capture
from crashfree_integrations.uwsgi import UwsgiDecoratorsIntegration, UwsgiIntegration
from crashfree_integrations.wsgi import WsgiMiddleware


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("uwsgi")
    module.__dict__.update(
        applications=None, opt={}, version_info=(2, 0, 30, 0, b""), worker_id=lambda: 0
    )
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    return module


def test_a_worker_forgets_what_is_the_master_s(uwsgi: Any) -> None:
    called: list[str] = []
    uwsgi.post_fork_hook = mine = lambda: called.append("the program's")
    with capture(integrations=[UwsgiIntegration()], session_mode="request") as seen:
        with crashfree.session():
            pass
        uwsgi.post_fork_hook()
        assert called == ["the program's"]
        seen.client.flush()
        assert seen.aggregates == [], "it is the master's to tell"
    assert uwsgi.post_fork_hook is mine


def test_a_hook_that_was_not_there_is_gone_again(uwsgi: Any) -> None:
    with capture(integrations=[UwsgiIntegration()]):
        assert callable(uwsgi.post_fork_hook)
    assert not hasattr(uwsgi, "post_fork_hook")


def test_a_hook_of_somebody_later_stays(uwsgi: Any) -> None:
    with capture(integrations=[UwsgiIntegration()]):
        uwsgi.post_fork_hook = later = print
    assert uwsgi.post_fork_hook is later


def test_what_is_waiting_is_sent_when_a_worker_leaves(uwsgi: Any) -> None:
    called: list[str] = []
    uwsgi.atexit = mine = lambda: (
        called.append("the program's") or crashfree.capture_message("last")
    )
    with capture(integrations=[UwsgiIntegration()], session_mode="request") as seen:
        with crashfree.session():
            pass
        uwsgi.atexit()
        assert called == ["the program's"]
        assert len(seen.events) == len(seen.aggregates) == 1
        assert not seen.client.closed, "an exit function of Python may have something to say yet"
    assert uwsgi.atexit is mine


def test_where_python_s_own_exit_is_left_out_the_client_is_closed(uwsgi: Any) -> None:
    uwsgi.opt = {"skip-atexit-teardown": True}
    with capture(integrations=[UwsgiIntegration()], session_mode="request") as seen:
        uwsgi.atexit()
        assert seen.client.closed


@pytest.mark.parametrize(
    ("version", "worker", "there", "late"),
    [
        ((2, 0, 29), 1, False, True),
        ((2, 0, 29), 1, True, False),
        ((2, 0, 29), 0, False, False),
        ((2, 0, 30), 1, False, False),
    ],
)
def test_nothing_is_sent_with_what_is_gone_by_then(
    uwsgi: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: tuple[int, ...],
    worker: int,
    there: bool,
    late: bool,
) -> None:
    """uWSGI before 2.0.30 with lazy applications."""
    uwsgi.version_info = (*version, 0, b"")
    uwsgi.worker_id = lambda: worker
    if not there:
        monkeypatch.delitem(sys.modules, "ssl", raising=False)
    with capture(integrations=[UwsgiIntegration()], session_mode="request") as seen:
        uwsgi.atexit()
        assert seen.client.closed is late
    assert ("shared-import = ssl" in caplog.text) is late


def test_the_decorators_know_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    decorators = ModuleType("uwsgidecorators")
    chain: list[Callable[[], object]] = [print]
    decorators.__dict__["postfork_chain"] = chain
    monkeypatch.setitem(sys.modules, "uwsgidecorators", decorators)
    with capture(integrations=[UwsgiDecoratorsIntegration()]) as seen:
        assert chain == [seen.client.forget, print]
    assert chain == [print]


@pytest.mark.parametrize(
    "options",
    [
        {"auto_integrations": True},
        {"integrations": ["uwsgi"]},
        {"integrations": ["uwsgi"], "auto_integrations": True},
    ],
    ids=["found", "named", "both"],
)
def test_what_left_a_request_is_not_told_again_when_uwsgi_prints_it(
    uwsgi: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    printed: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: printed.append(error))
    before = sys.excepthook

    def failing(environ: Any, start_response: Any) -> list[bytes]:
        raise OSError("leaves the request")

    with capture(session_mode="request", **options) as seen:
        assert "uwsgi" in seen.client.integrations
        for call in (
            lambda: WsgiMiddleware(failing)({"REQUEST_METHOD": "GET"}, print),
            lambda: failing({}, print),
        ):
            try:
                call()
            except OSError as error:
                sys.excepthook(OSError, error, error.__traceback__)
        ways = [event["exception"]["values"][-1]["mechanism"]["type"] for event in seen.events]
    assert ways == ["wsgi", "excepthook"], "the second one left no request"
    assert len(printed) == 2
    assert sys.excepthook is before
