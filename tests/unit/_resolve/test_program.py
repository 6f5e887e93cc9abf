"""`crashfree._resolve.program`: what can be told about the running program."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import types
import zipfile
from pathlib import Path

import pytest

from crashfree._resolve.program import Program, package_directory, running_program, started_as


def run_as(
    monkeypatch: pytest.MonkeyPatch, file: str | None, spec: str | None = None, **names: object
) -> Program:
    """Let `__main__` be a module of that file and spec, which has imported those names."""
    main = types.ModuleType("__main__")
    monkeypatch.setattr(sys, "orig_argv", ["python"])
    if file is not None:
        main.__file__ = file
    if spec is not None:
        main.__spec__ = importlib.machinery.ModuleSpec(spec, None)
    vars(main).update(names)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return running_program()


def test_a_module_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    program = run_as(monkeypatch, "/x/bakery/cli/__main__.py", "bakery.cli.__main__")
    assert (program.module, program.top, program.script) == ("bakery.cli", "bakery", None)
    assert run_as(monkeypatch, "/x/tool.py", "tool").top == "tool"


def test_a_plain_script_has_a_file_and_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    program = run_as(monkeypatch, "srv/main.py", types=types.FunctionType)
    assert program.file == os.path.abspath("srv/main.py")
    assert (program.module, program.entry, program.top, program.script) == (None,) * 4
    assert program.describe() == program.file


def test_an_installed_script_is_known_by_what_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None: ...

    main.__module__ = "bakery.cli"
    program = run_as(monkeypatch, "/opt/venv/bin/bake-bread", re=os, sys=sys, main=main)
    assert (program.script, program.entry, program.top) == ("bake-bread", "bakery", "bakery")


def test_the_wrapper_of_windows_is_a_script_too(tmp_path: Path) -> None:
    wrapper = tmp_path / "bake.exe"
    wrapper.write_bytes(b"MZ")
    program = Program(file=str(wrapper / "__main__.py"))
    assert program.script == "bake"


def test_an_archive_is_no_script(tmp_path: Path) -> None:
    for name in ("app.pyz", "app"):
        archive = tmp_path / name
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("__main__.py", "")
        program = Program(file=str(archive / "__main__.py"))
        assert (program.archive, program.script) == (str(archive), None)


@pytest.mark.parametrize("file", [None, "<stdin>"])
def test_a_prompt_is_no_program_in_particular(
    file: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = run_as(monkeypatch, file)
    assert program.module is None
    assert program.archive is None
    assert program.describe()


@pytest.mark.parametrize(
    ("command", "file", "module"),
    [
        ("python app.py -m x", "app.py", None),
        ("python -X dev -W error -I /opt/app.py", "/opt/app.py", None),
        ("python -Xdev -m bakery.cli now", None, "bakery.cli"),
        ("python -mbakery", None, "bakery"),
        ("python -c pass app.py", None, None),
        ("python - app.py", None, None),
        ("python", None, None),
        ("python -i", None, None),
        ("python -m", None, None),
    ],
)
def test_before_there_is_a_main_module_the_command_line_tells(
    command: str, file: str | None, module: str | None
) -> None:
    assert started_as(command.split()) == (file, module)


def test_a_directory_that_is_run_has_a_main_file(tmp_path: Path) -> None:
    assert started_as(["python", str(tmp_path)]) == (str(tmp_path / "__main__.py"), None)


def test_without_a_main_module_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "__main__")
    monkeypatch.setattr(sys, "orig_argv", ["python"])
    assert running_program().file is None


def test_a_frozen_program_has_its_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/app/app")
    assert run_as(monkeypatch, "/x/main.py").bundles == ("/opt/app",)
    monkeypatch.setattr(sys, "_MEIPASS", "/tmp/_MEI1", raising=False)
    assert run_as(monkeypatch, "/x/main.py").bundles == ("/tmp/_MEI1", "/opt/app")


def test_a_package_is_found_only_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert package_directory("tests") is not None
    assert package_directory("os") is None
    assert package_directory("no_such_package") is None
    assert package_directory(None) is None
    odd = types.ModuleType("odd")
    odd.__path__ = 3  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "odd", odd)
    assert package_directory("odd") is None
