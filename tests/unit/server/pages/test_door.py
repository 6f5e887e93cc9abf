"""Who may look: whoever showed the token once; and what a cookie does not open."""

from __future__ import annotations

import pytest

from crashfree.server import LocalServer
from tests.support.reading import Reader, read
from tests.support.serving import request


def _get(server: LocalServer, path: str, *headers: tuple[str, str]) -> tuple[int, str]:
    answer = request(server.url, "GET", path, headers=headers)
    return answer.status, answer.body.decode()


@pytest.mark.parametrize("path", ["/", "/releases", "/releases/x", "/counts", "/issues", "/setup"])
def test_a_stranger_gets_the_door_and_nothing_else(server: LocalServer, path: str) -> None:
    status, text = _get(server, path)
    assert status == 401
    assert read(text).one("h1").text == "Come in"
    assert server.token not in text


def test_a_wrong_token_is_told_so(server: LocalServer) -> None:
    status, text = _get(server, "/releases?token=guess")
    assert status == 401
    assert "not the one of this server" in read(text).one(role="alert").text


def test_the_address_that_serve_prints_opens_the_page_once(server: LocalServer) -> None:
    answer = request(server.url, "GET", server.page.removeprefix(server.url))
    cookie = answer.headers["Set-Cookie"]
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert server.token not in cookie
    status, _ = _get(server, "/releases", ("Cookie", cookie.partition(";")[0]))
    assert status == 200


def test_the_token_goes_from_the_address_and_the_question_stays(server: LocalServer) -> None:
    path = f"/releases?query=a%26b&token={server.token}&statsPeriod=24h"
    answer = request(server.url, "GET", path)
    assert answer.headers["Location"] == "/releases?query=a%26b&statsPeriod=24h"


def test_a_cookie_of_another_server_opens_nothing(server: LocalServer) -> None:
    with LocalServer() as other:
        port = server.url.rpartition(":")[2]
        theirs = Reader(other).cookie.partition("=")[2]
        status, _ = _get(server, "/releases", ("Cookie", f"crashfree-{port}={theirs}"))
    assert status == 401


def test_the_cookie_reads_the_api_but_does_not_write_it(server: LocalServer) -> None:
    visitor = Reader(server)
    path = "/api/0/organizations/crashfree/projects/"
    assert visitor.ask(path).status == 200
    assert visitor.ask(path, "POST", ("Content-Type", "application/json")).status == 401


@pytest.mark.parametrize(
    "header", [("Sec-Fetch-Site", "cross-site"), ("Origin", "http://evil.example")]
)
def test_another_site_reads_and_writes_nothing_with_the_cookie(
    server: LocalServer, header: tuple[str, str]
) -> None:
    visitor = Reader(server)
    assert visitor.ask("/api/0/organizations/crashfree/projects/", "GET", header).status == 401
    assert visitor.ask("/releases", "POST", header).status == 403


def test_the_door_never_leads_to_another_host(server: LocalServer) -> None:
    answer = request(server.url, "GET", f"//evil.example/?token={server.token}")
    assert not answer.headers.get("Location", "/").startswith("//")
