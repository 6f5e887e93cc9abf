"""`crashfree serve` as a process: ready, killed, started again."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.serving import envelope, request, session
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@contextmanager
def _serving(
    directory: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Run the server as a process; give it and what its ready file says."""
    ready = directory / f"ready-{uuid.uuid4().hex}.json"
    command = [sys.executable, "-m", "crashfree", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--db", str(directory / "x.db"), "--ready-file", str(ready), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=None if env is None else {**os.environ, **env},
    )
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, 30, "ready file")
        assert ready.exists(), process.communicate()
        assert ready.stat().st_mode & 0o077 == 0, "it holds a token"
        yield process, json.loads(ready.read_text())
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _served_by(ready: Path, process: subprocess.Popen[bytes]) -> bool:
    """Return whether a ready file speaks of a process."""
    try:
        return bool(json.loads(ready.read_text())["pid"] == process.pid)
    except FileNotFoundError:
        return False


def _send(ready: Any, body: bytes) -> int:
    dsn = urlsplit(ready["dsn"])
    headers = [("X-Sentry-Auth", f"Sentry sentry_key={dsn.username}, sentry_version=7")]
    path = f"/api{dsn.path}/envelope/"
    return request(ready["url"], "POST", path, headers=headers, body=body).status


def _total(ready: Any) -> int:
    answer = request(
        ready["url"],
        "GET",
        f"/api/0/organizations/{ready['organization']}/sessions/"
        "?field=sum(session)&statsPeriod=1h&interval=1h",
        headers=[("Authorization", f"Bearer {ready['token']}")],
    )
    assert answer.status == 200, answer.body
    return int(answer.json["groups"][0]["totals"]["sum(session)"])


def test_it_answers_when_the_ready_file_is_there_and_stops_on_a_signal(tmp_path: Path) -> None:
    with _serving(tmp_path, "--project", "app", "--project", "web") as (process, ready):
        assert {each["slug"] for each in ready["projects"]} == {"app", "web"}
        assert ready["project"] == "app"
        assert ready["dsn"] in [each["dsn"] for each in ready["projects"]]
        assert _send(ready, envelope(("session", session(time.time(), init=True)))) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_ready_file_is_there_while_the_server_is(tmp_path: Path) -> None:
    """Else whoever waits for the next server is sent to the last one."""
    ready = tmp_path / "ready.json"
    old = '{"url":"http://127.0.0.1:1","dsn":"http://k@127.0.0.1:1/1","pid":1}'
    command = [sys.executable, "-m", "crashfree", "serve", "--port", "0"]
    for number in (signal.SIGTERM, signal.SIGINT):
        ready.write_text(old)
        process = subprocess.Popen([*command, "--ready-file", str(ready)], stderr=subprocess.PIPE)
        try:
            wait_until(partial(_served_by, ready, process), 30, "ready file")
            process.send_signal(number)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.communicate()
        assert not ready.exists()


def test_a_ready_file_that_is_something_else_is_not_removed_before_the_server_runs(
    tmp_path: Path,
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    command = [sys.executable, "-m", "crashfree", "serve", "--port", "99999"]
    command += ["--ready-file", str(notes)]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 2
    assert notes.read_text() == "mine"


def test_it_stops_soon_although_clients_keep_their_connections(tmp_path: Path) -> None:
    """Some have been answered, some have never asked, some have begun to ask."""
    with _serving(tmp_path) as (process, ready):
        parts = urlsplit(ready["dsn"])
        head = (
            f"POST /api/1/envelope/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
            f"X-Sentry-Auth: Sentry sentry_key={parts.username}\r\n"
        ).encode()
        with ExitStack() as stack:
            for number in range(12):
                sock = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)
                stack.enter_context(closing(sock))
                if number % 3 == 0:
                    extra = b"X-Odd: \x80\r\nConnection: Keep-Alive, x\r\n" if number % 2 else b""
                    sock.sendall(head + extra + b"\r\n{}\n")
                    assert sock.recv(65536).startswith(b"HTTP/1.1 200")
                elif number % 3 == 1:
                    sock.sendall(head)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert time.monotonic() - begun < 2.0


