"""The release that the command line proposes: what `init` would find here, wherever both look.

Outside a build this is the same look-up in the same order; in a build (a build service's variable
is set) the services' variables come before git, because checkouts there are shallow, detached, or a
merge that nobody else has. Build files come last, where `init` would find nothing.

Invariant: in a folder without a build service's variables, whatever `init` finds is proposed.

Threads: any. Source: releases.md sections 2.2 and 2.3.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from crashfree._ground import env, json
from crashfree._ground.typed import Any, NamedTuple
from crashfree._resolve import buildfiles, ci, distribution
from crashfree._resolve.answers import Answer, Resolved, Source, first_valid, set_variables
from crashfree._resolve.git import is_commit
from crashfree._resolve.lookup import Lookup
from crashfree._resolve.program import Program

_MAX_EVENT = 32 * 1024 * 1024
# Source: releases.md section 2.2: these first, in this order, then all others.
_FIRST = (*ci.HOST_VARIABLES, "CF_PAGES_COMMIT_SHA")


class Proposal(NamedTuple):
    """The release, and why the sources were asked in this order."""

    resolved: Resolved
    order: str


def foresee(environ: Mapping[str, str], *, directory: str | None = None) -> Resolved:
    """Return what `init` would find for a program of the project in `directory`.

    Only what belongs to the program itself cannot be seen from outside: a baked file beside its
    main file, and the distribution that owns it, for which the project's own stands in.
    """
    lookup = _lookup(environ, directory)
    return first_valid((*_as_init(lookup), lambda: _installed_project(lookup)))


def propose(
    environ: Mapping[str, str],
    *,
    directory: str | None = None,
    installed: str | None = None,
    from_package: bool = False,
    baked: bool = True,
) -> Proposal:
    """Find the release of the project in `directory` (default: the working directory).

    `installed` asks the distribution of that name first, as `release="auto:NAME"` does in `init`;
    `from_package` asks `pyproject.toml` first; without `baked` a baked file is not looked at.
    """
    lookup = _lookup(environ, directory)
    here = lookup.directory
    wanted: list[Source] = []
    if installed is not None:
        wanted.append(lambda: lookup.named_distribution(installed))
    if from_package and here is not None:
        wanted.append(lambda: _build_file(buildfiles.from_pyproject, here, "pyproject"))
    wanted.append(lookup.variables)
    if baked:
        wanted.append(lookup.baked)
    service = ci.build_service(environ)
    if service is None:
        order = "no build service here: the order of init, then build files"
        wanted.extend((lookup.git, lookup.host))
    else:
        order = (
            f"{service} says that this is a build: variables come before git, because a build's "
            "checkout may be a merge commit that exists nowhere else"
        )
        wanted.extend((lambda: _of_services(environ), lookup.git))
    wanted.append(lambda: _installed_project(lookup))
    if here is not None:
        wanted.append(lambda: _build_file(buildfiles.from_cordova, here, "cordova"))
        wanted.append(lambda: _build_file(buildfiles.from_gradle, here, "gradle"))
    return Proposal(first_valid(wanted), order)


def _lookup(environ: Mapping[str, str], directory: str | None) -> Lookup:
    # The program that runs is crashfree itself, which says nothing about the project.
    return Lookup(environ, directory, program=Program(), memory={})


def _as_init(lookup: Lookup) -> tuple[Source, ...]:
    return (lookup.variables, lookup.baked, lookup.git, lookup.host)


def _installed_project(lookup: Lookup) -> Iterator[Answer]:
    """The installed version of the project whose `pyproject.toml` is here."""
    here = lookup.directory
    name = None if here is None else buildfiles.project_name(here)
    if name is None:
        yield Answer("distribution", None, "no pyproject.toml here that names the project")
    elif distribution.installed(name) is None:
        yield Answer("distribution", None, f"the project {name!r} is not installed")
    else:
        yield from lookup.named_distribution(name)


def _of_services(environ: Mapping[str, str]) -> Iterator[Answer]:
    rest = [name for name in ci.build_variables() if name not in _FIRST]
    rest += [name for name in ci.FURTHER_HOST_VARIABLES if name not in rest]
    yield from set_variables(environ, _FIRST, "host")
    yield _pull_request(environ)
    yield from set_variables(environ, rest, "build service")


def _pull_request(environ: Mapping[str, str]) -> Answer:
    """The head of a pull request on GitHub, where `GITHUB_SHA` is a merge with its base."""
    source = f"env:{ci.PULL_REQUEST_EVENT}"
    named = env.variable(environ, ci.PULL_REQUEST_EVENT)
    if named is None:
        return Answer(source, None, "not set")
    try:
        with open(named.value, "rb") as file:
            event = json.decode(file.read(_MAX_EVENT))
    except (OSError, ValueError) as error:
        return Answer(source, None, f"{named.value} cannot be read: {error}")
    commit: Any = event
    for key in ("pull_request", "head", "sha"):
        commit = commit.get(key) if isinstance(commit, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(commit, str) or not is_commit(commit):
        return Answer(source, None, "no pull request")
    return Answer(source, commit, "head of the pull request")


def _build_file(
    read: Callable[[str], buildfiles.BuildFile | None], directory: str, name: str
) -> Iterator[Answer]:
    found = read(directory)
    if found is None:
        yield Answer(name, None, f"no {name} file that names a release")
    else:
        where = os.path.relpath(found.path, directory)
        yield Answer(f"{name}:{where}", found.release, "read from the build file")
