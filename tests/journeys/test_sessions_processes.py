"""Life and death of real processes: what is told about their sessions, to the unit.

A run that dies is told about by the next start, once. Source: sessions.md section 3.6.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crashfree._protocol.timestamps import parse_rfc3339
from tests.support.lives import Lives
from tests.support.stub import Stub
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks as on POSIX")

APPLICATION = """
import os, signal, sys, time
import crashfree
crashfree.init(release="app@1.0")
"""
SERVICE = """
import os, signal, sys, threading, time
import crashfree
from crashfree.integration import unit
crashfree.init(release="app@1.0", session_mode="request")

def serve(error=None):
    try:
        with unit(mechanism="test"):
            if error:
                raise error
    except Exception:
        pass
"""
READY = """
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    with Stub() as stub:
        yield Lives(stub, tmp_path / "spool")


# --- application mode ----------------------------------------


@pytest.mark.parametrize(
    ("last_words", "status", "code"),
    [
        ("", "exited", 0),
        ("sys.exit(3)", "exited", 3),
        ("raise KeyboardInterrupt", "exited", 1),
        ("1 / 0", "crashed", 1),
        ("crashfree.close(); crashfree.close()", "exited", 0),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", "exited", -15),
    ],
)
def test_an_end_that_python_sees_is_told_at_once(
    lives: Lives, last_words: str, status: str, code: int
) -> None:
    done = lives.run(APPLICATION + last_words)
    assert done.returncode == code
    (up,) = lives.ups
    assert (up["status"], up["init"]) == (status, True)
    assert up["duration"] >= 0
    lives.adopt()
    assert len(lives.ups) == 1
    assert lives.leftovers() == []


def test_ctrl_c_is_no_crash(lives: Lives) -> None:
    """W31."""
    process = lives.start(APPLICATION + READY)
    lives.end(process, signal.SIGINT)
    assert "KeyboardInterrupt" in lives.errors
    assert [up["status"] for up in lives.ups] == ["exited"]
    assert lives.events == []


@pytest.mark.parametrize(
    "death", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "os._exit(7)"]
)
def test_an_end_that_python_does_not_see_is_told_by_the_next_start(
    lives: Lives, death: str
) -> None:
    """W32."""
    lives.run(APPLICATION + "crashfree.set_user({'id': 7})\n" + death)
    assert lives.ups == []
    lives.adopt()
    lives.adopt()
    (up,) = lives.ups
    assert (up["status"], up["errors"], up["init"], up["did"]) == ("abnormal", 0, True, "7")
    assert lives.leftovers() == []


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_crash_by_a_signal_is_told_with_its_frames(lives: Lives, name: str) -> None:
    """W33: the event carries the release of the run that died."""
    source = f"""
def crash():
    os.kill(os.getpid(), signal.{name})
def main():
    crash()
main()
"""
    done = lives.run(APPLICATION + source)
    assert done.returncode == -int(getattr(signal, name))
    lives.adopt()
    (up,) = lives.ups
    (event,) = lives.events
    assert (up["status"], up["errors"]) == ("crashed", 1)
    (value,) = event["exception"]["values"]
    assert value["type"] == name
    assert value["mechanism"]["handled"] is False
    functions = [frame["function"] for frame in value["stacktrace"]["frames"]]
    assert functions == ["<module>", "main", "crash"]
    assert event["release"] == "app@1.0"
    assert [kind for kind, _ in lives.stub.requests[-1].items] == ["event", "session"] or [
        kind for request in lives.stub.requests for kind, _ in request.items
    ].count("event") == 1


def test_a_real_segmentation_fault(lives: Lives) -> None:
    done = lives.run(APPLICATION + "import ctypes\nctypes.string_at(8)")
    assert done.returncode == -signal.SIGSEGV
    lives.adopt()
    assert [up["status"] for up in lives.ups] == ["crashed"]
    assert len(lives.events) == 1


