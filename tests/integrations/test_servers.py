"""Servers in one process: where they get an application from, what is around it, and letting go.

Their work is tested with real processes: journeys/test_run_servers.py, test_servers_real.py.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import crashfree
from crashfree.errors import IntegrationError
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.granian import GranianIntegration
from crashfree_integrations.gunicorn import GunicornIntegration
from crashfree_integrations.hypercorn import HypercornIntegration
from crashfree_integrations.uvicorn import UvicornIntegration
from crashfree_integrations.waitress import WaitressIntegration
from crashfree_integrations.wsgi import WsgiMiddleware


async def plain_asgi(scope: Any, receive: Any, send: Any) -> None:
    """An application without a framework."""


def plain_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """An application without a framework."""
    return []


def _gunicorn(application: Any) -> Any:
    base = pytest.importorskip("gunicorn.app.base")
    from gunicorn.workers.sync import SyncWorker

    class Settings:
        worker_class = SyncWorker

    class Serving(base.BaseApplication):  # type: ignore[misc]
        def __init__(self) -> None:
            self.cfg = Settings()
            self.callable = application
            self.logger = None

    return Serving().wsgi()


def _uvicorn(application: Any, **settings: Any) -> Any:
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(application, log_config=None, **settings)
    config.load()
    found = config.loaded_app
    while hasattr(found, "app"):
        found = found.app
    return found


def _hypercorn(application: Any) -> Any:
    utils = pytest.importorskip("hypercorn.utils")
    return utils.wrap_app(application, 1024, None).app


def _granian_asgi(application: Any) -> Any:
    pytest.importorskip("granian")
    from granian.server import mp

    bound = mp._asgi_call_wrap(application, {}, {}).__wrapped__
    assert type(mp.LifespanProtocol(application).callable) is type(bound)
    return bound


def _granian_wsgi(application: Any) -> Any:
    pytest.importorskip("granian")
    from granian.server import mp

    return mp._wsgi_call_wrap(application, {}).__wrapped__


def _waitress(application: Any) -> Any:
    server = pytest.importorskip("waitress.server")
    made = server.create_server(
        application, host="127.0.0.1", port=0, _start=False, clear_untrusted_proxy_headers=False
    )
    try:
        return made.application
    finally:
        made.task_dispatcher.shutdown()
        made.close()


WSGI = [
    (GunicornIntegration, _gunicorn),
    (HypercornIntegration, _hypercorn),
    (GranianIntegration, _granian_wsgi),
    (WaitressIntegration, _waitress),
]
ASGI = [
    (UvicornIntegration, _uvicorn),
    (HypercornIntegration, _hypercorn),
    (GranianIntegration, _granian_asgi),
]


@pytest.mark.parametrize(("integration", "served"), WSGI)
def test_what_has_no_framework_gets_the_middleware_wsgi(integration: Any, served: Any) -> None:
    assert served(plain_wsgi) is plain_wsgi
    with capture(integrations=[integration()]):
        assert isinstance(integration(), Integration)
        assert type(served(plain_wsgi)) is WsgiMiddleware
    assert served(plain_wsgi) is plain_wsgi


@pytest.mark.parametrize(("integration", "served"), ASGI)
def test_what_has_no_framework_gets_the_middleware_asgi(integration: Any, served: Any) -> None:
    assert served(plain_asgi) is plain_asgi
    with capture(integrations=[integration()]):
        assert type(served(plain_asgi)) is AsgiMiddleware
    assert served(plain_asgi) is plain_asgi


@pytest.mark.parametrize(("integration", "served"), WSGI)
def test_what_counts_itself_goes_through_as_it_is_wsgi(integration: Any, served: Any) -> None:
    flask = pytest.importorskip("flask")
    application = flask.Flask("served")
    by_hand = WsgiMiddleware(plain_wsgi)
    with capture(integrations=[integration(), "flask"]):
        assert served(application) is application
        assert served(by_hand) is by_hand
    with capture(integrations=[integration()], auto_integrations=False):
        assert type(served(application)) is WsgiMiddleware, "nobody else counts it"


@pytest.mark.parametrize(("integration", "served"), ASGI)
def test_what_counts_itself_goes_through_as_it_is_asgi(integration: Any, served: Any) -> None:
    fastapi = pytest.importorskip("fastapi")
    application = fastapi.FastAPI()
    by_hand = AsgiMiddleware(plain_asgi)
    with capture(integrations=[integration(), "fastapi"]):
        assert served(application) is application
        assert served(by_hand) is by_hand
    with capture(integrations=[integration()], auto_integrations=False):
        assert type(served(application)) is AsgiMiddleware, "nobody else counts it"


def test_a_call_of_its_own_is_not_what_a_framework_s_integration_watches() -> None:
    flask = pytest.importorskip("flask")

    class Checking(flask.Flask):  # type: ignore[misc]
        def __call__(self, environ: Any, start_response: Any) -> Any:
            raise OSError("before the framework has heard of it")

    with capture(integrations=[HypercornIntegration(), "flask"]):
        assert type(_hypercorn(Checking("checking"))) is WsgiMiddleware


@pytest.mark.parametrize("interface", ["wsgi", "auto"])
@pytest.mark.filterwarnings("ignore:Uvicorn's native WSGI:DeprecationWarning")
def test_uvicorn_puts_it_inside_of_what_is_its_own(interface: str) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    application = plain_wsgi if interface == "wsgi" else plain_asgi
    with capture(integrations=[UvicornIntegration()]):
        config = uvicorn.Config(
            application, log_config=None, interface=interface, log_level="trace"
        )
        config.load()
        around = [type(config.loaded_app).__name__]
        inner = config.loaded_app
        while hasattr(inner, "app"):
            inner = inner.app
            around.append(type(inner).__name__)
    expected = ["ProxyHeadersMiddleware", "MessageLoggerMiddleware"]
    if interface == "wsgi":
        assert [*expected, "WsgiMiddleware"] == [*around[:2], around[-1]]
        assert len(around) == 4, "and the bridge between"
    else:
        assert around == [*expected, "AsgiMiddleware"]


def _classes() -> Iterator[tuple[type[Any], Callable[[], list[Any]]]]:
    def uvicorn() -> list[Any]:
        uvicorn = pytest.importorskip("uvicorn")
        return [uvicorn.Config, uvicorn.Server]

    def hypercorn() -> list[Any]:
        wrappers = pytest.importorskip("hypercorn.app_wrappers")
        return [wrappers.ASGIWrapper, wrappers.WSGIWrapper]

    def granian() -> list[Any]:
        pytest.importorskip("granian")
        modules = [value for name, value in sys.modules.items() if name.startswith("granian.")]
        return [*modules, sys.modules["granian.asgi"].LifespanProtocol]

    def waitress() -> list[Any]:
        return [pytest.importorskip("waitress.server").BaseWSGIServer]

    yield UvicornIntegration, uvicorn
    yield HypercornIntegration, hypercorn
    yield GranianIntegration, granian
    yield WaitressIntegration, waitress


@pytest.mark.parametrize(("integration", "places"), list(_classes()))
def test_taken_out_again_everything_is_as_it_was(integration: Any, places: Any) -> None:
    before = [(place, dict(vars(place))) for place in places()]
    with capture(integrations=[integration()]):
        assert any(dict(vars(place)) != then for place, then in before)
    for place, then in before:
        now = vars(place)
        assert now.keys() == then.keys()
        assert all(now[name] is value for name, value in then.items())


@pytest.mark.parametrize(
    ("module", "integration", "needed"),
    [
        ("uvicorn", UvicornIntegration, r"uvicorn>=0\.30"),
        ("hypercorn", HypercornIntegration, r"hypercorn>=0\.16"),
        ("granian", GranianIntegration, r"granian>=2\.8"),
        ("waitress", WaitressIntegration, r"waitress>=3\.0"),
    ],
)
def test_a_version_that_is_too_old_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, module: str, integration: Any, needed: str
) -> None:
    old = ModuleType(module)
    old.__dict__["__version__"] = "0.1"
    monkeypatch.setitem(sys.modules, module, old)
    with pytest.raises(IntegrationError, match=rf"{needed}, found 0\.1"):
        with capture(integrations=[integration()]):
            pass


def test_the_local_server_makes_no_server_of_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "crashfree.server.running", raising=False)
    assert UvicornIntegration().mode == "request"
    monkeypatch.setitem(sys.modules, "crashfree.server.running", ModuleType("running"))
    assert UvicornIntegration().mode is None


@pytest.mark.parametrize("local", [False, True])
def test_uvicorn_tells_what_is_counted_when_it_shuts_down(
    monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    """A server with an application that knows no lifespan, ended by a signal right after."""
    uvicorn = pytest.importorskip("uvicorn")
    if local:
        monkeypatch.setattr(AsgiMiddleware, "__module__", "crashfree.server.app")
    with capture(integrations=[UvicornIntegration()], session_mode="request") as seen:
        application = AsgiMiddleware(plain_asgi)
        config = uvicorn.Config(application, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        server.config.load()
        server.servers, server.lifespan = [], server.config.lifespan_class(server.config)
        with crashfree.session():
            pass
        asyncio.run(server.shutdown())
        assert len(seen.aggregates) == (0 if local else 1)
