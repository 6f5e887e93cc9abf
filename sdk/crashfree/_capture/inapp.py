"""Which frames belong to the program itself, and which to what it uses.

Threads: any; the memory of decisions is a dict that is thrown away when it grows.
Source: wire.md section 6.4.
"""

from __future__ import annotations

import os
import sys

_REMEMBERED = 2000
_OWN_PACKAGES = ("crashfree", "crashfree_integrations")


class InApp:
    """The decision for one client."""

    __slots__ = ("_decided", "_exclude", "_include", "_stdlib")
    _include: tuple[str, ...]
    _exclude: tuple[str, ...]
    _stdlib: tuple[str, ...]
    _decided: dict[tuple[str | None, str], bool]

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._include = include
        self._exclude = exclude
        self._stdlib = _stdlib()
        self._decided = {}

    def __call__(self, module: str | None, path: str) -> bool:
        """Return whether code of this module, in the file at this absolute path, is in-app."""
        key = (module, path)
        decided = self._decided.get(key)
        if decided is None:
            if len(self._decided) >= _REMEMBERED:
                self._decided = {}
            decided = self._decided[key] = self._decide(module, path.replace("\\", "/"))
        return decided

    def _decide(self, module: str | None, path: str) -> bool:
        if module is not None:
            if _below(module, self._include):
                return True
            if _below(module, self._exclude):
                return False
        if "/site-packages/" in path or "/dist-packages/" in path:
            return False
        if path.startswith(("<frozen ", *self._stdlib)):
            return False
        # Below the project root or not: what is left belongs to the program.
        return module is None or not _below(module, _OWN_PACKAGES)


def _below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in packages)


def _folder(path: str) -> str:
    return path.replace("\\", "/").rstrip("/") + "/"


def _stdlib() -> tuple[str, ...]:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    found = {_folder(os.path.dirname(os.path.abspath(os.__file__)))}
    for prefix in (sys.base_prefix, sys.base_exec_prefix):
        found.add(_folder(os.path.join(prefix, sys.platlibdir, version)))
    return tuple(sorted(found))
