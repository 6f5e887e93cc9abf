"""The ingest paths, asked over a real connection."""

from __future__ import annotations

import gzip
import json
import random
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from crashfree.server import LocalServer
from tests.support import vectors
from tests.support.serving import (
    auth,
    call,
    case_body,
    envelope,
    request,
    send,
)

_REQUESTS = vectors.load("ingest_requests.json")
_MALFORMED = vectors.load("envelopes/malformed.json")
_RECORDED = vectors.load("envelopes/index.json")["envelopes"]


@pytest.fixture(scope="module")
def known_projects() -> Iterator[LocalServer]:
    with LocalServer() as server:
        with server.store.write() as db:
            for project in _REQUESTS["projects"]:
                server.store.add_project(
                    db,
                    f"p{project['id']}",
                    at=1.0,
                    project_id=int(project["id"]),
                    public_key=project["key"],
                )
                if project.get("disabled"):
                    db.execute("UPDATE projects SET disabled = 1 WHERE id = ?", (project["id"],))
        yield server


@pytest.mark.parametrize("case", _REQUESTS["cases"], ids=lambda case: case["name"])
def test_each_request_of_the_vectors_gets_its_answer(
    known_projects: LocalServer, case: dict[str, Any]
) -> None:
    """Source: ingest.md sections 2 and 3."""
    answer = request(
        known_projects.url,
        case["method"],
        case["path"],
        headers=[tuple(header) for header in case["headers"]],
        body=case_body(case),
    )
    assert answer.status == case["status"], answer.body
    expect = case.get("expect", {})
    if "json" in expect:
        assert answer.json == expect["json"]
    for name, value in expect.get("headers", {}).items():
        assert answer.headers[name] == value
    if answer.status >= 400:
        assert isinstance(answer.json["detail"], str)
    if answer.status >= 400 and "/envelope" in case["path"] and answer.status != 404:
        assert answer.headers["X-Sentry-Error"]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def _rows(server: LocalServer) -> list[int]:
    tables = ("events", "sessions", "aggregates", "attachments", "tallies", "releases")
    with server.store.read() as db:
        return [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


@pytest.mark.parametrize("case", _MALFORMED["cases"], ids=lambda case: case["name"])
def test_a_refused_envelope_stores_nothing(server: LocalServer, case: dict[str, Any]) -> None:
    """Source: wire.md section 3.2; the parse error's name is among the causes."""
    before = _rows(server)
    answer = send(server, case_body(case))
    assert answer.status == case["http_status"], answer.body
    if answer.status != 200:
        assert _rows(server) == before
    if case["expect"]["outcome"] == "error":
        assert case["expect"]["error"] in answer.json["causes"]


@pytest.fixture(scope="module")
def recorded_projects() -> Iterator[LocalServer]:
    """The two projects that the recorded bodies were sent to."""
    with LocalServer() as server:
        with server.store.write() as db:
            for number, key in (
                (42, "a1b2c3d4e5f60718293a4b5c6d7e8f90"),
                (7, "0f1e2d3c4b5a69788796a5b4c3d2e1f0"),
            ):
                server.store.add_project(
                    db, f"p{number}", at=1.0, project_id=number, public_key=key
                )
        yield server


@pytest.mark.parametrize("case", _RECORDED, ids=lambda case: case["file"])
def test_every_recorded_body_is_taken(recorded_projects: LocalServer, case: dict[str, Any]) -> None:
    """Bodies of sentry-sdk and @sentry/node, sent again byte for byte."""
    recorded = case["request"]
    encoding = recorded["headers"].get("content-encoding")
    headers = [
        (name, value)
        for name, value in recorded["headers"].items()
        if name not in ("content-length", "transfer-encoding", "host", "connection")
    ]
    answer = request(
        recorded_projects.url,
        "POST",
        recorded["path"],
        headers=headers,
        body=vectors.read(f"envelopes/{case['file']}"),
    )
    if encoding == "br" and answer.status == 415:
        pytest.skip("brotli is not installed")
    assert answer.status == 200, answer.body
    event_id = case["decoded"]["header"].get("event_id")
    assert answer.json == ({"id": event_id} if event_id else {})


def test_a_chunked_body_is_taken_without_a_length(server: LocalServer) -> None:
    """@sentry/node sends every envelope so."""
    body = envelope(("event", {"message": "chunked"}))
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    answer = request(
        server.url,
        "POST",
        "/api/1/envelope/",
        headers=[auth(server), ("Transfer-Encoding", "chunked")],
        body=chunks + b"0\r\n\r\n",
        length=False,
    )
    assert answer.status == 200
    assert len(answer.json["id"]) == 32


def test_length_and_chunks_together_are_refused(server: LocalServer) -> None:
    answer = request(
        server.url,
        "POST",
        "/api/1/envelope/",
        headers=[auth(server), ("Transfer-Encoding", "chunked"), ("Content-Length", "3")],
        body=b"3\r\n{}\n\r\n0\r\n\r\n",
        length=False,
    )
    assert answer.status == 400


def test_a_post_without_a_length_is_refused(server: LocalServer) -> None:
    answer = request(server.url, "POST", "/api/1/envelope/", headers=[auth(server)], length=False)
    assert answer.status == 411


def test_a_wrong_chunk_is_refused_and_the_server_goes_on(server: LocalServer) -> None:
    answer = request(
        server.url,
        "POST",
        "/api/1/envelope/",
        headers=[auth(server), ("Transfer-Encoding", "chunked")],
        body=b"zz\r\n{}\r\n",
        length=False,
    )
    assert answer.status == 400
    assert send(server, b"{}\n").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", id="chunk"),
        pytest.param(b"Content-Length: -1\r\n\r\n", id="length"),
        pytest.param(b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", id="long-length"),
        pytest.param(b"no header at all\r\n\r\n", id="header"),
    ],
)
def test_what_is_not_http_is_answered_as_any_other_refusal(
    server: LocalServer, sent: bytes
) -> None:
    parts = urlsplit(server.url)
    name, value = auth(server)
    head = f"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n".encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        sock.sendall(head + sent)
        received = b""
        while part := sock.recv(65536):
            received += part
    top, _, body = received.partition(b"\r\n\r\n")
    assert top.startswith((b"HTTP/1.1 400 Bad Request\r\n", b"HTTP/1.1 413 "))
    assert b"access-control-allow-origin: *" in top
    assert isinstance(json.loads(body)["detail"], str)
    assert send(server, envelope(("event", {}))).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/abc/envelope/",
        "/api/%C2%B2/envelope/",
        "/api/%D9%A1/store/",
        "/api/1/security/",
        "/api/1/minidump/",
        "/api/1/unreal/key/",
    ],
)
def test_a_path_that_is_not_taken_says_so_to_browsers_as_well(
    server: LocalServer, path: str
) -> None:
    headers = [("Origin", "http://shop.example"), auth(server)]
    answer = request(server.url, "POST", path, headers=headers, body=b"{}")
    assert answer.status == 404
    assert answer.json["detail"].startswith("not found")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("number", ["9" * 18, "9" * 19, "0" * 17 + "1999", "1" * 5000])
