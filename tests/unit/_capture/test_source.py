"""Source lines, wherever they come from."""

from __future__ import annotations

import linecache
import zipfile
import zipimport
from pathlib import Path
from typing import Any

import pytest

from crashfree._capture.source import SourceReader
from tests.support.clock import FakeClock


def reader() -> SourceReader:
    return SourceReader(FakeClock())


def test_five_lines_on_both_sides_as_far_as_there_are(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("\n".join(f"line {n}" for n in range(1, 21)))
    excerpt = reader().excerpt(str(file), 10, None)
    assert excerpt is not None
    assert excerpt.before == [f"line {n}" for n in range(5, 10)]
    assert excerpt.line == "line 10"
    assert excerpt.after == [f"line {n}" for n in range(11, 16)]
    first = reader().excerpt(str(file), 1, None)
    assert first is not None
    assert first.before == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("a = 'ä'\n".encode(), "a = 'ä'"),
        (b"\xef\xbb\xbfa = 1\n", "a = 1"),
        (b"# -*- coding: latin-1 -*-\na = '\xe4'\n", "a = 'ä'"),
        (b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\na = '\x80'\n", "a = '€'"),
        (b"# coding: no-such-thing\na = 'x'\n", "a = 'x'"),
        (b"a = '\xff'\n", "a = '\ufffd'"),
        (b"a = 1\r\nb = 2\r\n", "b = 2"),
    ],
)
def test_the_encoding_is_found_as_python_finds_it(
    tmp_path: Path, data: bytes, expected: str
) -> None:
    """PEP 263."""
    file = tmp_path / "m.py"
    file.write_bytes(data)
    excerpt = reader().excerpt(str(file), len(data.splitlines()), None)
    assert excerpt is not None
    assert excerpt.line == expected


def test_a_module_in_a_zip_file_has_source(tmp_path: Path) -> None:
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("packed.py", "def fail():\n    1 / 0\n")
    loader = zipimport.zipimporter(str(archive))
    given: dict[str, Any] = {"__name__": "packed", "__loader__": loader}
    excerpt = reader().excerpt(f"{archive}/packed.py", 2, given)
    assert excerpt is not None
    assert excerpt.line == "    1 / 0"


def test_what_a_notebook_compiled_has_source() -> None:
    name = "<ipython-input-1-abc>"
    linecache.cache[name] = (10, None, ["x = 1\n", "1 / x\n"], name)
    try:
        excerpt = reader().excerpt(name, 2, {})
    finally:
        del linecache.cache[name]
    assert excerpt is not None
    assert excerpt.line == "1 / x"


class BrokenLoader:
    def get_source(self, name: str) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "path", ["/no/such/file.py", "<string>", "<frozen os>", "", "a\0b", "/"], ids=repr
)
def test_no_source_is_no_error(path: str) -> None:
    assert reader().excerpt(path, 1, {"__name__": "m", "__loader__": BrokenLoader()}) is None
    assert reader().excerpt(path, 1, None) is None


@pytest.mark.parametrize("line", [0, -1, 3, 10**9])
def test_a_line_outside_the_file_has_no_source(tmp_path: Path, line: int) -> None:
    file = tmp_path / "m.py"
    file.write_text("one\ntwo\n")
    assert reader().excerpt(str(file), line, None) is None


def test_large_files_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "generated.py"
    file.write_text("x = 1\n" * 200_000)
    assert reader().excerpt(str(file), 1, None) is None


def test_long_lines_are_cut(tmp_path: Path) -> None:
    file = tmp_path / "minified.py"
    file.write_text("x = '" + "y" * 100_000 + "'\n")
    excerpt = reader().excerpt(str(file), 1, None)
    assert excerpt is not None
    assert len(excerpt.line) == 512


def test_the_cache_stays_bounded(tmp_path: Path) -> None:
    own = reader()
    for number in range(300):
        file = tmp_path / f"m{number}.py"
        file.write_text("x = 1\n")
        assert own.excerpt(str(file), 1, None) is not None
    assert len(own._cache) <= 100
