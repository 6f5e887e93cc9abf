"""Frameworks that are installed and not used cost `init` a look at their names, no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crashfree._client.entrypoints import entry_points

FRAMEWORKS = (
    "flask", "django", "rest_framework", "starlette", "fastapi", "aiohttp", "celery", "rq",
    "gunicorn", "uvicorn", "hypercorn", "granian", "waitress", "tornado", "sanic", "sentry_sdk",
    "uvloop",
)  # fmt: skip
INIT = """
import sys
before = set(sys.modules)
import crashfree
crashfree.init("http://key@127.0.0.1:9/1", release="app@1.0.0", spool=False)
# What the worker loads in the background counts, too.
crashfree.get_client()._parts.worker.flush(30.0)
print(__import__("json").dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by_init(**variables: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", INIT],
        env={name: value for name, value in os.environ.items() if "CRASHFREE" not in name}
        | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def frameworks(tmp_path: Path) -> str:
    """A folder with all of them, each of which must not be imported."""
    for name in FRAMEWORKS:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(f"raise SystemExit('{name} was imported')\n")
        info = tmp_path / f"{name}-9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
        (info / "entry_points.txt").write_text(f"[console_scripts]\n{name} = {name}:main\n")
    return str(tmp_path)


def test_init_imports_none_of_the_frameworks_that_are_installed(frameworks: str) -> None:
    assert len(FRAMEWORKS) >= 15
    without = loaded_by_init()
    there = loaded_by_init(PYTHONPATH=frameworks)
    assert there == without, "not one module more"
    tops = {name.partition(".")[0] for name in there}
    assert not tops & set(FRAMEWORKS)


def test_init_loads_no_integration_whose_framework_is_not_loaded() -> None:
    loaded = loaded_by_init()
    foreign = {
        point.name
        for point in entry_points("crashfree.")
        if point.group == "crashfree.auto" and point.name.partition(".")[0] not in loaded
    }
    assert len(foreign) >= 10
    assert not [name for name in loaded if name.startswith("crashfree_integrations")]
    assert not foreign & loaded
