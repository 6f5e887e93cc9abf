"""A fork waits a moment for imports that are half-way, and never longer."""

from __future__ import annotations

import os
import threading
import time

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
