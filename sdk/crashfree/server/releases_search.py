"""The `release...` words of a search: which releases they mean.

`release:latest`, `release.version:>1.2` (also `release.semver:`), `release.package:`,
`release.build:` and `release.stage:`. A version may end in `*`; comparisons are `>`, `>=`, `<` and
`<=`, and stand for versions as the servers order them, with missing numbers read as 0.

Threads: any. Source: releases.md sections 3.4, 3.5 and 4.4.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final

from crashfree.release import Version, compare_versions, parse_version
from crashfree.server import releases
from crashfree.server.counting import Selection
from crashfree.server.endpoint import Problem
from crashfree.server.globs import Glob
from crashfree.server.release_health import adoption_stages
from crashfree.server.releases import marks
from crashfree.server.selection import Term

_LATEST: Final = "latest"
_STAGES: Final = ("low", "low_adoption", "adopted", "replaced")
_OPERATORS: Final = (">=", "<=", ">", "<", "=")
_Judge = Callable[[str], Callable[[sqlite3.Row | tuple[Any, ...]], bool]]


def release_term(db: sqlite3.Connection, selection: Selection, term: Term) -> frozenset[int] | None:
    """Return the ids of the releases that a term means; None when it is a plain name.

    Latest and stages are those of the selection's projects and environments.
    """
    projects = selection.projects
    if term.key == "release":
        return _latest_term(db, selection, term)
    if term.key == "release.stage":
        return _stage_term(db, selection, term)
    judges: dict[str, _Judge] = {
        "release.version": _version_judge,
        "release.semver": _version_judge,
        "release.package": _package_judge,
        "release.build": _build_judge,
    }
    judge = judges.get(term.key)
    if judge is None:
        return None
    wanted = [judge(value) for value in term.values]
    return frozenset(
        int(row[0])
        for row in _rows(db, projects)
        if any(fits(row) for fits in wanted) != term.negated
    )


def _rows(db: sqlite3.Connection, projects: tuple[int, ...]) -> Iterator[Any]:
    return db.execute(
        "SELECT id, version, package, major, build_code, build_number FROM releases"
        " WHERE EXISTS (SELECT 1 FROM release_projects WHERE release_id = releases.id"
        f" AND project_id IN ({marks(projects)}))",
        projects,
    )


def _latest_term(db: sqlite3.Connection, selection: Selection, term: Term) -> frozenset[int] | None:
    """Return the winner of each project; other names beside `latest` are taken as they are."""
    if _LATEST not in term.values:
        return None
    projects = selection.projects
    found = {releases.latest(db, project, selection.environments) for project in projects} - {None}
    names = [value for value in term.values if value != _LATEST]
    globs = [glob for name in names if (glob := Glob.compile(name, ignore_case=False))]
    chosen = {release for release in found if release is not None}
    for row in _rows(db, projects):
        if row[1] in names or any(glob.matches(row[1]) for glob in globs):
            chosen.add(int(row[0]))
    if term.negated:
        return frozenset(int(row[0]) for row in _rows(db, projects)) - chosen
    return frozenset(chosen)


def _stage_term(db: sqlite3.Connection, selection: Selection, term: Term) -> frozenset[int]:
    for value in term.values:
        if value not in _STAGES:
            raise Problem(400, f"invalid release.stage: {value!r}; one of low, adopted, replaced")
    wanted = {"low_adoption" if value == "low" else value for value in term.values}
    return frozenset(
        release
        for (_, release), adoption in adoption_stages(db, selection).items()
        if (adoption.stage in wanted) != term.negated
    )


def _version_judge(value: str) -> Callable[[Any], bool]:
    operator, text = _operator(value)
    package, at, version = text.rpartition("@")
    if not operator and text.endswith("*"):
        return _prefix_judge(package if at else None, version)
    wanted = parse_version(version)
    if wanted is None:
        raise Problem(400, f"Invalid format of semantic version: {text!r}")

    def fits(row: Any) -> bool:
        if row[3] is None or (at and row[2] != package):
            return False
        found = parse_version(str(row[1]).rpartition("@")[2])
        return found is not None and _compare(found, wanted, operator)

    return fits


def _prefix_judge(package: str | None, pattern: str) -> Callable[[Any], bool]:
    """`1.2.*` and `1.2*`: the numbers written are compared, the rest is free."""
    numbers = pattern.rstrip("*").rstrip(".")
    parts = numbers.split(".") if numbers else []
    if len(parts) > 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise Problem(400, f"Invalid format of semantic version: {pattern!r}")
    wanted = tuple(int(part) for part in parts)

    def fits(row: Any) -> bool:
        if row[3] is None or (package is not None and row[2] != package):
            return False
        found = parse_version(str(row[1]).rpartition("@")[2])
        return found is not None and found.quad[: len(wanted)] == wanted

    return fits


def _compare(found: Version, wanted: Version, operator: str) -> bool:
    if wanted.build is None:
        # A question without a build is about all builds of the version.
        found = found._replace(build=None)
    order = compare_versions(found, wanted)
    return {
        "": order == 0,
        "=": order == 0,
        ">": order > 0,
        ">=": order >= 0,
        "<": order < 0,
        "<=": order <= 0,
    }[operator]


def _operator(value: str) -> tuple[str, str]:
    for operator in _OPERATORS:
        if value.startswith(operator):
            return operator, value[len(operator) :].strip()
    return "", value


def _package_judge(value: str) -> Callable[[Any], bool]:
    glob = Glob.plain(value, ignore_case=False)
    return lambda row: row[2] is not None and glob.matches(row[2])


def _build_judge(value: str) -> Callable[[Any], bool]:
    operator, text = _operator(value)
    if operator in ("", "=") and not (text.isascii() and text.isdigit()):
        glob = Glob.plain(text, ignore_case=False)
        return lambda row: row[4] is not None and glob.matches(row[4])
    if not (text.isascii() and text.isdigit()):
        raise Problem(400, f"Invalid build number: {text!r}")
    number = int(text)
    tests: dict[str, Callable[[int], bool]] = {
        "": lambda build: build == number,
        "=": lambda build: build == number,
        ">": lambda build: build > number,
        ">=": lambda build: build >= number,
        "<": lambda build: build < number,
        "<=": lambda build: build <= number,
    }
    return lambda row: row[5] is not None and tests[operator](row[5])
