"""The sources that cost something: files, git, installed distributions.

Loaded when neither the program nor a variable names the release. Expensive answers are kept for
the life of the process: a checkout that moves on under a running program does not rename it.

Threads: any (two at once may look twice and find the same). Source: releases.md section 2.2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from crashfree._resolve import distribution
from crashfree._resolve.answers import Answer, Source, from_variable, set_variables
from crashfree._resolve.baked import BakedFault, find_baked
from crashfree._resolve.ci import RUNTIME_VARIABLES
from crashfree._resolve.git import find_commit
from crashfree._resolve.gitcommand import ask_git
from crashfree._resolve.program import Program, running_program

VARIABLES = ("CRASHFREE_RELEASE", "SENTRY_RELEASE")

Memory = dict[tuple[str, ...], Answer]

_memory: Memory = {}


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
        """Return the sources of a running program, in order."""
        return (self.variables, *self.behind_variables())

    def behind_variables(self) -> tuple[Source, ...]:
        """Return the sources that are asked when no variable names the release."""
        return (self.baked, self.git, self.host, self.distribution)

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
