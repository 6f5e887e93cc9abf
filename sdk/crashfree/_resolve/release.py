"""Where the release comes from: argument, variables, baked file, git, host, distribution.

The first source that gives a valid name wins; every source that was asked is remembered with its
answer, for `client.options.release_source`, `crashfree doctor` and `propose-version --explain`.

Invariants: only an explicit bad argument raises; what costs something (files, git, installed
distributions) is looked up at most once per process and place, and not at all when an argument or
a variable answers; at most one subprocess, and only for a repository whose files cannot be read.
Once found, the answer stays for the life of the process: a checkout that moves on under a running
program does not rename it.

Threads: any (two at once may look twice and find the same). Source: releases.md section 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from crashfree._ground import log
from crashfree._ground.text import trim, what_was_cut
from crashfree._ground.typed import Literal, NamedTuple
from crashfree._resolve import distribution
from crashfree._resolve.baked import BakedFault, find_baked
from crashfree._resolve.ci import RUNTIME_VARIABLES
from crashfree._resolve.git import find_commit
from crashfree._resolve.gitcommand import ask_git
from crashfree._resolve.program import Program, running_program
from crashfree.errors import InvalidRelease
from crashfree.release import Release

VARIABLES = ("CRASHFREE_RELEASE", "SENTRY_RELEASE")
DISTRIBUTION_PREFIX = "auto:"


class Attempt(NamedTuple):
    """One source that was asked."""

    source: str
    """`argument`, `env:NAME`, `file:PATH`, `git`, `host`, `distribution:NAME`, ..."""
    outcome: Literal["found", "absent", "refused"]
    detail: str


class Resolved(NamedTuple):
    """The release, the source that named it, and all that was asked, in order.

    Without a release the source is `none`; it is `argument` when the program wants none.
    """

    release: Release | None
    source: str
    tried: tuple[Attempt, ...]


class Answer(NamedTuple):
    """What one source says: a name that is not checked yet, or why it has none."""

    source: str
    name: str | None
    detail: str
    fault: str | None = None
    """What to warn of: the source was meant to answer and could not."""


Source = Callable[[], Iterable[Answer]]
Memory = dict[tuple[str, ...], Answer]

_memory: Memory = {}


def resolve_release(
    argument: str | None,
    *,
    environ: Mapping[str, str],
    directory: str | None = None,
    program: Program | None = None,
    memory: Memory | None = None,
) -> Resolved:
    """Find the release of this process.

    `argument` is what the program says: a name, `auto:DISTRIBUTION` for the version of an installed
    distribution, `""` for no release at all, None to look for one. `directory` is the project's
    (default: the working directory). `program` and `memory` stand in for those of the process.

    Raises: InvalidRelease for a bad argument, and for nothing else.
    """
    if argument is None:
        lookup = Lookup(environ, directory, program=program, memory=memory)
        return first_valid(lookup.at_run_time())
    if argument == "":
        off = Attempt("argument", "absent", "release='' switches the look-up off")
        return Resolved(None, "argument", (off,))
    wanted = _distribution_name(argument)
    if wanted is None:
        release = Release.parse(argument)
        return Resolved(
            release, "argument", (Attempt("argument", "found", "given by the program"),)
        )
    lookup = Lookup(environ, directory, program=program, memory=memory)
    return first_valid((lambda: lookup.named_distribution(wanted), *lookup.at_run_time()))


def first_valid(sources: Iterable[Source]) -> Resolved:
    """Ask the sources in order; the first valid name is the release.

    A source that gives a name nobody may use is warned of, and the next one is asked.
    """
    tried: list[Attempt] = []
    for source in sources:
        for answer in source():
            release, attempt = _checked(answer)
            tried.append(attempt)
            if release is not None:
                return Resolved(release, answer.source, tuple(tried))
    return Resolved(None, "none", tuple(tried))


class Lookup:
    """The sources of one process, in one place; expensive answers are kept in the memory."""

    __slots__ = ("_directory", "_environ", "_given_program", "_memory")

    _environ: Mapping[str, str]
    _directory: str | None
    _given_program: Program | None
    _memory: Memory

    def __init__(
        self,
        environ: Mapping[str, str],
        directory: str | None = None,
        *,
        program: Program | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._environ = environ
        self._directory = _working_directory() if directory is None else os.path.abspath(directory)
        self._given_program = program
        self._memory = _memory if memory is None else memory

    @property
    def directory(self) -> str | None:
        """The project's directory; None when the working directory is gone."""
        return self._directory

    def at_run_time(self) -> tuple[Source, ...]:
        """Return the sources of a running program, in order. Source: releases.md section 2.2."""
        return (self.variables, self.baked, self.git, self.host, self.distribution)

    def variables(self) -> Iterator[Answer]:
        """`CRASHFREE_RELEASE`, then `SENTRY_RELEASE`."""
        for name in VARIABLES:
            yield from_variable(self._environ, name)

    def baked(self) -> Iterator[Answer]:
        """The file that was written at build time."""
        key = ("baked", self._directory or "", self._environ.get("CRASHFREE_RELEASE_FILE", ""))
        yield self._once(key, self._ask_baked)

    def git(self) -> Iterator[Answer]:
        """The commit of the project's checkout."""
        key = ("git", self._directory or "", self._environ.get("GIT_DIR", ""))
        yield self._once(key, self._ask_git)

    def host(self) -> Iterator[Answer]:
        """The variables that hosts set for a running program."""
        return set_variables(self._environ, RUNTIME_VARIABLES, "host")

    def distribution(self) -> Iterator[Answer]:
        """The installed distribution that owns `__main__`."""
        yield self._once(("distribution",), self._ask_owner)

    def named_distribution(self, name: str) -> Iterator[Answer]:
        """The distribution that the program names as `auto:NAME`."""
        found = self._once(("distribution", name), lambda: _ask_distribution(name))
        yield found

    def _program(self) -> Program:
        return running_program() if self._given_program is None else self._given_program

    def _once(self, key: tuple[str, ...], ask: Callable[[], Answer]) -> Answer:
        answer = self._memory.get(key)
        if answer is None:
            answer = self._memory[key] = ask()
        return answer

    def _ask_baked(self) -> Answer:
        try:
            found = find_baked(self._program(), self._directory, self._environ)
        except BakedFault as fault:
            return Answer(f"file:{fault.path}", None, str(fault), fault=str(fault))
        if found is None:
            return Answer("file", None, "no baked release in the project or beside the program")
        return Answer(f"file:{found.path}", found.release, "written at build time")

    def _ask_git(self) -> Answer:
        if self._directory is None:
            return Answer("git", None, "the working directory does not exist any more")
        found = find_commit(self._directory, self._environ)
        if not found.conclusive:
            asked = ask_git(self._directory, self._environ)
            return Answer("git", asked.commit, f"{found.detail}; {asked.detail}")
        return Answer("git", found.commit, found.detail)

    def _ask_owner(self) -> Answer:
        found = distribution.owner(self._program())
        if isinstance(found, str):
            return Answer("distribution", None, found)
        return _of_distribution(found)


