"""Releases that build files name: Gradle, Cordova, pyproject.toml. For the command line only.

A program at run time has no build files, so these come last there, and say what nothing else says.
Only plain, literal forms are read; nothing is executed.

Threads: any. Source: releases.md section 2.5.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from crashfree._ground.typed import NamedTuple

_MAX_SIZE = 1024 * 1024
_APPLICATION = re.compile(r"""applicationId\s+["']([^"']*)["']""")
_VERSION_NAME = re.compile(r"""versionName\s+["']([^"']*)["']""")
_TABLE = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_ENTRY = re.compile(r"""^\s*(name|version)\s*=\s*(?:"([^"\\]*)"|'([^']*)')\s*(?:#.*)?$""")


class BuildFile(NamedTuple):
    """A build file and the release it names."""

    path: str
    release: str


def from_gradle(directory: str) -> BuildFile | None:
    """Return `applicationId@versionName` of the Android project around `directory`."""
    for place in _upwards(directory):
        path = os.path.join(place, "app", "build.gradle")
        if not (os.path.isfile(path) and os.path.isfile(os.path.join(place, "build.gradle"))):
            continue
        text = _read(path)
        application, version = _APPLICATION.search(text), _VERSION_NAME.search(text)
        if application and version and application[1] and version[1]:
            return BuildFile(path, f"{application[1]}@{version[1]}")
        return None
    return None


def from_cordova(directory: str) -> BuildFile | None:
    """Return `id@version` of a Cordova project, in its `platforms/android` or `platforms/ios`."""
    platform = os.path.basename(directory)
    names = {
        "android": ("android-packageName", "id"),
        "ios": ("ios-CFBundleIdentifier", "id"),
    }.get(platform)
    path = os.path.join(os.path.dirname(os.path.dirname(directory)), "config.xml")
    if names is None or not os.path.isfile(path):
        return None
    try:
        widget = ElementTree.fromstring(_read(path))
    except ElementTree.ParseError:
        return None
    if widget.tag.rpartition("}")[2] != "widget":
        return None
    identifier = next((widget.get(name) for name in names if widget.get(name)), None)
    version = widget.get("version")
    return BuildFile(path, f"{identifier}@{version}") if identifier and version else None


def from_pyproject(directory: str) -> BuildFile | None:
    """Return `name@version` of `[project]` in the nearest `pyproject.toml`.

    None when there is no such file, or its version is dynamic.
    """
    path = _nearest_pyproject(directory)
    if path is None:
        return None
    found = dict(_project_entries(_read(path)))
    if not found.get("name") or not found.get("version"):
        return None
    return BuildFile(path, f"{found['name']}@{found['version']}")


def project_name(directory: str) -> str | None:
    """Return the name in `[project]` of the nearest `pyproject.toml`."""
    path = _nearest_pyproject(directory)
    return None if path is None else dict(_project_entries(_read(path))).get("name") or None


def _nearest_pyproject(directory: str) -> str | None:
    for place in _upwards(directory):
        path = os.path.join(place, "pyproject.toml")
        if os.path.isfile(path):
            return path
    return None


def _project_entries(text: str) -> Iterator[tuple[str, str]]:
    # tomllib comes with Python 3.11 only; two literal strings of one table need no parser.
    table = ""
    for line in text.splitlines():
        header = _TABLE.match(line)
        if header is not None:
            table = header[1]
            continue
        entry = _ENTRY.match(line)
        if entry is not None and table == "project":
            yield entry[1], entry[2] if entry[2] is not None else entry[3]


def _upwards(directory: str) -> Iterator[str]:
    place = os.path.abspath(directory)
    while True:
        yield place
        above = os.path.dirname(place)
        if above == place:
            return
        place = above


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_SIZE).decode("utf-8", "replace")
    except OSError:
        return ""
