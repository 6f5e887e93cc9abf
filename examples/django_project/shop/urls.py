"""Routes and views of the shop."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path

import crashfree


def show(request: HttpRequest, item: int) -> JsonResponse:
    return JsonResponse({"item": item})


def basket(request: HttpRequest) -> JsonResponse:
    try:
        raise LookupError("the basket is lost")
    except LookupError as error:
        crashfree.capture_exception(error)
    return JsonResponse({"basket": []})


def pay(request: HttpRequest, amount: int) -> JsonResponse:
    return JsonResponse({"share": 100 / amount})


urlpatterns = [
    path("items/<int:item>", show),
    path("basket", basket),
    path("pay/<int:amount>", pay),
]
