from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.catalog import Catalog, catalog
from tests.support.serving import Answer, call, request


@pytest.fixture
def c() -> Iterator[Catalog]:
    with catalog() as made:
        made.release("a@1")
        yield made


def form(*parts: tuple[str, str | None, bytes]) -> bytes:
    body = b""
    for name, filename, data in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        body += f'--XX\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += data + b"\r\n"
    return body + b"--XX--\r\n"


def upload(c: Catalog, path: str, *parts: tuple[str, str | None, bytes]) -> Answer:
    headers = [
        ("Authorization", f"Bearer {c.server.token}"),
        ("Content-Type", "multipart/form-data; boundary=XX"),
    ]
    return request(c.server.url, "POST", path, headers=headers, body=form(*parts))


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


# Files.


def test_a_file_is_uploaded_listed_read_renamed_and_deleted(c: Catalog) -> None:
    files = c.of("a@1", "files/")
    made = upload(
        c,
        files,
        ("file", "app.js", b"code"),
        ("name", None, b"~/app.js"),
        ("dist", None, b"7"),
        ("header", None, b"Sourcemap: app.js.map"),
        ("header", None, b"X-Two:2"),
    )
    assert made.status == 201
    file = made.json
    assert (file["name"], file["dist"], file["size"]) == ("~/app.js", "7", 4)
    assert file["headers"] == {"Sourcemap": "app.js.map", "X-Two": "2"}
    assert file["sha1"] == sha1(b"code")
    assert c.get(files) == c.get(c.p("releases/a@1/files/")) == [file]
    one = f"{files}{file['id']}/"
    assert c.get(one) == file
    content = call(c.server, "GET", one + "?download=1")
    assert content.body == b"code"
    assert content.headers["Content-Type"] == "application/octet-stream"
    assert content.headers["Content-Disposition"] == 'attachment; filename="app.js"'
    assert c.put(one, {"name": "~/b.js"})["name"] == "~/b.js"
    assert c.get(one)["name"] == "~/b.js"
    c.delete(one)
    c.get(one, 404)
    assert c.get(files) == []


def test_a_name_is_taken_once_per_distribution(c: Catalog) -> None:
    files = c.of("a@1", "files/")
    assert upload(c, files, ("file", "a.js", b"1")).status == 201
    again = upload(c, files, ("file", "a.js", b"2"))
    assert again.status == 409
    assert again.json == {
        "detail": "A file matching this name already exists for the given release"
    }
    assert upload(c, files, ("file", "a.js", b"1"), ("dist", None, b"x")).status == 201
    number = upload(c, files, ("file", "b.js", b"3")).json["id"]
    c.put(f"{files}{number}/", {"name": "a.js"}, 409)


def test_files_are_searched_by_name_distribution_and_checksum(c: Catalog) -> None:
    files = c.of("a@1", "files/")
    upload(c, files, ("file", "one.js", b"1"))
    upload(c, files, ("file", "two.js", b"2"), ("dist", None, b"x"))
    for query, names in (
        ({"query": "ONE"}, ["one.js"]),
        ({"query": "x"}, ["two.js"]),
        ({"checksum": sha1(b"2")}, ["two.js"]),
        ({"query": ["one", "two"]}, ["one.js", "two.js"]),
    ):
        found = c.get(c.of("a@1", "files/", **query))
        assert [file["name"] for file in found] == names


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        ([("name", None, b"x")], "Missing uploaded file"),
        ([("file", "file", b"x")], "File name must be specified"),
        (
            [("file", "x", b"x"), ("name", None, b"a\tb")],
            "File name must not contain special whitespace characters",
        ),
        (
            [("file", "x", b"x"), ("header", None, b"nocolon")],
            "header value was not formatted correctly",
        ),
    ],
)
def test_bad_uploads_are_refused_in_the_original_words(
    c: Catalog, parts: list[tuple[str, str | None, bytes]], detail: str
) -> None:
    refused = upload(c, c.of("a@1", "files/"), *parts)
    assert (refused.status, refused.json) == (400, {"detail": detail})


def test_other_faults_of_uploads(c: Catalog) -> None:
    bad_dist = [("file", "x", b"x"), ("dist", None, b"a b")]
    assert upload(c, c.of("a@1", "files/"), *bad_dist).status == 400
    assert upload(c, c.of("nope", "files/"), ("file", "x", b"x")).status == 404
    assert call(c.server, "POST", c.of("a@1", "files/"), {}).status == 400
    c.get(c.of("a@1", "files/99/"), 404)


