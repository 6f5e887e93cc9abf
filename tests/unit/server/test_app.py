"""What guards every request that is not ingest."""

from __future__ import annotations

import logging

import pytest

from crashfree.server import LocalServer
from crashfree.server.store import Store
from tests.support.serving import ask, call, request


def _get(server: LocalServer, path: str, *headers: tuple[str, str]) -> tuple[int, str]:
    answer = request(server.url, "GET", path, headers=headers)
    return answer.status, answer.json.get("detail", "")


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        (None, "Authentication credentials were not provided."),
        ("Basic abc", "Authentication credentials were not provided."),
        ("Bearer", "Invalid token header. No credentials provided."),
        ("Bearer a b", "Invalid token header. Token string should not contain spaces."),
        ("Bearer wrong", "Invalid token"),
    ],
)
def test_the_api_wants_its_token(
    server: LocalServer, authorization: str | None, detail: str
) -> None:
    headers = [] if authorization is None else [("Authorization", authorization)]
    found = _get(server, "/api/0/organizations/crashfree/projects/", *headers)
    assert found == (401, detail)


def test_a_token_in_any_case_of_its_word_is_taken(server: LocalServer) -> None:
    answer = request(
        server.url,
        "GET",
        "/api/0/organizations/crashfree/projects/",
        headers=[("Authorization", f"bearer {server.token}")],
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1:1234", True),
        ("localhost", True),
        ("[::1]:9", True),
        ("10.1.2.3", True),
        ("evil.example.com", False),
        ("127.0.0.1.evil.example.com", False),
        ("localhost.evil.example.com:80", False),
        ("", False),
    ],
)
def test_a_foreign_host_is_refused(server: LocalServer, host: str, taken: bool) -> None:
    """A page of another site can name us in DNS, but then the browser sends that name."""
    import http.client
    from urllib.parse import urlsplit

    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=10)
    try:
        path = "/api/0/organizations/crashfree/projects/"
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        connection.putheader("Authorization", f"Bearer {server.token}")
        connection.endheaders()
        status = connection.getresponse().status
    finally:
        connection.close()
    assert status == (200 if taken else 400)


def test_a_configured_name_is_taken() -> None:
    with LocalServer(settings={"hosts": ("health.example.com",)}) as server:
        answer = request(
            server.url,
            "GET",
            "/api/0/organizations/crashfree/projects/",
            headers=[("Authorization", f"Bearer {server.token}")],
        )
        assert answer.status == 200


def test_every_answer_forbids_scripts_of_others(server: LocalServer) -> None:
    for answer in (ask(server, "projects/"), request(server.url, "GET", "/nowhere/")):
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_unknown_path_is_404_as_json(server: LocalServer) -> None:
    for path in ("/nowhere", "/api/0/nowhere/", "/api/0/organizations/other/projects/"):
        answer = call(server, "GET", path)
        assert answer.status == 404
        assert isinstance(answer.json["detail"], str)


def test_a_wrong_method_is_405_and_names_the_right_ones(server: LocalServer) -> None:
    answer = call(server, "DELETE", "/api/0/organizations/crashfree/sessions/")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, OPTIONS"


def test_the_final_slash_is_optional(server: LocalServer) -> None:
    assert call(server, "GET", "/api/0/organizations/crashfree/projects").status == 200


def test_a_bug_of_ours_is_a_number_for_the_caller_and_a_traceback_for_the_log(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> list[object]:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(Store, "projects", broken)
    with caplog.at_level(logging.ERROR, logger="crashfree.server"):
        answer = ask(server, "projects/")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert answer.json["errorId"] in caplog.text
    assert "a secret of ours" in caplog.text


def test_a_body_over_the_limit_is_413(server: LocalServer) -> None:
    answer = request(
        server.url,
        "POST",
        "/api/0/organizations/crashfree/projects/",
        headers=[
            ("Authorization", f"Bearer {server.token}"),
            ("Content-Length", str(64 * 2**20)),
        ],
        length=False,
    )
    assert answer.status == 413
