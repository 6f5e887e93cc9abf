"""Django under the contract, by WSGI and by ASGI, with Django REST framework, and commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crashfree.errors import IntegrationError
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.asgi import AsgiMiddleware
from crashfree_integrations.django import DjangoIntegration, RestFrameworkIntegration
from crashfree_integrations.wsgi import WsgiMiddleware
from tests.support.http_calls import call_asgi, call_wsgi
from tests.support.http_contract import ROUTED, Harness, HttpContract, counts, users

django = pytest.importorskip("django")
pytest.importorskip("rest_framework")

from tests.integrations import django_program

django_program.configure()
django_program.add_rest_routes()

from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management.base import BaseCommand
from django.core.signals import got_request_exception
from django.core.wsgi import get_wsgi_application
from rest_framework.views import APIView

pytestmark = [
    pytest.mark.usefixtures("collected"),
    # Django leaves the spooled body of a request to the collector when its view fails, and warns
    # of every file that it sends by ASGI.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning"),
]


class DjangoHarness:
    name = "django"
    route = "/items/<int:item>/error"
    lacks = {  # noqa: RUF012
        "/background": "Django runs nothing after the answer",
        "ws:/talk": "Django serves no websockets",
        "ws:/talk-fails": "Django serves no websockets",
        "cancel": "WSGI has no tasks",
    }
    patched = (
        (WSGIHandler, "__call__"),
        (ASGIHandler, "__call__"),
        (BaseHandler, "load_middleware"),
        (BaseHandler, "get_response"),
        (BaseHandler, "get_response_async"),
        (BaseHandler, "process_exception_by_middleware"),
        (BaseCommand, "run_from_argv"),
        (APIView, "handle_exception"),
    )

    def integrations(self) -> list[Integration]:
        return [DjangoIntegration(), RestFrameworkIntegration()]

    def application(self) -> Any:
        return get_wsgi_application()

    wrapped = staticmethod(WsgiMiddleware)
    talk = staticmethod(call_wsgi)

    def receivers(self) -> object:
        return list(got_request_exception.receivers)


class TestDjangoByWsgi(HttpContract):
    harness: Harness = DjangoHarness()


class TestDjangoByAsgi(HttpContract):
    class _Harness(DjangoHarness):
        name = "django, ASGI"
        lacks = {  # noqa: RUF012
            name: why for name, why in DjangoHarness.lacks.items() if name != "cancel"
        }

        def application(self) -> Any:
            return get_asgi_application()

        wrapped = staticmethod(AsgiMiddleware)  # type: ignore[assignment]
        talk = staticmethod(call_asgi)  # type: ignore[assignment]

    harness: Harness = _Harness()


@pytest.fixture(params=["wsgi", "asgi"])
def served(request: pytest.FixtureRequest) -> Any:
    """Serve one request of the program; attached by name."""

    def serve(path: str, **given: Any) -> Any:
        if request.param == "wsgi":
            return call_wsgi(get_wsgi_application(), path, **given)
        return call_asgi(get_asgi_application(), path, **given)

    return serve


NAMED = ["django", "djangorestframework"]


def test_async_views_under_both_protocols(served: Any) -> None:
    with capture(integrations=NAMED) as seen:
        served("/async/7/error")
        served("/async-turned")
    assert counts(seen) == {"crashed": 2}
    assert [event["exception"]["values"][-1]["type"] for event in seen.events] == [
        "ZeroDivisionError",
        "Broken",
    ]
    assert seen.events[0]["transaction"] == "/async/<int:item>/error"


def test_rest_framework_answers(served: Any) -> None:
    with capture(integrations=NAMED) as seen:
        assert [served(f"/rest/{what}").status for what in ("ok", "404", "500", "error")] == [
            200, 404, 500, 500,
        ]  # fmt: skip
    assert counts(seen) == {"exited": 2, "crashed": 2}
    assert [event["exception"]["values"][-1]["type"] for event in seen.events] == [
        "APIException",
        "ZeroDivisionError",
    ]
    assert {event["transaction"] for event in seen.events} == {"/rest/<str:what>"}


def test_a_route_that_is_a_pattern_is_named_by_it(served: Any) -> None:
    with capture(integrations=NAMED) as seen:
        served("/old/7")
    assert seen.events[0]["transaction"] == r"^old/(?P<item>\d+)$"


def test_a_file_is_counted_when_it_is_sent(served: Any) -> None:
    with capture(integrations=NAMED) as seen:
        assert served("/file").body == b"contents"
    assert counts(seen) == {"exited": 1}


def test_a_form_is_told_when_it_was_read_and_personal_data_is_allowed(served: Any) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    with capture(integrations=NAMED, send_default_pii=True) as seen:
        served("/form-fails", headers=kind, body=b"name=ada&tag=a&tag=b")
    assert seen.events[0]["request"]["data"] == {"name": "ada", "tag": ["a", "b"]}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_user_counts_when_personal_data_is_allowed(served: Any, allowed: bool) -> None:
    with capture(integrations=NAMED, send_default_pii=allowed) as seen:
        served("/mine")
        served("/mine-fails")
        served("/ok")
    assert users(seen) == ({"9", None} if allowed else {None})
    assert seen.events[0].get("user") == (
        {"id": "9", "username": "ada", "email": "ada@example.com"} if allowed else None
    )


def test_debug_and_propagation_make_one_event(served: Any) -> None:
    from django.test import override_settings

    for settings in ({"DEBUG": True}, {"DEBUG_PROPAGATE_EXCEPTIONS": True}):
        with override_settings(**settings), capture(integrations=NAMED) as seen:
            served(ROUTED)
        assert counts(seen) == {"crashed": 1}
        assert len(seen.events) == 1


def test_a_client_that_stops_sending_its_request_is_no_crash() -> None:
    class Broken:
        def read(self, *_: object) -> bytes:
            raise OSError("gone")

        readline = read

    with capture(integrations=NAMED) as seen:
        application = get_wsgi_application()
        answer = application(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": "/read-fails",
                "SERVER_NAME": "x",
                "SERVER_PORT": "80",
                "CONTENT_LENGTH": "5",
                "wsgi.input": Broken(),
                "wsgi.url_scheme": "http",
            },
            lambda status, headers: lambda data: None,
        )
        answer.close()
    assert counts(seen) == {"exited": 1}
    assert seen.events == []


def test_the_test_client_makes_events_and_no_sessions() -> None:
    from django.test import Client

    with capture(integrations=NAMED, session_mode="application") as seen:
        Client(raise_request_exception=False).get(ROUTED)
    assert counts(seen) == {}
    assert len(seen.events) == 1
    assert seen.sessions[-1]["status"] == "exited"


SETTINGS = """
import crashfree
from crashfree.testing import MemoryTransport
SENT = MemoryTransport()
crashfree.init(release="a@1", spool=False, transport=SENT, {options})
SECRET_KEY = "x" * 50
ROOT_URLCONF = "settings"
urlpatterns = []
INSTALLED_APPS = ["app"]
ALLOWED_HOSTS = ["*"]
USE_TZ = True
"""

COMMAND = """
from django.core.management.base import BaseCommand, CommandError

