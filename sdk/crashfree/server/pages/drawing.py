"""Drawing plots: vl-convert, which ships Vega-Lite, in a process of its own.

    bundle()                  the script that draws plots in a browser
    draw(definition, "svg")   the same plot as a picture; or "png"

A process apart, because the library brings an engine for JavaScript of 140 MB that a server should
not carry along, and because a drawing that fails then fails alone. Nothing is fetched: definitions
carry their data.

Threads: any; the bundle is made once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from crashfree._ground import json
from crashfree.server.endpoint import Problem

_PACKAGE: Final = "vl-convert-python"
_TIME: Final = 60.0
_BUNDLE: Final = "bundle"
# What a page needs of the bundle, and nothing else of it in its global scope.
_SNIPPET: Final = "window.vegaEmbed = vegaEmbed;"
MEDIA_TYPES: Final = {"svg": "image/svg+xml", "png": "image/png"}
_MISSING: Final = f"plots need {_PACKAGE}, which is not installed: pip install 'crashfree[server]'"


def edition() -> str:
    """Return the version of the library; empty when it is not installed."""
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return ""


class Bundle:
    """The browser's script, made at the first question."""

    __slots__ = ("_lock", "_made")
    _lock: threading.Lock
    _made: bytes | None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = None

    def get(self) -> bytes:
        """Return the script; takes a second the first time."""
        with self._lock:
            if self._made is None:
                self._made = _apart(_BUNDLE, b"")
            return self._made


def draw(definition: Mapping[str, Any], kind: str) -> bytes:
    """Return a plot as a picture."""
    return _apart(kind, json.encode(definition))


def _apart(task: str, given: bytes) -> bytes:
    if not edition():
        raise Problem(501, _MISSING)
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, task],
            input=given,
            capture_output=True,
            timeout=_TIME,
            check=True,
            # Pictures say their times in UTC, wherever they are made.
            env={**os.environ, "TZ": "UTC"},
        )
    except subprocess.TimeoutExpired:
        raise Problem(503, "drawing took too long") from None
    except subprocess.CalledProcessError as failure:
        last = failure.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise Problem(500, f"the plot could not be drawn: {last[:200]}") from None
    return done.stdout


def _main(task: str) -> None:
    library: Any = import_module("vl_convert")
    if task == _BUNDLE:
        out = library.javascript_bundle(_SNIPPET).encode()
    elif task == "svg":
        out = library.vegalite_to_svg(json.decode(sys.stdin.buffer.read())).encode()
    else:
        out = library.vegalite_to_png(json.decode(sys.stdin.buffer.read()), scale=2)
    sys.stdout.buffer.write(out)


if __name__ == "__main__":
    _main(sys.argv[1])
