"""The applications that uWSGI loads: handed to it with the middleware around them.

uWSGI takes an application from C, out of the namespace of a module whose code has just run, and
keeps it. In that moment the middleware stands there instead, and until the next fork or the first
request; then the module is again what its author wrote.

Threads: the one that loads; `give_back` any. Fork: `forked`, in the child.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import wraps
from types import ModuleType
from typing import Any, Final, cast

from crashfree.integration import Kit
from crashfree_integrations import loaded
from crashfree_integrations.modulecode import ModuleEnds, Namespace
from crashfree_integrations.wsgi import Application, Environ, StartResponse, WsgiMiddleware

_FILE: Final = "uwsgi_file_"
"""How the name of a module begins that uWSGI makes of a file."""
_EVALUATED: Final = "uwsgi_eval_config"
_TABLE: Final = "applications"
_CALLABLE: Final = "application"
_LAZY: Final = frozenset(("lazy", "lazy-apps"))
_OTHERWISE: Final = ("paste", "ini-paste", "ini-paste-logged", "pecan")


class Applications:
    """What the uWSGI of this process loads."""

    __slots__ = ("_ends", "_kit", "_lazy", "_replaced", "_uwsgi", "_wanted")
    _kit: Kit
    _uwsgi: ModuleType
    _lazy: bool
    _wanted: dict[str, set[str]]
    _ends: ModuleEnds
    _replaced: deque[tuple[dict[Any, Any], Any, Any, Any]]

    def __init__(self, kit: Kit, uwsgi: ModuleType) -> None:
        options: Mapping[str, object] = getattr(uwsgi, "opt", {})
        self._kit = kit
        self._uwsgi = uwsgi
        self._lazy = not _LAZY.isdisjoint(options)
        self._wanted = wanted(options)
        run = {name for name in self._wanted if _is_run(name) or name in sys.modules}
        self._ends = ModuleEnds(run, self._loaded)
        self._replaced = deque()
        kit.on_uninstall(self.give_back)
        kit.on_uninstall(self._ends.stop)
        for name in self._wanted.keys() - run:
            kit.when_imported(name, lambda module: self._loaded(vars(module)))
        if not self._ends.listen():
            _warn(kit, "a debugger is running, so what uWSGI loads from a file")
        for name in _OTHERWISE:
            if name in options:
                _warn(kit, f"what uWSGI loads by {name!r}")

    def forked(self) -> None:
        """Put everything back; go on waiting where applications are loaded from here on only."""
        self.give_back()
        if not (self._lazy and self._uwsgi.worker_id()):
            self._ends.stop()

    def give_back(self) -> None:
        """Put back what the modules held. Idempotent."""
        while self._replaced:
            try:
                table, key, original, handed = self._replaced.pop()
            except IndexError:
                # Another thread was first.
                return
            if table.get(key) is handed:
                table[key] = original

    @property
    def out(self) -> bool:
        """Whether a module does not hold what its author wrote."""
        return bool(self._replaced)

    def _loaded(self, namespace: Namespace) -> None:
        """The code of a module has run, and uWSGI is about to look inside."""
        name: str = namespace["__name__"]
        if not _is_run(name):
            for table in (vars(self._uwsgi).get(_TABLE), namespace.get(_TABLE)):
                if isinstance(table, dict):
                    self._replace_all(table)  # pyright: ignore[reportUnknownArgumentType]
                    return
        for word in self._wanted[name]:
            if word.endswith("()"):
                self._replace_factory(namespace, word[:-2])
            else:
                self._replace(namespace, word)

    def _replace_all(self, table: dict[Any, Any]) -> None:
        for mount in list(table):
            self._replace(table, mount)

    def _replace(self, table: dict[Any, Any], key: Any) -> None:
        application: Any = table.get(key)
        handed = self._handed(application)
        if handed is not application:
            self._put(table, key, handed)

    def _replace_factory(self, namespace: Namespace, name: str) -> None:
        make: Any = namespace.get(name)
        if not callable(make):
            return

        @wraps(make)
        def made() -> Any:
            return self._handed(make())

        self._put(namespace, name, made)

    def _put(self, table: dict[Any, Any], key: Any, handed: Any) -> None:
        self._replaced.append((table, key, table[key], handed))
        table[key] = handed

    def _handed(self, application: Any) -> Any:
        if isinstance(application, WsgiMiddleware) or not callable(application):
            return application
        if loaded.is_counted(self._kit, application):
            return application
        return Handed(cast("Application", application), self)


class Handed(WsgiMiddleware):
    """The middleware around an application that uWSGI has taken.

    Whoever gets hold of it before it is put back may take it for the application itself.
    """

    __slots__ = ("_applications",)
    _applications: Applications

    def __init__(self, app: Application, applications: Applications) -> None:
        super().__init__(app)
        self._applications = applications

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self._applications.out:
            self._applications.give_back()
        return super().__call__(environ, start_response)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def wanted(options: Mapping[str, object]) -> dict[str, set[str]]:
    """Return the modules that uWSGI was told to load, each with the names of its callables.

    `options` is `uwsgi.opt`.
    """
    usual = next(_values(options, "callable"), _CALLABLE)
    found: dict[str, set[str]] = {}

    def add(module: str, name: str) -> None:
        found.setdefault(module, set()).add(name)

    def add_module(place: str) -> None:
        module, _, name = place.partition(":")
        add(module, name or usual)

    for place in _values(options, "module", "wsgi", "w"):
        add_module(place)
    for place in _values(options, "wsgi-file", "file"):
        add(of_file(place), usual)
    for mount in _values(options, "mount", "worker-mount"):
        place = mount.partition("=")[2] or mount
        if place.endswith((".py", ".wsgi")):
            add(of_file(place), usual)
        elif ":" in place:
            add_module(place)
    for _ in _values(options, "eval"):
        add(_EVALUATED, usual)
    return found


def of_file(path: str) -> str:
    """Return how uWSGI names the module that it makes of a file."""
    for scheme in ("sym://", "http://", "data://"):
        path = path.removeprefix(scheme)
    name = path.replace(".", "_").replace("/", "_")
    return _FILE + name.removesuffix("_py")


def _warn(kit: Kit, what: str) -> None:
    kit.warn(
        f"{what} is not counted by itself if its framework has no integration; write: "
        "application = crashfree_integrations.wsgi.WsgiMiddleware(application)"
    )


def _is_run(name: str) -> bool:
    """Return whether uWSGI runs the code of this module, without importing it."""
    return name.startswith(_FILE) or name == _EVALUATED


def _values(options: Mapping[str, object], *names: str) -> Iterator[str]:
    for name in names:
        given = options.get(name)
        several = cast("list[object]", given) if isinstance(given, list) else [given]
        for value in several:
            if isinstance(value, (bytes, str)):
                yield value.decode("utf-8", "replace") if isinstance(value, bytes) else value