class Command(BaseCommand):
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("what")

    def handle(self, what, **options):
        if what == "wrong":
            raise CommandError("wrong")
        if what == "serve":
            from django.core.wsgi import get_wsgi_application
            get_wsgi_application()
        if what == "fail":
            1 / 0
"""

MANAGE = """
import atexit, json, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

def tell():
    import crashfree, settings
    crashfree.close()
    print(json.dumps({
        "sessions": [session["status"] for session in settings.SENT.sessions],
        "transactions": [event.get("transaction") for event in settings.SENT.events],
    }))

atexit.register(tell)
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


@pytest.mark.parametrize("options", ["", 'integrations=["django"]'], ids=["by itself", "by name"])
@pytest.mark.parametrize(
    ("arguments", "sessions", "transactions"),
    [
        (["work", "well"], ["exited"], []),
        (["work", "wrong"], ["exited"], []),
        (["work", "fail"], ["crashed"], ["work"]),
        (["work", "serve"], [], []),
        (["runserver", "--help"], [], []),
    ],
    ids=["well", "refused", "failed", "makes a handler", "runserver"],
)
def test_a_management_command_is_a_session_and_a_server_is_none(
    tmp_path: Path, options: str, arguments: list[str], sessions: list[str], transactions: list[str]
) -> None:
    import json

    commands = tmp_path / "app" / "management" / "commands"
    commands.mkdir(parents=True)
    for package in (tmp_path / "app", tmp_path / "app" / "management", commands):
        (package / "__init__.py").write_text("")
    (commands / "work.py").write_text(COMMAND)
    (tmp_path / "settings.py").write_text(SETTINGS.format(options=options))
    (tmp_path / "manage.py").write_text(MANAGE)
    result = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    assert told == {"sessions": sessions, "transactions": transactions}, result.stderr


def test_an_old_django_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django, "__version__", "3.2.25")
    with pytest.raises(IntegrationError, match=r"django>=4\.2, found 3\.2\.25"):
        capture(integrations=["django"]).__enter__()
