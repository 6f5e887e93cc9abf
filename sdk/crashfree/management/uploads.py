"""Uploading an archive in chunks: the server says which it lacks, so a second try sends the rest.

Threads: one upload, one thread. Source: releases.md section 4.4 (chunk-upload, assemble).
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from crashfree.errors import ApiError
from crashfree.management import multipart
from crashfree.management.channel import Channel, path_of
from crashfree.management.payloads import Payload, array, count, mapping, text

_POLL = 1.0
_DEFAULT_CHUNK = 8 * 1024 * 1024
_LARGEST_CHUNK = 64 * 1024 * 1024
_DEFAULT_REQUEST = 32 * 1024 * 1024
_DEFAULT_PER_REQUEST = 64
_ROUNDS = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Assembly:
    """What became of an upload: `created` (the server still works on it), `ok`."""

    state: str
    chunks: int
    sent: int


@dataclass(frozen=True)
class _Terms:
    """How the server wants chunks."""

    url: str
    chunk_size: int
    per_request: int
    request_size: int
    compress: bool
    max_file: int


def upload_bundle(
    channel: Channel,
    organization: str,
    archive: IO[bytes],
    *,
    projects: list[str],
    version: str | None,
    dist: str | None,
    wait: float = 0.0,
    progress: Progress | None = None,
) -> Assembly:
    """Send an archive and have it put together; only chunks that the server lacks are sent.

    `wait` is how many seconds to wait for the server to finish with it; 0 returns as soon as
    everything is there. Raises ApiError when the server cannot use it.
    """
    terms = _terms(channel, organization)
    chunks, checksum = _digests(archive, terms)
    body: dict[str, object] = {"checksum": checksum, "chunks": chunks, "projects": projects}
    if version is not None:
        body["version"] = version
        if dist is not None:
            body["dist"] = dist
    path = path_of("organizations", organization, "artifactbundle", "assemble")
    answer = _assembled(channel, path, body)
    sent = 0
    for _ in range(_ROUNDS):
        missing = [str(entry) for entry in array(answer.get("missingChunks"))]
        if not missing:
            break
        sent += _send(channel, terms, archive, chunks, set(missing), progress)
        answer = _assembled(channel, path, body)
    else:
        raise ApiError(0, "the server keeps losing chunks of the upload")
    answer = _waited(channel, path, body, answer, wait)
    return Assembly(text(answer, "state") or "created", len(chunks), sent)


def _terms(channel: Channel, organization: str) -> _Terms:
    value = mapping(channel.get(path_of("organizations", organization, "chunk-upload")).value)
    # `accept` is not consulted: servers that leave bundles out of it take them all the same.
    size = count(value, "chunkSize") or _DEFAULT_CHUNK
    return _Terms(
        url=text(value, "url") or path_of("organizations", organization, "chunk-upload"),
        chunk_size=min(size, _LARGEST_CHUNK),
        per_request=max(1, count(value, "chunksPerRequest") or _DEFAULT_PER_REQUEST),
        request_size=count(value, "maxRequestSize") or _DEFAULT_REQUEST,
        compress="gzip" in array(value.get("compression")),
        max_file=count(value, "maxFileSize"),
    )


def _digests(archive: IO[bytes], terms: _Terms) -> tuple[list[str], str]:
    whole = hashlib.sha1(usedforsecurity=False)
    chunks: list[str] = []
    size = 0
    archive.seek(0)
    while chunk := archive.read(terms.chunk_size):
        size += len(chunk)
        whole.update(chunk)
        chunks.append(hashlib.sha1(chunk, usedforsecurity=False).hexdigest())
    if terms.max_file and size > terms.max_file:
        raise ApiError(0, f"the bundle has {size} bytes, the server takes {terms.max_file}")
    return chunks, whole.hexdigest()


def _send(
    channel: Channel,
    terms: _Terms,
    archive: IO[bytes],
    chunks: list[str],
    missing: set[str],
    progress: Progress | None,
) -> int:
    total = sum(1 for name in set(chunks) if name in missing)
    done = 0
    for parts in _requests(terms, archive, chunks, missing):
        content_type, data = multipart.encode(parts)
        channel.post(terms.url, content_type=content_type, data=data)
        done += len(parts)
        if progress is not None:
            progress(done, total)
    return done


def _requests(
    terms: _Terms, archive: IO[bytes], chunks: list[str], missing: set[str]
) -> Iterator[list[multipart.Part]]:
    """Return the missing chunks, as many in one request as the server takes."""
    waiting = set(missing)
    parts: list[multipart.Part] = []
    size = 0
    for index, name in enumerate(chunks):
        if name not in waiting:
            continue
        waiting.discard(name)
        archive.seek(index * terms.chunk_size)
        content = archive.read(terms.chunk_size)
        if parts and (len(parts) >= terms.per_request or size + len(content) > terms.request_size):
            yield parts
            parts, size = [], 0
        size += len(content)
        if terms.compress:
            parts.append(multipart.file("file_gzip", name, gzip.compress(content, 6, mtime=0)))
        else:
            parts.append(multipart.file("file", name, content))
    if parts:
        yield parts


def _assembled(channel: Channel, path: str, body: dict[str, object]) -> Payload:
    answer = mapping(channel.call("POST", path, body=body).value)
    if text(answer, "state") == "error":
        raise ApiError(0, text(answer, "detail") or "the server cannot use the upload", body=answer)
    return answer


def _waited(
    channel: Channel, path: str, body: dict[str, object], answer: Payload, wait: float
) -> Payload:
    began = channel.elapsed_since(0.0)
    while text(answer, "state") != "ok" and channel.elapsed_since(began) < wait:
        channel.wait(_POLL)
        answer = _assembled(channel, path, body)
    return answer
