"""Release health in one minute, on this machine alone.

Starts the local server, runs a small program as ten real processes under two releases (one found
from git, one given by argument), and prints what the server computed next to what really happened:
some runs end well, some report a handled error, one raises, one is killed. Exit status 0 when both
agree, 1 when they do not.

    python examples/quickstart.py            # run and exit
    python examples/quickstart.py --keep     # leave the server running, to look around
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

PROGRAM = """
import os, sys
import crashfree

user, what = sys.argv[1:3]
# Without a release= argument the release is found: here it is the commit of the git repository
# that the program stands in.
crashfree.init(release=os.environ.get("SHOP_RELEASE"), environment="production")
crashfree.set_user({"id": user})

def pay(amount):
    return 100 / amount

if what == "handled":
    try:
        pay(0)
    except ZeroDivisionError as error:
        crashfree.capture_exception(error)
elif what == "raises":
    pay(0)
elif what == "killed":
    crashfree.flush()
    print("ready", flush=True)
    sys.stdin.read()
print("done", flush=True)
"""

COMMIT = "8371445ab8a9facd271df17038ff295a48accae7"


class Run(NamedTuple):
    """One life of the program."""

    release: str | None  # None: found from git
    user: str
    what: str


RUNS = [
    Run(None, "ada", "well"),
    Run(None, "ada", "well"),
    Run(None, "bob", "well"),
    Run(None, "bob", "handled"),
    Run("shop@2.0.0", "ada", "well"),
    Run("shop@2.0.0", "bob", "handled"),
    Run("shop@2.0.0", "cid", "raises"),
    Run("shop@2.0.0", "dan", "killed"),
    Run("shop@2.0.0", "eve", "well"),
    Run("shop@2.0.0", "eve", "well"),
]


class Health(NamedTuple):
    """What there is to know of a release."""

    sessions: int
    errored: int
    crashed: int
    abnormal: int
    users: int
    crash_free_sessions: float
    crash_free_users: float
    adoption: float


def truth() -> dict[str, Health]:
    """Count what really happened."""
    health: dict[str, Health] = {}
    for release in {run.release for run in RUNS}:
        runs = [run for run in RUNS if run.release == release]
        users = {run.user for run in runs}
        crashed = [run for run in runs if run.what == "raises"]
        health[release or COMMIT] = Health(
            sessions=len(runs),
            errored=sum(run.what == "handled" for run in runs),
            crashed=len(crashed),
            abnormal=sum(run.what == "killed" for run in runs),
            users=len(users),
            crash_free_sessions=1 - len(crashed) / len(runs),
            crash_free_users=1 - len({run.user for run in crashed}) / len(users),
            adoption=100 * len(runs) / len(RUNS),
        )
    return health


def computed(server: dict[str, Any], releases: list[str]) -> dict[str, Health]:
    """Ask the server."""
    base = f"{server['url']}/api/0/organizations/{server['organization']}"
    by_status = ask(
        server,
        f"{base}/sessions/?field=sum(session)&groupBy=release&groupBy=session.status"
        "&statsPeriod=24h&interval=1h",
    )
    totals = ask(
        server,
        f"{base}/sessions/?field=sum(session)&field=count_unique(user)"
        "&field=crash_free_rate(session)&field=crash_free_rate(user)&groupBy=release"
        "&statsPeriod=24h&interval=1h",
    )
    listed = {entry["version"]: entry for entry in ask(server, f"{base}/releases/?health=1")}
    counts: dict[tuple[str, str], int] = {
        (group["by"]["release"], group["by"]["session.status"]): group["totals"]["sum(session)"]
        for group in by_status["groups"]
    }
    health: dict[str, Health] = {}
    for group in totals["groups"]:
        release = group["by"]["release"]
        if release not in releases:
            continue
        values = group["totals"]
        health[release] = Health(
            sessions=values["sum(session)"],
            errored=counts.get((release, "errored"), 0),
            crashed=counts.get((release, "crashed"), 0),
            abnormal=counts.get((release, "abnormal"), 0),
            users=values["count_unique(user)"],
            crash_free_sessions=values["crash_free_rate(session)"],
            crash_free_users=values["crash_free_rate(user)"],
            adoption=listed[release]["projects"][0]["healthData"]["sessionsAdoption"],
        )
    return health


def ask(server: dict[str, Any], url: str) -> Any:
    """GET one JSON answer of the server's API."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {server['token']}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def make_project(directory: Path) -> Path:
    """Write the program into a folder that is a git repository with one commit checked out."""
    git = directory / ".git"
    for folder in ("objects", "refs/heads"):
        (git / folder).mkdir(parents=True)
    # The few files by which a repository names its commit; crashfree reads them, without git.
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs/heads/main").write_text(COMMIT + "\n")
    program = directory / "shop.py"
    program.write_text(PROGRAM)
    return program


