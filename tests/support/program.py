"""Small programs, run as real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this test run, without what is set for crashfree on this machine."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CRASHFREE_", "SENTRY_"))
    }
    return {**env, **(extra or {})}


def run(
    source: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run `source` to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(
    source: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[str]:
    """Start `source`; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        env=environment(env),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
