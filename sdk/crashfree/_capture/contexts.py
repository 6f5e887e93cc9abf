"""What is the same for all events of a process: runtime, system, device, program, modules.

Found out once, when first needed, without importing `platform` (which may start a process) or
`importlib.metadata`: a crash may be the first to ask, when imports do not work any more. A context
that is called what it is needs no `type`: servers take it from the key.

Threads: any; asked twice at the same moment, it is found out twice. Source: wire.md section 5.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from crashfree._ground.typed import Any

_MAC_VERSION = "/System/Library/CoreServices/SystemVersion.plist"
_MAX_MODULES = 2000


def runtime_context() -> dict[str, Any]:
    """Return the Python that runs this program."""
    implementation = sys.implementation
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info.releaselevel != "final":
        version += f"{sys.version_info.releaselevel[0]}{sys.version_info.serial}"
    name = "CPython" if implementation.name == "cpython" else implementation.name
    return {"name": name, "version": version, "build": sys.version}


def os_context() -> dict[str, Any]:
    """Return the operating system."""
    if sys.platform == "win32":
        system = sys.getwindowsversion()
        version = f"{system.major}.{system.minor}.{system.build}"
        return {"name": "Windows", "version": version, "kernel_version": version}
    uname = os.uname()
    if sys.platform == "darwin":
        version = _mac_version() or uname.release
        return {"name": "macOS", "version": version, "kernel_version": uname.release}
    return {"name": uname.sysname, "version": uname.release, "kernel_version": uname.release}


def device_context() -> dict[str, Any]:
    """Return the machine: architecture, processors, memory."""
    device: dict[str, Any] = {}
    if hasattr(os, "uname"):
        device["arch"] = os.uname().machine
    count = os.cpu_count()
    if count:
        device["processor_count"] = count
    try:
        device["memory_size"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        # Windows has no sysconf, some systems not these names.
        pass
    return device


def app_context(name: str | None, started: str) -> dict[str, Any]:
    """Return the program: its script or module, and when this process began to be watched."""
    app: dict[str, Any] = {"app_start_time": started}
    if name:
        app["app_name"] = name
    return app


def program_name() -> str | None:
    """Return the name of the script or module that was started."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and isinstance(spec.name, str):
        return spec.name.removesuffix(".__main__")
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    return os.path.basename(script) or None


def installed_modules() -> dict[str, str]:
    """Return the installed distributions and their versions, by the names of their folders."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except (OSError, ValueError):
            continue
        for entry in entries:
            if not entry.endswith((".dist-info", ".egg-info")):
                continue
            name, dash, rest = entry.rpartition(".")[0].partition("-")
            if dash and len(found) < _MAX_MODULES:
                version = rest.partition("-py")[0] if entry.endswith(".egg-info") else rest
                found.setdefault(name.lower().replace("_", "-"), version)
    # Neighbours resemble each other then, which a compressor likes.
    return dict(sorted(found.items()))


def _mac_version() -> str | None:
    try:
        with open(_MAC_VERSION, encoding="utf-8") as file:
            text = file.read(10_000)
    except (OSError, ValueError):
        return None
    _, found, rest = text.partition("<key>ProductVersion</key>")
    if not found:
        return None
    return rest.partition("<string>")[2].partition("</string>")[0].strip() or None


class ProcessFacts:
    """The facts of this process, found out at first need."""

    __slots__ = ("_contexts", "_modules", "_started")
    _started: str
    _contexts: Mapping[str, dict[str, Any]] | None
    _modules: dict[str, str] | None

    def __init__(self, started: str) -> None:
        self._started = started
        self._contexts = None
        self._modules = None

    def contexts(self) -> dict[str, Any]:
        """Return a fresh dict of the contexts that every event has."""
        if self._contexts is None:
            self._contexts = {
                "runtime": runtime_context(),
                "os": os_context(),
                "device": device_context(),
                "app": app_context(program_name(), self._started),
            }
        return {name: dict(context) for name, context in self._contexts.items()}

    def modules(self) -> dict[str, str]:
        """Return a fresh dict of the installed distributions."""
        if self._modules is None:
            self._modules = installed_modules()
        return dict(self._modules)
