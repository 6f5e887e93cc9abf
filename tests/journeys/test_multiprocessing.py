"""Children of multiprocessing and of process pools: their errors, their units, one session.

Source: complaints-transport.md row 7; sessions.md section 3.6.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lives import Lives
from tests.support.program import environment
from tests.support.stub import Stub

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks as on POSIX")

METHODS = ("fork", "spawn", "forkserver")
INIT = """
import os, signal, sys
import multiprocessing
import crashfree
crashfree.init(release="app@1.0"{options})
"""


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    with Stub() as stub:
        yield Lives(stub, tmp_path / "spool")


def run(lives: Lives, folder: Path, source: str, *, options: str = "") -> str:
    """Run a program from a file, as spawned children need it; returns its standard error."""
    (folder / "program.py").write_text(INIT.format(options=options) + source)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env=environment(lives.env),
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("method", METHODS)
def test_a_child_that_raises_sends_its_error_and_is_no_session(
    lives: Lives, tmp_path: Path, method: str
) -> None:
    source = f"""
def work(word):
    raise ValueError(word)
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(word,)) for word in ("one", "two")]
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [1, 1]
"""
    errors = run(lives, tmp_path, source)
    assert errors.count("Traceback") == 2, "Python still says it"
    lives.adopt()
    values = [event["exception"]["values"][-1] for event in lives.events]
    assert sorted(value["value"] for value in values) == ["one", "two"]
    assert {value["mechanism"]["type"] for value in values} == {"multiprocessing"}
    assert {value["mechanism"]["handled"] for value in values} == {False}
    assert [(up["status"], up["errors"]) for up in lives.ups] == [("exited", 0)]
    assert lives.leftovers() == []


@pytest.mark.parametrize("method", METHODS)
def test_a_class_with_a_run_of_its_own_and_a_daemon_are_children_like_others(
    lives: Lives, tmp_path: Path, method: str
) -> None:
    source = f"""
context = multiprocessing.get_context({method!r})
class Child(context.Process):
    def run(self):
        raise KeyError("own run")
if __name__ == "__main__":
    child = Child(daemon=True)
    child.start()
    child.join()
"""
    run(lives, tmp_path, source)
    assert [event["exception"]["values"][-1]["type"] for event in lives.events] == ["KeyError"]
    assert [up["status"] for up in lives.ups] == ["exited"]


@pytest.mark.parametrize("ending", ["sys.exit(3)", "sys.exit()", "raise KeyboardInterrupt"])
def test_how_a_child_ends_by_will_is_no_error(lives: Lives, tmp_path: Path, ending: str) -> None:
    source = f"""
def work():
    {ending}
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
"""
    run(lives, tmp_path, source)
    assert lives.events == []
    assert [up["status"] for up in lives.ups] == ["exited"]


@pytest.mark.parametrize("method", METHODS)
def test_the_workers_of_a_pool_serve_units(lives: Lives, tmp_path: Path, method: str) -> None:
    source = f"""
def work(number):
    with crashfree.session():
        if number % 10 == 0:
            raise ValueError(number)
    return number
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        results = [pool.apply_async(work, (number,)) for number in range(50)]
        failed = 0
        for result in results:
            try:
                result.get()
            except ValueError:
                failed += 1
        assert failed == 5
        pool.close()
        pool.join()
"""
    run(lives, tmp_path, source, options=", session_mode='request'")
    before = lives.counts
    lives.adopt()
    assert lives.counts == {"exited": 45, "crashed": 5}
    assert before == lives.counts
    assert lives.ups == []
    assert lives.leftovers() == []


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_is_terminated_loses_no_unit(lives: Lives, tmp_path: Path, method: str) -> None:
    """Leaving the block of a pool sends SIGTERM to its workers."""
    source = f"""
def work(number):
    with crashfree.session():
        return number
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        assert sum(pool.map(work, range(50))) == 1225
"""
    run(lives, tmp_path, source, options=", session_mode='request'")
    lives.adopt()
    assert lives.counts == {"exited": 50}
    assert lives.leftovers() == []


@pytest.mark.parametrize("method", METHODS)
def test_a_process_pool_of_concurrent_futures(lives: Lives, tmp_path: Path, method: str) -> None:
    source = f"""
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
def work(number):
    with crashfree.session():
        if number == -1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert sum(pool.map(work, range(20))) == 190
        try:
            pool.submit(work, -1).result()
        except BrokenProcessPool:
            print("broken")
"""
    run(lives, tmp_path, source, options=", session_mode='request'")
    lives.adopt()
    lives.adopt()
    assert lives.counts == {"exited": 20, "abnormal": 1}
    assert lives.ups == []
    assert lives.leftovers() == []
