"""Call back when a foreign module has been imported. Never imports it.

One finder stands first on `sys.meta_path` while anything is watched. It finds nothing itself: for
a watched name it asks the other finders, and wraps the loader they found so that the callback runs
after the module's code. When nothing is watched any more it leaves `sys.meta_path`.

Threads: any; `import` holds the lock of the module that is being imported, the callback runs under
it. Fork: kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from crashfree._ground.typed import ModuleSpec

Callback = Callable[[ModuleType], None]


class _Finder:
    """Stands on `sys.meta_path`."""

    def __init__(self) -> None:
        self.watched: dict[str, list[Callback]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.watched:
            return None
        spec = _found_by_others(name, path, target)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        spec.loader = _NotifyingLoader(spec.loader)  # type: ignore[assignment]
        return spec

    def notify(self, name: str, module: ModuleType) -> None:
        for callback in self.watched.pop(name, ()):
            callback(module)
        _tidy()


class _NotifyingLoader:
    """Runs the module with its own loader, then tells who waited for it."""

    def __init__(self, loader: object) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        create = getattr(self._loader, "create_module", None)
        return create(spec) if create is not None else None

    def exec_module(self, module: ModuleType) -> None:
        loader = self._loader
        # The module must look as if we had never been here: tools read __loader__ and
        # __spec__.loader (importlib.resources, pkgutil, zipimport).
        if module.__spec__ is not None:
            module.__spec__.loader = loader  # type: ignore[assignment]
        module.__loader__ = loader  # type: ignore[assignment]
        loader.exec_module(module)  # type: ignore[attr-defined]
        _finder.notify(module.__name__, module)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)


_finder = _Finder()


def when_imported(name: str, callback: Callback) -> None:
    """Call `callback(module)` once `name` has been imported; at once if it already is.

    The callback must not raise: an error would look like a failed import of that module.
    """
    module = sys.modules.get(name)
    if module is not None and not _still_loading(module):
        callback(module)
        return
    _finder.watched.setdefault(name, []).append(callback)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def forget(callback: Callback) -> None:
    """Stop waiting with `callback`, whatever it waits for."""
    for name in list(_finder.watched):
        waiting = [entry for entry in _finder.watched[name] if entry != callback]
        if waiting:
            _finder.watched[name] = waiting
        else:
            del _finder.watched[name]
    _tidy()


def watched() -> frozenset[str]:
    """Return the names that somebody waits for."""
    return frozenset(_finder.watched)


def _still_loading(module: ModuleType) -> bool:
    spec = module.__spec__
    return spec is not None and bool(getattr(spec, "_initializing", False))


def _tidy() -> None:
    if not _finder.watched and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _found_by_others(
    name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    for finder in sys.meta_path.copy():
        find = getattr(finder, "find_spec", None)
        if finder is _finder or find is None:
            continue
        spec: ModuleSpec | None = find(name, path, target)
        if spec is not None:
            return spec
    return None
