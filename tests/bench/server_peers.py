"""Single session updates a second: the local server beside Bugsink, Spotlight and bare Starlette.

    python tests/bench/server_peers.py [--bugsink BIN_DIRECTORY] [--spotlight PROGRAM]

Bugsink (PyPI: `bugsink`, in an environment of its own, with gunicorn) and Spotlight (npm:
`@spotlightjs/spotlight`) are run as their documents say, one process each; the one that is not
installed is skipped, and the table says so. All are asked in one run, in turns; what counts is the
median. Neither peer counts sessions: the one drops them, the other passes them on to a browser.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

_ROUNDS = 5
_REQUESTS = {"bare Starlette": 3000, "crashfree": 3000, "Spotlight": 1000, "Bugsink": 400}
_START_WITHIN = 30.0

Peer = tuple[str, int, str]
"""Name, port, key."""


class NotHere(Exception):
    """A peer that is not installed, or does not start."""


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def _process(
    command: list[str],
    port: int,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Generator[None, None, None]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd, env=env
    )
    try:
        _await(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START_WITHIN
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise NotHere("it does not answer on 127.0.0.1")


@contextmanager
def _bugsink(directory: str | None, work: Path) -> Generator[Peer, None, None]:
    manage = shutil.which("bugsink-manage", path=directory)
    if manage is None:
        raise NotHere("bugsink-manage is not on the path; see --bugsink")
    programs = os.path.dirname(manage)
    environ = {**os.environ, "PATH": programs + os.pathsep + os.environ.get("PATH", "")}
    environ.pop("PYTHONPATH", None)
    port = _free_port()
    work.mkdir()

    def run(*command: str, text: str | None = None) -> str:
        try:
            return subprocess.run(
                [os.path.join(programs, command[0]), *command[1:]],
                cwd=work,
                env=environ,
                input=text,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotHere(f"{command[0]} failed: {error}") from None

    run("bugsink-create-conf", "--template=local", f"--port={port}")
    run("bugsink-manage", "migrate")
    run("bugsink-manage", "migrate", "--database=snappea")
    told = run(
        "bugsink-manage",
        "shell",
        text="from projects.models import Project\n"
        "from teams.models import Team\n"
        "made = Project.objects.create(name='p', team=Team.objects.create(name='t'))\n"
        "print('KEY', made.sentry_key.hex)\n",
    )
    key = told.partition("KEY ")[2].split()[0]
    command = [os.path.join(programs, "gunicorn"), "-w", "1", "-b", f"127.0.0.1:{port}"]
    # Threads, and with them connections that stay open: the faster way of the two.
    command += ["-k", "gthread", "--threads", "4", "bugsink.wsgi"]
    with _process(command, port, cwd=work, env=environ):
        yield "Bugsink", port, key


@contextmanager
def _spotlight(program: str | None) -> Generator[Peer, None, None]:
    found = shutil.which(program or "spotlight")
    if found is None:
        raise NotHere("spotlight is not on the path; see --spotlight")
    port = _free_port()
    with _process([found, "server", "-p", str(port)], port):
        yield "Spotlight", port, "a" * 32


def main() -> int:
    from tests.bench import server

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bugsink", metavar="BIN_DIRECTORY")
    parser.add_argument("--spotlight", metavar="PROGRAM")
    args = parser.parse_args()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        work = Path(temporary)
        bare = stack.enter_context(server.bare())
        ours = stack.enter_context(server.ours(work / "x.db", work / "ready.json"))
        peers: list[Peer] = [("bare Starlette", *bare[:2]), ("crashfree", *ours[:2])]
        for name, peer in (
            ("Spotlight", _spotlight(args.spotlight)),
            ("Bugsink", _bugsink(args.bugsink, work / "bugsink")),
        ):
            try:
                started = stack.enter_context(peer)
                server.load(
                    started[1], server.requests_of(server.session_bodies(50), started[2], None)
                )
                peers.append(started)
            except (NotHere, SystemExit) as reason:
                print(f"{name} is skipped: {reason}", flush=True)
        for _ in range(_ROUNDS):
            for name, port, key in peers:
                bodies = server.session_bodies(_REQUESTS[name])
                requests = server.requests_of(bodies, key, None)
                rates.setdefault(name, []).append(server.load(port, requests))
    print(f"{'':16}{'updates/s':>11}   median of {_ROUNDS} rounds in turns")
    for name, found in rates.items():
        print(f"{name:16}{statistics.median(found):11.0f}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    sys.exit(main())
