"""Real processes against a server that misbehaves: what arrives, what is kept, how long it takes.

The rows are those of complaints-transport.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.program import environment, run, start
from tests.support.socks_proxy import SocksProxy
from tests.support.stub import Answer, Stub, dead_port

PROGRAM = """
import json, sys, time
import crashfree
options = json.loads(sys.argv[1])
count = options.pop("count", 1)
began = time.perf_counter()
crashfree.init(session_mode=options.pop("session_mode", "request"), auto_integrations=False,
               release="app@1.0", **options)
for number in range(count):
    crashfree.capture_message("message %d" % number)
"""
CRASH = """
import json, sys
import crashfree
crashfree.init(auto_integrations=False, release="app@1.0", **json.loads(sys.argv[1]))
1 / 0
"""
IDLE = """
import crashfree, sys, json
crashfree.init(session_mode="request", auto_integrations=False, release="app@1.0",
               **json.loads(sys.argv[1]))
"""


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


class Place:
    """A spool and how to run programs with it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, program: str, dsn: str, **options: object) -> tuple[str, float]:
        """Run to the end; return what it wrote to stderr and the seconds it took."""
        began = time.monotonic()
        done = run(
            program,
            json.dumps({"dsn": dsn, "spool_dir": str(self.path), **options}),
            timeout=120,
        )
        return done.stderr, time.monotonic() - began

    def later(self, stub: Stub) -> None:
        """Start again until nothing is left on disk; after silence each start tries once."""
        for _ in range(8):
            if not self.files():
                return
            self.run(IDLE, stub.dsn, shutdown_timeout=10)

    def files(self) -> int:
        return sum(1 for _ in self.path.rglob("*.envelope"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "spool")


def messages(stub: Stub) -> list[str]:
    return [event["logentry"]["formatted"] for event in stub.items("event")]


def expected(count: int) -> list[str]:
    return [f"message {number}" for number in range(count)]


@pytest.fixture
def idle_time(place: Place) -> float:
    """What a program costs that sends nothing."""
    return min(place.run(IDLE, "http://key@127.0.0.1:1/1")[1] for _ in range(3))


class TestFaults:
    """Nothing that was accepted is lost or arrives twice."""

    @pytest.mark.parametrize(
        "fault",
        [
            [],
            [Answer(close=True)] * 5,
            [Answer(polite_close=True)] * 5,
            [Answer(delay=0.2)] * 3,
            [Answer(drip=0.002)] * 3,
            [Answer(headers={"X-Sentry-Rate-Limits": "86400:transaction;span:organization"})] * 20,
        ],
        ids=["well", "closes", "closes politely", "slow", "drips", "limits what we never send"],
    )
    def test_a_difficult_server_gets_everything_once(
        self, stub: Stub, place: Place, fault: list[Answer]
    ) -> None:
        stub.script(*fault)
        stderr, _ = place.run(PROGRAM, stub.dsn, count=20, shutdown_timeout=10)
        assert Counter(messages(stub)) == Counter(expected(20))
        assert stderr == ""
        assert place.files() == 0

    def test_a_server_that_comes_back_gets_everything_in_the_end(
        self, stub: Stub, place: Place
    ) -> None:
        """Refused connections at first: nothing was written, so nothing can come twice."""
        dead = f"http://key@127.0.0.1:{dead_port()}/42"
        place.run(PROGRAM, dead, count=20)
        assert place.files() == 20
        port = int(dead.rsplit(":", 1)[1].partition("/")[0])
        with Stub(port=port) as back:
            place.run(IDLE, dead)
            assert Counter(messages(back)) == Counter(expected(20))
        assert place.files() == 0

    def test_resets_in_the_middle_lose_nothing(self, stub: Stub, place: Place) -> None:
        """Whether the server has it cannot be known; it knows an event by its id."""
        stub.script(*[Answer(reset_early=True), Answer(reset=True)] * 3)
        place.run(PROGRAM, stub.dsn, count=10, shutdown_timeout=10)
        place.later(stub)
        assert set(messages(stub)) == set(expected(10))
        ids = {request.envelope.event_id for request in stub.requests}
        assert len(ids) == 10

    @pytest.mark.parametrize("status", [500, 503])
    def test_a_server_that_fails_for_a_while_is_told_how_much_it_lost(
        self, stub: Stub, place: Place, status: int
    ) -> None:
        """Row 43: an answer is `send_error`; the report comes through when the server can."""
        stub.script(*[Answer(status=status)] * 5)
        stderr, _ = place.run(PROGRAM, stub.dsn, count=10, shutdown_timeout=10)
        lost = [row for report in stub.items("client_report") for row in report["discarded_events"]]
        assert sum(row["quantity"] for row in lost) == 5
        assert {row["reason"] for row in lost} == {"send_error"}
        assert stderr.count(f"{status}") == 1

    def test_a_wrong_certificate_is_refused_and_kept_and_the_remedy_said(
        self, place: Place, tmp_path: Path
    ) -> None:
        """Row 40."""
        authority = Authority(tmp_path)
        with Stub(tls=authority.server_context("localhost")) as stub:
            stderr, _ = place.run(PROGRAM, stub.dsn, count=3)
            assert stub.requests == []
            assert stderr.count("ca_certs") == 1
            assert place.files() == 3
            place.run(IDLE, stub.dsn, ca_certs=authority.bundle)
            assert Counter(messages(stub)) == Counter(expected(3))

    def test_a_name_that_does_not_resolve_keeps_everything(self, place: Place) -> None:
        stderr, took = place.run(PROGRAM, "http://key@nobody.invalid/42", count=3)
        assert place.files() == 3
        assert took < 10
        assert stderr.count("\n") == 1

    def test_a_proxy_that_refuses_keeps_everything(self, stub: Stub, place: Place) -> None:
        stub.answer(status=407)
        stderr, _ = place.run(
            PROGRAM, "https://key@far.example/42", count=3, https_proxy=f"127.0.0.1:{stub.port}"
        )
        assert place.files() == 3
        assert stderr.count("\n") == 1

    def test_a_dead_server_costs_one_line(self, place: Place) -> None:
        """Row 37."""
        stderr, _ = place.run(PROGRAM, f"http://key@127.0.0.1:{dead_port()}/42", count=100)
        assert stderr.count("\n") == 1
        assert "Traceback" not in stderr

    @pytest.mark.parametrize("answer", [Answer(status=302), Answer(garbage=True), Answer(cut=True)])
    def test_odd_answers_harm_nobody(self, stub: Stub, place: Place, answer: Answer) -> None:
        stub.script(answer)
        place.run(PROGRAM, stub.dsn, count=3, shutdown_timeout=10)
        place.later(stub)
        assert set(messages(stub)) == set(expected(3))


@pytest.mark.parametrize(
    ("coding", "module"),
    [("gzip", "gzip"), ("br", "brotli"), ("zstd", "zstandard"), ("none", "io")],
)
def test_bodies_arrive_in_each_coding(stub: Stub, place: Place, coding: str, module: str) -> None:
    pytest.importorskip(module)
    place.run(PROGRAM, stub.dsn, count=3, compression=coding)
    assert sorted(messages(stub)) == expected(3)
    wanted = None if coding == "none" else coding
    assert {request.headers.get("content-encoding") for request in stub.requests} == {wanted}


@pytest.mark.parametrize("given", ["option", "environment"])
def test_a_socks_proxy_takes_everything_along(stub: Stub, place: Place, given: str) -> None:
    """To a name that only the proxy knows."""
    pytest.importorskip("socks")
    with SocksProxy(stub.port, user="ada:pw") as proxy:
        url = f"socks5h://ada:pw@127.0.0.1:{proxy.port}"
        options = {"dsn": "http://key@far.example/42", "spool_dir": str(place.path), "count": 3}
        if given == "option":
            done = run(PROGRAM, json.dumps({**options, "http_proxy": url}))
        else:
            done = run(PROGRAM, json.dumps(options), env={"HTTP_PROXY": url})
        assert done.returncode == 0, done.stderr
        assert {host for host, _ in proxy.asked} == {"far.example"}
    assert sorted(messages(stub)) == expected(3)


class TestExit:
    """A process ends within `shutdown_timeout` and a little, whatever the server does."""

    @pytest.mark.slow
    @pytest.mark.parametrize("timeout", [0, 0.5, 2])
    def test_a_hanging_server_costs_shutdown_timeout(
        self, stub: Stub, place: Place, idle_time: float, timeout: float
    ) -> None:
        stub.answer(hang=True)
        _, took = min(
            (place.run(PROGRAM, stub.dsn, count=10, shutdown_timeout=timeout) for _ in range(2)),
            key=lambda result: result[1],
        )
        assert took - idle_time < timeout + 0.2 + MACHINE
        assert place.files() >= 10

    def test_a_quick_server_costs_nothing_to_speak_of_and_no_line(
        self, stub: Stub, place: Place, idle_time: float
    ) -> None:
        """Row 14."""
        stderr, took = place.run(PROGRAM, stub.dsn)
        assert stderr == ""
        assert messages(stub) == ["message 0"]
        assert took - idle_time < 1.0

    def test_nothing_to_send_costs_nothing(self, stub: Stub, place: Place) -> None:
        """Row 11: also when the server hangs."""
        stub.answer(hang=True)
        began = time.monotonic()
        place.run(IDLE, stub.dsn)
        assert time.monotonic() - began < 1.9
        assert stub.connections == 0

    @pytest.mark.slow
    def test_a_worker_that_hangs_costs_shutdown_timeout_and_nothing_else(
        self, stub: Stub, place: Place
    ) -> None:
        """In a callback of the program, of all places. Events, counts and session are kept."""
        took: list[float] = []
        for _ in range(2):
            done = run(STUCK, _options(stub, place, shutdown_timeout=1))
            took.append(time.time() - float(done.stdout))
            assert done.returncode == 0, done.stderr
        assert min(took) < 1 + 0.2 + MACHINE
        place.later(stub)
        assert Counter(messages(stub)) == {"before": 2, "one": 2, "two": 2}
        ended = [update for update in stub.items("session") if update["status"] == "exited"]
        assert len(ended) == 2

    @pytest.mark.slow
    @pytest.mark.parametrize("hang", [False, True], ids=["all is said", "hanging"])
    def test_who_sits_in_front_of_it_is_told_why_it_does_not_end(
        self, stub: Stub, place: Place, hang: bool
    ) -> None:
        """Row 14: one line, in a terminal only, and only when it waits longer than 0.5 s."""
        stub.answer(hang=hang)
        terminal = pytest.importorskip("pty", reason="no terminals here")
        ours, theirs = terminal.openpty()
        program = PROGRAM if hang else PROGRAM + "crashfree.flush(30)\n"
        subprocess.run(
            [sys.executable, "-c", program, _options(stub, place)],
            env=environment(), stderr=theirs, timeout=60, check=True,
        )  # fmt: skip
        os.close(theirs)
        said = _everything(ours)
        assert said.count("(shutdown_timeout)") == (1 if hang else 0), said
        if not hang:
            assert said == ""
        stderr, _ = place.run(PROGRAM, stub.dsn)
        assert "(shutdown_timeout)" not in stderr

    def test_with_no_time_at_all_the_next_start_tells_of_the_crash(
        self, stub: Stub, place: Place
    ) -> None:
        stub.answer(hang=True)
        place.run(CRASH, stub.dsn, shutdown_timeout=0)
        stub.stop()
        with Stub(port=stub.port) as back:
            place.run(IDLE, stub.dsn, shutdown_timeout=10)
            (event,) = back.items("event")
            assert event["exception"]["values"][0]["type"] == "ZeroDivisionError"
            statuses = [update["status"] for update in back.items("session")]
            assert statuses == ["crashed"]

    def test_or_the_command_line_does(self, stub: Stub, place: Place) -> None:
        stub.answer(hang=True)
        place.run(CRASH, stub.dsn, shutdown_timeout=0)
        stub.stop()
        with Stub(port=stub.port) as back:
            done = subprocess.run(
                [sys.executable, "-m", "crashfree", "spool", "flush", "--dsn", stub.dsn,
                 "--spool-dir", str(place.path)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert len(back.items("event")) == 1
            assert len(back.items("session")) == 1


STUCK = """
import json, sys, threading, time
import crashfree
stuck = threading.Event()
def on_drop(*loss):
    stuck.set()
    threading.Event().wait(60)
def before_send(event, hint):
    return None if "drop" in event["message"] else event
crashfree.init(auto_integrations=False, release="app@1.0", on_drop=on_drop,
               before_send=before_send, **json.loads(sys.argv[1]))
crashfree.capture_message("before")
crashfree.flush(10)
crashfree.capture_message("drop this")
assert stuck.wait(10)
crashfree.capture_message("one")
crashfree.capture_message("two")
print(time.time())
"""


def _options(stub: Stub, place: Place, **more: object) -> str:
    return json.dumps({"dsn": stub.dsn, "spool_dir": str(place.path), **more})


def _everything(terminal: int) -> str:
    """Read what was written to a terminal whose other end is closed."""
    text = b""
    try:
        while data := os.read(terminal, 4096):
            text += data
    except OSError:
        # How Linux says that nobody will write any more.
        pass
    os.close(terminal)
    return text.decode()


MACHINE = 0.25
"""What a busy machine with two processors may add to the start of a process."""


MEMORY = """
import json, resource, sys
import crashfree
options = json.loads(sys.argv[1])
crashfree.init(session_mode="request", auto_integrations=False, release="app@1.0",
               error_storm_limit=1_000_000, **options)
crashfree.capture_message("first")
crashfree.flush(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(100_000):
    crashfree.capture_message("message %d " % number + "x" * 200)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
stats = crashfree.get_client().stats()
print(json.dumps({"queued": stats.queued, "dropped": sum(stats.dropped.values()),
                  "spooled": stats.spooled, "bytes": stats.queued_bytes}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("hang", [False, True], ids=["dead", "hanging"])
@pytest.mark.parametrize("spool", [True, False], ids=["spool", "no spool"])
def test_memory_is_bounded_at_a_hundred_thousand_captures(
    stub: Stub, place: Place, hang: bool, spool: bool
) -> None:
    """Row 24."""
    stub.answer(hang=True)
    dsn = stub.dsn if hang else f"http://key@127.0.0.1:{dead_port()}/42"
    done = run(
        MEMORY,
        json.dumps(
            {"dsn": dsn, "spool_dir": str(place.path), "spool": spool, "shutdown_timeout": 0.1}
        ),
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    grown, stats = done.stdout.splitlines()
    assert int(grown) < 60, stats
    # A handful of arrivals that nobody has looked at yet may come on top of 16 MiB.
    assert json.loads(stats)["bytes"] <= 17 << 20


KILLED = """
import sys, threading
import crashfree
crashfree.init(sys.argv[1], release="app@1.0", spool_dir=sys.argv[2], auto_integrations=False,
               session_mode="request", spool_max_items=100_000)
print("ready", flush=True)
number = 0
while True:
    crashfree.capture_message("message %s-%d" % (sys.argv[3], number))
    if crashfree.flush(10):
        number += 1
        print(number, flush=True)
"""


@pytest.mark.slow
def test_the_spool_survives_kill_9_in_a_loop(place: Place) -> None:
    """Whatever the moment: every file is whole, what was flushed to disk is sent once."""
    port = dead_port()
    dsn = f"http://key@127.0.0.1:{port}/42"
    promised: set[str] = set()
    for life in range(25):
        process = start(KILLED, dsn, str(place.path), str(life))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        last = 0
        for line in process.stdout:
            last = int(line)
            if last >= 1 + life % 7:
                break
        process.kill()
        rest, _ = process.communicate()
        last = max([last, *(int(line) for line in rest.split() if line.isdigit())])
        promised |= {f"message {life}-{number}" for number in range(last)}
    with Stub(port=port) as back:
        stderr, _ = place.run(IDLE, dsn, shutdown_timeout=30, spool_max_items=100_000)
        assert stderr == ""
        seen = Counter(messages(back))
    assert promised <= set(seen)
    assert max(seen.values()) == 1
    assert place.files() == 0
    assert not list(place.path.rglob("*.corrupt"))


def test_two_processes_share_a_spool(stub: Stub, place: Place) -> None:
    """Both write; one replays; nothing comes twice."""
    dead = f"http://key@127.0.0.1:{dead_port()}/42"
    port = int(dead.rsplit(":", 1)[1].partition("/")[0])
    writers = [
        start(
            PROGRAM,
            json.dumps({"dsn": dead, "spool_dir": str(place.path), "count": 10}),
        )
        for _ in range(3)
    ]
    for writer in writers:
        writer.communicate(timeout=60)
    assert place.files() == 30
    with Stub(port=port) as back:
        readers = [
            start(
                IDLE,
                json.dumps({"dsn": dead, "spool_dir": str(place.path), "shutdown_timeout": 20}),
            )
            for _ in range(3)
        ]
        for reader in readers:
            reader.communicate(timeout=60)
        ids = Counter(request.envelope.event_id for request in back.requests)
    assert len(ids) == 30
    assert max(ids.values()) == 1
