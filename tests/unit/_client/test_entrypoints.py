"""Entry points are found by reading files, as importlib.metadata would find them."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

from crashfree._client.entrypoints import EntryPoint, entry_points, parse


def test_the_lines_of_a_file_are_read_and_odd_ones_passed_over() -> None:
    text = """
# a comment
[crashfree.auto]
flask = pkg.flask:FlaskIntegration
spaced   =   pkg.mod : Name [extra]
no_colon = pkg.mod
not an entry

[console_scripts]
tool = pkg:main
"""
    assert list(parse(text)) == [
        EntryPoint("crashfree.auto", "flask", "pkg.flask", "FlaskIntegration"),
        EntryPoint("crashfree.auto", "spaced", "pkg.mod", "Name"),
        EntryPoint("console_scripts", "tool", "pkg", "main"),
    ]


def test_it_finds_what_importlib_metadata_finds() -> None:
    expected = {
        (point.group, point.name)
        for distribution in distributions()
        for point in distribution.entry_points
        if point.group.startswith(("console_scripts", "crashfree.")) and ":" in point.value
    }
    found = {
        (point.group, point.name)
        for prefix in ("console_scripts", "crashfree.")
        for point in entry_points(prefix)
    }
    assert ("console_scripts", "crashfree") in found
    assert found == expected


def test_the_first_directory_on_the_path_wins(tmp_path: Path) -> None:
    for name, module in (("a", "first"), ("b", "second")):
        info = tmp_path / name / "pkg-1.dist-info"
        info.mkdir(parents=True)
        (info / "entry_points.txt").write_text(f"[crashfree.auto]\nx = {module}:X\n")
    found = entry_points("crashfree.", [str(tmp_path / "a"), str(tmp_path / "b")])
    assert [point.module for point in found] == ["first"]


def test_missing_unreadable_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.dist-info"
    broken.mkdir()
    (broken / "entry_points.txt").write_bytes(b"[crashfree.auto]\n\xff\xfe = x:Y\n")
    (tmp_path / "empty-1.dist-info").mkdir()
    archive = tmp_path / "lib.zip"
    archive.write_bytes(b"PK")
    assert entry_points("crashfree.", [str(tmp_path), str(archive), "/nowhere"]) == []
