"""The public surface is a decision: names and signatures stand in surface.txt."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType, UnionType

import pytest

import crashfree
import crashfree.errors
import crashfree.integration
import crashfree.testing

SURFACE = Path(__file__).parent / "surface.txt"


def describe(value: object) -> str:
    if isinstance(value, type):
        return "class"
    if isinstance(value, UnionType):  # by another name from Python 3.14 on
        return "union"
    if callable(value):
        names: list[str] = []
        for parameter in inspect.signature(value).parameters.values():
            mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(
                parameter.kind, ""
            )
            optional = "=" if parameter.default is not parameter.empty else ""
            names.append(f"{mark}{parameter.name}{optional}")
        return f"({', '.join(names)})"
    return type(value).__name__


def members(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
    return [f"{module.__name__}.{name} {describe(getattr(module, name))}" for name in sorted(names)]


def surface() -> list[str]:
    modules = (crashfree, crashfree.errors, crashfree.integration, crashfree.testing)
    return [line for module in modules for line in members(module)]


def test_the_public_surface_is_the_one_written_down() -> None:
    known = SURFACE.read_text(encoding="utf-8").splitlines()
    assert surface() == known


def test_the_door_finds_every_name_and_no_other() -> None:
    for name in crashfree.__all__:
        assert getattr(crashfree, name) is not None
    assert set(crashfree.__all__) <= set(dir(crashfree))
    with pytest.raises(AttributeError, match="hub"):
        crashfree.hub  # type: ignore[attr-defined]  # noqa: B018