def from_variable(environ: Mapping[str, str], name: str) -> Answer:
    """Return what the variable says; blank counts as not set."""
    # Not `_ground.env`, which trims as Python does: releases have their own white space.
    text = environ.get(name, "")
    value = trim(text)
    if not value:
        return Answer(f"env:{name}", None, "blank" if text else "not set")
    return Answer(f"env:{name}", value, what_was_cut(text) or "set")


def set_variables(environ: Mapping[str, str], names: Iterable[str], title: str) -> Iterator[Answer]:
    """Yield what is set of `names`, in order; one answer called `title` when nothing is."""
    found = False
    for name in names:
        answer = from_variable(environ, name)
        if answer.name is not None:
            found = True
            yield answer
    if not found:
        yield Answer(title, None, f"none is set of {', '.join(names)}")


def _checked(answer: Answer) -> tuple[Release | None, Attempt]:
    if answer.name is None:
        if answer.fault is None:
            return None, Attempt(answer.source, "absent", answer.detail)
        log.warning(f"release: {answer.fault}; the next source is tried")
        return None, Attempt(answer.source, "refused", answer.fault)
    setting = answer.source.removeprefix("env:").removeprefix("file:")
    try:
        release = Release.parse(answer.name, setting=setting)
    except InvalidRelease as error:
        log.warning(f"{error}; the next source is tried")
        return None, Attempt(answer.source, "refused", str(error))
    return release, Attempt(answer.source, "found", answer.detail)


def _distribution_name(argument: object) -> str | None:
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


def _ask_distribution(name: str) -> Answer:
    found = distribution.installed(name)
    if found is None:
        fault = f"no distribution {name!r} is installed (release='auto:{name}')"
        return Answer(f"distribution:{name}", None, fault, fault=fault)
    return _of_distribution(found)


def _of_distribution(found: distribution.Distribution) -> Answer:
    name = f"{found.name}@{found.version}"
    return Answer(f"distribution:{found.name}", name, "the installed version")


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it was removed
