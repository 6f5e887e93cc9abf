"""Ctrl-Z and `fg`, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="the state of a process is read from /proc"
)

PROGRAM = """
import signal, sys, time
from crashfree._sessions.terminal import TerminalStops

def say(word):
    print(word, flush=True)

stops = TerminalStops(lambda: say("left"), lambda: say("back"))
"""


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PROGRAM + "assert stops.install()\nsay('ready')\nwhile True: time.sleep(0.05)",
        ],
        stdout=subprocess.PIPE,
        text=True,
        # Its own group in our session: as a shell starts a job, so that it can be stopped.
        preexec_fn=os.setpgrp,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def test_a_stop_is_told_before_it_happens_and_the_return_after(
    program: subprocess.Popen[str],
) -> None:
    assert program.stdout is not None
    for _ in range(3):
        program.send_signal(signal.SIGTSTP)
        assert program.stdout.readline() == "left\n"
        wait_until(lambda: state(program.pid) == "T", what="the stop")
        program.send_signal(signal.SIGCONT)
        assert program.stdout.readline() == "back\n"
        wait_until(lambda: state(program.pid) == "S", what="going on")


def run(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + source], capture_output=True, text=True, check=False
    )


def test_a_handler_of_the_program_is_left_alone() -> None:
    done = run(
        "signal.signal(signal.SIGTSTP, lambda *_: say('mine'))\n"
        "assert not stops.install()\n"
        "signal.raise_signal(signal.SIGTSTP)\n"
    )
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr


def test_uninstalled_the_signal_has_its_default_action_back() -> None:
    done = run(
        "assert stops.install()\n"
        "stops.uninstall()\nstops.uninstall()\n"
        "assert signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_handler_that_came_later_stays() -> None:
    done = run(
        "assert stops.install()\n"
        "signal.signal(signal.SIGTSTP, signal.SIG_IGN)\n"
        "stops.uninstall()\n"
        "assert signal.getsignal(signal.SIGTSTP) == signal.SIG_IGN\n"
    )
    assert done.returncode == 0, done.stderr


def test_only_the_main_thread_can_install() -> None:
    done = run(
        "import threading\n"
        "found = []\n"
        "thread = threading.Thread(target=lambda: found.append(stops.install()))\n"
        "thread.start(); thread.join()\n"
        "assert found == [False]\n"
    )
    assert done.returncode == 0, done.stderr
