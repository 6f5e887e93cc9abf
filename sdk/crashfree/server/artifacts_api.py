"""The endpoints of release files, chunks and artifact bundles.

Threads: handlers run on any thread. Source: releases.md section 4.4.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

from crashfree.server import artifacts, releases
from crashfree.server.artifacts import (
    CHUNK_SIZE,
    CHUNKS_PER_REQUEST,
    MAX_FILE,
    MAX_REQUEST,
    BadBundle,
    BundledFile,
    FileExists,
    ReleaseFile,
)
from crashfree.server.endpoint import Call, Problem, answer, api, download, page
from crashfree.server.fields import Invalid, ListOf, Object, Slug, Text
from crashfree.server.multipart import BadMultipart, Part, parse
from crashfree.server.releases_api import found_release

_SHA1: Final = re.compile(r"[0-9a-f]{40}\Z")
_DIST: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_ODD_SPACE: Final = re.compile(r"[\n\t\r\f\v\\]")
_MAX_UPLOAD: Final = 64 * 1024 * 1024
_ROOM_FOR_HEADERS: Final = 1024 * 1024


def _sha1(text: str) -> str:
    if not _SHA1.match(text):
        raise Invalid(["Not a SHA-1 in lower case."])
    return text


_CHECKSUM: Final = Text(blank=False, nullable=False, required=True, check=_sha1)
ASSEMBLE: Final = Object(
    {"checksum": _CHECKSUM, "chunks": ListOf(_CHECKSUM, required=True)}, closed=True
)
ASSEMBLE_BUNDLE: Final = Object(
    {
        "checksum": _CHECKSUM,
        "chunks": ListOf(_CHECKSUM, required=True),
        "projects": ListOf(Slug(), required=True, least=1),
        "version": Text(),
        "dist": Text(most=64),
    },
    closed=True,
)
RENAME: Final = Object({"name": Text(blank=False, nullable=False, required=True, most=510)})


# Chunks.


def describe_upload(call: Call) -> Response:
    """Return where and how chunks are uploaded."""
    return answer(
        {
            "url": f"{call.base_url}/api/0/organizations/{call.context.organization}/chunk-upload/",
            "chunkSize": CHUNK_SIZE,
            "chunksPerRequest": CHUNKS_PER_REQUEST,
            "maxFileSize": MAX_FILE,
            "maxRequestSize": MAX_REQUEST,
            "concurrency": 8,
            "hashAlgorithm": "sha1",
            "compression": ["gzip"],
            "accept": ["release_files", "artifact_bundles", "artifact_bundles_v2"],
        }
    )


def upload_chunks(call: Call) -> Response:
    """Keep chunks; the file name of each is the SHA-1 of its plain bytes."""
    if len(call.body) > MAX_REQUEST + _ROOM_FOR_HEADERS:
        raise Problem(400, {"error": "Request too large"})
    parts = [part for part in _parts(call, "error") if part.name in ("file", "file_gzip")]
    if len(parts) > CHUNKS_PER_REQUEST:
        raise Problem(400, {"error": "Too many chunks"})
    chunks: list[bytes] = []
    for part in parts:
        data = _unzipped(part) if part.name == "file_gzip" else bytes(part.data)
        if len(data) > CHUNK_SIZE:
            raise Problem(400, {"error": "Chunk size too large"})
        if hashlib.sha1(data, usedforsecurity=False).hexdigest() != part.filename:
            raise Problem(400, {"error": "Checksum does not fit the chunk"})
        chunks.append(data)
    for data in chunks:
        with call.store.write() as db:
            artifacts.put_chunk(db, data, call.now)
    return Response(status_code=200)


def _parts(call: Call, error_name: str) -> list[Part]:
    try:
        return parse(call.body, call.headers.get("content-type", ""))
    except BadMultipart as error:
        raise Problem(400, {error_name: str(error)}) from None


def _unzipped(part: Part) -> bytes:
    inflater = zlib.decompressobj(31)
    try:
        data = inflater.decompress(part.data, CHUNK_SIZE + 1)
    except zlib.error as error:
        raise Problem(400, {"error": f"Chunk is not gzip: {error}"}) from None
    if len(data) <= CHUNK_SIZE and not inflater.eof:
        raise Problem(400, {"error": "Chunk ends too early"})
    return data


def assemble_bundle(call: Call) -> Response:
    """Put an artifact bundle together, or say which chunks are missing."""
    body = _assembly(call, ASSEMBLE_BUNDLE)
    version, dist = body.get("version") or None, body.get("dist") or None
    if dist and not version:
        raise Problem(400, {"error": "You need to specify a release together with a dist"})
    if dist is not None:
        _check_dist(dist)
    with call.store.read() as db:
        project_ids = _project_ids(call, db, body["projects"])
    if version is not None and ("/" in version or not version.strip()):
        raise Problem(400, {"error": "Invalid version"})
    return _assemble(call, body, project_ids=project_ids, version=version, dist=dist)


def assemble_release(call: Call) -> Response:
    """Put a bundle of a release together, or say which chunks are missing."""
    body = _assembly(call, ASSEMBLE)
    with call.store.read() as db:
        release = found_release(db, call)
        project_ids = releases.project_ids(db, release.id)
    return _assemble(call, body, project_ids=project_ids, version=release.version, dist=None)


def _assembly(call: Call, shape: Object) -> dict[str, Any]:
    try:
        return dict(shape.read(call.json()))
    except Invalid as refusal:
        raise Problem(400, {"error": str(refusal.errors)}) from None


def _project_ids(call: Call, db: sqlite3.Connection, named: Sequence[object]) -> list[int]:
    known: dict[str, int] = {}
    for project in call.store.projects(db):
        known[project.slug] = known[str(project.id)] = project.id
    found = [known[str(name)] for name in named if str(name) in known]
    if len(found) != len(named):
        raise Problem(400, {"error": "One or more projects are invalid"})
    return sorted(set(found))


def _assemble(
    call: Call,
    body: dict[str, Any],
    *,
    project_ids: Sequence[int],
    version: str | None,
    dist: str | None,
) -> Response:
    checksum, parts = body["checksum"], body["chunks"]
    with call.store.read() as db:
        known = artifacts.find_bundle(db, checksum)
        missing = [] if known is not None else artifacts.missing_chunks(db, parts)
        if missing or (known is None and not parts):
            return _state("not_found", missing=missing)
        manifest = None
        if known is None:
            if artifacts.size_of(db, parts) > MAX_FILE:
                return _state("error", detail="The file is too large")
            file, actual = artifacts.open_chunks(db, parts)
            with file:
                if actual != checksum:
                    return _state("error", detail="Reported checksum mismatch")
                try:
                    manifest = artifacts.read_manifest(file)
                except BadBundle as error:
                    return _state("error", detail=str(error))
    with call.store.write() as db:
        bundle = artifacts.find_bundle(db, checksum)
        if bundle is None:
            missing = artifacts.missing_chunks(db, parts)
            if missing or manifest is None:
                return _state("not_found", missing=missing)
            bundle = artifacts.add_bundle(db, manifest, checksum=checksum, parts=parts, at=call.now)
        release_id = _release_id(call, db, version, project_ids)
        artifacts.associate(
            db,
            bundle,
            project_ids=project_ids,
            release_id=release_id,
            dist=dist or (manifest.dist if manifest is not None and version else None),
            at=call.now,
        )
        artifacts.sweep(db, before=call.now - artifacts.UNUSED_FOR)
    return _state("ok")


def _release_id(
    call: Call, db: sqlite3.Connection, version: str | None, project_ids: Sequence[int]
) -> int | None:
    """Return the release of an upload; one that nobody has made yet is made."""
    if version is None:
        return None
    release, _ = releases.find_or_make(db, version, call.now)
    for project_id in project_ids:
        call.store.release_id(db, version, project_id, call.now, seen=False)
    return release.id


def _state(state: str, *, detail: str | None = None, missing: Sequence[str] = ()) -> Response:
    return answer({"state": state, "detail": detail, "missingChunks": list(missing)})


def _check_dist(dist: str) -> None:
    if not _DIST.match(dist):
        raise Problem(400, {"error": "Invalid dist: use a-z A-Z 0-9 _ . - (at most 64)"})


# Files.


def list_files(call: Call) -> Response:
    """Return the files of a release, those of its bundles last."""
    with call.store.read() as db:
        release = found_release(db, call)
        words = [word for word in call.query.getlist("query") if word]
        checksums = call.query.getlist("checksum")
        shown = [
            file.json()
            for file in artifacts.files(db, release.id, words=words, checksums=checksums)
        ]
        if not checksums:
            lowered = [word.lower() for word in words]
            shown += [
                file.json()
                for file in artifacts.bundled_files(db, release.id)
                if not lowered or any(word in file.name.lower() for word in lowered)
            ]
    return page(call, shown)


def upload_file(call: Call) -> Response:
    """Add a file to a release."""
    parts = _parts(call, "detail")
    fields = {part.name: part.text for part in parts if part.filename is None}
    uploaded = next((part for part in parts if part.name == "file"), None)
    if uploaded is None or uploaded.filename is None:
        raise Problem(400, "Missing uploaded file")
    name = fields.get("name") or uploaded.filename
    if not name or name == "file":
        raise Problem(400, "File name must be specified")
    if _ODD_SPACE.search(name.rpartition("/")[2]):
        raise Problem(400, "File name must not contain special whitespace characters")
    headers: dict[str, str] = {}
    for part in parts:
        if part.name == "header":
            key, colon, value = part.text.partition(":")
            if not colon:
                raise Problem(400, "header value was not formatted correctly")
            if _ODD_SPACE.search(value):
                raise Problem(400, "header value must not contain special whitespace characters")
            headers[key] = value.strip()
    dist = (fields.get("dist") or "").strip() or None
    if dist is not None and not _DIST.match(dist):
        raise Problem(400, "Invalid dist: use a-z A-Z 0-9 _ . - (at most 64)")
    data = uploaded.data
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    with call.store.write() as db:
        release = found_release(db, call)
        kept = [
            artifacts.put_chunk(db, bytes(data[start : start + CHUNK_SIZE]), call.now)
            for start in range(0, len(data), CHUNK_SIZE)
        ]
        try:
            file = artifacts.add_file(
                db,
                release.id,
                name=name,
                dist=dist,
                headers=headers,
                parts=kept,
                sha1=sha1,
                at=call.now,
            )
        except FileExists:
            raise Problem(
                409, "A file matching this name already exists for the given release"
            ) from None
    return answer(file.json(), 201)


def get_file(call: Call) -> Response:
    """Return a file of a release: its description, or with `download` its content."""
    with call.store.read() as db:
        release = found_release(db, call)
        file = _found_file(db, call, release.id)
        if "download" not in call.query:
            return answer(file.json())
        if isinstance(file, ReleaseFile):
            data = b"".join(artifacts.chunks(db, artifacts.file_parts(db, file.id)))
        else:
            try:
                data = artifacts.read_bundled(db, file)
            except BadBundle as error:
                raise Problem(400, str(error)) from None
    return download(data, file.name)


def _found_file(db: sqlite3.Connection, call: Call, release_id: int) -> ReleaseFile | BundledFile:
    named = call.path["file"]
    if named.isascii() and named.isdigit() and len(named) < 19:
        file = artifacts.get_file(db, release_id, int(named))
        if file is not None:
            return file
    for bundled in artifacts.bundled_files(db, release_id):
        if bundled.id == named:
            return bundled
    raise Problem(404)


def rename_file(call: Call) -> Response:
    """Rename a file of a release."""
    try:
        body = RENAME.read(call.json())
    except Invalid as refusal:
        raise Problem(400, refusal.errors) from None
    with call.store.write() as db:
        release = found_release(db, call)
        file = _found_file(db, call, release.id)
        if isinstance(file, BundledFile):
            raise Problem(400, "Can't update release archive index")
        try:
            db.execute("UPDATE release_files SET name = ? WHERE id = ?", (body["name"], file.id))
        except sqlite3.IntegrityError:
            raise Problem(
                409, "A file matching this name already exists for the given release"
            ) from None
        return answer(file._replace(name=body["name"]).json())


def delete_file(call: Call) -> Response:
    """Delete a file of a release."""
    with call.store.write() as db:
        release = found_release(db, call)
        file = _found_file(db, call, release.id)
        if isinstance(file, BundledFile):
            artifacts.delete_bundled(db, file)
        else:
            artifacts.delete_file(db, file.id)
        artifacts.sweep(db, before=call.now - artifacts.UNUSED_FOR)
    return answer(None, 204)


def delete_all_files(call: Call) -> Response:
    """Delete all files of the release that `name` says."""
    with call.store.write() as db:
        release = releases.find(db, call.query.get("name", ""))
        if release is None or call.project.id not in releases.project_ids(db, release.id):
            raise Problem(404)
        artifacts.delete_all_files(db, release.id)
        artifacts.sweep(db, before=call.now - artifacts.UNUSED_FOR)
    return answer(None, 204)


# Bundles.


def list_bundles(call: Call) -> Response:
    """Return the artifact bundles of a project."""
    by = call.query.get("sortBy") or "-date_added"
    columns = {"date_added": "date_created", "date_modified": "date_modified"}
    column = columns.get(by.lstrip("-"))
    if column is None:
        raise Problem(400, {"error": "You can either sort via 'date_added' or 'date_modified'"})
    with call.store.read() as db:
        found = artifacts.bundles(
            db,
            call.project.id,
            query=call.query.get("query", ""),
            newest_first=by.startswith("-"),
            by=column,
        )
    return page(call, found, default=10)


def delete_bundle(call: Call) -> Response:
    """Delete an artifact bundle of a project."""
    bundle_id = call.query.get("bundleId")
    if not bundle_id:
        raise Problem(400, {"error": "Supply an invalid bundle_id query parameter"})
    with call.store.write() as db:
        if not artifacts.delete_bundle(db, call.project.id, bundle_id):
            raise Problem(404, {"error": f"Couldn't delete the bundle with id {bundle_id}"})
        artifacts.sweep(db, before=call.now - artifacts.UNUSED_FOR)
    return answer(None, 204)


_ORGANIZATION: Final = "/api/0/organizations/{organization}/"
_PROJECT: Final = "/api/0/projects/{organization}/{project}/"

ROUTES: Final = [
    api(
        _ORGANIZATION + "chunk-upload/",
        max_body=MAX_REQUEST + 2 * _ROOM_FOR_HEADERS,
        GET=describe_upload,
        POST=upload_chunks,
    ),
    api(_ORGANIZATION + "artifactbundle/assemble/", POST=assemble_bundle),
    api(_ORGANIZATION + "releases/{version}/assemble/", POST=assemble_release),
    *(
        route
        for base in (_ORGANIZATION, _PROJECT)
        for route in (
            api(
                base + "releases/{version}/files/",
                max_body=_MAX_UPLOAD,
                GET=list_files,
                POST=upload_file,
            ),
            api(
                base + "releases/{version}/files/{file}/",
                GET=get_file,
                PUT=rename_file,
                DELETE=delete_file,
            ),
        )
    ),
    api(_PROJECT + "files/source-maps/", DELETE=delete_all_files),
    api(_PROJECT + "files/artifact-bundles/", GET=list_bundles, DELETE=delete_bundle),
]

BODIES: Final = {
    ("POST", _ORGANIZATION + "artifactbundle/assemble/"): ASSEMBLE_BUNDLE,
    ("POST", _ORGANIZATION + "releases/{version}/assemble/"): ASSEMBLE,
    ("PUT", _ORGANIZATION + "releases/{version}/files/{file}/"): RENAME,
    ("PUT", _PROJECT + "releases/{version}/files/{file}/"): RENAME,
}
