"""A Django program with the routes of the contract; settings, urls and views in one module."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
from django.conf import settings
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.urls import path, re_path

import crashfree
from tests.support.http_contract import (
    Broken,
    Refused,
    captured_and_raised,
    divide,
    quietly,
)


class Turning:
    """Answers exceptions by `process_exception`."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_exception(self, request: Any, error: Exception) -> Any:
        if isinstance(error, Broken):
            return HttpResponse("broken", status=503)
        return HttpResponse("refused", status=400) if isinstance(error, Refused) else None


def configure() -> None:
    if settings.configured:
        return
    settings.configure(
        DEBUG=False,
        SECRET_KEY="x" * 50,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
        MIDDLEWARE=[f"{__name__}.Turning"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
    )
    django.setup()


def ok(request: Any) -> Any:
    return HttpResponse("fine")


def handled(request: Any) -> Any:
    quietly()
    return HttpResponse("handled")


def error(request: Any, item: int) -> Any:
    return HttpResponse(divide(item))


async def async_error(request: Any, item: int) -> Any:
    return HttpResponse(divide(item))


def reraised(request: Any) -> Any:
    captured_and_raised()


def returned(request: Any) -> Any:
    return HttpResponse("sorry", status=500)


def turned(request: Any) -> Any:
    raise Broken


async def async_turned(request: Any) -> Any:
    raise Broken


def refused(request: Any) -> Any:
    raise Refused


def missing(request: Any) -> Any:
    raise Http404


def read_fails(request: Any) -> Any:
    assert request.body
    divide(1)


def form_fails(request: Any) -> Any:
    assert request.POST["name"] == "ada"
    divide(1)


def stream(request: Any) -> Any:
    asgi = hasattr(request, "scope")
    return StreamingHttpResponse(async_parts(request.path) if asgi else parts(request.path))


def parts(route: str) -> Iterator[str]:
    yield "one"
    fail_or_not(route)
    while route == "/endless":
        yield "more"
    yield "two"


async def async_parts(route: str) -> AsyncIterator[str]:
    yield "one"
    fail_or_not(route)
    while route == "/endless":
        yield "more"
    yield "two"


def fail_or_not(route: str) -> None:
    if route == "/stream-fails":
        raise BufferError("in the middle")
    if route.startswith("/late-user"):
        crashfree.set_user({"id": "late-7"})
    if route == "/late-user-fails":
        raise BufferError("in the middle")


def file(request: Any) -> Any:
    return FileResponse(io.BytesIO(b"contents"))


def mine(request: Any) -> Any:
    request._cached_user = Account()
    return HttpResponse("mine")


def mine_fails(request: Any) -> Any:
    request._cached_user = Account()
    divide(1)


class Account:
    is_authenticated = True
    pk = 9
    email = "ada@example.com"

    def get_username(self) -> str:
        return "ada"

    def get_email_field_name(self) -> str:
        return "email"


urlpatterns: list[Any] = [
    path("ok", ok),
    path("handled", handled),
    path("items/<int:item>/error", error),
    path("async/<int:item>/error", async_error),
    re_path(r"^old/(?P<item>\d+)$", lambda request, item: divide(int(item))),
    path("reraised", reraised),
    path("returned", returned),
    path("turned", turned),
    path("async-turned", async_turned),
    path("refused", refused),
    path("missing", missing),
    path("read-fails", read_fails),
    path("form-fails", form_fails),
    path("file", file),
    path("mine", mine),
    path("mine-fails", mine_fails),
    *(
        path(route, stream)
        for route in ("stream", "stream-fails", "endless", "late-user", "late-user-fails")
    ),
]


def add_rest_routes() -> None:
    from rest_framework.exceptions import APIException, NotFound
    from rest_framework.response import Response
    from rest_framework.views import APIView

    class Raising(APIView):  # type: ignore[misc]
        def get(self, request: Any, what: str) -> Any:
            if what == "500":
                raise APIException("sorry")
            if what == "404":
                raise NotFound
            if what == "error":
                divide(1)
            return Response({"fine": True})

    urlpatterns.append(path("raised", Raising.as_view(), {"what": "500"}))
    urlpatterns.append(path("rest/<str:what>", Raising.as_view()))
