"""Release files and artifact bundles: kept in chunks, addressed by SHA-1.

A chunk is stored once whoever uploads it, and goes when nothing refers to it any more. A file or a
bundle is the list of its chunks; nothing here holds a whole one in memory. Bundles are ZIP archives
of strangers: only names and the manifest are read, within limits, nothing is unpacked.

Threads: the transaction's; `open_chunks` any. Source: releases.md section 4.4.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Final, NamedTuple

from crashfree._ground import json
from crashfree.server.endpoint import iso
from crashfree.server.frames import as_mapping, as_text
from crashfree.server.releases import marks

CHUNK_SIZE: Final = 8 * 1024 * 1024
MAX_REQUEST: Final = 32 * 1024 * 1024
MAX_FILE: Final = 512 * 1024 * 1024
CHUNKS_PER_REQUEST: Final = 64
UNUSED_FOR: Final = 86_400.0
"""How long a chunk that nothing refers to yet is kept."""
_MAX_MANIFEST: Final = 16 * 1024 * 1024
_MAX_ENTRIES: Final = 20_000


class BadBundle(ValueError):
    """Bytes that are no artifact bundle."""


class ReleaseFile(NamedTuple):
    """One uploaded file of a release."""

    id: int
    release_id: int
    name: str
    dist: str | None
    headers: str
    size: int
    sha1: str
    date_created: float

    def json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "id": str(self.id),
            "name": self.name,
            "dist": self.dist,
            "headers": json.decode(self.headers.encode()),
            "size": self.size,
            "sha1": self.sha1,
            "dateCreated": iso(self.date_created),
        }


class Entry(NamedTuple):
    """One file of a bundle."""

    path: str
    url: str | None
    type: str | None
    headers: Mapping[str, str]
    size: int


class Manifest(NamedTuple):
    """What a bundle says about itself."""

    entries: tuple[Entry, ...]
    bundle_id: str
    release: str | None
    dist: str | None
    project: str | None


# Chunks.


def put_chunk(db: sqlite3.Connection, data: bytes, at: float) -> str:
    """Keep a chunk; return its SHA-1."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    db.execute(
        "INSERT INTO blobs (sha1, size, date_used, data) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (sha1) DO UPDATE SET date_used = excluded.date_used",
        (sha1, len(data), at, data),
    )
    return sha1


def missing_chunks(db: sqlite3.Connection, sha1s: Sequence[str]) -> list[str]:
    """Return the chunks that are not here, each once, in the order asked."""
    known: set[str] = set()
    for start in range(0, len(sha1s), 500):
        part = sha1s[start : start + 500]
        known.update(
            str(row[0])
            for row in db.execute(f"SELECT sha1 FROM blobs WHERE sha1 IN ({marks(part)})", part)
        )
    return [sha1 for sha1 in dict.fromkeys(sha1s) if sha1 not in known]


def chunks(db: sqlite3.Connection, sha1s: Iterable[str]) -> Iterator[bytes]:
    """Yield the bytes of chunks that are here."""
    for sha1 in sha1s:
        yield bytes(db.execute("SELECT data FROM blobs WHERE sha1 = ?", (sha1,)).fetchone()[0])


def size_of(db: sqlite3.Connection, sha1s: Sequence[str]) -> int:
    """Return the size of a file made of these chunks."""
    sizes = {
        str(row[0]): int(row[1])
        for start in range(0, len(sha1s), 500)
        for row in db.execute(
            f"SELECT sha1, size FROM blobs WHERE sha1 IN ({marks(sha1s[start : start + 500])})",
            sha1s[start : start + 500],
        )
    }
    return sum(sizes[sha1] for sha1 in sha1s)


