"""A callback runs when a foreign module has been imported, and the module cannot tell."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from crashfree._client import whenimported


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package nobody has imported yet."""
    name = "watched_package"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("VALUE = 1\n")
    (folder / "inner.py").write_text("from watched_package import VALUE\n")
    (folder / "broken.py").write_text("raise RuntimeError('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [entry for entry in sys.modules if entry.partition(".")[0] == name]:
        del sys.modules[module]


def test_it_is_called_once_after_the_module_has_run(package: str) -> None:
    seen: list[object] = []
    whenimported.when_imported(package, lambda module: seen.append(module.VALUE))
    assert seen == []
    module = importlib.import_module(package)
    assert seen == [1]
    importlib.reload(module)
    assert seen == [1]


def test_it_is_called_at_once_when_the_module_is_there(package: str) -> None:
    importlib.import_module(package)
    seen: list[ModuleType] = []
    whenimported.when_imported(package, seen.append)
    assert [module.__name__ for module in seen] == [package]
    assert whenimported.watched() == frozenset()


def test_submodules_can_be_watched(package: str) -> None:
    seen: list[ModuleType] = []
    whenimported.when_imported(f"{package}.inner", seen.append)
    importlib.import_module(package)
    assert seen == []
    importlib.import_module(f"{package}.inner")
    assert [module.__name__ for module in seen] == [f"{package}.inner"]


def test_nothing_is_left_behind(package: str) -> None:
    before = sys.meta_path.copy()
    whenimported.when_imported(package, lambda module: None)
    assert sys.meta_path != before
    module = importlib.import_module(package)
    assert sys.meta_path == before
    # resources, pkgutil and inspect look at these.
    assert type(module.__loader__).__module__ == "importlib._bootstrap_external" or (
        type(module.__loader__).__name__ == "SourceFileLoader"
    )
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__


def test_who_stops_waiting_is_not_called(package: str) -> None:
    before = sys.meta_path.copy()
    seen: list[ModuleType] = []
    whenimported.when_imported(package, seen.append)
    callback = seen.append
    whenimported.forget(callback)
    assert sys.meta_path == before
    importlib.import_module(package)
    assert seen == []


def test_a_module_that_fails_to_import_fails_as_before(package: str) -> None:
    seen: list[ModuleType] = []
    whenimported.when_imported(f"{package}.broken", seen.append)
    with pytest.raises(RuntimeError, match="no"):
        importlib.import_module(f"{package}.broken")
    assert seen == []
    whenimported.forget(seen.append)


def test_a_module_that_does_not_exist_is_still_missing() -> None:
    callback: list[ModuleType] = []
    add = callback.append
    whenimported.when_imported("no_such_module_at_all", add)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module_at_all")
    whenimported.forget(add)
