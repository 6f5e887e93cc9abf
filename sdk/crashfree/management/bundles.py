"""`Bundle`: files of a release in one archive, as servers take them.

Four bytes `SYSB`, the version, then a ZIP of the files and a manifest that says of each what it is
and under which address browsers know it. The same files and addresses make the same bytes: dates
are fixed, the order is sorted, so an interrupted upload goes on where it stopped.

Threads: one bundle, one thread. Source: releases.md section 4.4 (artifact bundle file).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Literal

from crashfree._ground import json
from crashfree.errors import ConfigurationError
from crashfree.management.payloads import mapping, text

EXTENSIONS = ("js", "cjs", "mjs", "map", "jsbundle", "bundle")
FileType = Literal["source", "minified_source", "source_map", "indexed_ram_bundle"]
_MAGIC = b"SYSB"
_VERSION = 2
_EPOCH = (1980, 1, 1, 0, 0, 0)
_RAM_BUNDLE = b"\xe5\xd1\x0b\xfb"
_TAIL = 4096
_SOURCE_MAP = re.compile(
    rb"^\s*(?://|/\*)[#@]\s*sourceMappingURL=(\S+?)(?:\s*\*/)?\s*$", re.MULTILINE
)
_DEBUG_ID = re.compile(rb"^\s*//#\s*debugId=([0-9a-fA-F-]{32,36})\s*$", re.MULTILINE)
_SKIPPED = frozenset((".git", ".hg", ".svn", "node_modules"))


@dataclass(frozen=True)
class BundleFile:
    """One file: where it is, and the address it is known under (`~/` stands for any host)."""

    path: str
    url: str
    type: FileType
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def entry(self) -> str:
        """The file's name inside the archive."""
        scheme, separator, rest = self.url.partition("://")
        name = f"{scheme}/{rest}" if separator else self.url.replace("~/", "_/_/", 1)
        return "files/" + "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


@dataclass
class Bundle:
    """The files, and what the manifest says of all of them."""

    files: list[BundleFile]
    release: str | None = None
    dist: str | None = None
    organization: str | None = None
    projects: Sequence[str] = ()
    note: str | None = None

    @property
    def has_debug_ids(self) -> bool:
        """Whether the files can be found without a release."""
        return any("debug-id" in entry.headers for entry in self.files)

    def write(self, target: IO[bytes]) -> str:
        """Write the archive and return the bundle's id, which depends on files and addresses."""
        digest = hashlib.sha1(usedforsecurity=False)
        target.write(_MAGIC + struct.pack("<I", _VERSION))
        listed: dict[str, object] = {}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry in sorted(self.files, key=lambda file: file.entry):
                content = _content(entry.path)
                digest.update(hashlib.sha1(content, usedforsecurity=False).digest())
                digest.update(entry.url.encode("utf-8", "replace") + b"\0")
                _add(archive, entry.entry, content)
                listed[entry.entry] = _described(entry)
            identity = _uuid(digest.digest())
            _add(archive, "manifest.json", json.encode(self._manifest(listed, identity)))
        return identity

    def _manifest(self, listed: dict[str, object], identity: str) -> dict[str, object]:
        manifest: dict[str, object] = {"files": listed, "debug_id": identity}
        for key, value in (
            ("org", self.organization),
            ("project", self.projects[0] if self.projects else None),
            ("release", self.release),
            ("dist", self.dist),
            ("note", self.note),
        ):
            if value is not None:
                manifest[key] = value
        return manifest


def collect(
    paths: Sequence[str],
    *,
    url_prefix: str = "~",
    url_suffix: str = "",
    extensions: Iterable[str] = EXTENSIONS,
    ignore: Sequence[str] = (),
) -> list[BundleFile]:
    """Return the files below `paths`, each with its address: the prefix and its relative path.

    `ignore` holds shell patterns, matched against the relative path and against each name in it.
    A file that is named itself is taken whatever its extension.
    """
    endings = tuple("." + ending.lstrip(".").lower() for ending in extensions)
    found: dict[str, str] = {}
    for path in paths:
        for file, relative in _walk(path, endings):
            if not _ignored(relative, ignore):
                found[relative] = file
    known = set(found)
    prefix = url_prefix.rstrip("/")
    return [
        _file(found[relative], relative, f"{prefix}/{relative}{url_suffix}", known)
        for relative in sorted(found)
    ]


def _walk(path: str, endings: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if os.path.isfile(path):
        yield path, os.path.basename(path)
        return
    if not os.path.isdir(path):
        raise ConfigurationError(f"there is no file or directory {path!r}")
    for directory, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name not in _SKIPPED)
        for name in sorted(files):
            if name.lower().endswith(endings):
                file = os.path.join(directory, name)
                yield file, os.path.relpath(file, path).replace(os.sep, "/")


def _ignored(relative: str, patterns: Sequence[str]) -> bool:
    parts = relative.split("/")
    return any(
        fnmatch.fnmatchcase(relative, pattern.strip("/"))
        or any(fnmatch.fnmatchcase(part, pattern.strip("/")) for part in parts)
        for pattern in patterns
    )


def _file(path: str, relative: str, url: str, known: set[str]) -> BundleFile:
    content = _content(path)
    if relative.endswith(".map"):
        return BundleFile(path, url, "source_map", _map_headers(content))
    if content.startswith(_RAM_BUNDLE):
        return BundleFile(path, url, "indexed_ram_bundle")
    headers: dict[str, str] = {}
    reference = _last(_SOURCE_MAP, content)
    if reference is not None and not reference.startswith("data:"):
        headers["sourcemap"] = reference
    elif reference is None and f"{relative}.map" in known:
        headers["sourcemap"] = os.path.basename(relative) + ".map"
    debug_id = _last(_DEBUG_ID, content)
    if debug_id is not None:
        headers["debug-id"] = debug_id.lower()
    name = relative.rsplit("/", 1)[-1].lower()
    minified = ".min." in name or reference is not None or "sourcemap" in headers
    return BundleFile(path, url, "minified_source" if minified else "source", headers)


def _map_headers(content: bytes) -> dict[str, str]:
    try:
        payload = mapping(json.decode(content))
    except (ValueError, RecursionError):
        return {}
    debug_id = text(payload, "debug_id") or text(payload, "debugId")
    return {"debug-id": debug_id.lower()} if debug_id is not None else {}


def _last(pattern: re.Pattern[bytes], content: bytes) -> str | None:
    """Return the last match near the end of the file, where compilers write it."""
    found = pattern.findall(content[-_TAIL:])
    return found[-1].decode("utf-8", "replace") if found else None


def _described(entry: BundleFile) -> dict[str, object]:
    answer: dict[str, object] = {"type": entry.type, "url": entry.url}
    if entry.headers:
        answer["headers"] = dict(entry.headers)
    return answer


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3  # the same bytes on every platform
    archive.writestr(info, content)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{path!r} cannot be read: {error.strerror}") from None


def _uuid(digest: bytes) -> str:
    """Return the first 16 bytes of a SHA-1 as a version 5 UUID."""
    raw = bytearray(digest[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    words = raw.hex()
    return f"{words[:8]}-{words[8:12]}-{words[12:16]}-{words[16:20]}-{words[20:]}"
