"""The file for crashes by signals, in processes of its own: faulthandler is one per process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

PRELUDE = """
import faulthandler, os, signal, sys
from crashfree._sessions.faultfile import FaultFile
here = sys.argv[1]
def path(name):
    return os.path.join(here, name)
def read(name):
    with open(path(name)) as file:
        return file.read()
def die():
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def run(script: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + script, str(directory)],
        check=False,
        capture_output=True,
        text=True,
    )


def content(directory: Path) -> dict[str, bool]:
    """Which files there are, and whether a crash is in them."""
    return {entry.name: "Segmentation fault" in entry.read_text() for entry in directory.iterdir()}


def test_a_crash_is_written_down(tmp_path: Path) -> None:
    done = run("FaultFile.enable(path('a'))\ndie()", tmp_path)
    assert done.returncode == -11
    assert content(tmp_path) == {"a": True}


def test_a_program_that_enabled_faulthandler_itself_is_left_alone(tmp_path: Path) -> None:
    done = run("assert FaultFile.enable(path('a')) is None\ndie()", tmp_path, "-X", "faulthandler")
    assert "Segmentation fault" in done.stderr
    assert content(tmp_path) == {}


def test_a_program_that_enables_it_afterwards_has_its_way(tmp_path: Path) -> None:
    script = "file = FaultFile.enable(path('a'))\nfaulthandler.enable()\nfile.disable()\ndie()"
    done = run(script, tmp_path)
    assert "Segmentation fault" in done.stderr
    assert content(tmp_path) == {}


def test_after_the_end_a_crash_goes_nowhere(tmp_path: Path) -> None:
    script = "file = FaultFile.enable(path('a'))\nfile.disable()\nfile.disable()\ndie()"
    assert run(script, tmp_path).returncode == -11
    assert content(tmp_path) == {}


def test_the_next_client_of_the_process_has_its_own_file(tmp_path: Path) -> None:
    script = """
first = FaultFile.enable(path('a'))
second = FaultFile.enable(path('b'))
first.disable()
die()
"""
    assert run(script, tmp_path).returncode == -11
    assert content(tmp_path) == {"b": True}


def test_the_crash_of_a_child_is_not_the_parents(tmp_path: Path) -> None:
    script = """
file = FaultFile.enable(path('a'))
pid = os.fork()
if pid == 0:
    file.forget()
    die()
os.waitpid(pid, 0)
assert read('a') == ''
pid = os.fork()
if pid == 0:
    file.forget()
    FaultFile.enable(path('b'))
    die()
os.waitpid(pid, 0)
assert read('a') == ''
die()
"""
    done = run(script, tmp_path)
    assert done.returncode == -11, done.stderr
    assert content(tmp_path) == {"a": True, "b": True}


def test_an_unwritable_place_is_no_reason_to_fail(tmp_path: Path) -> None:
    script = (
        "assert FaultFile.enable(path('missing/a')) is None\nassert not faulthandler.is_enabled()"
    )
    assert run(script, tmp_path).returncode == 0
