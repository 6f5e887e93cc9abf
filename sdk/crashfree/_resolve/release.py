"""Where the release comes from: argument, variables, baked file, git, host, distribution.

The first source that gives a valid name wins; every source that was asked is remembered with its
answer, for `client.options.release_source`, `crashfree doctor` and `propose-version --explain`.

Invariants: only an explicit bad argument raises; what costs something (files, git, installed
distributions) is looked up at most once per process and place, and not even loaded when an
argument or a variable answers; at most one subprocess, and only for a repository whose files
cannot be read.

Threads: any. Source: releases.md section 2.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground.text import trim
from crashfree._ground.typed import Any, cast
from crashfree._resolve.answers import Answer, Attempt, Resolved, first_valid, from_variable
from crashfree.errors import InvalidRelease
from crashfree.release import Release

VARIABLES = ("CRASHFREE_RELEASE", "SENTRY_RELEASE")
DISTRIBUTION_PREFIX = "auto:"


def resolve_release(
    argument: str | None,
    *,
    environ: Mapping[str, str],
    directory: str | None = None,
    program: object | None = None,
    memory: dict[tuple[str, ...], Answer] | None = None,
) -> Resolved:
    """Find the release of this process.

    `argument` is what the program says: a name, `auto:DISTRIBUTION` for the version of an installed
    distribution, `""` for no release at all, None to look for one. `directory` is the project's
    (default: the working directory). `program` (a `_resolve.program.Program`) and `memory` stand in
    for those of the process.

    Raises: InvalidRelease for a bad argument, and for nothing else.
    """
    if argument == "":
        off = Attempt("argument", "absent", "release='' switches the look-up off")
        return Resolved(None, "argument", (off,))
    if argument is None:
        return _looked_up(environ, directory, program, memory)
    wanted = distribution_name(argument)
    if wanted is not None:
        lookup = _lookup(environ, directory, program, memory)
        return first_valid((lambda: lookup.named_distribution(wanted), *lookup.at_run_time()))
    release = Release.parse(argument)
    return Resolved(release, "argument", (Attempt("argument", "found", "given by the program"),))


def _looked_up(
    environ: Mapping[str, str],
    directory: str | None,
    program: object | None,
    memory: dict[tuple[str, ...], Answer] | None,
) -> Resolved:
    named = first_valid((lambda: (from_variable(environ, name) for name in VARIABLES),))
    if named.release is not None:
        return named
    lookup = _lookup(environ, directory, program, memory)
    rest = first_valid(lookup.behind_variables())
    return rest._replace(tried=(*named.tried, *rest.tried))


def _lookup(
    environ: Mapping[str, str],
    directory: str | None,
    program: object | None,
    memory: dict[tuple[str, ...], Answer] | None,
) -> Any:
    # Seven modules that a program with a name of its own does without: loading them costs more
    # than all that is done here.
    from crashfree._resolve.lookup import Lookup

    return Lookup(environ, directory, program=cast("Any", program), memory=memory)


def distribution_name(argument: object) -> str | None:
    """Return NAME of `auto:NAME`; None for anything else. Raises InvalidRelease without a NAME."""
    if not isinstance(argument, str) or not trim(argument).startswith(DISTRIBUTION_PREFIX):
        return None
    name = trim(trim(argument)[len(DISTRIBUTION_PREFIX) :])
    if not name:
        raise InvalidRelease(
            "release='auto:' needs the name of an installed distribution, as in 'auto:myapp'",
            code="empty",
        )
    return name
