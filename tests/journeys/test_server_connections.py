"""Clients that are slow, many, or go away: the server answers, and goes on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from crashfree.server import LocalServer
from tests.support.serving import auth, envelope, request, send, session, totals


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(settings={"body_pause": 0.3, "body_time": 1.0}) as running:
        yield running


def _connected(server: LocalServer) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def _head(server: LocalServer, length: int) -> bytes:
    name, value = auth(server)
    return (
        f"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def _all(sock: socket.socket) -> bytes:
    received = b""
    while True:
        part = sock.recv(65536)
        if not part:
            return received
        received += part


def test_a_body_that_stops_coming_is_answered_408(server: LocalServer) -> None:
    with _connected(server) as sock:
        sock.sendall(_head(server, 1000) + b"{}\n")
        assert _all(sock).startswith(b"HTTP/1.1 408")
    assert send(server, b"{}\n").status == 200


def test_a_body_that_drips_is_answered_408(server: LocalServer) -> None:
    """Each part comes in time; all of them together do not."""
    with _connected(server) as sock:
        sock.sendall(_head(server, 100_000))
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    sock.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert sock.recv(65536).startswith(b"HTTP/1.1 408")
        finally:
            stop.set()
            thread.join()


@pytest.mark.slow
def test_a_head_that_does_not_end_is_answered_408(server: LocalServer) -> None:
    with _connected(server) as sock:
        sock.sendall(b"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\n")
        begun = time.monotonic()
        assert _all(sock).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begun < 10


def test_a_head_without_end_is_cut_off(server: LocalServer) -> None:
    with _connected(server) as sock:
        sock.sendall(b"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\n")
        received = b""
        try:
            for number in range(20_000):
                sock.sendall(b"X-Header-%d: %s\r\n" % (number, b"y" * 100))
            received = _all(sock)
        except OSError:
            pass
    assert received[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 400")
    assert send(server, b"{}\n").status == 200


def test_many_headers_are_refused(server: LocalServer) -> None:
    headers = [(f"X-{number}", "y") for number in range(120)]
    answer = request(
        server.url, "POST", "/api/1/envelope/", headers=[auth(server), *headers], body=b"{}\n"
    )
    assert answer.status in (400, 431)


def test_a_client_that_closes_its_half_still_gets_its_answer(server: LocalServer) -> None:
    body = envelope(("session", session(time.time(), init=True)))
    with _connected(server) as sock:
        sock.sendall(_head(server, len(body)) + body)
        sock.shutdown(socket.SHUT_WR)
        received = _all(sock)
    # The end of the stream may come before the body has been handed on; then the client is gone
    # for uvicorn. Its data counts all the same.
    assert received[:12] in (b"", b"HTTP/1.1 200")
    assert totals(server, "sum(session)") == {"sum(session)": 1}


def test_a_client_that_goes_away_leaves_nothing(server: LocalServer) -> None:
    with _connected(server) as sock:
        sock.sendall(_head(server, 1000) + b"{}\n")
    assert send(server, b"{}\n").status == 200
    assert totals(server, "sum(session)") == {"sum(session)": 0}


def test_an_early_refusal_reaches_a_client_that_is_still_sending(server: LocalServer) -> None:
    """A plain close with unread bytes would end in a reset, and the answer be lost."""
    with _connected(server) as sock:
        sock.sendall(
            b"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n"
            b"X-Sentry-Auth: Sentry sentry_key=%s\r\n\r\n" % (b"f" * 32)
        )
        sock.sendall(b"x" * 200_000)
        assert sock.recv(65536).startswith(b"HTTP/1.1 403")


def test_expect_100_is_answered_after_the_credentials(server: LocalServer) -> None:
    for key, expected in (
        (auth(server)[1], b"HTTP/1.1 100"),
        ("Sentry sentry_key=f", b"HTTP/1.1 403"),
    ):
        with _connected(server) as sock:
            sock.sendall(
                b"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                b"Expect: 100-continue\r\nX-Sentry-Auth: " + key.encode() + b"\r\n\r\n"
            )
            assert sock.recv(65536).startswith(expected)
            if expected.endswith(b"100"):
                sock.sendall(b"{}\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def test_two_hundred_connections_at_once_are_all_counted(server: LocalServer) -> None:
    now = time.time()
    body = [envelope(("session", session(now, init=True))) for _ in range(200)]
    sockets = [_connected(server) for _ in body]
    try:
        for sock, each in zip(sockets, body, strict=True):
            sock.sendall(_head(server, len(each)) + each)
        for sock in sockets:
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        for sock in sockets:
            sock.close()
    assert totals(server, "sum(session)") == {"sum(session)": 200}


def _complete(sock: socket.socket, answers: int) -> bytes:
    received = b""
    while received.count(b"HTTP/1.1 ") < answers or not received.endswith(b"}"):
        part = sock.recv(65536)
        assert part, received
        received += part
    return received


def test_requests_in_one_go_are_answered_in_their_order(server: LocalServer) -> None:
    good = _head(server, 3) + b"{}\n"
    bad = _head(server, 1) + b"{"
    odd = good.replace(b"POST ", b"PUT ")
    with _connected(server) as sock:
        sock.sendall(good + bad + good + odd + good)
        received = _complete(sock, 5)
    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400", b"200", b"405", b"200"]


def test_hundreds_of_requests_in_one_go_are_all_answered(server: LocalServer) -> None:
    with _connected(server) as sock:
        sock.sendall((_head(server, 3) + b"{}\n") * 1000)
        assert _complete(sock, 1000).count(b"HTTP/1.1 200 OK\r\n") == 1000


def test_a_request_in_pieces_is_one_request(server: LocalServer) -> None:
    body = envelope(("session", session(time.time(), init=True)))
    whole = _head(server, len(body)) + body
    with _connected(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(whole), 60):
            sock.sendall(whole[at : at + 60])
        assert _complete(sock, 1).startswith(b"HTTP/1.1 200")
    assert totals(server, "sum(session)") == {"sum(session)": 1}
