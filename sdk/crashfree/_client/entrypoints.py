"""Entry points of installed distributions, read without `importlib.metadata`.

`importlib.metadata` costs 17 to 47 ms to import, in every program, before it has answered
anything; `init` may cost less than that in all. The file format is one page: sections in brackets,
`name = module:attribute` lines. Zipped distributions have no directory to list and are left to
`init(integrations=[...])`.

Threads: any. Source: the entry points specification of the Python packaging guide.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from crashfree._ground.typed import NamedTuple

_SUFFIXES = (".dist-info", ".egg-info")


class EntryPoint(NamedTuple):
    """A name and what it stands for."""

    group: str
    name: str
    module: str
    attribute: str


def entry_points(prefix: str, path: Sequence[str] | None = None) -> list[EntryPoint]:
    """Return the entry points of groups that start with `prefix`, in the order of `path`."""
    found: dict[tuple[str, str], EntryPoint] = {}
    for directory in sys.path if path is None else path:
        for text in _files(directory or os.curdir):
            if prefix in text:
                for entry in parse(text):
                    if entry.group.startswith(prefix):
                        found.setdefault((entry.group, entry.name), entry)
    return list(found.values())


def parse(text: str) -> Iterator[EntryPoint]:
    """Read one `entry_points.txt`; lines that are no entry are passed over."""
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            group = line[1:-1].strip()
            continue
        name, equals, value = line.partition("=")
        module, colon, attribute = value.partition("[")[0].strip().partition(":")
        if equals and colon and group:
            yield EntryPoint(group, name.strip(), module.strip(), attribute.strip())


def _files(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(_SUFFIXES)]
    except OSError:
        return
    for name in sorted(names):
        try:
            with open(
                os.path.join(directory, name, "entry_points.txt"), encoding="utf-8"
            ) as stream:
                yield stream.read(1 << 20)
        except (OSError, UnicodeDecodeError):
            continue
