"""Bundles and their upload in chunks. Source: releases.md section 4.4."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from crashfree._ground.http import HttpClient, HttpSettings
from crashfree.errors import ApiError, ConfigurationError
from crashfree.management import multipart
from crashfree.management.bundles import Bundle, collect
from crashfree.management.channel import Channel
from crashfree.management.uploads import upload_bundle
from tests.support.clock import FakeClock
from tests.unit._cli.replay import body_of

DEBUG_ID = "0123abcd-0000-4000-8000-000000000001"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    base = tmp_path / "dist"
    (base / "assets").mkdir(parents=True)
    (base / "node_modules").mkdir()
    (base / "assets" / "app.min.js").write_text("var a;\n//# sourceMappingURL=app.min.js.map\n")
    (base / "assets" / "app.min.js.map").write_text(f'{{"version":3,"debug_id":"{DEBUG_ID}"}}')
    (base / "plain.js").write_text("let b = 1;\n")
    (base / "beside.js").write_text("let c = 1;\n")
    (base / "beside.js.map").write_text("{}")
    (base / "inline.js").write_text("x\n//# sourceMappingURL=data:application/json;base64,e30=\n")
    (base / "notes.txt").write_text("not a script")
    (base / "node_modules" / "lib.js").write_text("skipped")
    return base


def names(files: list[Any]) -> list[str]:
    return [file.url for file in files]


def test_files_are_found_by_ending_and_named_by_their_relative_path(dist: Path) -> None:
    files = collect([str(dist)], url_prefix="~/static/", url_suffix="?v=1")
    assert names(files) == [
        "~/static/assets/app.min.js?v=1",
        "~/static/assets/app.min.js.map?v=1",
        "~/static/beside.js?v=1",
        "~/static/beside.js.map?v=1",
        "~/static/inline.js?v=1",
        "~/static/plain.js?v=1",
    ]


def test_a_file_is_what_it_says_it_is(dist: Path) -> None:
    found = {Path(file.path).name: file for file in collect([str(dist)])}
    assert found["app.min.js"].type == "minified_source"
    assert found["app.min.js"].headers == {"sourcemap": "app.min.js.map"}
    assert found["app.min.js.map"].type == "source_map"
    assert found["app.min.js.map"].headers == {"debug-id": DEBUG_ID}
    assert found["beside.js"].headers == {"sourcemap": "beside.js.map"}
    assert (found["plain.js"].type, found["plain.js"].headers) == ("source", {})
    assert found["inline.js"].headers == {}


def test_endings_and_patterns_choose(dist: Path) -> None:
    assert names(collect([str(dist)], extensions=["txt"])) == ["~/notes.txt"]
    assert names(collect([str(dist)], ignore=["*.map", "assets/"])) == [
        "~/beside.js",
        "~/inline.js",
        "~/plain.js",
    ]


def test_a_file_that_is_named_is_taken_whatever_its_ending(dist: Path) -> None:
    assert names(collect([str(dist / "notes.txt")])) == ["~/notes.txt"]


def test_a_path_that_is_not_there_is_an_error(dist: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        collect([str(dist / "nowhere")])


def test_the_archive_has_the_servers_form(dist: Path) -> None:
    bundle = Bundle(collect([str(dist)]), release="w@1", dist="7", organization="acme", note="n")
    bundle.projects = ["web"]
    target = io.BytesIO()
    identity = bundle.write(target)
    data = target.getvalue()
    assert data[:4] == b"SYSB"
    assert struct.unpack("<I", data[4:8]) == (2,)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.read("files/_/_/plain.js") == b"let b = 1;\n"
    assert manifest["debug_id"] == identity
    assert (manifest["release"], manifest["dist"], manifest["org"]) == ("w@1", "7", "acme")
    assert (manifest["project"], manifest["note"]) == ("web", "n")
    assert manifest["files"]["files/_/_/assets/app.min.js"] == {
        "type": "minified_source",
        "url": "~/assets/app.min.js",
        "headers": {"sourcemap": "app.min.js.map"},
    }


def test_the_same_files_make_the_same_bytes_and_id(dist: Path) -> None:
    """An interrupted upload goes on only because of this."""

    def written(**more: Any) -> tuple[str, bytes]:
        target = io.BytesIO()
        return Bundle(collect([str(dist)]), **more).write(target), target.getvalue()

    before = written()
    assert written() == before
    assert written(release="other", note="n")[0] == before[0]
    assert before[0][14] == "5"  # a version 5 UUID
    (dist / "plain.js").write_text("changed")
    assert written()[0] != before[0]


def test_an_address_outside_the_archive_stays_inside(dist: Path) -> None:
    (file,) = collect([str(dist / "plain.js")], url_prefix="~/../../etc")
    assert file.entry == "files/_/_/etc/plain.js"
    (file,) = collect([str(dist / "plain.js")], url_prefix="https://x.example/a")
    assert file.entry == "files/https/x.example/a/plain.js"


class Assembler:
    """A server that keeps chunks and puts them together."""

    def __init__(self, *, chunk_size: int = 64, per_request: int = 2, polls: int = 0) -> None:
        self.chunks: dict[str, bytes] = {}
        self.posts: list[list[str]] = []
        self.assembled: list[dict[str, Any]] = []
        self.fail_after: int | None = None
        self.polls = polls
        self.lossy = False
        self.error: str | None = None
        self.terms = {
            "chunkSize": chunk_size,
            "chunksPerRequest": per_request,
            "maxRequestSize": 1 << 20,
            "compression": ["gzip"],
            "hashAlgorithm": "sha1",
        }
        assembler = self

        class Handler(_Handler):
            owner: ClassVar[Assembler] = assembler

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self) -> Assembler:
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.terms["url"] = f"{self.url}/api/0/organizations/acme/chunk-upload/"
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, content_type: str, data: bytes) -> tuple[int, object]:
        parts = body_of(content_type, data)["_multipart"]
        if self.fail_after is not None and len(self.posts) >= self.fail_after:
            return 400, {"error": "Chunk size too large"}
        self.posts.append([part["filename"] for part in parts])
        if self.lossy:
            return 200, None
        for part, content in zip(parts, raw_parts(content_type, data), strict=True):
            plain = gzip.decompress(content) if part["field"] == "file_gzip" else content
            assert hashlib.sha1(plain).hexdigest() == part["filename"]
            self.chunks[part["filename"]] = plain
        return 200, None

    def assemble(self, body: dict[str, Any]) -> object:
        self.assembled.append(body)
        missing = [chunk for chunk in body["chunks"] if chunk not in self.chunks]
        if missing:
            return {"state": "not_found", "missingChunks": missing}
        whole = b"".join(self.chunks[chunk] for chunk in body["chunks"])
        assert hashlib.sha1(whole).hexdigest() == body["checksum"]
        if self.error is not None:
            return {"state": "error", "detail": self.error, "missingChunks": []}
        if self.polls:
            self.polls -= 1
            return {"state": "assembling", "missingChunks": []}
        return {"state": "ok", "detail": None, "missingChunks": []}


def raw_parts(content_type: str, data: bytes) -> list[bytes]:
    boundary = content_type.partition("boundary=")[2].encode()
    pieces = data.split(b"--" + boundary)[1:-1]
    return [piece.partition(b"\r\n\r\n")[2][:-2] for piece in pieces]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ClassVar[Assembler]

    def do_GET(self) -> None:
        self.answer(200, self.owner.terms)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/assemble/"):
            self.answer(200, self.owner.assemble(json.loads(data)))
        else:
            self.answer(*self.owner.take(self.headers["Content-Type"], data))

    def answer(self, status: int, value: object) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def http() -> Iterator[HttpClient]:
    client = HttpClient(HttpSettings(connect_timeout=5.0, timeout=5.0))
    yield client
    client.close()


def upload(server: Assembler, http: HttpClient, data: bytes, **more: Any) -> Any:
    clock = FakeClock()
    channel = Channel(server.url, "t", http=http, user_agent="x", clock=clock, pause=clock.advance)
    more.setdefault("version", "w@1")
    return upload_bundle(channel, "acme", io.BytesIO(data), projects=["web"], dist=None, **more)


DATA = bytes(range(256)) + b"tail"


def test_an_archive_arrives_in_chunks(http: HttpClient) -> None:
    seen: list[tuple[int, int]] = []
    with Assembler() as server:
        done = upload(server, http, DATA, progress=lambda *both: seen.append(both))
    assert (done.state, done.chunks, done.sent) == ("ok", 5, 5)
    assert [len(post) for post in server.posts] == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert server.assembled[0]["version"] == "w@1"
    assert "dist" not in server.assembled[0]


def test_an_interrupted_upload_goes_on_where_it_stopped(http: HttpClient) -> None:
    with Assembler() as server:
        server.fail_after = 1
        with pytest.raises(ApiError, match="Chunk size too large"):
            upload(server, http, DATA)
        server.fail_after = None
        done = upload(server, http, DATA)
    assert (done.state, done.sent) == ("ok", 3)


def test_what_the_server_has_is_not_sent_again(http: HttpClient) -> None:
    with Assembler() as server:
        upload(server, http, DATA)
        assert upload(server, http, DATA).sent == 0


def test_equal_chunks_are_sent_once(http: HttpClient) -> None:
    with Assembler() as server:
        done = upload(server, http, b"x" * 64 * 10)
    assert (done.chunks, done.sent) == (10, 1)


def test_waiting_ends_when_the_server_is_done_or_the_time_is_up(http: HttpClient) -> None:
    with Assembler(polls=3) as server:
        assert upload(server, http, DATA, wait=60.0).state == "ok"
    with Assembler(polls=1000) as server:
        assert upload(server, http, DATA, wait=5.0).state == "assembling"


def test_a_bundle_the_server_cannot_use_is_an_error(http: HttpClient) -> None:
    with Assembler() as server:
        server.error = "no manifest"
        with pytest.raises(ApiError, match="no manifest"):
            upload(server, http, DATA)


def test_a_server_that_keeps_nothing_ends_the_upload(http: HttpClient) -> None:
    with Assembler() as server:
        server.lossy = True
        with pytest.raises(ApiError, match="losing chunks"):
            upload(server, http, DATA)


def test_a_bundle_that_is_too_large_is_not_sent(http: HttpClient) -> None:
    with Assembler() as server:
        server.terms["maxFileSize"] = 10
        with pytest.raises(ApiError, match="260 bytes"):
            upload(server, http, DATA)
    assert server.posts == []


def test_multipart_keeps_names_and_bytes() -> None:
    content_type, body = multipart.encode(
        [multipart.field("name", "~/ü"), multipart.file("file", 'a"\r\nb', b"\0\xff\r\n--x")]
    )
    assert raw_parts(content_type, body) == ["~/ü".encode(), b"\0\xff\r\n--x"]
    assert b'filename="a%22%0D%0Ab"' in body