# Chunks and bundles.


def bundle(files: Mapping[str, bytes], *, release: str | None = None, **manifest: Any) -> bytes:
    out = io.BytesIO()
    out.write(b"SYSB\x02\x00\x00\x00")
    with zipfile.ZipFile(out, "w") as archive:
        described = {}
        for url, data in files.items():
            path = "files/_/_" + url.removeprefix("~")
            archive.writestr(path, data)
            described[path] = {"url": url, "type": "minified_source", "headers": {"Sourcemap": "m"}}
        archive.writestr(
            "manifest.json", json.dumps({"files": described, "release": release, **manifest})
        )
    return out.getvalue()


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def assemble(c: Catalog, data: bytes, chunks: list[bytes], **fields: Any) -> Any:
    body = {
        "checksum": sha1(data),
        "chunks": [sha1(chunk) for chunk in chunks],
        "projects": ["web"],
        **fields,
    }
    return c.post(c.o("artifactbundle/assemble/"), body, 200)


def test_a_bundle_is_put_together_from_its_chunks(c: Catalog) -> None:
    offer = c.get(c.o("chunk-upload/"))
    assert offer["url"] == f"{c.server.url}{c.o('chunk-upload/')}"
    assert (offer["chunkSize"], offer["hashAlgorithm"]) == (8388608, "sha1")
    data = bundle({"~/a.js": b"a" * 500, "~/b.js": b"b"}, release="new@1")
    chunks = chunked(data, 300)
    state = assemble(c, data, chunks, version="new@1", dist="7")
    assert state["state"] == "not_found"
    assert state["missingChunks"] == list(dict.fromkeys(map(sha1, chunks)))
    half = len(chunks) // 2
    plain = [("file", sha1(chunk), chunk) for chunk in chunks[:half]]
    packed = [("file_gzip", sha1(chunk), gzip.compress(chunk)) for chunk in chunks[half:]]
    assert upload(c, c.o("chunk-upload/"), *plain).status == 200
    missing = assemble(c, data, chunks, version="new@1", dist="7")["missingChunks"]
    assert set(missing) == {sha1(chunk) for chunk in chunks[half:]}
    assert upload(c, c.o("chunk-upload/"), *packed).status == 200
    assert assemble(c, data, chunks, version="new@1", dist="7") == {
        "state": "ok",
        "detail": None,
        "missingChunks": [],
    }
    assert c.get(c.of("new@1"))["projects"][0]["slug"] == "web"
    (listed,) = c.get(c.p("files/artifact-bundles/"))
    assert listed["associations"] == [{"release": "new@1", "dist": "7"}]
    assert listed["fileCount"] == 2
    files = c.get(c.of("new@1", "files/"))
    assert [(file["name"], file["dist"]) for file in files] == [("~/a.js", "7"), ("~/b.js", "7")]
    one = c.of("new@1", f"files/{files[0]['id']}/")
    assert c.get(one)["headers"] == {"sourcemap": "m"}
    assert call(c.server, "GET", one + "?download").body == b"a" * 500
    c.put(one, {"name": "x"}, 400)
    c.delete(one)
    assert len(c.get(c.of("new@1", "files/"))) == 1
    assert c.get(c.of("new@1", "meta/"))["isArtifactBundle"] is True


def stored(c: Catalog, data: bytes, **fields: Any) -> Any:
    upload(c, c.o("chunk-upload/"), ("file", sha1(data), data))
    return assemble(c, data, [data], **fields)


def test_the_same_files_for_another_release_are_the_same_bundle(c: Catalog) -> None:
    for release in ("x@1", "x@2"):
        data = bundle({"~/a.js": b"a"}, release=release)
        assert stored(c, data, version=release)["state"] == "ok"
    (listed,) = c.get(c.p("files/artifact-bundles/"))
    assert [each["release"] for each in listed["associations"]] == ["x@1", "x@2"]
    assert stored(c, bundle({"~/b.js": b"b"}))["state"] == "ok"
    assert len(c.get(c.p("files/artifact-bundles/"))) == 2
    assert len(c.get(c.p("files/artifact-bundles/", query="x@2"))) == 1
    assert c.get(c.p("files/artifact-bundles/", "api")) == []


