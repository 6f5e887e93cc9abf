"""Reading what faulthandler writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._sessions.faultdump import parse

THREADS = b"""Fatal Python error: Aborted

Thread 0x00007f2d3aa00640 [worker] (most recent call first):
  File "/lib/threading.py", line 320 in wait
  File "/app/pool.py", line ??? in loop
  ...

Thread 0x00007f2d3aa00641 (most recent call first):
  <no Python frame>

Current thread 0x00007f2d3c5b1740 [main thread] (most recent call first):
  File "/app/has "quotes", line 1 in.py", line 12 in call
  File "/app/main.py", line 3 in <module>

Current thread's C stack trace (most recent call first):
  Binary file "/usr/bin/python", at _Py_DumpStack+0x2e [0x5fffff]

Extension modules: numpy.core._multiarray_umath (total: 1)
"""


def test_all_threads_are_read_oldest_call_first() -> None:
    dump = parse(THREADS)
    assert dump is not None
    assert (dump.reason, dump.number, dump.signal) == ("Aborted", 6, "SIGABRT")
    worker, idle, main = dump.threads
    assert (worker.ident, worker.name, worker.current) == (0x7F2D3AA00640, "worker", False)
    assert [frame["function"] for frame in worker.frames] == ["loop", "wait"]
    assert [frame.get("lineno") for frame in worker.frames] == [None, 320]
    assert idle.frames == ()
    assert (main.name, main.current) == ("main thread", True)
    assert dump.crashed_thread is main
    assert main.frames[-1] == {
        "filename": '/app/has "quotes", line 1 in.py',
        "abs_path": '/app/has "quotes", line 1 in.py',
        "function": "call",
        "lineno": 12,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'Timeout (0:00:05)!\nThread 0x01 (most recent call first):\n  File "a", line 1 in f\n',
        b"Current thread 0x01 (most recent call first):\n",
    ],
)
def test_a_dump_that_is_no_crash_is_none(data: bytes) -> None:
    assert parse(data) is None


def test_a_crash_after_a_timeout_is_found() -> None:
    dump = parse(b"Timeout (0:00:05)!\nThread 0x01 (most recent call first):\n\n" + THREADS)
    assert dump is not None
    assert len(dump.threads) == 3


def test_an_unknown_reason_has_no_signal() -> None:
    dump = parse(b"Windows fatal exception: access violation\n\nCurrent thread 0x1 [x\n")
    assert dump is not None
    assert (dump.reason, dump.signal, dump.threads) == ("access violation", None, ())
    assert dump.crashed_thread is None


@given(st.integers(0, len(THREADS)))
def test_a_dump_may_end_anywhere(length: int) -> None:
    parse(THREADS[:length])


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    parse(b"Fatal Python error: " + data)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_the_dumps_of_this_python_can_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "fault"
    script = (
        "import faulthandler, os, signal\n"
        f"faulthandler.enable(open({str(path)!r}, 'w'))\n"
        "def crash():\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "def main():\n"
        "    crash()\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -int(getattr(signal, name))
    dump = parse(path.read_bytes())
    assert dump is not None
    assert dump.signal == name
    assert dump.crashed_thread is not None
    functions = [frame["function"] for frame in dump.crashed_thread.frames]
    assert functions == ["<module>", "main", "crash"]
