"""Starting at the first import after a module of a server in C has come into being."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from crashfree._launch.later import once_there


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("later_one", "later_two", "later_three"):
        (tmp_path / f"{name}.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("importable")
def test_it_starts_once_at_the_first_import_after_the_module_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[str] = []
    finders = sys.meta_path.copy()
    once_there("made_in_c", lambda: started.append("now"))
    import_module("later_one")
    assert started == [], "the server has not made its module yet"
    monkeypatch.setitem(sys.modules, "made_in_c", ModuleType("made_in_c"))
    import_module("later_two")
    import_module("later_three")
    assert started == ["now"]
    assert sys.meta_path == finders


@pytest.mark.usefixtures("importable")
def test_who_waits_for_that_very_module_since_the_start_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    class Waiting:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            asked.append(name)

    waiting = Waiting()
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.setitem(sys.modules, "made_in_c", ModuleType("made_in_c"))
    once_there("made_in_c", lambda: sys.meta_path.insert(0, waiting))  # type: ignore[arg-type]
    import_module("later_one")
    assert asked[0] == "later_one"