def test_a_bundle_is_deleted_and_all_files_at_once(c: Catalog) -> None:
    stored(c, bundle({"~/a.js": b"a"}), version="a@1")
    upload(c, c.of("a@1", "files/"), ("file", "b.js", b"b"))
    (listed,) = c.get(c.p("files/artifact-bundles/"))
    c.delete(c.p("files/source-maps/", name="a@1"))
    assert c.get(c.of("a@1", "files/")) == []
    c.delete(c.p("files/artifact-bundles/", bundleId=listed["bundleId"]))
    assert c.get(c.p("files/artifact-bundles/")) == []
    c.delete(c.p("files/artifact-bundles/", bundleId=listed["bundleId"]), 404)
    c.delete(c.p("files/artifact-bundles/"), 400)
    c.delete(c.p("files/source-maps/", name="nope"), 404)
    c.get(c.p("files/artifact-bundles/", sortBy="size"), 400)


def test_an_older_client_assembles_a_bundle_of_a_release(c: Catalog) -> None:
    data = bundle({"~/a.js": b"a"}, release="a@1")
    body = {"checksum": sha1(data), "chunks": [sha1(data)]}
    assert c.post(c.of("a@1", "assemble/"), body, 200)["state"] == "not_found"
    upload(c, c.o("chunk-upload/"), ("file", sha1(data), data))
    assert c.post(c.of("a@1", "assemble/"), body, 200)["state"] == "ok"
    assert c.get(c.of("a@1", "files/"))[0]["name"] == "~/a.js"


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * (17 * 1024 * 1024))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no archive", "ZIP"),
        (bundle({})[:-30], "ZIP"),
        (bundle({}).replace(b"manifest", b"manifesT"), "manifest"),
        (bomb(), "too large"),
    ],
)
def test_a_bundle_that_cannot_be_read_is_an_error_state(
    c: Catalog, data: bytes, words: str
) -> None:
    state = stored(c, data)
    assert state["state"] == "error"
    assert words in state["detail"]
    assert c.get(c.p("files/artifact-bundles/")) == []


def test_a_wrong_checksum_is_an_error_state(c: Catalog) -> None:
    data = bundle({})
    upload(c, c.o("chunk-upload/"), ("file", sha1(data), data))
    body = {"checksum": "0" * 40, "chunks": [sha1(data)], "projects": ["web"]}
    assert c.post(c.o("artifactbundle/assemble/"), body, 200)["state"] == "error"


@pytest.mark.parametrize(
    "fields",
    [
        {"projects": []},
        {"projects": ["nope"]},
        {"dist": "7"},
        {"dist": "a b", "version": "a@1"},
        {"version": "a/b"},
        {"extra": 1},
        {"checksum": "X" * 40},
        {"chunks": ["short"]},
    ],
)
def test_bad_assemblies_are_refused(c: Catalog, fields: dict[str, Any]) -> None:
    body = {"checksum": "0" * 40, "chunks": ["0" * 40], "projects": ["web"]} | fields
    assert "error" in c.post(c.o("artifactbundle/assemble/"), body, 400)


def test_bad_chunks_are_refused(c: Catalog) -> None:
    path = c.o("chunk-upload/")
    assert upload(c, path, ("file", "0" * 40, b"x")).json["error"].startswith("Checksum")
    assert upload(c, path, ("file_gzip", sha1(b"x"), b"x")).status == 400
    cut = gzip.compress(b"x" * 1000)[:-9]
    assert upload(c, path, ("file_gzip", sha1(b"x" * 1000), cut)).status == 400
    huge = b"\0" * (8 * 1024 * 1024 + 1)
    too_large = upload(c, path, ("file_gzip", sha1(huge), gzip.compress(huge)))
    assert too_large.json == {"error": "Chunk size too large"}
    many = [("file", sha1(b"x"), b"x")] * 65
    assert upload(c, path, *many).json == {"error": "Too many chunks"}


def test_chunks_that_nobody_needs_are_swept_after_a_day(c: Catalog) -> None:
    orphan = b"orphan"
    upload(c, c.o("chunk-upload/"), ("file", sha1(orphan), orphan))
    stored(c, bundle({"~/a.js": b"a"}), version="a@1")
    kept = upload(c, c.of("a@1", "files/"), ("file", "b.js", b"b")).json["id"]
    c.clock.advance(90_000)
    stored(c, bundle({"~/c.js": b"c"}), version="a@1")
    assert assemble(c, orphan, [orphan])["state"] == "not_found"
    content = call(c.server, "GET", c.of("a@1", f"files/{kept}/?download"))
    assert content.body == b"b"
