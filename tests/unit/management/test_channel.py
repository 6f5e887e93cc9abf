"""Requests until there is an answer, against a real server. Source: releases.md section 4.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from crashfree._ground.http import HttpClient, HttpSettings
from crashfree.errors import ApiError, ConfigurationError, Unreachable
from crashfree.management.channel import Channel, checked_address, path_of
from crashfree.management.problems import NotJson
from tests.support.clock import FakeClock
from tests.unit._cli.replay import Replay

TOKEN = "0123456789abcdef" * 4


class Bench:
    """A channel whose pauses pass at once on a clock of their own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pauses: list[float] = []
        self.told: list[str] = []
        self.http = HttpClient(HttpSettings(connect_timeout=5.0, timeout=5.0))

    def channel(self, url: str, **more: Any) -> Channel:
        return Channel(
            url,
            TOKEN,
            http=self.http,
            user_agent="crashfree/test",
            clock=self.clock,
            pause=self.pause,
            on_retry=self.told.append,
            **more,
        )

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.http.close()


def exchange(
    method: str, path: str, status: int, body: Any = None, *, query: str = "", **headers: str
) -> dict[str, Any]:
    return {
        "request": {"method": method, "path": path, "query": query, "body": None},
        "response": {"status": status, "headers": headers, "body": body},
    }


def test_token_and_names_go_with_every_request(bench: Bench) -> None:
    with Replay([exchange("GET", "/api/0/x/", 200, {"a": 1})]) as server:
        answer = bench.channel(server.url, headers={"X-A": "b"}).get("x/")
    assert answer.value == {"a": 1}
    headers = server.requests[0]["headers"]
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["User-Agent"] == "crashfree/test"
    assert headers["X-A"] == "b"


def test_an_extra_header_cannot_replace_the_token(bench: Bench) -> None:
    with Replay([exchange("GET", "/api/0/x/", 200, {})]) as server:
        bench.channel(server.url, headers={"Authorization": "Basic x"}).get("x/")
    assert server.requests[0]["headers"]["Authorization"] == f"Bearer {TOKEN}"


def test_a_busy_server_is_asked_again_until_it_answers(bench: Bench) -> None:
    script = [
        exchange("POST", "/api/0/x/", 503, {"detail": "busy"}),
        exchange("POST", "/api/0/x/", 429, "slow", **{"Retry-After": "7"}),
        exchange("POST", "/api/0/x/", 201, {"ok": True}),
    ]
    with Replay(script) as server:
        answer = bench.channel(server.url).call("POST", "x/", body={"n": 1})
    assert answer.status == 201
    assert [request["body"] for request in server.requests] == [{"n": 1}] * 3
    assert bench.pauses[1] == 7.0
    assert len(bench.told) == 2


def test_a_refusal_is_raised_at_once_with_the_servers_words(bench: Bench) -> None:
    script = [exchange("GET", "/api/0/x/", 403, {"detail": "no permission"})]
    with Replay(script) as server, pytest.raises(ApiError) as caught:
        bench.channel(server.url).get("x/")
    assert (caught.value.status, caught.value.detail) == (403, "no permission")
    assert bench.pauses == []


def test_the_last_refusal_is_raised_when_retries_are_used_up(bench: Bench) -> None:
    script = [exchange("GET", "/api/0/x/", 503, {"detail": f"busy {n}"}) for n in range(9)]
    with Replay(script) as server, pytest.raises(ApiError, match="busy 5"):
        bench.channel(server.url).get("x/")
    assert len(server.requests) == 6


def test_a_deploy_is_not_repeated_when_it_may_have_arrived(bench: Bench) -> None:
    script = [exchange("POST", "/api/0/x/", 504, None)]
    with Replay(script) as server, pytest.raises(ApiError):
        bench.channel(server.url).call("POST", "x/", body={}, repeatable=False)
    assert len(server.requests) == 1


def test_a_lost_answer_to_a_deploy_is_unreachable_not_repeated(bench: Bench) -> None:
    lost = exchange("POST", "/api/0/x/", 200)
    lost["response"] = {"status": None, "headers": {}, "note": "stub closed the socket"}
    with Replay([lost]) as server, pytest.raises(Unreachable) as caught:
        bench.channel(server.url).call("POST", "x/", body={}, repeatable=False)
    assert caught.value.sent
    assert len(server.requests) == 1


def test_nobody_listening_is_unreachable_soon(bench: Bench) -> None:
    with pytest.raises(Unreachable) as caught:
        bench.channel("http://127.0.0.1:9").get("x/")
    assert not caught.value.sent
    assert len(bench.pauses) == 2


