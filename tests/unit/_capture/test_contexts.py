"""What is the same for all events of a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from crashfree._capture.contexts import (
    ProcessFacts,
    device_context,
    installed_modules,
    os_context,
    program_name,
    runtime_context,
)


def test_the_runtime_is_this_python() -> None:
    runtime = runtime_context()
    assert runtime["name"] == (
        "CPython" if sys.implementation.name == "cpython" else runtime["name"]
    )
    assert runtime["version"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert runtime["build"] == sys.version


def test_the_system_and_the_machine_are_named() -> None:
    assert set(os_context()) == {"name", "version", "kernel_version"}
    device = device_context()
    assert device["processor_count"] == os.cpu_count()
    assert device["memory_size"] > 1 << 20


def test_installed_distributions_are_found_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "Some_Package-1.2.3.dist-info", "old-0.1-py3.11.egg-info", "noise.txt", "bad.dist-info",
    ):  # fmt: skip
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing"), "\0"])
    assert installed_modules() == {"some-package": "1.2.3", "old": "0.1"}


def test_the_first_of_two_distributions_is_the_one_that_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        (tmp_path / str(number) / f"lib-{number}.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "1"), str(tmp_path / "2")])
    assert installed_modules() == {"lib": "1.0"}


def test_the_program_is_named_by_script_or_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["/srv/app/run.py", "--password", "x"])
    assert program_name() == "run.py"
    monkeypatch.setattr(sys, "argv", [])
    assert program_name() is None


def test_facts_are_found_out_once_and_handed_out_as_copies() -> None:
    facts = ProcessFacts("2026-11-21T00:00:00.000000Z")
    one = facts.contexts()
    one["runtime"]["name"] = "changed"
    facts.modules().clear()
    assert facts.contexts()["runtime"]["name"] != "changed"
    assert facts.modules()
    assert facts.contexts()["app"]["app_start_time"] == "2026-11-21T00:00:00.000000Z"