def test_a_program_that_says_local_finds_it(tmp_path: Path) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    program = "import crashfree; crashfree.init(dsn='local', release='app@1'); crashfree.close()"
    variables = {**os.environ, **state, "CRASHFREE_SPOOL_DIR": str(tmp_path / "spool")}
    variables.pop("CRASHFREE_DSN", None)
    run = partial(
        subprocess.run,
        [sys.executable, "-c", program],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    with _serving(tmp_path, env=state) as (process, ready):
        done = run()
        assert done.returncode == 0, done.stderr
        assert _total(ready) == 1
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    done = run()
    assert done.returncode == 1
    assert "no local server is running; start one with `crashfree serve`" in done.stderr


def test_a_second_life_remembers_token_key_and_data(tmp_path: Path) -> None:
    with _serving(tmp_path) as (process, first):
        assert _send(first, envelope(("session", session(time.time(), init=True)))) == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    with _serving(tmp_path) as (_, second):
        assert second["token"] == first["token"]
        assert urlsplit(second["dsn"]).username == urlsplit(first["dsn"]).username
        assert _total(second) == 1


@pytest.mark.slow
def test_what_was_answered_200_survives_kill_9(tmp_path: Path) -> None:
    """Eight clients write as fast as they can; the server is killed amid it, three times over."""
    taken: set[str] = set()
    for _ in range(3):
        with _serving(tmp_path) as (process, ready):
            stop = threading.Event()
            clients = [
                threading.Thread(target=_write_until, args=(ready, stop, taken)) for _ in range(8)
            ]
            before = len(taken)
            for client in clients:
                client.start()
            wait_until(partial(_more_than, taken, before + 200), 60, "some sessions")
            process.kill()
            process.wait()
            stop.set()
            for client in clients:
                client.join()
    with _serving(tmp_path) as (_, ready):
        # A request that was under way may have been written without being answered.
        assert len(taken) <= _total(ready) <= len(taken) + 3 * 8
    from crashfree.server.running import open_store

    store = open_store(str(tmp_path / "x.db"))
    with store.read() as db:
        stored = {row[0].hex() for row in db.execute("SELECT sid FROM sessions")}
        (counted,) = db.execute(
            "SELECT sum(healthy + errored + crashed + abnormal + unhandled) FROM counts_hour"
        ).fetchone()
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    store.close()
    assert taken <= stored
    assert counted == len(stored)


def _more_than(taken: set[str], count: int) -> bool:
    return len(taken) > count


def _write_until(ready: Any, stop: threading.Event, taken: set[str]) -> None:
    dsn = urlsplit(ready["dsn"])
    headers = {"X-Sentry-Auth": f"Sentry sentry_key={dsn.username}, sentry_version=7"}
    with closing(http.client.HTTPConnection("127.0.0.1", dsn.port, timeout=10)) as connection:
        while not stop.is_set():
            sid = uuid.uuid4()
            body = envelope(("session", session(time.time() - 1, sid=str(sid), init=True)))
            try:
                connection.request("POST", f"/api{dsn.path}/envelope/", body, headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                return
            assert response.status == 200
            taken.add(sid.hex)


@pytest.mark.parametrize(
    "options",
    [
        ["--host", "0.0.0.0"],
        ["--host", "0.0.0.0", "--allow-remote"],
        ["--project", "Not A Slug"],
        ["--port", "70000"],
        ["--forward", "nonsense"],
    ],
    ids=lambda options: " ".join(options),
)
def test_a_server_that_should_not_run_says_why(options: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "crashfree", "serve", "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert "error" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with _serving(tmp_path) as (_, ready):
        port = str(urlsplit(ready["url"]).port)
        process = subprocess.run(
            [sys.executable, "-m", "crashfree", "serve", "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert process.returncode == 2
    assert f"port {port}" in process.stderr