def test_commits_wait_for_another_job_up_to_a_minute(bench: Bench) -> None:
    script = [exchange("PUT", "/api/0/x/", 409, {"detail": "processed"}) for _ in range(40)]
    with Replay(script) as server, pytest.raises(ApiError, match="processed"):
        bench.channel(server.url).call("PUT", "x/", body={}, waits_for_conflict=True)
    assert 45.0 < sum(bench.pauses) <= 60.0
    assert len(server.requests) > 10


def test_other_conflicts_are_not_waited_for(bench: Bench) -> None:
    script = [exchange("POST", "/api/0/x/", 409, {"detail": "exists"})]
    with Replay(script) as server, pytest.raises(ApiError, match="exists"):
        bench.channel(server.url).call("POST", "x/", body={})
    assert bench.pauses == []


@pytest.mark.parametrize("body", ["<html>login</html>", None, '{"cut":', "[1,"])
def test_a_success_that_is_no_json_is_told_as_such(bench: Bench, body: str | None) -> None:
    script = [exchange("GET", "/api/0/x/", 200, body)]
    with Replay(script) as server, pytest.raises(NotJson):
        bench.channel(server.url).get("x/")


def test_nothing_is_due_where_the_status_says_so(bench: Bench) -> None:
    with Replay([exchange("DELETE", "/api/0/x/", 204)]) as server:
        assert bench.channel(server.url).call("DELETE", "x/").value is None


def test_a_redirect_is_not_followed(bench: Bench) -> None:
    script = [
        exchange("GET", "/api/0/x/", 302, {"slug": "new"}, Location="http://127.0.0.1:9/steal")
    ]
    with Replay(script) as server, pytest.raises(ApiError, match="renamed to 'new'"):
        bench.channel(server.url).get("x/")
    assert len(server.requests) == 1


class TestPages:
    def page(self, entries: list[int], at: str = "", **link: str) -> dict[str, Any]:
        header = "; ".join(f'{key}="{value}"' for key, value in link.items())
        headers = {"Link": f"<http://elsewhere.example/>; {header}"} if link else {}
        query = f"cursor={at}" if at else ""
        return exchange("GET", "/api/0/x/", 200, entries, query=query, **headers)

    def test_pages_are_read_to_the_end_from_the_configured_server(self, bench: Bench) -> None:
        script = [
            self.page([1, 2], rel="next", results="true", cursor="100:1:0"),
            self.page([3], "100:1:0", rel="next", results="false", cursor="100:2:0"),
        ]
        with Replay(script) as server:
            assert list(bench.channel(server.url).pages("x/")) == [1, 2, 3]

    def test_a_limit_asks_for_no_page_too_many(self, bench: Bench) -> None:
        script = [self.page([1, 2], rel="next", results="true", cursor="100:1:0")]
        with Replay(script) as server:
            assert list(bench.channel(server.url).pages("x/", limit=2)) == [1, 2]
            assert list(bench.channel(server.url).pages("x/", limit=0)) == []
        assert len(server.requests) == 1

    def test_a_cursor_that_comes_back_ends_the_list(self, bench: Bench) -> None:
        again = {"rel": "next", "results": "true", "cursor": "100:1:0"}
        script = [self.page([1], **again), self.page([2], "100:1:0", **again)]
        with Replay(script) as server:
            assert list(bench.channel(server.url).pages("x/")) == [1, 2]

    def test_an_answer_that_is_no_list_is_an_empty_one(self, bench: Bench) -> None:
        with Replay([exchange("GET", "/api/0/x/", 200, {"a": 1})]) as server:
            assert list(bench.channel(server.url).pages("x/")) == []


def test_a_path_keeps_the_at_sign_and_encodes_the_rest() -> None:
    assert path_of("releases", "a?b#c%d+e f@ü") == "releases/a%3Fb%23c%25d%2Be%20f@%C3%BC/"


@pytest.mark.parametrize(
    "url",
    [
        "sentry.io",
        "127.0.0.1:9",
        "ftp://x",
        "https://",
        "https://x/sub/path",
        "https://x?y",
        "https://user:pw@x",
        "https://x:port",
        "",
    ],
)
def test_an_address_is_scheme_host_and_port(url: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_address(url)


def test_an_address_loses_its_trailing_slash_only() -> None:
    assert checked_address(" https://Sentry.IO/ ") == "https://sentry.io"
    assert checked_address("http://[::1]:9000") == "http://[::1]:9000"


def test_an_address_of_the_server_is_not_followed_out_of_encryption(bench: Bench) -> None:
    channel = bench.channel("https://s.example")
    with pytest.raises(ApiError, match="without encryption"):
        channel.post("http://s.example/chunks/", content_type="x", data=b"")