def test_init_is_said_once_though_the_run_was_killed_after_its_first_update(lives: Lives) -> None:
    lives.run(
        APPLICATION + "crashfree.flush(5)\ncrashfree.flush(5)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert [up["status"] for up in lives.ups] == ["ok"]
    lives.adopt()
    first, last = lives.ups
    assert first["sid"] == last["sid"]
    assert [up.get("init") for up in lives.ups] == [True, None]
    assert last["status"] == "abnormal"
    assert last["seq"] > first["seq"]


def test_killed_in_the_background_it_had_exited(lives: Lives) -> None:
    """W37."""
    lives.run(APPLICATION + "crashfree.enter_background()\nos.kill(os.getpid(), signal.SIGKILL)")
    lives.adopt()
    assert [up["status"] for up in lives.ups] == ["exited"]


def test_a_crash_that_could_not_be_sent_is_sent_by_the_next_start(lives: Lives) -> None:
    lives.stub.answer(reset_early=True)
    assert lives.run(APPLICATION + "1/0").returncode == 1
    assert lives.ups == []
    lives.stub.answer(status=200)
    lives.adopt()
    lives.adopt()
    assert [up["status"] for up in lives.ups] == ["crashed"]
    assert len(lives.events) == 1
    assert lives.leftovers() == []


@pytest.mark.parametrize("timeout", ["0", "2"])
def test_an_exit_waits_no_longer_than_it_was_told(lives: Lives, timeout: str) -> None:
    """A server that never answers; what is on disk is told by the next start."""
    lives.stub.answer(hang=True)
    source = f"""
import time
import crashfree
crashfree.init(release="app@1.0", shutdown_timeout={timeout})
import atexit
began = time.monotonic()
crashfree.close()
print(time.monotonic() - began)
"""
    done = lives.run(source)
    assert float(done.stdout) < float(timeout) + 1.5
    told = len(lives.ups)
    lives.stub.answer(status=200)
    lives.adopt()
    assert {up["status"] for up in lives.ups[told:]} == {"exited"}
    assert len({up["sid"] for up in lives.ups}) == 1


# --- request mode ----------------------------------------


def test_units_of_a_process_that_ends_well(lives: Lives) -> None:
    lives.run(SERVICE + "for _ in range(100): serve()\nserve(ValueError())")
    assert lives.counts == {"exited": 100, "crashed": 1}
    assert lives.ups == []
    lives.adopt()
    assert lives.counts == {"exited": 100, "crashed": 1}
    assert lives.leftovers() == []


IN_FLIGHT = """
for _ in range(1000): serve()
for _ in range(10): serve(ValueError())
held = unit(mechanism="test")
other = unit(mechanism="test")
"""


@pytest.mark.parametrize(
    ("death", "fate"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "abnormal"),
        ("os._exit(0)", "abnormal"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
        ("os.abort()", "crashed"),
    ],
)
def test_units_in_flight_share_the_fate_of_the_process(lives: Lives, death: str, fate: str) -> None:
    lives.run(SERVICE + IN_FLIGHT + death)
    lives.adopt()
    lives.adopt()
    expected = {"exited": 1000, "crashed": 10}
    expected[fate] = expected.get(fate, 0) + 2
    assert lives.counts == expected
    assert lives.leftovers() == []


def test_a_default_sigterm_sends_what_was_counted(lives: Lives) -> None:
    process = lives.start(SERVICE + "for _ in range(50): serve()\n" + READY)
    assert lives.end(process) == -signal.SIGTERM
    assert lives.counts == {"exited": 50}


def test_a_program_that_raises_its_sigterm_again_loses_nothing(lives: Lives) -> None:
    """As uvicorn does: its own handler, then the default action, without atexit."""
    source = """
def handler(number, frame):
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
signal.signal(signal.SIGTERM, handler)
for _ in range(50): serve()
"""
    process = lives.start(SERVICE + source + READY)
    assert lives.end(process) == -signal.SIGTERM
    lives.adopt()
    assert lives.counts == {"exited": 50}


def test_dead_siblings_are_told_about_once_though_many_adopt_at_once(lives: Lives) -> None:
    for _ in range(5):
        lives.run(SERVICE + "for _ in range(20): serve()\nos.kill(os.getpid(), signal.SIGKILL)")
    assert lives.counts == {}
    adopters = [threading.Thread(target=lives.adopt) for _ in range(6)]
    for adopter in adopters:
        adopter.start()
    for adopter in adopters:
        adopter.join()
    lives.adopt()
    assert lives.counts == {"exited": 100}
    assert lives.leftovers() == []


def test_an_adopter_that_is_killed_in_the_middle_counts_nothing_twice(lives: Lives) -> None:
    for _ in range(3):
        lives.run(SERVICE + "for _ in range(20): serve()\nos.kill(os.getpid(), signal.SIGKILL)")
    lives.stub.answer(hang=True)
    process = lives.start(
        SERVICE + "crashfree.get_client()._adopt()\n" + READY,
    )
    lives.end(process, signal.SIGKILL)
    lives.stub.requests.clear()
    lives.stub.answer(status=200)
    lives.adopt()
    lives.adopt()
    assert lives.counts == {"exited": 60}


# --- forks ----------------------------------------


def test_queued_units_are_told_by_the_parent_only(lives: Lives) -> None:
    """W24."""
    source = """
for _ in range(3): serve()
pid = os.fork()
if pid == 0:
    crashfree.flush(10)
    sys.exit(0)
os.waitpid(pid, 0)
"""
    lives.run(SERVICE + source)
    assert lives.counts == {"exited": 3}


def test_a_live_session_is_told_by_the_parent_only(lives: Lives) -> None:
    """W25."""
    source = """
pid = os.fork()
if pid == 0:
    crashfree.end_session("crashed")
    sys.exit(0)
os.waitpid(pid, 0)
"""
    lives.run(APPLICATION + source)
    assert [up["status"] for up in lives.ups] == ["exited"]


def test_children_count_their_own_units(lives: Lives) -> None:
    source = """
serve()
held = unit(mechanism="test")
pids = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        held.crash(ValueError())
        held.end()
        for _ in range(10): serve()
        sys.exit(0)
    pids.append(pid)
for pid in pids: os.waitpid(pid, 0)
held.end()
"""
    lives.run(SERVICE + source)
    lives.adopt()
    assert lives.counts == {"exited": 42}


def test_a_child_that_is_killed_is_told_by_the_next_start(lives: Lives) -> None:
    source = """
serve()
pid = os.fork()
if pid == 0:
    serve()
    unit(mechanism="test")
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
"""
    lives.run(SERVICE + source)
    lives.adopt()
    assert lives.counts == {"exited": 2, "abnormal": 1}


def test_a_child_that_crashes_by_a_signal_has_a_dump_of_its_own(lives: Lives) -> None:
    source = """
serve()
pid = os.fork()
if pid == 0:
    unit(mechanism="test")
    os.kill(os.getpid(), signal.SIGSEGV)
os.waitpid(pid, 0)
serve()
"""
    lives.run(SERVICE + source)
    lives.adopt()
    assert lives.counts == {"exited": 2, "crashed": 1}
    assert len(lives.events) == 1


@pytest.mark.slow
def test_two_hundred_forks_under_load_neither_hang_nor_count_twice(lives: Lives) -> None:
    source = """
sys.setswitchinterval(1e-5)
served = [0] * 4
going = True
def work(number):
    while going:
        serve()
        served[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
in_children = 0
for number in range(200):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        serve()
        if number % 10 == 0:
            crashfree.flush(10)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    in_children += 1
going = False
for thread in threads: thread.join()
print(sum(served) + in_children)
"""
    done = lives.run(SERVICE + source)
    assert done.returncode == 0, done.stderr
    lives.adopt()
    assert lives.counts == {"exited": int(done.stdout)}
    assert lives.leftovers() == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_end_their_own_accounts(
    lives: Lives, method: str, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        SERVICE
        + f"""
def work(number):
    for _ in range(number):
        serve()
    serve(ValueError())

if __name__ == "__main__":
    import multiprocessing
    context = multiprocessing.get_context({method!r})
    processes = [context.Process(target=work, args=(number,)) for number in (5, 10, 15)]
    for process in processes: process.start()
    for process in processes: process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
"""
    )
    done = lives.run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    assert done.returncode == 0, done.stderr
    lives.adopt()
    assert lives.counts == {"exited": 30, "crashed": 3}
    assert len(lives.events) == 3


def test_the_children_of_a_process_pool_count(lives: Lives) -> None:
    source = """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
def work(number):
    serve()
    return number
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        print(sum(pool.map(work, range(100))))
"""
    done = lives.run(SERVICE + source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "4950"
    lives.adopt()
    assert lives.counts == {"exited": 100}


def test_a_thread_that_cannot_be_started_any_more_costs_nothing(lives: Lives) -> None:
    """W38: at exit, and where threads are refused altogether."""
    source = """
import threading
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
for _ in range(5): serve()
"""
    done = lives.run(SERVICE + source)
    assert done.returncode == 0, done.stderr
    assert lives.counts == {"exited": 5}


def test_units_begun_while_the_interpreter_shuts_down_are_counted(lives: Lives) -> None:
    source = """
import atexit
atexit.register(lambda: [serve() for _ in range(5)])
class Late:
    def __del__(self):
        serve()
late = Late()
late.cycle = late
"""
    done = lives.run("import atexit\n" + SERVICE + source)
    assert done.returncode == 0, done.stderr
    lives.adopt()
    counts = lives.counts
    assert counts["exited"] in (5, 6)
    assert set(counts) == {"exited"}


def test_without_a_writable_place_everything_else_works(lives: Lives, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    lives.env["CRASHFREE_SPOOL_DIR"] = str(blocked)
    done = lives.run(SERVICE + "for _ in range(5): serve()")
    assert done.returncode == 0
    assert lives.counts == {"exited": 5}


def test_the_previous_run_is_known_to_the_program(lives: Lives) -> None:
    lives.run(APPLICATION + "import ctypes\nctypes.string_at(8)")
    source = """
import time
import crashfree
endings = []
crashfree.init(release="app@2.0", on_crashed_last_run=endings.append)
crashfree.flush(10)
client = crashfree.get_client()
print(client.previous_run.cause, client.previous_run.signal, client.previous_run.release)
print([ending.signal for ending in endings])
"""
    done = lives.run(source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["crashed SIGSEGV app@1.0", "['SIGSEGV']"]


def test_nothing_is_said_to_stderr(lives: Lives) -> None:
    done = lives.run(SERVICE + "for _ in range(5): serve()")
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.stderr == ""


# --- killed while sending ----------------------------------------

SENDING_AND_READY = (
    """
threading.Thread(target=crashfree.flush, args=(30,), daemon=True).start()
"""
    + READY
)


@pytest.mark.parametrize("misbehaviour", [{"hang": True}, {"reset_early": True}])
def test_counts_that_are_being_sent_when_the_process_is_killed_are_told_once_at_most(
    lives: Lives, misbehaviour: dict[str, bool]
) -> None:
    """They may have arrived, and have no identity: a second copy would count twice."""
    lives.stub.answer(**misbehaviour)
    process = lives.start(SERVICE + "for _ in range(20): serve()\n" + SENDING_AND_READY)
    wait_until(lambda: lives.stub.connections > 0, 20, "a request")
    lives.end(process, signal.SIGKILL)
    arrived = lives.counts["exited"]
    lives.stub.answer(status=200)
    lives.adopt()
    lives.adopt()
    assert lives.counts["exited"] in (20, arrived)
    assert lives.counts["exited"] <= 20


def test_counts_that_wait_for_the_network_when_the_process_is_killed_are_told_once(
    lives: Lives,
) -> None:
    lives.stub.answer(status=429, headers={"Retry-After": "300"})
    process = lives.start(
        SERVICE + "for _ in range(20): serve()\ncrashfree.flush(5)\nserve()\n" + READY
    )
    lives.end(process, signal.SIGKILL)
    lives.stub.requests.clear()
    lives.stub.answer(status=200)
    lives.adopt()
    lives.adopt()
    assert lives.counts == {"exited": 21}


def test_a_last_word_behind_a_hanging_event_is_told_after_a_kill(lives: Lives) -> None:
    """The session ended while an event before it hung in the network."""
    lives.stub.answer(hang=True)
    source = """
crashfree.capture_message("first in the queue")
crashfree.end_session()
time.sleep(0.3)
"""
    process = lives.start(APPLICATION + source + READY)
    lives.end(process, signal.SIGKILL)
    lives.stub.requests.clear()
    lives.stub.answer(status=200)
    lives.adopt()
    lives.adopt()
    (up,) = lives.ups
    assert (up["status"], up["init"]) == ("exited", True)


def test_a_crash_is_told_at_the_time_of_the_crash(lives: Lives) -> None:
    """W33: not at the last heartbeat, which may be half a minute older."""
    done = lives.run(
        APPLICATION + "time.sleep(1.5)\nprint(time.time())\nsys.stdout.flush()\nos.abort()"
    )
    lives.adopt()
    (up,) = lives.ups
    assert up["status"] == "crashed"
    assert 1.4 < up["duration"] < 5
    assert abs(parse_rfc3339(up["timestamp"]) - float(done.stdout)) < 1


def test_a_sibling_tells_of_a_dead_worker_without_a_restart(lives: Lives) -> None:
    source = """
import signal
if os.fork() == 0:
    for _ in range(20): serve()
    unit(mechanism="test")
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
serve()
print("ready", flush=True)
for _ in range(100):
    time.sleep(0.1)
"""
    process = lives.start(
        SERVICE.replace(
            'session_mode="request"', 'session_mode="request", session_flush_interval=1.0'
        )
        + source
    )
    lives.wait_for(exited=21, abnormal=1)
    lives.end(process)
    lives.adopt()
    assert lives.counts == {"exited": 21, "abnormal": 1}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="states are read from /proc")
def test_a_stop_by_the_terminal_is_time_in_the_background(lives: Lives) -> None:
    """Ctrl-Z for longer than the timeout ends the session at that moment; `fg` starts another."""
    source = """
import os, time
os.setpgid(0, 0)
import crashfree
crashfree.init(release="app@1.0", background_on_suspend=True, background_timeout=0.3)
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""
    end = lives.spool.parent / "end"
    process = lives.start("import sys" + source, str(end))
    process.send_signal(signal.SIGTSTP)
    state = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", what="the stop")
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGCONT)
    end.touch()
    assert lives.wait(process) == 0, lives.errors
    first, second = lives.ups
    assert (first["status"], second["status"]) == ("exited", "exited")
    assert first["sid"] != second["sid"]
    assert first["duration"] < parse_rfc3339(second["started"]) - parse_rfc3339(first["started"])