def test_a_number_too_long_for_a_project_is_no_project(server: LocalServer, number: str) -> None:
    answer = request(
        server.url, "POST", f"/api/{number}/envelope/", headers=[auth(server)], body=b"{}"
    )
    assert answer.status == 403


def test_the_store_path_takes_one_event(server: LocalServer) -> None:
    answer = request(
        server.url,
        "POST",
        "/api/1/store/",
        headers=[auth(server)],
        body=b'{"event_id":"9ec79c33ec9942ab8353589fcb2e04dd","message":"old"}',
    )
    assert answer.json == {"id": "9ec79c33ec9942ab8353589fcb2e04dd"}


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: LocalServer) -> None:
    answer = request(
        server.url,
        "POST",
        "/api/1/envelope/",
        headers=[auth(server), ("Content-Length", str(21 * 2**20))],
        length=False,
    )
    assert answer.status == 413
    assert answer.headers["Connection"] == "close"


def test_a_gzipped_event_is_stored_as_it_was(server: LocalServer) -> None:
    event = {"message": "grün", "release": "app@1.0", "level": "warning"}
    answer = send(
        server,
        gzip.compress(envelope(("event", event))),
        headers=[("Content-Encoding", "gzip")],
    )
    with server.store.read() as db:
        row = db.execute(
            "SELECT payload, level FROM events WHERE event_id = ?", (answer.json["id"],)
        ).fetchone()
    assert json.loads(row["payload"]) == event
    assert row["level"] == "warning"


def test_the_same_event_twice_is_one_event(server: LocalServer) -> None:
    body = envelope(
        ("event", {"message": "once"}), header={"event_id": "aaaabbbbccccddddeeeeffff00001111"}
    )
    assert [send(server, body).status, send(server, body).status] == [200, 200]
    with server.store.read() as db:
        (count,) = db.execute(
            "SELECT count(*) FROM events WHERE event_id = 'aaaabbbbccccddddeeeeffff00001111'"
        ).fetchone()
    assert count == 1


@pytest.mark.parametrize("field", ["release", "environment", "dist"])
def test_a_bad_name_becomes_null_and_the_event_stays(server: LocalServer, field: str) -> None:
    """As Relay does it. Source: ingest.md section 6."""
    answer = send(server, envelope(("event", {"message": "x", field: "a/b\n"})))
    with server.store.read() as db:
        row = db.execute(
            "SELECT payload FROM events WHERE event_id = ?", (answer.json["id"],)
        ).fetchone()
    payload = json.loads(row["payload"])
    assert payload[field] is None
    assert payload["_meta"][field] == {"": {"err": ["invalid_data"]}}


def test_an_attachment_is_noted_and_its_name_has_no_path(server: LocalServer) -> None:
    header = {"event_id": "aaaabbbbccccddddeeeeffff00002222"}
    item = b'{"type":"attachment","length":3,"filename":"../../etc/pass\\u0000wd"}\nabc\n'
    assert send(server, json.dumps(header).encode() + b"\n" + item).status == 200
    with server.store.read() as db:
        row = db.execute(
            "SELECT name, size, data FROM attachments WHERE event_id = ?", (header["event_id"],)
        ).fetchone()
    assert (row["name"], row["size"], row["data"]) == ("passwd", 3, None)


