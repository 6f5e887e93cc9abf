"""What uWSGI loads; it is played here by what it does in C: run, look inside, call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crashfree.testing import capture
from crashfree_integrations.mounted import of_file, wanted
from crashfree_integrations.uwsgi import UwsgiIntegration
from crashfree_integrations.wsgi import WsgiMiddleware

SOURCE = """
class Own:
    kind = "own"
    def __call__(self, environ, start_response):
        start_response("200 OK", [])
        return [b"served"]
application = other = Own()
make = lambda: application
"""


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("uwsgi")
    module.__dict__.update(
        applications=None, opt={}, version_info=(2, 0, 30, 0, b""), worker_id=lambda: 1
    )
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    return module


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of an application, importable."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "served.py"
    path.write_text(SOURCE)
    yield path
    for name in set(sys.modules) - before:
        if name == "served" or name.startswith("uwsgi_"):
            del sys.modules[name]


def run(name: str, path: Path, source: str | None = None) -> dict[str, Any]:
    """Run a file as a module, as uWSGI does it."""
    module = sys.modules.setdefault(name, ModuleType(name))
    exec(compile(source or path.read_text(), str(path), "exec"), vars(module))
    return vars(module)


def call(application: Callable[..., Any]) -> object:
    return application({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: print)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"module": b"app"}, {"app": {"application"}}),
        ({"module": b"app:wsgi"}, {"app": {"wsgi"}}),
        ({"wsgi": b"a.b", "callable": b"wsgi"}, {"a.b": {"wsgi"}}),
        ({"module": b"app:make()"}, {"app": {"make()"}}),
        ({"wsgi-file": b"/srv/app.py"}, {"uwsgi_file__srv_app": {"application"}}),
        ({"file": b"app.wsgi", "callable": b"x"}, {"uwsgi_file_app_wsgi": {"x"}}),
        (
            {"mount": [b"/a=app:one", b"/b=app:two", b"/c=c.py"]},
            {"app": {"one", "two"}, "uwsgi_file_c": {"application"}},
        ),
        ({"eval": b"application = 1"}, {"uwsgi_eval_config": {"application"}}),
        ({"mount": True, "module": None}, {}),
    ],
)
def test_what_uwsgi_was_told_to_load(
    options: dict[str, object], expected: dict[str, set[str]]
) -> None:
    assert wanted(options) == expected


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("app.py", "app"),
        ("./app.py", "__app"),
        ("/srv/a.b/app.py", "_srv_a_b_app"),
        ("happy", "happy"),
        ("sym://app.wsgi", "app_wsgi"),
    ],
)
def test_the_name_that_uwsgi_makes_of_a_path(path: str, name: str) -> None:
    assert of_file(path) == f"uwsgi_file_{name}"


def test_a_module_holds_the_middleware_while_uwsgi_looks_and_then_its_own(
    uwsgi: Any, served: Path
) -> None:
    uwsgi.opt = {"module": b"served"}
    with capture(integrations=[UwsgiIntegration()]) as seen:
        module: Any = import_module("served")
        taken = module.application
        assert isinstance(taken, WsgiMiddleware)
        assert taken.kind == "own", "whoever gets hold of it may take it for the application"
        assert call(taken) == [b"served"]
        assert module.application is module.other
        call(taken)
        seen.client.flush()
        (payload,) = seen.aggregates
        assert sum(bucket["exited"] for bucket in payload["aggregates"]) == 2


def test_a_fork_puts_it_back(uwsgi: Any, served: Path) -> None:
    uwsgi.opt = {"module": b"served"}
    with capture(integrations=[UwsgiIntegration()]):
        module: Any = import_module("served")
        assert module.application is not module.other
        uwsgi.post_fork_hook()
        assert module.application is module.other


def test_an_uninstall_puts_it_back_and_waits_no_more(uwsgi: Any, served: Path) -> None:
    uwsgi.opt = {"module": [b"served", b"later"], "wsgi-file": b"x.py"}
    tracing = sys.gettrace()
    with capture(integrations=[UwsgiIntegration()]):
        module: Any = import_module("served")
    assert module.application is module.other
    assert sys.gettrace() is tracing
    assert not hasattr(run("uwsgi_file_x", served)["application"], "_app")


def test_a_factory_makes_it_with_the_middleware_around_it(uwsgi: Any, served: Path) -> None:
    uwsgi.opt = {"module": b"served:make()"}
    with capture(integrations=[UwsgiIntegration()]):
        module: Any = import_module("served")
        assert isinstance(module.make(), WsgiMiddleware)
        uwsgi.post_fork_hook()
        assert module.make() is module.application


@pytest.mark.parametrize("whose", ["uwsgi", "the module"])
def test_a_table_of_applications(uwsgi: Any, served: Path, whose: str) -> None:
    uwsgi.opt = {"module": b"served"}
    with served.open("a") as source:
        owner = "import uwsgi; uwsgi." if whose == "uwsgi" else ""
        source.write(f"{owner}applications = {{b'': application, b'/x': None}}\n")
    with capture(integrations=[UwsgiIntegration()]):
        module: Any = import_module("served")
        table = (uwsgi if whose == "uwsgi" else module).applications
        assert isinstance(table[b""], WsgiMiddleware)
        assert table[b"/x"] is None
        uwsgi.post_fork_hook()
        assert table[b""] is module.application


@pytest.mark.parametrize("option", ["wsgi-file", "eval"])
def test_code_that_is_run_without_an_import(uwsgi: Any, served: Path, option: str) -> None:
    uwsgi.opt = {option: b"served.py"}
    name = {"wsgi-file": "uwsgi_file_served", "eval": "uwsgi_eval_config"}[option]
    before = watching()
    with capture(integrations=[UwsgiIntegration()]):
        namespace = run(name, served)
        assert isinstance(namespace["application"], WsgiMiddleware)
        call(namespace["application"])
        assert namespace["application"] is namespace["other"]
        assert watching() == before


def watching() -> list[object]:
    """Who watches what runs."""
    monitoring: Any = getattr(sys, "monitoring", None)
    tools = [] if monitoring is None else [monitoring.get_tool(tool) for tool in range(6)]
    return [sys.gettrace(), *tools]


def test_code_that_is_running_when_the_program_calls_init(
    uwsgi: Any, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uwsgi.opt = {"wsgi-file": b"served.py"}
    source = "capturing.__enter__()\n" + served.read_text()
    module = ModuleType("uwsgi_file_served")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    capturing = vars(module)["capturing"] = capture(integrations=[UwsgiIntegration()])
    try:
        namespace = run(module.__name__, served, source)
        assert isinstance(namespace["application"], WsgiMiddleware)
    finally:
        capturing.__exit__(None, None, None)
    assert namespace["application"] is namespace["other"]


def test_an_application_that_is_counted_is_left_alone(uwsgi: Any, served: Path) -> None:
    uwsgi.opt = {"module": b"served"}
    with served.open("a") as source:
        source.write(
            "from crashfree_integrations.wsgi import WsgiMiddleware\n"
            "application = mine = WsgiMiddleware(application)\n"
        )
    with capture(integrations=[UwsgiIntegration()]):
        module: Any = import_module("served")
        assert module.application is module.mine


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="sys.monitoring has room for several")
def test_a_debugger_is_not_pushed_out(
    uwsgi: Any, served: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uwsgi.opt = {"wsgi-file": b"served.py"}

    def debugger(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(debugger)
    try:
        with capture(integrations=[UwsgiIntegration()]):
            assert sys.gettrace() is debugger
            namespace = run("uwsgi_file_served", served)
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)
    assert namespace["application"] is namespace["other"]
    assert "WsgiMiddleware" in caplog.text


def test_what_is_loaded_in_ways_that_cannot_be_watched_is_named(
    uwsgi: Any, caplog: pytest.LogCaptureFixture
) -> None:
    uwsgi.opt = {"ini-paste": b"production.ini"}
    with capture(integrations=[UwsgiIntegration()]):
        assert "loads by 'ini-paste'" in caplog.text


@pytest.mark.parametrize(("worker", "goes_on"), [(1, True), (0, False)])
def test_only_a_worker_goes_on_waiting_for_what_is_loaded_after_the_fork(
    uwsgi: Any, served: Path, worker: int, goes_on: bool
) -> None:
    uwsgi.opt = {"wsgi-file": b"served.py", "lazy-apps": True}
    with capture(integrations=[UwsgiIntegration()]):
        uwsgi.worker_id = lambda: worker
        uwsgi.post_fork_hook()
        namespace = run("uwsgi_file_served", served)
        assert isinstance(namespace["application"], WsgiMiddleware) is goes_on
