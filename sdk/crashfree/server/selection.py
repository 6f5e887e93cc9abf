"""Which projects, environments and releases a question is about.

`project` and `environment` come as parameters, and all three in the search text:
`release:app@1.0 environment:[a,b] !release:"app@2*" project:shop`. A `*` matches any run.

Threads: any. Source: releases.md sections 3.5 and 4.4.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from starlette.datastructures import QueryParams

from crashfree.server.endpoint import Problem
from crashfree.server.engine import Selection
from crashfree.server.store import Project

_KEYS: Final = ("release", "environment", "project", "project_id", "project.name")
_EVERY_PROJECT: Final = "-1"


class Term(NamedTuple):
    """One `key:value` of a search."""

    key: str
    values: tuple[str, ...]
    negated: bool


ReleaseTerm = Callable[[sqlite3.Connection, Selection, Term], "frozenset[int] | None"]
"""Answers a `release…` term with the ids that match among projects and environments; None: not its
kind of term."""


def parse_terms(text: str) -> list[Term]:
    """Take a search text apart; Problem(400) for what is no `key:value`."""
    terms: list[Term] = []
    for word in _words(text):
        if word.upper() == "AND":
            continue
        negated = word.startswith("!")
        key, colon, value = word[negated:].partition(":")
        if not colon or not key:
            raise Problem(400, f"Invalid query: {word[:60]!r} is not of the form key:value")
        if value.startswith("[") and value.endswith("]"):
            values = tuple(_unquoted(part.strip()) for part in _split(value[1:-1], ","))
        else:
            values = (_unquoted(value),)
        terms.append(Term(key, values, negated))
    return terms


def select(
    db: sqlite3.Connection,
    query: QueryParams,
    projects: Iterable[Project],
    terms: Iterable[Term],
    release_terms: ReleaseTerm | None = None,
) -> Selection:
    """Return the selection that parameters and terms describe together."""
    chosen = _projects(query.getlist("project"), list(projects))
    environments: frozenset[int] | None = None
    releases: frozenset[int] | None = None
    named = [name for name in query.getlist("environment") if name]
    if named:
        environments = _named(db, "environments", "name", Term("environment", tuple(named), False))
    about_releases: list[Term] = []
    for term in terms:
        if term.key == "environment":
            environments = _both(environments, _named(db, "environments", "name", term))
        elif term.key.startswith("release"):
            about_releases.append(term)
        elif term.key in _KEYS:
            chosen = _narrowed(chosen, term)
        else:
            raise Problem(400, f"Invalid query field: {term.key!r}")
    selection = Selection(
        tuple(chosen), None, None if environments is None else tuple(sorted(environments))
    )
    # Last, wherever they stand: the latest release is that of the environment that is asked for.
    for term in about_releases:
        found = release_terms and release_terms(db, selection, term)
        if found is None and term.key == "release":
            found = _named(db, "releases", "version", term)
        if found is None:
            raise Problem(400, f"Invalid query field: {term.key!r}")
        releases = _both(releases, found)
    return selection._replace(releases=None if releases is None else tuple(sorted(releases)))


def _projects(named: list[str], projects: list[Project]) -> dict[int, Project]:
    everything = {project.id: project for project in projects}
    if not named or _EVERY_PROJECT in named:
        return everything
    chosen: dict[int, Project] = {}
    for name in named:
        found = [project for project in projects if name in (str(project.id), project.slug)]
        if not found:
            raise Problem(400, f"Invalid project: {name[:60]!r}")
        chosen[found[0].id] = found[0]
    return chosen


def _narrowed(chosen: dict[int, Project], term: Term) -> dict[int, Project]:
    def hit(project: Project) -> bool:
        return any(
            _matches(value, name)
            for value in term.values
            for name in (str(project.id), project.slug)
        )

    return {key: project for key, project in chosen.items() if hit(project) != term.negated}


def _named(db: sqlite3.Connection, table: str, column: str, term: Term) -> frozenset[int]:
    if not term.negated and not any("*" in value for value in term.values):
        marks = ", ".join("?" * len(term.values))
        return frozenset(
            int(row[0])
            for row in db.execute(
                f"SELECT id FROM {table} WHERE {column} IN ({marks})", term.values
            )
        )
    return frozenset(
        int(row[0])
        for row in db.execute(f"SELECT id, {column} FROM {table}")
        if any(_matches(value, row[1]) for value in term.values) != term.negated
    )


def _matches(pattern: str, text: str) -> bool:
    if "*" not in pattern:
        return pattern == text
    pieces = pattern.split("*")
    # Only * is special here, so a greedy walk over the literal pieces is enough.
    if not text.startswith(pieces[0]) or not text.endswith(pieces[-1]):
        return False
    at, end = len(pieces[0]), len(text) - len(pieces[-1])
    for piece in pieces[1:-1]:
        found = text.find(piece, at, max(at, end))
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end


def _both(one: frozenset[int] | None, other: frozenset[int]) -> frozenset[int]:
    return other if one is None else one & other


def _words(text: str) -> list[str]:
    return [word for word in _split(text, " ") if word.strip()]


def _split(text: str, separator: str) -> list[str]:
    parts: list[str] = []
    current: list[str] = []
    quoted = False
    depth = 0
    for char in text:
        if char == '"':
            quoted = not quoted
        elif not quoted and char in "[]":
            depth += 1 if char == "[" else -1
        if char == separator and not quoted and depth == 0:
            parts.append("".join(current))
            current = []
        else:
            current.append(char)
    parts.append("".join(current))
    return parts


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text
