"""What finding the release costs, beside asking git for it: a table.

Run: python tests/bench/release_resolution.py

Prints microseconds (median of rounds) and the ratio to `git rev-parse HEAD` as a subprocess, which
is what other clients do. Ceilings: 1 ms for a look-up by git's files, 20 µs to parse a name.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from crashfree._resolve.program import Program
from crashfree._resolve.release import resolve_release
from crashfree.release import Release


def median(call: Callable[[], object], rounds: int) -> float:
    """Return microseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def main() -> int:
    if shutil.which("git") is None:
        print("git is not installed: nothing to measure against")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        deep = Path(temporary) / "a" / "b" / "c"
        deep.mkdir(parents=True)
        for command in (
            ["init", "-q"],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
        ):
            subprocess.run(["git", *command], cwd=temporary, check=True)
        directory = str(deep)

        def look_up(**environ: str) -> object:
            return resolve_release(
                None, environ=environ, directory=directory, program=Program(), memory={}
            )

        def ask_git() -> object:
            return subprocess.run(
                ["git", "rev-parse", "HEAD"], cwd=directory, check=True, capture_output=True
            )

        peer = median(ask_git, 40)
        rows = {
            "git rev-parse HEAD (subprocess)": peer,
            "look-up, git's files": median(look_up, 1000),
            "look-up, a variable": median(lambda: look_up(SENTRY_RELEASE="app@1.0"), 5000),
            "look-up, remembered": median(
                lambda: resolve_release(None, environ={}, directory=directory), 5000
            ),
            "Release.parse, semver": median(lambda: Release.parse("app@1.2.3-rc.1+57"), 20000),
            "Release.parse, hash": median(lambda: Release.parse("a86d127c" * 5), 20000),
        }
    for name, cost in rows.items():
        print(f"{name:<34}{cost:>10.1f} µs{cost / peer:>10.4f}")
    good = rows["look-up, git's files"] < 1000 and rows["Release.parse, semver"] < 20
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
