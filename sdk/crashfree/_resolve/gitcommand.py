"""One bounded question to git itself, for repositories whose files we cannot read.

Loads `subprocess` only here and only then. git is looked up in the absolute directories of PATH,
never in the working directory, and cannot ask, fetch, lock or write.

Invariants: never raises; over after `TIMEOUT` seconds.

Threads: any. Source: releases.md section 2.3.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from crashfree._resolve.git import Found, is_commit

TIMEOUT = 1.5
"""Seconds; the whole look-up of a release stays below two."""

_QUESTION = ("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
}


def ask_git(directory: str, environ: Mapping[str, str]) -> Found:
    """Return the commit of the checkout in `directory`, as git says it."""
    program = _program(environ)
    if program is None:
        return Found(None, "git is not on the PATH")
    # Costs 5 ms and more, and hardly any process comes here.
    import subprocess

    try:
        answer = subprocess.run(
            (program, *_QUESTION),
            cwd=directory,
            env={**environ, **_QUIET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
            # Without it a console window flashes up beside a Windows program.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except subprocess.TimeoutExpired:
        return Found(None, f"git did not answer within {TIMEOUT} s")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Found(None, f"git cannot be run: {error}")
    commit = answer.stdout.decode("ascii", "replace").strip()
    if answer.returncode != 0 or not is_commit(commit):
        return Found(None, f"git finds no commit (exit code {answer.returncode})")
    return Found(commit, "git rev-parse HEAD")


def _program(environ: Mapping[str, str]) -> str | None:
    name = "git.exe" if sys.platform == "win32" else "git"
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory, name)
        if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None
