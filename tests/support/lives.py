"""Processes that live and die, one spool, one server: what was told about them in the end."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.program import run, start
from tests.support.stub import Stub
from tests.support.waiting import wait_until

NEXT_START = """
import crashfree
crashfree.init(release="app@2.0", session_mode="request")
crashfree.get_client()._adopt()
crashfree.flush(10)
crashfree.close(10)
"""


class Lives:
    """Programs that share a spool directory and a server."""

    def __init__(self, stub: Stub, spool: Path) -> None:
        self.stub = stub
        self.spool = spool
        self.env = {"SENTRY_DSN": stub.dsn, "CRASHFREE_SPOOL_DIR": str(spool)}

    def run(self, source: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, however that comes."""
        return run(source, *arguments, env={**self.env, **env})

    def start(self, source: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a program and wait until it says `ready`."""
        process = start(source, *arguments, env=self.env)
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.strip() != "ready":
            process.kill()
            raise AssertionError(f"{line!r}: {process.communicate()[1]}")
        return process

    def end(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        process.send_signal(number)
        return self.wait(process)

    def wait(self, process: subprocess.Popen[str]) -> int:
        """Wait for the end; returns the exit code."""
        try:
            self.output, self.errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode

    def adopt(self) -> None:
        """Start once more, so that what the dead have left is told."""
        done = self.run(NEXT_START)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", done.stderr

    @property
    def ups(self) -> list[Any]:
        """Session updates of release app@1.0, in order of arrival."""
        return [up for up in self.stub.items("session") if up["attrs"]["release"] == "app@1.0"]

    @property
    def events(self) -> list[Any]:
        return self.stub.items("event")

    @property
    def counts(self) -> Counter[str]:
        """All aggregates that arrived."""
        found: Counter[str] = Counter()
        for payload in self.stub.items("sessions"):
            for bucket in payload["aggregates"]:
                for column in ("exited", "errored", "crashed", "abnormal", "unhandled"):
                    found[column] += bucket.get(column, 0)
        return +found

    def leftovers(self) -> list[str]:
        """Files of runs that are still in the spool."""
        runs = [path for path in self.spool.rglob("runs/*/*") if path.is_file()]
        return sorted(path.name for path in runs)

    def wait_for(self, **counts: int) -> None:
        """Wait until the aggregates are these."""
        wait_until(lambda: self.counts == counts, 20, f"{self.counts} is not {counts}")
