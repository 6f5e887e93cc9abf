"""Signals, finalizers, exits, forks, green threads, uWSGI, subinterpreters: real processes.

The rows are those of complaints-transport.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import environment, run, start
from tests.support.stub import Stub, dead_port
from tests.support.waiting import wait_until

BEGIN = """
import gc, json, os, signal, sys, threading, time
import crashfree
OPTIONS = {**json.loads(sys.argv[1]), "release": "app@1.0", "auto_integrations": False}
def begin(**more):
    return crashfree.init(**{"session_mode": "request", **OPTIONS, **more})
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_gevent = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="gevent is not installed"
)
needs_eventlet = pytest.mark.skipif(
    importlib.util.find_spec("eventlet") is None, reason="eventlet is not installed"
)
UWSGI = shutil.which("uwsgi") or shutil.which("uwsgi", path=os.path.dirname(sys.executable))


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


class Programs:
    def __init__(self, stub: Stub, spool: Path) -> None:
        self.stub = stub
        self.options = {"dsn": stub.dsn, "spool_dir": str(spool)}

    def run(self, source: str, *, code: int = 0, **options: object) -> str:
        """Run a program to its end; return what it printed."""
        done = run(
            BEGIN + textwrap.dedent(source), json.dumps({**self.options, **options}), timeout=120
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr or code, done.stderr
        self.stderr = done.stderr
        return done.stdout

    def messages(self) -> Counter[str]:
        return Counter(event["logentry"]["formatted"] for event in self.stub.items("event"))


@pytest.fixture
def programs(stub: Stub, tmp_path: Path) -> Programs:
    return Programs(stub, tmp_path / "spool")


class TestReentrancy:
    def test_a_flush_in_a_signal_handler_inside_a_flush_returns(self, programs: Programs) -> None:
        """Row 12."""
        programs.stub.answer(delay=0.3)
        out = programs.run(
            """
            begin()
            answers = []
            def handler(number, frame):
                answers.append(crashfree.flush(5))
            signal.signal(signal.SIGALRM, handler)
            crashfree.capture_message("one")
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            answers.append(crashfree.flush(5))
            print(answers)
            """
        )
        assert out == "[True, True]\n"
        assert programs.messages() == {"one": 1}

    @pytest.mark.slow
    def test_four_thousand_signals_that_capture_lose_nothing(self, programs: Programs) -> None:
        out = programs.run(
            """
            begin(queue_size=100_000, send_client_reports=False, error_storm_limit=10_000_000)
            count = 0
            def handler(number, frame):
                global count
                count += 1
                crashfree.capture_message("signal %d" % count)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            main = 0
            while count < 4000:
                crashfree.capture_message("main %d" % main)
                main += 1
                if main % 50 == 0:
                    crashfree.flush(10)
            signal.setitimer(signal.ITIMER_REAL, 0)
            done = crashfree.flush(60)
            stats = crashfree.stats()
            print(count, main, done, stats.sent["error"], stats.dropped)
            """
        )
        count, main, done, sent, dropped = out.split(" ", 4)
        assert (done, dropped) == ("True", "{}\n")
        assert int(count) >= 4_000
        assert int(sent) == int(count) + int(main)
        assert len(programs.messages()) == int(sent)

    def test_a_capture_in_a_finalizer_returns(self, programs: Programs) -> None:
        """Row 16."""
        out = programs.run(
            """
            begin(error_storm_limit=10_000_000)
            gc.set_threshold(1)
            numbers = iter(range(1000))
            class Captures:
                def __init__(self):
                    self.me = self
                def __del__(self):
                    crashfree.capture_message("finalizer %d" % next(numbers))
            for number in range(300):
                Captures()
                crashfree.capture_message("main %d" % number)
            gc.set_threshold(700)
            gc.collect()
            crashfree.flush(30)
            print(next(numbers), crashfree.stats().dropped)
            """
        )
        assert out == "300 {}\n"
        assert len(programs.messages()) == 600

    @pytest.mark.slow
    def test_a_million_finalizers_lose_nothing(self, programs: Programs) -> None:
        """Each counts a unit of work, one in fifty captures; the collector strikes anywhere."""
        out = programs.run(
            """
            begin(error_storm_limit=10_000_000)
            client = crashfree.get_client()
            captured = 0
            class Counts:
                def __init__(self, number):
                    self.me, self.number = self, number
                def __del__(self):
                    global captured
                    client.sessions.requests.begin().end()
                    if self.number % 50 == 0:
                        crashfree.capture_message("finalizer %d" % self.number)
                        captured += 1
            main = 0
            with crashfree.session():
                pass
            for number in range(1_000_000):
                Counts(number)
                if number % 500 == 0:
                    crashfree.capture_message("main %d" % main)
                    main += 1
                    crashfree.flush(60)
            gc.collect()
            crashfree.flush(60)
            stats = crashfree.stats()
            print(captured, main, stats.sent["error"], stats.sent["session"], stats.dropped)
            """
        )
        assert out == "20000 2000 22000 1000001 {}\n"
        assert len(programs.messages()) == 22_000

    def test_a_capture_in_before_send_and_on_the_worker_returns(self, programs: Programs) -> None:
        programs.run(
            """
            def before_send(event, hint):
                crashfree.capture_message("inside before_send")
                crashfree.flush(1)
                if "broken" in str(event.get("logentry")):
                    raise RuntimeError("mine")
                return event
            told = []
            def on_drop(reason, category, quantity):
                told.append(reason)
                crashfree.capture_message("inside on_drop")
                crashfree.flush(1)
            begin(before_send=before_send, on_drop=on_drop)
            crashfree.capture_message("fine")
            crashfree.capture_message("broken")
            crashfree.flush(10)
            assert told[0] == "before_send", told
            """
        )
        assert programs.messages()["fine"] == 1
        assert programs.messages()["broken"] == 0

    def test_every_loss_reaches_the_program(self, programs: Programs) -> None:
        """Row 39."""
        out = programs.run(
            """
            told = []
            client = begin(sample_rate=0.0, on_drop=lambda *loss: told.append(loss))
            crashfree.capture_message("sampled out")
            crashfree.flush(10)
            print(told)
            """
        )
        assert out == "[('sample_rate', 'error', 1)]\n"
        (report,) = programs.stub.items("client_report")
        assert report["discarded_events"][0]["reason"] == "sample_rate"


class TestExits:
    def test_a_capture_in_an_atexit_hook_arrives(self, programs: Programs) -> None:
        """Row 9: before and after ours, when new threads are forbidden."""
        programs.run(
            """
            import atexit
            atexit.register(lambda: crashfree.capture_message("registered before"))
            begin()
            atexit.register(lambda: crashfree.capture_message("registered after"))
            """
        )
        assert programs.messages()["registered after"] == 1

    def test_a_capture_in_a_thread_that_outlives_main_arrives(self, programs: Programs) -> None:
        """Row 9."""
        programs.run(
            """
            begin()
            def late():
                threading.main_thread().join()
                crashfree.capture_message("late")
            threading.Thread(target=late).start()
            """
        )
        assert programs.messages() == {"late": 1}

    def test_init_in_request_mode_starts_no_thread(self, programs: Programs) -> None:
        """Row 6."""
        out = programs.run(
            """
            begin()
            print([thread.name for thread in threading.enumerate()])
            """
        )
        assert out == "['MainThread']\n"

    def test_sigterm_with_a_slow_server_says_its_last_words(self, programs: Programs) -> None:
        """Row 10."""
        programs.stub.answer(delay=0.3)
        process = start(
            BEGIN
            + textwrap.dedent(
                """
                begin()
                crashfree.capture_message("last words")
                print("ready", flush=True)
                time.sleep(60)
                """
            ),
            json.dumps(programs.options),
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == -signal.SIGTERM
        assert programs.messages() == {"last words": 1}

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_a_multiprocessing_child_says_its_last_words(
        self, programs: Programs, method: str, tmp_path: Path
    ) -> None:
        """Row 7."""
        program = tmp_path / "program.py"
        program.write_text(
            BEGIN
            + textwrap.dedent(
                f"""
                import multiprocessing
                def work():
                    crashfree.capture_message("child")
                begin()
                if __name__ == "__main__":
                    child = multiprocessing.get_context({method!r}).Process(target=work)
                    child.start()
                    child.join()
                """
            )
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(program), json.dumps(programs.options)],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert programs.messages() == {"child": 1}

    @needs_fork
    def test_a_child_that_flushes_may_leave_without_a_word(self, programs: Programs) -> None:
        """Row 8: RQ's work horses end by os._exit."""
        programs.run(
            """
            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            begin()
            crashfree.capture_message("parent")
            pid = os.fork()
            if pid == 0:
                crashfree.capture_message("child")
                crashfree.flush(5)
                os._exit(0)
            os.waitpid(pid, 0)
            """
        )
        assert programs.messages() == {"parent": 1, "child": 1}

    @needs_fork
    def test_a_fork_in_an_atexit_hook_harms_nobody(self, programs: Programs) -> None:
        """Row 5; from 3.12 on Python itself refuses a fork at that time."""
        programs.run(
            """
            import atexit, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            begin()
            crashfree.capture_message("one")
            def fork():
                try:
                    pid = os.fork()
                except RuntimeError:
                    return
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
            atexit.register(fork)
            """
        )
        assert programs.messages() == {"one": 1}

    @needs_fork
    @pytest.mark.slow
    def test_forks_while_the_first_send_imports_hang_no_child(self, programs: Programs) -> None:
        """Rows 1 and 19: a module half-imported at a fork would stay locked in the child."""
        programs.run(
            """
            import subprocess, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            begin()
            crashfree.capture_message("parent")
            children = []
            for number in range(30):
                pid = os.fork()
                if pid == 0:
                    crashfree.capture_message("child")
                    ok = crashfree.flush(5)
                    os._exit(0 if ok else 1)
                children.append(pid)
                subprocess.run(["true"], preexec_fn=lambda: None)
                time.sleep(0.004)
            for pid in children:
                _, status = os.waitpid(pid, 0)
                assert status == 0, status
            """
        )
        assert programs.messages() == {"parent": 1, "child": 30}


class TestConsentAndMirrors:
    def test_without_consent_nothing_leaves_and_nothing_is_written(
        self, programs: Programs, tmp_path: Path
    ) -> None:
        programs.run(
            """
            begin(require_consent=True, session_mode="application")
            crashfree.capture_message("secret")
            crashfree.flush(1)
            """
        )
        assert programs.stub.connections == 0
        assert not (tmp_path / "spool").exists()

    def test_what_waited_for_consent_goes_when_it_is_given(self, programs: Programs) -> None:
        programs.run(
            """
            begin(require_consent=True)
            crashfree.capture_message("before")
            crashfree.give_consent()
            crashfree.capture_message("after")
            crashfree.revoke_consent()
            crashfree.capture_message("never")
            """
        )
        assert programs.messages() == {"before": 1, "after": 1}

    def test_several_destinations_get_everything_each(self, programs: Programs) -> None:
        with Stub() as other:
            programs.run(
                """
                begin(session_mode="application")
                crashfree.capture_message("both")
                """,
                dsn=[programs.stub.dsn, other.dsn],
            )
            assert len(other.items("event")) == len(programs.stub.items("event")) == 1
            assert len(other.items("session")) == len(programs.stub.items("session")) == 1

    def test_a_spotlight_that_hangs_costs_the_caller_nothing(self, programs: Programs) -> None:
        """Row 47."""
        with Stub() as spotlight:
            spotlight.answer(hang=True)
            out = programs.run(
                """
                begin()
                crashfree.capture_message("warm")
                began = time.perf_counter()
                for number in range(90):
                    crashfree.capture_message(str(number))
                print((time.perf_counter() - began) / 90)
                crashfree.flush(10)
                """,
                spotlight=spotlight.url + "/stream",
            )
        assert float(out) < 0.002
        assert len(programs.messages()) == 91


class TestGreenThreads:
    @needs_gevent
    @pytest.mark.parametrize("late", [False, True], ids=["patched before init", "patched after"])
    def test_gevent_delivers_and_never_blocks_the_hub(self, programs: Programs, late: bool) -> None:
        """Rows 20 and 23."""
        programs.stub.answer(delay=0.02)
        patch = "from gevent import monkey; monkey.patch_all()"
        begin = "begin(error_storm_limit=1_000_000)"
        first, second = (begin, patch) if late else (patch, begin)
        out = programs.run(
            f"""
            import warnings
            warnings.simplefilter("ignore")
            {first}
            {second}
            import gevent
            ticks = []
            def tick():
                while True:
                    ticks.append(time.perf_counter())
                    gevent.sleep(0.005)
            gevent.spawn(tick)
            jobs = [gevent.spawn(crashfree.capture_message, str(n)) for n in range(100)]
            gevent.joinall(jobs)
            assert crashfree.flush(20)
            print(max(b - a for a, b in zip(ticks, ticks[1:])))
            """
        )
        assert len(programs.messages()) == 100
        if not late:
            assert float(out) < 1.0

    @needs_gevent
    def test_gevent_keeps_the_tags_of_greenlets_apart(self, programs: Programs) -> None:
        """Row 22."""
        programs.run(
            """
            from gevent import monkey; monkey.patch_all()
            import gevent
            begin(error_storm_limit=1_000_000)
            def work(number):
                with crashfree.isolation_scope():
                    crashfree.set_tag("number", str(number))
                    gevent.sleep(0.01)
                    crashfree.capture_message(str(number))
            gevent.joinall([gevent.spawn(work, number) for number in range(50)])
            crashfree.flush(20)
            """
        )
        events = programs.stub.items("event")
        assert len(events) == 50
        assert all(event["tags"]["number"] == event["logentry"]["formatted"] for event in events)

    @needs_gevent
    @pytest.mark.parametrize("thread", [True, False], ids=["threads patched", "threads kept"])
    def test_threads_of_a_gevent_program_deliver(self, programs: Programs, thread: bool) -> None:
        """Where everything else is patched threads may be greenlets or real ones."""
        programs.stub.answer(delay=0.02)
        programs.run(
            f"""
            import warnings
            warnings.simplefilter("ignore")
            from gevent import monkey; monkey.patch_all(thread={thread})
            begin(error_storm_limit=1_000_000)
            def work(first):
                for number in range(first, first + 20):
                    crashfree.capture_message(str(number))
                    time.sleep(0.001)
            threads = [threading.Thread(target=work, args=(n * 20,)) for n in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert crashfree.flush(20)
            """
        )
        assert programs.messages() == Counter(str(number) for number in range(100))

    @needs_eventlet
    def test_eventlet_delivers(self, programs: Programs) -> None:
        """Row 21."""
        programs.run(
            """
            import warnings
            warnings.simplefilter("ignore")
            import eventlet
            eventlet.monkey_patch()
            begin(error_storm_limit=1_000_000)
            pool = eventlet.GreenPool()
            for number in range(50):
                pool.spawn(crashfree.capture_message, str(number))
            pool.waitall()
            assert crashfree.flush(20)
            """
        )
        assert len(programs.messages()) == 50


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
source = '''
import crashfree
crashfree.init({dsn!r}, release="app@1.0", auto_integrations=False, session_mode="request",
               spool_dir={spool!r})
crashfree.capture_message("from within")
assert crashfree.flush(20)
crashfree.close(5)
'''
number = interpreters.create({argument})
failure = interpreters.{run}(number, source)
assert failure is None, failure
interpreters.destroy(number)
"""


@pytest.mark.parametrize("isolated", [False, True], ids=["legacy", "isolated"])
def test_a_subinterpreter_delivers(stub: Stub, tmp_path: Path, isolated: bool) -> None:
    """Threads may be refused there; `flush` sends in its caller then."""
    version = sys.version_info
    if version < (3, 12):
        pytest.skip("subinterpreters with their own lock came with 3.12")
    argument = {True: "isolated=True", False: "isolated=False"}[isolated]
    how = "run_string"
    if version >= (3, 13):
        argument = {True: "'isolated'", False: "'legacy'"}[isolated]
    done = run(
        SUBINTERPRETER.format(
            dsn=stub.dsn, spool=str(tmp_path / "spool"), argument=argument, run=how
        ),
        timeout=60,
    )
    if version >= (3, 13) or not isolated:
        # 3.12 itself may abort when it tears an isolated interpreter down.
        assert done.returncode == 0, done.stderr
    assert [event["logentry"]["formatted"] for event in stub.items("event")] == ["from within"]


APPLICATION = """
import crashfree, os
crashfree.init(os.environ["DSN"], release="app@1.0", session_mode="request",
               auto_integrations=False, spool_dir=os.environ["SPOOL"])
def application(environ, start_response):
    crashfree.capture_message("served")
    if environ["PATH_INFO"] == "/flush":
        crashfree.flush(5)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""


@pytest.mark.skipif(UWSGI is None, reason="uwsgi is not installed")
@pytest.mark.parametrize(
    "options",
    [["--enable-threads"], [], ["--enable-threads", "--lazy-apps"], ["--py-call-uwsgi-fork-hooks"]],
    ids=["threads", "no threads", "lazy", "fork hooks"],
)
def test_uwsgi_delivers(stub: Stub, tmp_path: Path, options: list[str]) -> None:
    """Row 6: with and without threads, with and without fork hooks."""
    (tmp_path / "served.py").write_text(APPLICATION)
    port = dead_port()
    assert UWSGI is not None
    process = subprocess.Popen(
        [UWSGI, "--http-socket", f"127.0.0.1:{port}", "--module", "served:application",
         "--master", "--processes", "2", "--die-on-term", *options],
        env=environment({"DSN": stub.dsn, "SPOOL": str(tmp_path / "spool"),
                         "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}),
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: answers(port, "/"), 20.0, "uwsgi answers")
        for _ in range(9):
            assert answers(port, "/flush")
        wait_until(lambda: len(stub.items("event")) >= 10, 20.0)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    ids = Counter(request.envelope.event_id for request in stub.requests)
    assert len(stub.items("event")) == 10
    assert max(ids.values()) == 1


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def test_own_requests_leave_no_trace_in_events(programs: Programs) -> None:
    """What urllib3 logs while it sends is neither an event nor a breadcrumb."""
    pytest.importorskip("crashfree_integrations.logging")
    programs.run(
        """
        import logging
        logging.basicConfig(level=logging.DEBUG, stream=open(os.devnull, "w"))
        from crashfree_integrations.logging import LoggingIntegration
        begin(integrations=[LoggingIntegration()])
        crashfree.capture_message("one")
        crashfree.flush(10)
        crashfree.capture_message("two")
        """
    )
    first, second = programs.stub.items("event")
    crumbs = second.get("breadcrumbs", {}).get("values", [])
    assert not [crumb for crumb in crumbs if "urllib3" in str(crumb)]
    assert programs.messages() == {"one": 1, "two": 1}
    assert first["event_id"] != second["event_id"]


def test_closing_with_nothing_queued_takes_no_time(programs: Programs) -> None:
    """Row 11."""
    out = programs.run(
        """
        begin()
        began = time.perf_counter()
        crashfree.close()
        print(time.perf_counter() - began)
        """
    )
    assert float(out) < 0.1
