"""The HTTP request that was being served, as far as an event may tell of it.

Without `send_default_pii` no cookies, no body, no client address and no header that holds any of
them is collected; what is left goes through the scrubber like everything else.

Threads: any. Source: wire.md sections 5 and 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crashfree._capture import foreign, rendering
from crashfree._capture.meta import Path
from crashfree._capture.normalize import Normalizer
from crashfree._ground.typed import Any
from crashfree.types import JSON, Request

_ROOT: Path = (None, "request")
_PERSONAL_HEADERS = frozenset((
    "cookie", "set-cookie", "authorization", "proxy-authorization", "x-forwarded-for", "x-real-ip",
    "forwarded", "cf-connecting-ip", "true-client-ip", "x-client-ip", "via", "remote-user",
))  # fmt: skip
_MAX_HEADERS = 100
_ENV_KEYS = ("SERVER_NAME", "SERVER_PORT")
_FIELDS = frozenset(
    ("url", "method", "query_string", "headers", "cookies", "data", "env", "fragment")
)


def request_of(
    *,
    method: str,
    url: str,
    query_string: str = "",
    headers: Iterable[tuple[str, str]] = (),
    client_address: str | None = None,
    server_name: str | None = None,
    server_port: str | int | None = None,
    data: object = None,
) -> Request:
    """Return a request as it came in; what of it may be told is decided when an event is made.

    `url` without query string. Several headers of one name are joined by commas.
    """
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    request: Request = {"method": method, "url": url, "headers": joined}
    if query_string:
        request["query_string"] = query_string
    env: dict[str, str] = {}
    if client_address:
        env["REMOTE_ADDR"] = client_address
    if server_name:
        env["SERVER_NAME"] = server_name
    if server_port is not None:
        env["SERVER_PORT"] = str(server_port)
    if env:
        request["env"] = env
    if data is not None:
        request["data"] = data
    return request


def wsgi_request(environ: Mapping[str, Any]) -> Request:
    """Return the request of a WSGI environment (PEP 3333)."""
    headers: list[tuple[str, str]] = []
    for key, value in environ.items():
        if type(key) is not str or type(value) is not str:
            continue
        if key.startswith("HTTP_"):
            headers.append((key[5:].replace("_", "-").title(), value))
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            headers.append((key.replace("_", "-").title(), value))
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    return request_of(
        method=environ.get("REQUEST_METHOD", "GET"),
        url=f"{environ.get('wsgi.url_scheme', 'http')}://{_wsgi_host(environ)}{path or '/'}",
        query_string=environ.get("QUERY_STRING", ""),
        headers=headers,
        client_address=environ.get("REMOTE_ADDR"),
        server_name=environ.get("SERVER_NAME"),
        server_port=environ.get("SERVER_PORT"),
    )


def asgi_request(scope: Mapping[str, Any]) -> Request:
    """Return the request of an ASGI connection scope."""
    headers = [
        (bytes(name).decode("latin-1").title(), bytes(value).decode("latin-1"))
        for name, value in scope.get("headers") or ()
    ]
    named = dict(headers)
    server = scope.get("server") or (None, None)
    host = named.get("Host") or (f"{server[0]}:{server[1]}" if server[0] else "")
    client = scope.get("client") or (None, None)
    scheme = scope.get("scheme") or "http"
    return request_of(
        method=scope.get("method") or "GET",
        url=f"{scheme}://{host}{scope.get('path') or '/'}" if host else scope.get("path") or "/",
        query_string=bytes(scope.get("query_string") or b"").decode("latin-1"),
        headers=headers,
        client_address=client[0],
        server_name=server[0],
        server_port=server[1],
    )


def _wsgi_host(environ: Mapping[str, Any]) -> str:
    host = environ.get("HTTP_HOST")
    if host:
        return str(host)
    name, port = environ.get("SERVER_NAME", "localhost"), str(environ.get("SERVER_PORT", ""))
    default = {"http": "80", "https": "443"}.get(environ.get("wsgi.url_scheme", ""))
    return str(name) if port in ("", default) else f"{name}:{port}"


def permitted(
    request: Mapping[str, Any], normalizer: Normalizer, *, personal: bool
) -> dict[str, JSON]:
    """Return what an event may tell of a request, as JSON."""
    result: dict[str, JSON] = {}
    for key, value in request.items():
        if key not in _FIELDS or value is None:
            continue
        if key in ("cookies", "data") and not personal:
            continue
        path: Path = (_ROOT, key)
        if key == "method":
            method = rendering.text_of(value).upper()
            if method.isalpha() and method.isascii():
                result[key] = method[:32]
        elif key in ("url", "query_string", "fragment"):
            result[key] = normalizer.text(
                _query_text(value) if key == "query_string" else rendering.text_of(value), path
            )
        elif key in ("headers", "env"):
            result[key] = _pairs(value, normalizer, path, personal=personal, env=key == "env")
        else:
            result[key] = normalizer.value(value, path)
    return result


def _pairs(
    value: object, normalizer: Normalizer, path: Path, *, personal: bool, env: bool
) -> dict[str, JSON]:
    pairs = foreign.mapping(value) or {}
    result: dict[str, JSON] = {}
    for name, text in list(pairs.items())[:_MAX_HEADERS]:
        key = rendering.text_of(name)[:200]
        if not personal and (key.lower() in _PERSONAL_HEADERS or (env and key not in _ENV_KEYS)):
            continue
        result[key] = normalizer.text(rendering.text_of(text), (path, key))
    return result


def _query_text(value: object) -> str:
    if type(value) is bytes:
        return value.decode("latin-1")
    fields = foreign.mapping(value)
    if fields is not None:
        return "&".join(f"{rendering.text_of(k)}={rendering.text_of(v)}" for k, v in fields.items())
    return rendering.text_of(value).lstrip("?")
