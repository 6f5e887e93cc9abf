"""`crashfree run` around servers: the numbers are those of the application wired by hand.

The application writes down every request that it begins to handle. Source: sessions.md section 3.6.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, Server, missing, uwsgi
from tests.support.lives import Lives
from tests.support.stub import Stub
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
    pytest.mark.slow,
]

FLASK = """
import ctypes, os, signal, sys, time
{init}
import flask
wsgi = flask.Flask("plain")
TRUTH = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@wsgi.get("/<path>")
def serve(path):
    os.write(TRUTH, b"/%s\\n" % path.encode())
    if path == "error":
        raise ValueError("error")
    if path == "segv":
        ctypes.string_at(8)
    if path == "slow":
        open("slow.pid", "w").write(str(os.getpid()))
        time.sleep(60)
    if path == "stream":
        return flask.Response(stream())
    return str(os.getpid())

def stream():
    yield "a"
    raise ValueError("while streaming")
"""
PLAIN = """
import ctypes, os, time
{init}
TRUTH = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def serve(environ, start_response):
    path = environ["PATH_INFO"]
    os.write(TRUTH, b"%s\\n" % path.encode())
    if path == "/error":
        raise ValueError("error")
    if path == "/segv":
        ctypes.string_at(8)
    if path == "/slow":
        open("slow.pid", "w").write(str(os.getpid()))
        time.sleep(60)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return stream()
    return [str(os.getpid()).encode()]

def stream():
    yield b"a"
    raise ValueError("while streaming")

wsgi = {wrapped}
make = lambda: wsgi
"""
PLAIN_ASGI = """
import os
{init}
TRUTH = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def serve(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    os.write(TRUTH, b"%s\\n" % path.encode())
    if path == "/error":
        raise ValueError("error")
    await send({{"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain")]}})
    if path == "/stream":
        await send({{"type": "http.response.body", "body": b"a", "more_body": True}})
        raise ValueError("while streaming")
    await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})