def test_a_client_report_is_added_up(server: LocalServer) -> None:
    report = {
        "timestamp": 1.0,
        "discarded_events": [
            {"reason": "queue_overflow", "category": "error", "quantity": 2},
            {"reason": "queue_overflow", "category": "error", "quantity": -1},
            {"reason": 5, "category": "error", "quantity": 1},
        ],
    }
    assert (
        send(server, envelope(("client_report", report), ("client_report", report))).status == 200
    )
    with server.store.read() as db:
        (quantity,) = db.execute(
            "SELECT quantity FROM tallies WHERE what = 'discarded' AND reason = 'queue_overflow'"
        ).fetchone()
    assert quantity == 4


def test_too_many_sessions_or_aggregates_refuse_the_envelope(server: LocalServer) -> None:
    update = {"started": "2026-11-21T01:00:00Z", "attrs": {"release": "a"}}
    assert send(server, envelope(*[("session", update)] * 101)).status == 413
    buckets = {
        "attrs": {"release": "a"},
        "aggregates": [{"started": "2026-11-21T01:00:00Z", "exited": 1}] * 101,
    }
    assert send(server, envelope(("sessions", buckets))).status == 413


def test_several_requests_share_a_connection(server: LocalServer) -> None:
    parts = urlsplit(server.url)
    head = (
        f"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\n{auth(server)[0]}: {auth(server)[1]}\r\n"
        "Content-Length: 3\r\n\r\n{}\n"
    ).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        sock.sendall(head * 5)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 5:
            part = sock.recv(65536)
            assert part, received
            received += part


def test_broken_bodies_never_end_in_a_server_error(server: LocalServer) -> None:
    """Cuts and flipped bytes of recorded envelopes. Source: ingest.md section 7, point 7."""
    bodies = [
        vectors.read(f"envelopes/{case['file']}")
        for case in _RECORDED
        if not case["file"].endswith((".gz", ".br"))
    ]
    dice = random.Random(20261121)
    for _ in range(300):
        body = bytearray(dice.choice(bodies))
        if dice.random() < 0.5:
            del body[dice.randrange(len(body)) :]
        for _ in range(dice.randrange(4)):
            if body:
                body[dice.randrange(len(body))] = dice.randrange(256)
        assert send(server, bytes(body)).status in (200, 400, 413)


def test_a_fault_plan_is_met_once_and_then_over(server: LocalServer) -> None:
    server.faults.plan(status=429, headers={"Retry-After": "7"}, times=2)
    statuses = [send(server, b"{}\n").status for _ in range(3)]
    assert statuses == [429, 429, 200]


def test_a_faulty_answer_can_hide_a_stored_envelope(server: LocalServer) -> None:
    server.faults.plan(status=503, store=True)
    body = envelope(
        ("event", {"message": "x"}), header={"event_id": "aaaabbbbccccddddeeeeffff00003333"}
    )
    assert send(server, body).status == 503
    with server.store.read() as db:
        assert db.execute(
            "SELECT 1 FROM events WHERE event_id = 'aaaabbbbccccddddeeeeffff00003333'"
        ).fetchone()


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_fault_can_reset_the_connection(server: LocalServer, cut: str) -> None:
    server.faults.plan(reset=cut)
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        name, value = auth(server)
        sock.sendall(
            f"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n"
            "Content-Length: 3\r\n\r\n{}\n".encode()
        )
        received = b""
        with pytest.raises(ConnectionResetError):
            while True:
                part = sock.recv(65536)
                assert part, "closed, not reset"
                received += part
    assert bool(received) == (cut == "after")


def test_a_limited_category_is_dropped_alone_and_the_answer_says_so(server: LocalServer) -> None:
    limits = [{"categories": ["error"], "count": 1, "seconds": 3600}]
    path = f"/api/0/projects/{server.organization}/{server.project}/"
    assert call(server, "PUT", path, {"limits": limits}).status == 200
    try:
        report = {
            "timestamp": 1,
            "discarded_events": [{"reason": "limited", "category": "error", "quantity": 1}],
        }
        first = send(server, envelope(("event", {"message": "1"})))
        second = send(server, envelope(("event", {"message": "2"}), ("client_report", report)))
        third = send(server, envelope(("client_report", report)))
    finally:
        assert call(server, "PUT", path, {"limits": []}).status == 200
    assert (first.status, second.status, third.status) == (200, 429, 200)
    assert 3590 <= int(second.headers["Retry-After"]) <= 3600
    assert second.headers["X-Sentry-Rate-Limits"].split(":")[1:] == ["error", "project", "quota"]
    assert third.headers["X-Sentry-Rate-Limits"]
    with server.store.read() as db:
        (quantity,) = db.execute(
            "SELECT quantity FROM tallies WHERE what = 'discarded' AND reason = 'limited'"
        ).fetchone()
    assert quantity == 2, "what was not limited was stored in both envelopes"
