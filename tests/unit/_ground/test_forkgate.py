"""A fork waits a moment for imports that are half-way, and never longer."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from crashfree._ground import forkgate


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forkgate.after_fork_in_child()


def test_a_fork_waits_for_an_import_to_finish() -> None:
    inside, go = threading.Event(), threading.Event()
    order: list[str] = []

    def import_slowly() -> None:
        with forkgate.importing():
            inside.set()
            go.wait(5)
            order.append("imported")

    def fork() -> None:
        forkgate.before_fork()
        order.append("forked")
        forkgate.after_fork_in_parent()

    importer, forker = threading.Thread(target=import_slowly), threading.Thread(target=fork)
    importer.start()
    inside.wait(5)
    forker.start()
    forker.join(0.1)
    assert order == []
    go.set()
    importer.join()
    forker.join()
    assert order == ["imported", "forked"]


def test_a_fork_waits_at_most_a_second() -> None:
    inside, go = threading.Event(), threading.Event()

    def hang() -> None:
        with forkgate.importing():
            inside.set()
            go.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    inside.wait(5)
    began = time.monotonic()
    forkgate.before_fork()
    assert 0.5 < time.monotonic() - began < 3.0
    forkgate.after_fork_in_parent()
    go.set()
    thread.join()


def test_an_import_waits_for_a_fork_to_finish() -> None:
    forkgate.before_fork()
    done = threading.Event()

    def load() -> None:
        with forkgate.importing():
            done.set()

    thread = threading.Thread(target=load)
    thread.start()
    assert not done.wait(0.1)
    forkgate.after_fork_in_parent()
    assert done.wait(5)
    thread.join()


def test_an_import_inside_an_import_does_not_wait_for_itself() -> None:
    began = time.monotonic()
    with forkgate.importing(), forkgate.importing():
        forkgate.before_fork()
    assert time.monotonic() - began < 0.5


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_fork_that_did_not_wait_can_import() -> None:
    """Even when the hook before it gave up, or never ran."""
    inside, go = threading.Event(), threading.Event()

    def hang() -> None:
        with forkgate.importing():
            inside.set()
            go.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    inside.wait(5)
    pid = os.fork()
    if pid == 0:
        forkgate.after_fork_in_child()
        began = time.monotonic()
        with forkgate.importing():
            os._exit(0 if time.monotonic() - began < 0.5 else 1)
    _, status = os.waitpid(pid, 0)
    go.set()
    thread.join()
    assert status == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("deep", ["slowly", "slowly.inside"])
def test_a_child_imports_anew_what_was_half_there_when_a_fork_did_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: str
) -> None:
    """Row 1: a module half-imported at a fork would stay locked in the child, or half there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "slowly"
    package.mkdir()
    (package / "before.py").write_text("THERE = True")
    hang = "import forkgate_test\nforkgate_test.reached()\n"
    at_the_top, below = (hang, "") if deep == "slowly" else ("", hang)
    (package / "inside.py").write_text(f"{below}WHOLE = True")
    (package / "__init__.py").write_text(
        f"import slowly.before\n{at_the_top}from slowly.inside import WHOLE"
    )
    inside, go, parent = threading.Event(), threading.Event(), os.getpid()

    def reached() -> None:
        if os.getpid() == parent:
            inside.set()
            go.wait(20)

    told = ModuleType("forkgate_test")
    told.reached = reached  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "forkgate_test", told)

    def load() -> None:
        with forkgate.importing():
            importlib.import_module("slowly")

    thread = threading.Thread(target=load)
    thread.start()
    inside.wait(5)
    pid = os.fork()
    if pid == 0:
        forkgate.after_fork_in_child()
        loaded: list[bool] = []

        def load_again() -> None:
            with forkgate.importing():
                slowly = importlib.import_module("slowly")
            loaded.append(slowly.WHOLE and slowly.before.THERE and slowly.inside.WHOLE)

        # The new thread has the number of the old one, or another: both are to work.
        again = threading.Thread(target=load_again, daemon=True)
        again.start()
        again.join(10)
        os._exit(0 if loaded == [True] else 1)
    _, status = os.waitpid(pid, 0)
    go.set()
    thread.join()
    for name in [name for name in sys.modules if name.partition(".")[0] == "slowly"]:
        del sys.modules[name]
    assert status == 0