def open_chunks(db: sqlite3.Connection, sha1s: Sequence[str]) -> tuple[IO[bytes], str]:
    """Return a file of the chunks, on disk, and its SHA-1; the caller closes it."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- handed to the caller
    hashed = hashlib.sha1(usedforsecurity=False)
    for data in chunks(db, sha1s):
        hashed.update(data)
        file.write(data)
    file.seek(0)
    return file, hashed.hexdigest()


def sweep(db: sqlite3.Connection, *, before: float) -> int:
    """Remove the chunks that nothing refers to and nobody used since; return how many."""
    cursor = db.execute(
        "DELETE FROM blobs WHERE date_used < ?"
        " AND sha1 NOT IN (SELECT sha1 FROM release_file_parts)"
        " AND sha1 NOT IN (SELECT sha1 FROM bundle_parts)",
        (before,),
    )
    return cursor.rowcount


# Files of a release.

_FILE: Final = "id, release_id, name, dist, headers, size, sha1, date_created"


class FileExists(Exception):
    """A file of that name and distribution is there already."""


def add_file(
    db: sqlite3.Connection,
    release_id: int,
    *,
    name: str,
    dist: str | None,
    headers: Mapping[str, str],
    parts: Sequence[str],
    sha1: str,
    at: float,
) -> ReleaseFile:
    """Add a file made of chunks; raises FileExists."""
    if dist is not None:
        add_dist(db, release_id, dist, at)
    try:
        cursor = db.execute(
            "INSERT INTO release_files (release_id, name, dist, headers, size, sha1, date_created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                release_id,
                name,
                dist,
                json.encode(dict(headers)).decode(),
                size_of(db, parts),
                sha1,
                at,
            ),
        )
    except sqlite3.IntegrityError:
        raise FileExists(name) from None
    file_id = int(cursor.lastrowid or 0)
    db.executemany(
        "INSERT INTO release_file_parts (file_id, position, sha1) VALUES (?, ?, ?)",
        [(file_id, position, part) for position, part in enumerate(parts)],
    )
    found = get_file(db, release_id, file_id)
    assert found is not None
    return found


def add_dist(db: sqlite3.Connection, release_id: int, name: str, at: float) -> None:
    """Note a distribution of a release."""
    db.execute(
        "INSERT OR IGNORE INTO dists (release_id, name, date_created) VALUES (?, ?, ?)",
        (release_id, name, at),
    )


def get_file(db: sqlite3.Connection, release_id: int, file_id: int) -> ReleaseFile | None:
    """Return a file of a release."""
    row = db.execute(
        f"SELECT {_FILE} FROM release_files WHERE id = ? AND release_id = ?", (file_id, release_id)
    ).fetchone()
    return None if row is None else ReleaseFile(*row)


def files(
    db: sqlite3.Connection,
    release_id: int,
    *,
    words: Sequence[str] = (),
    checksums: Sequence[str] = (),
) -> list[ReleaseFile]:
    """Return the files of a release by name; any word in the name, any checksum."""
    found = [
        ReleaseFile(*row)
        for row in db.execute(
            f"SELECT {_FILE} FROM release_files WHERE release_id = ? ORDER BY name, id",
            (release_id,),
        )
    ]
    if words:
        lowered = [word.lower() for word in words]
        found = [
            file
            for file in found
            if any(word in file.name.lower() or word == file.dist for word in lowered)
        ]
    if checksums:
        found = [file for file in found if file.sha1 in checksums]
    return found


def file_parts(db: sqlite3.Connection, file_id: int) -> list[str]:
    """Return the chunks of a file."""
    return [
        str(row[0])
        for row in db.execute(
            "SELECT sha1 FROM release_file_parts WHERE file_id = ? ORDER BY position", (file_id,)
        )
    ]


def delete_file(db: sqlite3.Connection, file_id: int) -> None:
    """Remove a file; its chunks go with the next sweep unless something else has them."""
    db.execute("DELETE FROM release_file_parts WHERE file_id = ?", (file_id,))
    db.execute("DELETE FROM release_files WHERE id = ?", (file_id,))


# Bundles.


def read_manifest(file: IO[bytes]) -> Manifest:
    """Read the manifest of a bundle; raises BadBundle."""
    # Eight bytes of mark and version stand before the archive; zipfile finds its start by itself.
    try:
        with zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            info = infos.get("manifest.json")
            if info is None:
                raise BadBundle("the bundle has no manifest.json")
            if info.file_size > _MAX_MANIFEST or len(infos) > _MAX_ENTRIES:
                raise BadBundle("the bundle is too large")
            with archive.open(info) as opened:
                data = opened.read(_MAX_MANIFEST + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadBundle(f"the bundle is no readable ZIP archive: {error}") from None
    if len(data) > _MAX_MANIFEST:
        raise BadBundle("the bundle is too large")
    try:
        manifest = as_mapping(json.decode(data))
    except ValueError as error:
        raise BadBundle(f"the manifest is no JSON: {error}") from None
    sizes = {name: info.file_size for name, info in infos.items()}
    return _manifest(manifest, sizes)


def _manifest(manifest: Mapping[str, Any], sizes: Mapping[str, int]) -> Manifest:
    entries: list[Entry] = []
    for path, described in as_mapping(manifest.get("files")).items():
        about = as_mapping(described)
        entries.append(
            Entry(
                path=path,
                url=as_text(about.get("url")),
                type=as_text(about.get("type")),
                headers={
                    str(name).lower(): str(value)
                    for name, value in as_mapping(about.get("headers")).items()
                },
                size=sizes.get(path, 0),
            )
        )
    return Manifest(
        entries=tuple(entries),
        bundle_id=_bundle_id(manifest, entries),
        release=as_text(manifest.get("release")) or None,
        dist=as_text(manifest.get("dist")) or None,
        project=as_text(manifest.get("project")) or None,
    )


def _bundle_id(manifest: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """Return the id the client gave, else one that follows from the files and their URLs."""
    given = (as_text(manifest.get("debug_id")) or "").lower()
    if len(given) == 36 and all(char in "0123456789abcdef-" for char in given):
        return given
    hashed = hashlib.sha1(usedforsecurity=False)
    for entry in sorted(entries, key=lambda entry: entry.path):
        hashed.update(f"{entry.path}\0{entry.url}\0{entry.size}\0".encode("utf-8", "replace"))
    raw = bytearray(hashed.digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def find_bundle(db: sqlite3.Connection, checksum: str) -> int | None:
    """Return the bundle with that checksum."""
    row = db.execute("SELECT id FROM bundles WHERE checksum = ?", (checksum,)).fetchone()
    return None if row is None else int(row[0])


def add_bundle(
    db: sqlite3.Connection, manifest: Manifest, *, checksum: str, parts: Sequence[str], at: float
) -> int:
    """Keep a bundle and return its number.

    An upload of the same files for another release or distribution is the same bundle: it takes
    the place of the older bytes and keeps what they were for.
    """
    facts = (checksum, size_of(db, parts), len(manifest.entries), at)
    known = db.execute(
        "SELECT id FROM bundles WHERE bundle_id = ?", (manifest.bundle_id,)
    ).fetchone()
    if known is None:
        cursor = db.execute(
            "INSERT INTO bundles (checksum, size, file_count, date_modified, date_created,"
            " bundle_id) VALUES (?, ?, ?, ?, ?, ?)",
            (*facts, at, manifest.bundle_id),
        )
        bundle = int(cursor.lastrowid or 0)
    else:
        bundle = int(known[0])
        db.execute(
            "UPDATE bundles SET checksum = ?, size = ?, file_count = ?, date_modified = ?"
            " WHERE id = ?",
            (*facts, bundle),
        )
        db.execute("DELETE FROM bundle_parts WHERE bundle = ?", (bundle,))
        db.execute("DELETE FROM bundle_files WHERE bundle = ?", (bundle,))
    db.executemany(
        "INSERT INTO bundle_parts (bundle, position, sha1) VALUES (?, ?, ?)",
        [(bundle, position, part) for position, part in enumerate(parts)],
    )
    db.executemany(
        "INSERT OR REPLACE INTO bundle_files (bundle, path, url, type, headers, size)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                bundle,
                entry.path,
                entry.url,
                entry.type,
                json.encode(dict(entry.headers)).decode(),
                entry.size,
            )
            for entry in manifest.entries
        ],
    )
    return bundle


def associate(
    db: sqlite3.Connection,
    bundle: int,
    *,
    project_ids: Iterable[int],
    release_id: int | None,
    dist: str | None,
    at: float,
) -> None:
    """Say which projects a bundle is for, and which release and distribution."""
    for project_id in project_ids:
        db.execute(
            "INSERT OR IGNORE INTO bundle_projects (bundle, project_id) VALUES (?, ?)",
            (bundle, project_id),
        )
    if release_id is not None:
        db.execute(
            "INSERT OR IGNORE INTO bundle_releases (bundle, release_id, dist) VALUES (?, ?, ?)",
            (bundle, release_id, dist or ""),
        )
        if dist:
            add_dist(db, release_id, dist, at)
    db.execute("UPDATE bundles SET date_modified = ? WHERE id = ?", (at, bundle))


def bundles(
    db: sqlite3.Connection,
    project_id: int,
    *,
    query: str = "",
    newest_first: bool = True,
    by: str = "date_created",
) -> list[dict[str, Any]]:
    """Return the bundles of a project as the API shows them.

    `query` is a part of a release, a distribution or a bundle id; `by` a date column.
    """
    found: list[dict[str, Any]] = []
    order = "DESC" if newest_first else "ASC"
    for row in db.execute(
        "SELECT bundles.id, bundle_id, file_count, date_modified, date_created FROM bundles"
        " JOIN bundle_projects ON bundle = bundles.id WHERE project_id = ?"
        f" ORDER BY {by} {order}, bundles.id {order}",
        (project_id,),
    ).fetchall():
        associations = [
            {"release": str(each[0]), "dist": str(each[1]) or None}
            for each in db.execute(
                "SELECT version, dist FROM bundle_releases"
                " JOIN releases ON releases.id = release_id"
                " WHERE bundle = ? ORDER BY version, dist",
                (row[0],),
            )
        ]
        texts = [str(row[1])]
        for each in associations:
            texts += [each["release"] or "", each["dist"] or ""]
        if query and not any(query.lower() in text.lower() for text in texts):
            continue
        found.append(
            {
                "bundleId": row[1],
                "associations": associations,
                "fileCount": row[2],
                "dateModified": iso(row[3]),
                "date": iso(row[4]),
            }
        )
    return found


def delete_bundle(db: sqlite3.Connection, project_id: int, bundle_id: str) -> bool:
    """Take a bundle from a project; it goes when no project has it any more."""
    rows = db.execute(
        "SELECT bundles.id FROM bundles JOIN bundle_projects ON bundle = bundles.id"
        " WHERE bundle_id = ? AND project_id = ?",
        (bundle_id, project_id),
    ).fetchall()
    for (bundle,) in rows:
        db.execute(
            "DELETE FROM bundle_projects WHERE bundle = ? AND project_id = ?", (bundle, project_id)
        )
        left = db.execute(
            "SELECT 1 FROM bundle_projects WHERE bundle = ? LIMIT 1", (bundle,)
        ).fetchone()
        if left is None:
            for table in ("bundle_parts", "bundle_releases", "bundle_files"):
                db.execute(f"DELETE FROM {table} WHERE bundle = ?", (bundle,))
            db.execute("DELETE FROM bundles WHERE id = ?", (bundle,))
    return bool(rows)


class BundledFile(NamedTuple):
    """A file inside a bundle of a release, as the file list shows it."""

    bundle: int
    path: str
    name: str
    dist: str | None
    headers: str
    size: int
    date_created: float

    @property
    def id(self) -> str:
        """Distribution and name, since it has no row of its own."""
        text = f"{self.dist or ''}_{self.name}"
        return base64.urlsafe_b64encode(text.encode()).decode()

    def json(self) -> dict[str, Any]:
        """Return it like an uploaded file."""
        return {
            "id": self.id,
            "name": self.name,
            "dist": self.dist,
            "headers": json.decode(self.headers.encode()),
            "size": self.size,
            "sha1": "",
            "dateCreated": iso(self.date_created),
        }


def bundled_files(db: sqlite3.Connection, release_id: int) -> list[BundledFile]:
    """Return the files that bundles bring to a release, by name."""
    return [
        BundledFile(row[0], row[1], row[2], row[3] or None, row[4], row[5], row[6])
        for row in db.execute(
            "SELECT bundle_files.bundle, path, url, dist, headers, bundle_files.size, date_created"
            " FROM bundle_releases JOIN bundles ON bundles.id = bundle_releases.bundle"
            " JOIN bundle_files ON bundle_files.bundle = bundles.id"
            " WHERE release_id = ? AND url IS NOT NULL ORDER BY url, dist",
            (release_id,),
        )
    ]


def delete_bundled(db: sqlite3.Connection, file: BundledFile) -> None:
    """Take a file out of the list of its bundle."""
    db.execute("DELETE FROM bundle_files WHERE bundle = ? AND path = ?", (file.bundle, file.path))


def delete_all_files(db: sqlite3.Connection, release_id: int) -> None:
    """Take all files from a release, those of bundles by taking the bundles from it."""
    for file in files(db, release_id):
        delete_file(db, file.id)
    db.execute("DELETE FROM bundle_releases WHERE release_id = ?", (release_id,))


def read_bundled(db: sqlite3.Connection, file: BundledFile) -> bytes:
    """Return the content of a file in a bundle; raises BadBundle."""
    parts = [
        str(row[0])
        for row in db.execute(
            "SELECT sha1 FROM bundle_parts WHERE bundle = ? ORDER BY position", (file.bundle,)
        )
    ]
    opened, _ = open_chunks(db, parts)
    with opened:
        try:
            with zipfile.ZipFile(opened) as archive, archive.open(file.path) as member:
                data = member.read(CHUNK_SIZE * 4 + 1)
        except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise BadBundle(str(error)) from None
    if len(data) > CHUNK_SIZE * 4:
        raise BadBundle("the file is too large to be shown")
    return data
