"""Commits of a repository that lies on this machine, for refs that name only a range.

Git is run, never a shell, without standard input and with a time limit. What it cannot tell is
None: the release then waits for its commits.

Threads: any; nothing here belongs to a transaction. Source: releases.md sections 4.6 and 5.4.
"""

from __future__ import annotations

import subprocess
from typing import Any, Final

from crashfree.server.commits import Repository
from crashfree.server.fields import parse_datetime

_WITHOUT_BASE: Final = 20
_MOST: Final = 1000
_MOST_FILES: Final = 20_000
_TIME_LIMIT: Final = 20.0
_MAX_PATH: Final = 510
_TYPES: Final = {"A": "A", "M": "M", "D": "D", "T": "M"}


def read_range(repository: Repository, base: str | None, head: str) -> list[dict[str, Any]] | None:
    """Return the commits behind `base` up to `head`, newest first, as a checked body has them.

    None when the repository has no path, or git cannot find the range there.
    """
    if repository.local_path is None or _odd(head) or (base is not None and _odd(base)):
        return None
    span = head if base is None else f"{base}..{head}"
    most = _WITHOUT_BASE if base is None else _MOST
    described = _git(
        repository.local_path,
        ["-s", "--format=%H%n%an%n%ae%n%cI%n%B", f"--max-count={most}"],
        span,
    )
    if described is None and base is not None:
        # The base is gone (squashed, shallow): what there is, is better than nothing.
        return read_range(repository, None, head)
    files = _git(
        repository.local_path,
        ["--raw", "--no-abbrev", "--no-renames", "--format=%H", f"--max-count={most}"],
        span,
    )
    if described is None or files is None:
        return None
    changed = _changed(files)
    return [
        commit | {"repository": repository.name, "patch_set": changed.get(commit["id"], [])}
        for record in described.split("\0")
        if (commit := _commit(record)) is not None
    ]


def _odd(revision: str) -> bool:
    return not revision or revision.startswith("-") or any(char < "!" for char in revision)


def _git(path: str, options: list[str], span: str) -> str | None:
    command = ["git", "-C", path, "log", "-z", "--no-color", "--no-show-signature", *options, span]
    try:
        done = subprocess.run(
            [*command, "--"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIME_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _commit(record: str) -> dict[str, Any] | None:
    parts = record.split("\n", 4)
    if len(parts) < 5:
        return None
    key, name, email, date, message = parts
    return {
        "id": key,
        "author_name": name[:128],
        "author_email": email[:200],
        "timestamp": parse_datetime(date),
        "message": message.rstrip("\n"),
    }


def _changed(output: str) -> dict[str, list[dict[str, str]]]:
    """Return the files of each commit; a merge has none, they belong to what was merged."""
    found: dict[str, list[dict[str, str]]] = {}
    current: list[dict[str, str]] = []
    tokens = iter(output.split("\0"))
    count = 0
    for token in tokens:
        token = token.strip("\n")
        if token.startswith(":"):
            kind, path = _TYPES.get(token.rpartition(" ")[2][:1]), next(tokens, "")
            count += 1
            if kind is not None and 0 < len(path) <= _MAX_PATH and count <= _MOST_FILES:
                current.append({"path": path, "type": kind})
        elif token:
            current = found.setdefault(token, [])
    return found
