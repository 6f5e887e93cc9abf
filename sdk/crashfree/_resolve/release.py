"""Where the release comes from: argument, variables, baked file, git, platform, distribution.

The first source that gives a valid name wins; every source that was asked is remembered with its
answer, for `client.options.release_source`, `crashfree doctor` and `propose-version --explain`.

Invariants: only an explicit bad argument raises; what costs something (files, git, installed
distributions) is looked up at most once per process and directory, and not at all when an
argument or a variable answers; at most one subprocess, and only for a repository whose files
cannot be read.

Threads: any. Source: releases.md section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from crashfree.release import Release


class Attempt(NamedTuple):
    """One source that was asked."""

    source: str
    """`argument`, `env:NAME`, `file:PATH`, `git`, `ci:NAME`, `distribution:NAME`, ..."""
    outcome: Literal["found", "absent", "refused"]
    detail: str


class Resolved(NamedTuple):
    """The release, the source that named it (`none` without one), and all that was asked."""

    release: Release | None
    source: str
    tried: tuple[Attempt, ...]


def resolve_release(
    argument: str | None,
    *,
    environ: Mapping[str, str],
    directory: str | None = None,
) -> Resolved:
    """Find the release of this process.

    `argument` is what the program says: a name, `auto:DISTRIBUTION` for the version of an installed
    distribution, `""` for no release at all, None to look for one. `directory` is the project's
    (default: the working directory).

    Raises: InvalidRelease for a bad argument, and for nothing else.
    """
    raise NotImplementedError
