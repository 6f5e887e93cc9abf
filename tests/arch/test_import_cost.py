"""Importing costs next to nothing, counted in modules: those do not depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

import pytest

FORBIDDEN_AT_IMPORT = {
    "urllib3", "ssl", "logging", "asyncio", "dataclasses", "inspect", "email", "http", "json", "re",
    "enum", "typing_extensions", "subprocess", "importlib.metadata", "uuid", "random", "platform",
}  # fmt: skip
FORBIDDEN_AT_INIT = {
    "urllib3", "ssl", "certifi", "email", "http", "asyncio", "dataclasses", "inspect", "subprocess",
    "importlib.metadata", "uuid", "random", "logging", "linecache", "traceback", "urllib.parse",
    "tokenize", "multiprocessing", "concurrent.futures", "sqlite3", "starlette", "typing",
    "typing_extensions", "re", "enum", "json", "signal", "pathlib", "ast",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """The modules that `code` adds to a fresh interpreter that has run site."""
    script = f"""
import sys
before = set(sys.modules)
{code}
after = set(sys.modules)
print(__import__("json").dumps(sorted(after - before)))
"""
    # -E, not -I: an editable install is found by a .pth file, which -I would still read, but the
    # environment of this test run must not be.
    result = subprocess.run(
        [sys.executable, "-E", "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_import_crashfree_loads_two_small_modules() -> None:
    loaded = loaded_by("import crashfree")
    ours = {name for name in loaded if name.partition(".")[0].startswith("crashfree")}
    assert ours == {"crashfree", "crashfree._version"}
    assert not loaded & FORBIDDEN_AT_IMPORT
    assert len(loaded) <= 4, sorted(loaded)


@pytest.mark.parametrize(
    "arguments",
    ["", "dsn='http://key@127.0.0.1:9/1', release='app@1.0.0', spool=False"],
    ids=["without a DSN", "with a DSN"],
)
def test_init_loads_no_http_no_framework_and_few_modules(arguments: str) -> None:
    pytest.importorskip("starlette")
    # Everything: what the worker loads in the background counts, too.
    loaded = loaded_by(
        f"import crashfree; crashfree.init({arguments}); "
        "crashfree.get_client()._parts.worker.flush(30.0)"
    )
    assert not loaded & FORBIDDEN_AT_INIT, sorted(loaded & FORBIDDEN_AT_INIT)
    foreign = {name for name in loaded if not name.partition(".")[0].startswith("crashfree")}
    ours = loaded - foreign
    # Each costs about 0.2 ms at every start. The number may fall, never rise.
    assert len(ours) <= 101, sorted(ours)
    assert len(foreign) <= 36, sorted(foreign)


@pytest.mark.parametrize(("mode", "most"), [("auto", 64), ("request", 72)])
def test_init_itself_loads_only_what_it_needs(mode: str, most: int) -> None:
    """What captures, sends and counts units is loaded by the worker, or at first need."""
    script = f"""
import sys, threading
mine = threading.get_ident()
loaded = set()

def audit(event, arguments):
    if event == "import" and threading.get_ident() == mine:
        loaded.add(arguments[0])

import crashfree
sys.addaudithook(audit)
crashfree.init(
    "http://key@127.0.0.1:9/1", release="app@1.0.0", spool_dir=sys.argv[1], session_mode={mode!r}
)
names = sorted(name for name in loaded if name.startswith("crashfree"))
print(__import__("json").dumps(names))
"""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-E", "-c", script, folder], capture_output=True, text=True, check=True
        )
    names = json.loads(result.stdout.splitlines()[-1])
    assert "crashfree._client.client" in names
    assert "crashfree._client.pipeline" not in names
    assert len(names) <= most, names


def test_importlib_is_whole_before_anything_is_imported_beside_the_main_thread() -> None:
    """While its file is read, `import importlib.util` elsewhere breaks `import_module` for good."""
    assert "importlib._bootstrap" in loaded_by("import crashfree._ground.forkgate")


def test_init_starts_no_thread_where_units_are_served() -> None:
    """It may be the master of workers that are yet to be forked."""
    script = """
import threading
import crashfree
crashfree.init("http://key@127.0.0.1:9/1", release="a@1", session_mode="request", spool=False)
print([thread.name for thread in threading.enumerate()])
"""
    result = subprocess.run(
        [sys.executable, "-E", "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["['MainThread']"]


def test_a_process_that_serves_loads_nothing_of_ours_any_more() -> None:
    """What is loaded between requests scatters the memory that all later ones work in."""
    script = """
import sys
import crashfree
from crashfree_integrations.wsgi import WsgiMiddleware
crashfree.init("http://key@127.0.0.1:9/1", release="app@1.0.0", spool_dir=sys.argv[1])

def program(environ, start_response):
    start_response("200 OK", [])
    crashfree.capture_message("noted")
    return [b"fine"]

served = WsgiMiddleware(program)
before = set(sys.modules)
served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: None)
crashfree.close()
print([name for name in sorted(set(sys.modules) - before) if name.startswith("crashfree")])
"""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-E", "-c", script, folder], capture_output=True, text=True, check=True
        )
    assert result.stdout.strip() == "[]"