asgi = {wrapped}
"""
LAUNCHER = ("-m", "crashfree", "run", "--release", "app@1.0", "--", sys.executable)
INIT = 'import crashfree\ncrashfree.init(release="app@1.0")'
MIDDLEWARE = "from crashfree_integrations.wsgi import WsgiMiddleware"
APPLICATIONS = {
    "flask-launched": (FLASK.format(init=""), LAUNCHER),
    "flask-by-hand": (FLASK.format(init=INIT), ()),
    "plain-launched": (PLAIN.format(init="", wrapped="serve"), LAUNCHER),
    "plain-by-hand": (
        PLAIN.format(init=f"{INIT}\n{MIDDLEWARE}", wrapped="WsgiMiddleware(serve)"),
        (),
    ),
}
WORKERS = {
    "sync": ("-w", "2"),
    "gthread": ("-k", "gthread", "-w", "2", "--threads", "4"),
    "preload": ("-w", "2", "--preload"),
    "gevent": ("-k", "gevent", "-w", "2"),
}
ASGI_MIDDLEWARE = "from crashfree_integrations.asgi import AsgiMiddleware"
PLAINS = {
    ("wsgi", "launched"): APPLICATIONS["plain-launched"],
    ("wsgi", "by-hand"): APPLICATIONS["plain-by-hand"],
    ("asgi", "launched"): (PLAIN_ASGI.format(init="", wrapped="serve"), LAUNCHER),
    ("asgi", "by-hand"): (
        PLAIN_ASGI.format(init=f"{INIT}\n{ASGI_MIDDLEWARE}", wrapped="AsgiMiddleware(serve)"),
        (),
    ),
}
UVICORN = ("uvicorn", "--log-level", "warning", "--timeout-graceful-shutdown", "2")
HYPERCORN = ("hypercorn", "--graceful-timeout", "2")
GRANIAN = ("granian", "--log-level", "warning", "--workers", "2", "--workers-kill-timeout", "20")
# Name: the interface of the application, and the command without its port.
OTHERS = {
    "uvicorn": ("asgi", (*UVICORN, "application:asgi")),
    "uvicorn-2-workers": ("asgi", (*UVICORN, "--workers", "2", "application:asgi")),
    "uvicorn-wsgi": ("wsgi", (*UVICORN, "--interface", "wsgi", "application:wsgi")),
    "hypercorn-asgi": ("asgi", (*HYPERCORN, "application:asgi")),
    "hypercorn-wsgi": ("wsgi", (*HYPERCORN, "application:wsgi")),
    "granian-asgi": ("asgi", (*GRANIAN, "--interface", "asgi", "application:asgi")),
    "granian-asginl": ("asgi", (*GRANIAN, "--interface", "asginl", "application:asgi")),
    "granian-wsgi": ("wsgi", (*GRANIAN, "--interface", "wsgi", "application:wsgi")),
    "waitress": ("wsgi", ("waitress", "--host", "127.0.0.1", "application:wsgi")),
}
UWSGI = {
    "forked": ("--enable-threads",),
    "lazy": ("--enable-threads", "--lazy-apps"),
    "no-threads": (),
    "threads": ("--threads", "4"),
    "threads-enabled": ("--threads", "4", "--enable-threads"),
    "threads-lazy": ("--threads", "4", "--lazy-apps"),
}
ENDINGS = ("forked", "lazy", "no-threads", "threads")
Start = Callable[..., AbstractContextManager[Fleet]]


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    with Stub() as stub:
        yield Lives(stub, tmp_path / "spool")


@pytest.fixture
def start(lives: Lives, tmp_path: Path) -> Start:
    """Start gunicorn with an application, by hand or through the launcher."""
    if importlib.util.find_spec("gunicorn") is None:
        pytest.skip("gunicorn is not installed")

    def starting(application: str, *options: str) -> AbstractContextManager[Fleet]:
        source, prefix = APPLICATIONS[application]
        if application.startswith("flask"):
            pytest.importorskip("flask")
        modules = ("gunicorn", "gevent") if "gevent" in options else ("gunicorn",)

        def command(port: int) -> list[str]:
            return [
                sys.executable, *prefix, "-m", "gunicorn", "-b", f"127.0.0.1:{port}",
                "--log-level", "warning", "--graceful-timeout", "2", *options, "application:wsgi",
            ]  # fmt: skip

        server = Server("gunicorn", modules, command, workers=2)
        absent = missing(server)
        if absent is not None:
            pytest.skip(f"{absent} is not installed")
        fleet = Fleet(server, tmp_path, lives.env)
        (tmp_path / "application.py").write_text(source)
        return fleet

    return starting


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def served(fleet: Fleet) -> dict[str, int]:
    truths = fleet.truths
    return {
        "exited": truths.count("/ok"),
        "crashed": truths.count("/error") + truths.count("/stream"),
    }


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("application", APPLICATIONS)
def test_launched_or_by_hand_the_numbers_are_what_was_served(
    start: Start, lives: Lives, application: str, worker: str
) -> None:
    with start(application, *WORKERS[worker]) as fleet:
        fleet.load(ok=60, error=8, stream=4)
        fleet.stop()
    before = lives.counts
    lives.adopt()
    assert lives.counts == served(fleet), fleet.output
    assert before == lives.counts, "a graceful stop needs no restart"
    assert lives.ups == [], "neither master nor workers are sessions of their own"
    assert lives.leftovers() == []
    assert len(lives.events) == 12
    assert {event["exception"]["values"][-1]["type"] for event in lives.events} == {"ValueError"}


@pytest.mark.parametrize("how", ["launched", "by-hand"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_servers_count_an_application_without_a_framework_too(
    lives: Lives, tmp_path: Path, name: str, how: str
) -> None:
    interface, (module, *options) = OTHERS[name]
    source, prefix = PLAINS[interface, how]

    def command(port: int) -> list[str]:
        place = ["--bind", f"127.0.0.1:{port}"] if module == "hypercorn" else ["--port", str(port)]
        return [sys.executable, *prefix, "-m", module, *place, *options]

    server = Server(name, (module,), command)
    if missing(server) is not None:
        pytest.skip(f"{module} is not installed")
    fleet = Fleet(server, tmp_path, lives.env)
    (tmp_path / "application.py").write_text(source)
    with fleet:
        fleet.load(ok=60, error=8, stream=4)
        fleet.stop()
    before = lives.counts
    lives.adopt()
    assert lives.counts == served(fleet), fleet.output
    assert before == lives.counts, "a graceful stop needs no restart"
    assert lives.ups == [], "neither parent nor workers are sessions of their own"
    assert lives.leftovers() == []
    assert len(lives.events) == 12
    assert {event["exception"]["values"][-1]["type"] for event in lives.events} == {"ValueError"}


@pytest.mark.parametrize("application", ["flask-launched", "plain-launched"])
@pytest.mark.parametrize("death", ["kill", "segv"])
def test_a_worker_that_dies_is_counted_by_what_killed_it(
    start: Start, lives: Lives, application: str, death: str
) -> None:
    with start(application, "-w", "2") as fleet:
        fleet.load(ok=20, error=3)
        if death == "kill":
            os.kill(fleet.worker(), signal.SIGKILL)
        else:
            fleet.get("/segv")
        fleet.recover()
        fleet.load(ok=20, error=3)
        fleet.stop()
    lives.adopt()
    expected = served(fleet)
    if death == "segv":
        expected["crashed"] += 1
    assert lives.counts == expected, fleet.output
    assert lives.ups == []


@pytest.mark.parametrize("application", ["flask-launched", "plain-launched", "plain-by-hand"])
def test_a_request_that_the_time_out_aborts_has_crashed(
    start: Start, lives: Lives, tmp_path: Path, application: str
) -> None:
    with start(application, "-w", "2", "--timeout", "2") as fleet:
        fleet.load(ok=5)
        assert fleet.get("/slow") is None
        # A master that is told to stop may kill at once what it has aborted.
        aborted = int((tmp_path / "slow.pid").read_text())
        wait_until(lambda: is_gone(aborted), 20, "the worker that was aborted has left")
        fleet.stop()
    lives.adopt()
    expected = served(fleet)
    assert lives.counts == {"exited": expected["exited"], "crashed": 1}, fleet.output
    (event,) = lives.events
    functions = [
        frame["function"] for frame in event["exception"]["values"][-1]["stacktrace"]["frames"]
    ]
    assert "serve" in functions, "it shows where the request hung"


@pytest.fixture
def serve(lives: Lives, tmp_path: Path) -> Start:
    """Start uWSGI with an application, by hand or through the launcher."""
    if importlib.util.find_spec("pyuwsgi") is None:
        pytest.skip("pyuwsgi is not installed")

    def serving(
        application: str, *options: str, place: tuple[str, ...] = ("--module", "application:wsgi")
    ) -> AbstractContextManager[Fleet]:
        source, prefix = APPLICATIONS[application]
        if prefix:
            prefix = (sys.executable, *prefix[: prefix.index("--") + 1])
        elif "--lazy-apps" in options and takes_openssl_away():
            # As the warning at the start says.
            options = (*options, "--shared-import", "ssl")
        command = uwsgi(*options, prefix=prefix, application=place)
        fleet = Fleet(Server("uwsgi", ("pyuwsgi",), command, workers=2), tmp_path, lives.env)
        # However busy the machine is, nothing is left for the next start.
        source = source.replace("init(", "init(shutdown_timeout=30, ")
        (tmp_path / "application.py").write_text(source)
        return fleet

    return serving


@pytest.mark.parametrize(
    ("application", "options"),
    [
        *((application, how) for application in APPLICATIONS for how in ("forked", "lazy")),
        *(("plain-by-hand", how) for how in UWSGI if "threads" in how),
        ("plain-launched", "threads"),
        ("plain-launched", "threads-lazy"),
        ("flask-launched", "threads"),
    ],
)
def test_uwsgi_through_a_reload_of_its_workers(
    serve: Start, lives: Lives, tmp_path: Path, application: str, options: str
) -> None:
    (touched := tmp_path / "reload").touch()
    with serve(application, "--touch-workers-reload", str(touched), *UWSGI[options]) as fleet:
        fleet.load(ok=40, error=5, stream=2)
        settle(fleet, lives, application, 7)
        before = spawned(fleet)
        later = touched.stat().st_mtime + 10
        os.utime(touched, (later, later))
        wait_until(lambda: len(spawned(fleet)) == 4, 30, "both workers are new")
        wait_until(lambda: all(is_gone(pid) for pid in before), 30, "the old ones have left")
        fleet.load(ok=40, error=5, stream=2)
        settle(fleet, lives, application, 14)
        fleet.stop()
    told = lives.counts
    lives.adopt()
    assert lives.counts == served(fleet), fleet.output
    assert told == lives.counts, "workers at rest need no restart"
    assert lives.ups == [], "neither master nor workers are sessions of their own"
    assert lives.leftovers() == []
    ways = Counter(event["exception"]["values"][-1]["mechanism"]["type"] for event in lives.events)
    assert ways == {"flask" if "flask" in application else "wsgi": 14}, (
        "each error is told once, and what uWSGI prints is not told again"
    )


@pytest.mark.parametrize(
    "place",
    [
        ("--wsgi-file", "application.py", "--callable", "wsgi"),
        ("--wsgi-file", "application.py", "--callable", "wsgi", "--lazy-apps"),
        ("--module", "application", "--callable", "wsgi"),
        ("--module", "application:make()"),
        ("--module", "table"),
        ("--mount", "/=application:wsgi"),
        ("--eval", "from application import wsgi as application"),
        ("--ini", "uwsgi.ini"),
    ],
    ids=lambda place: " ".join(place).strip("-"),
)
def test_uwsgi_counts_an_application_wherever_it_finds_it(
    serve: Start, lives: Lives, tmp_path: Path, place: tuple[str, ...]
) -> None:
    (tmp_path / "table.py").write_text("from application import *\napplications = {b'': wsgi}\n")
    (tmp_path / "uwsgi.ini").write_text("[uwsgi]\nfile = %d/application.py\ncallable = wsgi\n")
    with serve("plain-launched", "--enable-threads", place=place) as fleet:
        fleet.load(ok=20, error=3, stream=2)
        settle(fleet, lives, "plain-launched", 5)
        fleet.stop()
    assert lives.counts == served(fleet), fleet.output
    assert lives.ups == []
    assert len(lives.events) == 5


def test_uwsgi_named_tells_an_error_once(serve: Start, lives: Lives) -> None:
    lives.env["CRASHFREE_INTEGRATIONS"] = "uwsgi"
    with serve("plain-by-hand", "--enable-threads") as fleet:
        fleet.load(ok=20, error=3, stream=2)
        fleet.settle()
        fleet.stop()
    assert lives.counts == served(fleet), fleet.output
    assert len(lives.events) == 5


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        *((ending, how) for ending in ("SIGTERM", "SIGHUP") for how in ENDINGS),
        ("SIGINT", "forked"),
        ("max-requests", "forked"),
        ("max-requests", "threads"),
        ("no-teardown", "forked"),
    ],
)
def test_a_worker_of_uwsgi_that_leaves_sends_what_is_waiting(
    serve: Start, lives: Lives, ending: str, options: str
) -> None:
    """The server takes its time, so that most of it is waiting when the worker is to go."""
    more = {
        "max-requests": ("--max-requests", "4", "--min-worker-lifetime", "0"),
        "no-teardown": ("--skip-atexit-teardown",),
    }.get(ending, ())
    lives.stub.answer(delay=0.05)
    with serve("plain-by-hand", *UWSGI[options], *more) as fleet:
        fleet.settle()
        before = spawned(fleet)
        fleet.load(error=9, stream=2)
        if ending == "SIGHUP":
            fleet.settle()
            for worker in before:
                os.kill(worker, signal.SIGHUP)
            wait_until(lambda: len(spawned(fleet)) == 4, 30, "both workers are new")
            assert len(lives.events) == 11, "those who left have told"
        fleet.settle(requests=4 if ending == "max-requests" else None)
        fleet.stop(signal.SIGINT if ending == "SIGINT" else signal.SIGTERM)
    assert lives.counts == served(fleet), fleet.output
    assert len(lives.events) == 11
    lives.adopt()
    assert lives.counts == served(fleet), "a worker that has told leaves nothing"
    assert lives.leftovers() == []


def test_a_request_that_harakiri_ends_is_counted(
    serve: Start, lives: Lives, tmp_path: Path
) -> None:
    with serve("plain-launched", "--enable-threads", "--harakiri", "2") as fleet:
        fleet.load(ok=10, error=2)
        wait_until(lambda: len(lives.events) == 2, 30, "what can be sent is sent before that")
        assert fleet.get("/slow") is None
        killed = int((tmp_path / "slow.pid").read_text())
        wait_until(lambda: is_gone(killed), 30, "the worker has been killed")
        fleet.recover()
        fleet.settle()
        fleet.stop()
    lives.adopt()
    assert lives.counts == {**served(fleet), "abnormal": 1}, fleet.output
    assert len(lives.events) == 2
    assert lives.ups == []


def settle(fleet: Fleet, lives: Lives, application: str, events: int) -> None:
    """Let the workers come to rest.

    A launched one has two seconds to leave, too little for all its events on a busy machine.
    """
    if application.endswith("launched"):
        try:
            wait_until(lambda: len(lives.events) == events, 30, "the events are there")
        except AssertionError as error:
            found = f"{len(lives.events)} events, counts {lives.counts}, served {served(fleet)}"
            raise AssertionError(f"{found}: {fleet.output}") from error
    fleet.settle()


def takes_openssl_away() -> bool:
    """Whether this uWSGI ends workers with lazy applications in the wrong order."""
    return tuple(map(int, importlib.metadata.version("pyuwsgi").split(".")[:3])) < (2, 0, 30)


def spawned(fleet: Fleet) -> set[int]:
    """The workers that uWSGI has spoken of."""
    found = re.findall(r"pawned uWSGI worker \d+ \((?:new )?pid: (\d+)", fleet.output)
    return {int(pid) for pid in found}


def test_a_master_forks_without_a_thread_of_ours(start: Start, tmp_path: Path) -> None:
    configuration = tmp_path / "configuration.py"
    configuration.write_text(
        """
import threading
def pre_fork(server, worker):
    with open("threads", "a") as stream:
        stream.write("".join(thread.name + "\\n" for thread in threading.enumerate()))
"""
    )
    with start("flask-launched", "-w", "2", "-c", str(configuration)) as fleet:
        fleet.load(ok=5)
        # The first worker may answer before the second one is forked.
        threads = tmp_path / "threads"
        wait_until(lambda: threads.read_text().splitlines().count("MainThread") >= 2)
    names = threads.read_text().splitlines()
    assert not [name for name in names if "crashfree" in name]
