"""Who is served."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

import crashfree


def remember_user(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        user = request.headers.get("X-User")
        if user:
            crashfree.set_user({"id": user})
        return get_response(request)

    return middleware