def run(program: Path, one: Run, dsn: str, spool: Path) -> None:
    """Live one life of the program, to its end."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CRASHFREE_", "SENTRY_"))
    }
    env |= {"CRASHFREE_DSN": dsn, "CRASHFREE_SPOOL_DIR": str(spool)}
    if one.release is not None:
        env["SHOP_RELEASE"] = one.release
    process = subprocess.Popen(
        [sys.executable, program.name, one.user, one.what],
        cwd=program.parent,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if one.what == "killed":
        process.stdout.readline()
        process.kill()
    _, error = process.communicate(timeout=60)
    if (process.returncode == 0) != (one.what in ("well", "handled")):
        raise SystemExit(f"a run that {one.what} ended with {process.returncode}:\n{error}")


def start_server(directory: Path) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start `crashfree serve` and wait for the file that says it answers."""
    ready = directory / "ready.json"
    command = [sys.executable, "-m", "crashfree", "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--db", str(directory / "health.sqlite3"), "--ready-file", str(ready)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(
                "the server did not start; install it with: pip install 'crashfree[server]'"
            )
        time.sleep(0.02)
    return process, json.loads(ready.read_text(encoding="utf-8"))


COLUMNS = ("sessions", "errored", "crashed", "abnormal", "users")


def report(expected: dict[str, Health], found: dict[str, Health]) -> bool:
    """Print both, side by side; return whether they agree."""
    head = f"{'release':<22}{'':<10}" + "".join(f"{name:>10}" for name in COLUMNS)
    print(head + f"{'crash-free':>12}{'cf. users':>12}{'adoption':>10}")
    agree = True
    for release, true in sorted(expected.items()):
        name = release if len(release) <= 20 else release[:12]
        for label, health in (("server", found.get(release)), ("truth", true)):
            if health is None:
                print(f"{name:<22}{label:<10} nothing")
                continue
            row = "".join(f"{value:>10}" for value in health[: len(COLUMNS)])
            print(
                f"{name:<22}{label:<10}{row}{health.crash_free_sessions:>12.2%}"
                f"{health.crash_free_users:>12.2%}{health.adoption:>9.1f}%"
            )
            name = ""
        answer = found.get(release)
        agree &= answer is not None and all(
            abs(ours - theirs) < 1e-9 for ours, theirs in zip(true, answer, strict=True)
        )
    return agree


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the server running")
    keep: bool = parser.parse_args().keep
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        server, address = start_server(directory)
        try:
            shop = directory / "shop"
            shop.mkdir()
            program = make_project(shop)
            for one in RUNS:
                run(program, one, address["dsn"], directory / "spool")
            expected = truth()
            agree = report(expected, computed(address, list(expected)))
            print(f"\nserver: {address['url']}   dsn: {address['dsn']}")
            print("server and truth agree" if agree else "server and truth DIFFER")
            if keep:
                print("the server keeps running; end it with Ctrl-C")
                try:
                    server.wait()
                except KeyboardInterrupt:
                    print()
            return 0 if agree else 1
        finally:
            server.terminate()
            server.wait(timeout=10)


if __name__ == "__main__":
    sys.exit(main())
