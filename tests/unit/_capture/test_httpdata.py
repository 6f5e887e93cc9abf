"""The request of an event: what may be told of it."""

from __future__ import annotations

from typing import Any

from crashfree._capture.httpdata import asgi_request, permitted, request_of, wsgi_request
from crashfree._capture.meta import Notes
from crashfree._capture.normalize import Normalizer
from tests.support.clock import FakeClock

ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "/shop",
    "PATH_INFO": "/cart",
    "QUERY_STRING": "a=1&token=x",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8000",
    "wsgi.url_scheme": "https",
    "REMOTE_ADDR": "1.2.3.4",
    "HTTP_HOST": "shop.example",
    "HTTP_USER_AGENT": "curl/8",
    "HTTP_COOKIE": "session=abc",
    "HTTP_X_FORWARDED_FOR": "5.6.7.8",
    "HTTP_AUTHORIZATION": "Bearer abc",
    "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": "",
    "wsgi.input": object(),
}


def told(request: Any, *, personal: bool = False) -> Any:
    normalizer = Normalizer(FakeClock(), max_bytes=8192, notes=Notes())
    return permitted(request, normalizer, personal=personal)


def test_a_wsgi_environment_becomes_a_request() -> None:
    """PEP 3333."""
    request = wsgi_request(ENVIRON)
    assert request["method"] == "POST"
    assert request["url"] == "https://shop.example/shop/cart"
    assert request["query_string"] == "a=1&token=x"
    assert request["headers"]["User-Agent"] == "curl/8"
    assert request["headers"]["Content-Type"] == "application/json"
    assert "Content-Length" not in request["headers"]
    assert request["env"]["REMOTE_ADDR"] == "1.2.3.4"


def test_without_a_host_header_the_server_says_where_it_is() -> None:
    bare = {"REQUEST_METHOD": "GET", "SERVER_NAME": "h", "SERVER_PORT": "8000"}
    assert wsgi_request({**bare, "wsgi.url_scheme": "http"})["url"] == "http://h:8000/"
    default = {**bare, "SERVER_PORT": "80", "wsgi.url_scheme": "http"}
    assert wsgi_request(default)["url"] == "http://h/"
    assert wsgi_request({})["url"] == "http://localhost/"


def test_an_asgi_scope_becomes_the_same_request() -> None:
    request = asgi_request(
        {
            "type": "http", "method": "POST", "scheme": "https", "path": "/shop/cart",
            "query_string": b"a=1&token=x", "client": ("1.2.3.4", 5), "server": ("localhost", 8000),
            "headers": [(b"host", b"shop.example"), (b"user-agent", b"curl/8"),
                        (b"accept", b"a"), (b"accept", b"b")],
        }
    )  # fmt: skip
    assert request["url"] == "https://shop.example/shop/cart"
    assert request["headers"]["User-Agent"] == "curl/8"
    assert request["headers"]["Accept"] == "a,b"
    assert request["env"] == {
        "REMOTE_ADDR": "1.2.3.4", "SERVER_NAME": "localhost", "SERVER_PORT": "8000",
    }  # fmt: skip
    assert asgi_request({"type": "websocket"})["url"] == "/"


def test_without_consent_nothing_personal_is_told() -> None:
    """Source: wire.md section 9, last point."""
    request = wsgi_request(ENVIRON)
    request["cookies"] = {"session": "abc"}
    request["data"] = {"name": "Ada"}
    shown = told(request)
    text = str(shown)
    for secret in ("1.2.3.4", "5.6.7.8", "abc", "Ada", "cookies", "Authorization"):
        assert secret not in text
    assert shown["headers"]["Host"] == "shop.example"
    assert shown["env"] == {"SERVER_NAME": "localhost", "SERVER_PORT": "8000"}


def test_with_consent_all_of_it_is_told_and_left_to_the_scrubber() -> None:
    request = wsgi_request(ENVIRON)
    request["data"] = {"name": "Ada"}
    shown = told(request, personal=True)
    assert shown["env"]["REMOTE_ADDR"] == "1.2.3.4"
    assert shown["headers"]["Cookie"] == "session=abc"
    assert shown["data"] == {"name": "Ada"}


def test_odd_requests_are_repaired_or_shortened() -> None:
    assert told({"method": "get"}) == {"method": "GET"}
    assert told({"method": "G T"}) == {}
    assert told({"query_string": b"?a=1"}) == {"query_string": "?a=1"}
    assert told({"query_string": {"a": 1, "b": 2}}) == {"query_string": "a=1&b=2"}
    assert told({"headers": 5, "env": None, "unknown": 1}) == {"headers": {}}
    many = request_of(method="GET", url="/", headers=[(f"h{n}", "x") for n in range(500)])
    assert len(told(many)["headers"]) == 100
