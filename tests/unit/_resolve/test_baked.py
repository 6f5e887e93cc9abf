"""`crashfree._resolve.baked`: where the file may lie, and what it may say."""

from __future__ import annotations

import os
import sys
import types
import zipfile
import zipimport
from pathlib import Path

import pytest

from crashfree._resolve.baked import FILE_NAME, VARIABLE, Baked, BakedFault, content, find_baked
from crashfree._resolve.program import Program


def bake(directory: Path, name: str = "app@1") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    path.write_bytes(content(name, "git"))
    return path


def found(program: Program, directory: Path | None = None, **environ: str) -> str | None:
    baked = find_baked(program, None if directory is None else str(directory), environ)
    return None if baked is None else baked.release


def test_the_file_lies_in_the_project(tmp_path: Path) -> None:
    path = bake(tmp_path)
    assert find_baked(Program(), str(tmp_path), {}) == Baked(str(path), "app@1")
    assert found(Program(), tmp_path / "below") is None


def test_the_file_lies_beside_the_main_file_which_wins_over_the_project(tmp_path: Path) -> None:
    bake(tmp_path / "work", "stranger@1")
    bake(tmp_path / "app")
    program = Program(file=str(tmp_path / "app/main.py"))
    assert found(program, tmp_path / "work") == "app@1"


def test_the_file_lies_in_an_archive_or_beside_it(tmp_path: Path) -> None:
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", "")
    bake(tmp_path, "beside@1")
    program = Program(
        file=str(archive / "__main__.py"),
        read_archive=zipimport.zipimporter(str(archive)).get_data,
    )
    assert found(program) == "beside@1"
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(FILE_NAME, content("inside@1", "git"))
    zipimport.zipimporter(str(archive)).invalidate_caches()
    program = program._replace(read_archive=zipimport.zipimporter(str(archive)).get_data)
    assert found(program) == "inside@1"
    assert str(archive) in str(find_baked(program, None, {}))


def test_the_file_lies_in_the_bundle_of_a_frozen_program(tmp_path: Path) -> None:
    bake(tmp_path / "beside", "beside@1")
    bake(tmp_path / "unpacked", "unpacked@1")
    bundles = (str(tmp_path / "unpacked"), str(tmp_path / "beside"))
    assert found(Program(bundles=bundles)) == "unpacked@1"
    assert found(Program(bundles=bundles[1:])) == "beside@1"


@pytest.mark.parametrize("program", [Program(module="bakery.cli"), Program(entry="bakery")])
def test_the_file_lies_in_the_programs_package(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.ModuleType("bakery")
    package.__path__ = [str(tmp_path / "bakery")]
    monkeypatch.setitem(sys.modules, "bakery", package)
    assert found(program) is None
    bake(tmp_path / "bakery")
    assert found(program) == "app@1"


def test_a_variable_points_to_another_place_and_then_no_other_is_looked_at(tmp_path: Path) -> None:
    bake(tmp_path / "work", "work@1")
    bake(tmp_path / "else", "else@1")
    elsewhere = str(tmp_path / "else" / FILE_NAME)
    assert found(Program(), tmp_path / "work", **{VARIABLE: elsewhere}) == "else@1"
    relative = os.path.join("..", "else", FILE_NAME)
    assert found(Program(), tmp_path / "work", **{VARIABLE: relative}) == "else@1"
    assert found(Program(), tmp_path / "work", **{VARIABLE: " "}) == "work@1"
    with pytest.raises(BakedFault, match=VARIABLE):
        found(Program(), tmp_path / "work", **{VARIABLE: str(tmp_path / "nowhere")})
    with pytest.raises(BakedFault, match="not a file"):
        found(Program(), tmp_path / "work", **{VARIABLE: str(tmp_path)})


@pytest.mark.parametrize(
    "data",
    [
        b'{"release": "app@1"}',
        b'{"release": "app@1", "source": "git", "else": [1]}\r\n',
        b'\xef\xbb\xbf{"release": "app@1"}',
        b"app@1",
        b" app@1\r\n",
        b"\xef\xbb\xbfapp@1\n",
    ],
)
def test_the_file_says_the_name_as_json_or_plainly(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    assert found(Program(), tmp_path) == "app@1"


@pytest.mark.parametrize(
    "data",
    [b"{", b"{}", b'{"release": 1}', b'{"release": null}', b"\xff", b"x" * 20_000,
     b'{"release": "a"} {"release": "b"}'],
)  # fmt: skip
def test_a_file_that_says_no_release_is_a_fault_that_names_it(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(BakedFault, match=FILE_NAME):
        found(Program(), tmp_path)


def test_the_same_release_gives_the_same_bytes() -> None:
    """Builds that must be reproducible stay so: no time, no machine, no path in the file."""
    assert content("app@1", "git") == b'{"release":"app@1","source":"git"}\n'


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_file_that_may_not_be_read_is_a_fault(tmp_path: Path) -> None:
    bake(tmp_path).chmod(0)
    with pytest.raises(BakedFault, match="cannot be read"):
        found(Program(), tmp_path)
