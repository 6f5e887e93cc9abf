"""Ownership rules: who looks after which code.

One rule a line: `[TYPE:]PATTERN OWNER...`, where an owner is an e-mail address or `#team`. Owners
are shown for every rule that matches; an issue is assigned by the last one.

Pure; any thread. Source: releases.md section 6.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from crashfree.server.frames import (
    as_mapping,
    as_text,
    event_frames,
    pairs,
    paths,
)
from crashfree.server.globs import Glob

MAX_TEXT = 100_000
_TYPE = re.compile(r"(path|url|module|codeowners|tags\.[^:\s]+):")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r"\S+")
# Tags that clients send under a short name and the store keeps under an inner one.
_ALIASES = {"release": "sentry:release", "dist": "sentry:dist", "user": "sentry:user"}
_MOST_SEGMENTS = 64


class OwnershipError(ValueError):
    """Rules that cannot be read; the message names line and column."""


class Owner(NamedTuple):
    """A person by e-mail address, or a team by slug."""

    type: Literal["user", "team"]
    identifier: str

    def __str__(self) -> str:
        return f"#{self.identifier}" if self.type == "team" else self.identifier


class Rule(NamedTuple):
    """One line."""

    type: str
    pattern: str
    owners: tuple[Owner, ...]

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Say whether the rule speaks about the event."""
        return _matcher(self)(event)

    def __str__(self) -> str:
        return f"{self.type}:{self.pattern}"

    def to_json(self) -> dict[str, Any]:
        """Return the rule as the API shows it."""
        return {
            "matcher": {"type": self.type, "pattern": self.pattern},
            "owners": [
                {"type": owner.type, "identifier": owner.identifier} for owner in self.owners
            ],
        }


class Ownership(NamedTuple):
    """The rules of a project; code owners have lower rank than its own rules."""

    rules: tuple[Rule, ...] = ()
    code_owners: tuple[Rule, ...] = ()
    fallthrough: bool = True
    """Without a matching rule everyone is the owner, not nobody."""

    def matching(self, event: Mapping[str, Any]) -> list[Rule]:
        """Return all matching rules: code owners, then rules, each in the order of its file."""
        return [rule for rule in (*self.code_owners, *self.rules) if rule.matches(event)]

    def owners(self, event: Mapping[str, Any]) -> list[tuple[Rule, Owner]]:
        """Return the owners to show, each once, with the rule that named it first."""
        found: dict[Owner, Rule] = {}
        for rule in self.matching(event):
            for owner in rule.owners:
                found.setdefault(owner, rule)
        return [(rule, owner) for owner, rule in found.items()]

    def assignees(self, event: Mapping[str, Any]) -> list[tuple[Rule, Owner]]:
        """Return at most two owners to assign: of the last matching rule, rules first."""
        for rules in (self.rules, self.code_owners):
            for rule in reversed(rules):
                if rule.matches(event):
                    return [(rule, owner) for owner in rule.owners[:2]]
        return []


def parse(text: str) -> tuple[Rule, ...]:
    """Read rules; raises OwnershipError."""
    if not text:
        raise OwnershipError(_fault(1, 1))
    rules: list[Rule] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        rule = _rule(stripped)
        if rule is None:
            raise OwnershipError(_fault(number, len(line) - len(line.lstrip()) + 1))
        rules.append(rule)
    return tuple(rules)


def parse_code_owners(text: str) -> tuple[Rule, ...]:
    """Read a CODEOWNERS file.

    `@org/team` is the team; a bare `@user` names nobody this server knows and is left out, and a
    line without owners takes the ownership of its files away, which rules cannot say.
    """
    rules: list[Rule] = []
    for line in text.splitlines():
        words = line.partition(" #")[0].split()
        if not words or words[0].startswith("#"):
            continue
        owners = tuple(owner for word in words[1:] if (owner := _code_owner(word)) is not None)
        if owners:
            rules.append(Rule("codeowners", words[0], owners))
    return tuple(rules)


def _code_owner(word: str) -> Owner | None:
    if word.startswith("@"):
        _, slash, team = word.partition("/")
        return Owner("team", team) if slash else None
    return Owner("user", word.lower()) if "@" in word else None


def _fault(line: int, column: int) -> str:
    return f"Parse error: ownership (line {line}, column {column})"


def _rule(line: str) -> Rule | None:
    kind, at = "path", 0
    typed = _TYPE.match(line)
    if typed is not None:
        kind, at = typed[1], typed.end()
    quoted = _QUOTED.match(line, at)
    word = _WORD.match(line, at)
    if quoted is not None:
        pattern, at = re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    elif word is not None:
        pattern, at = word[0], word.end()
    else:
        return None
    owners: list[Owner] = []
    for found in _WORD.finditer(line, at):
        if found[0] == "#":
            break
        if found[0].startswith("#"):
            owners.append(Owner("team", found[0][1:]))
        else:
            owners.append(Owner("user", found[0].lower()))
    return Rule(kind, pattern, tuple(owners)) if owners else None


# Matching.

_Matcher = Callable[[Mapping[str, Any]], bool]


def _matcher(rule: Rule) -> _Matcher:
    if rule.type == "url":
        return _url_matcher(rule.pattern)
    if rule.type == "module":
        return _module_matcher(rule.pattern)
    if rule.type == "codeowners":
        return _code_owners_matcher(rule.pattern)
    if rule.type.startswith("tags."):
        return _tag_matcher(rule.type[5:], rule.pattern)
    return _path_matcher(rule.pattern)


def _glob(pattern: str, *, ignore_case: bool) -> Glob:
    """A pattern that cannot be read is taken by its letters: `app/[id]/x` is a path, too."""
    readable = Glob.compile(pattern, ignore_case=ignore_case)
    return readable or Glob.plain(pattern, ignore_case=ignore_case)


def _frame_paths(event: Mapping[str, Any]) -> Iterable[str]:
    platform = as_text(event.get("platform"))
    for frame in event_frames(event):
        for path in paths(frame, platform):
            yield path.replace("\\", "/")


def _path_matcher(pattern: str) -> _Matcher:
    glob = _glob(pattern.replace("\\", "/"), ignore_case=True)
    return lambda event: any(map(glob.matches, _frame_paths(event)))


def _url_matcher(pattern: str) -> _Matcher:
    glob = _glob(pattern, ignore_case=True)

    def matches(event: Mapping[str, Any]) -> bool:
        url = as_text(as_mapping(event.get("request")).get("url"))
        return url is not None and glob.matches(url)

    return matches


def _module_matcher(pattern: str) -> _Matcher:
    glob = _glob(pattern, ignore_case=False)

    def matches(event: Mapping[str, Any]) -> bool:
        modules = (as_text(frame.get("module")) for frame in event_frames(event))
        return any(module is not None and glob.matches(module) for module in modules)

    return matches


def _tag_matcher(name: str, pattern: str) -> _Matcher:
    glob = _glob(pattern, ignore_case=False)
    names = {name, _ALIASES.get(name, name)}

    def matches(event: Mapping[str, Any]) -> bool:
        if name.startswith("user."):
            value = as_mapping(event.get("user")).get(name[5:])
            if value is not None and glob.matches(str(value)):
                return True
        return any(tag in names and glob.matches(value) for tag, value in event_tags(event))

    return matches


def event_tags(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the tags of an event, which come as an object or as pairs."""
    return [(name, str(value)) for name, value in pairs(event.get("tags")) if value is not None]


def _code_owners_matcher(pattern: str) -> _Matcher:
    """Like a line of .gitignore: anchored when a slash stands inside, a folder owns its files.

    Unlike there, `docs/*` are the files of the folder itself, as hosts of CODEOWNERS read it.
    """
    folder = pattern.endswith("/")
    flat = pattern.endswith("/*")
    body = pattern.strip("/")
    segments = body.split("/") if body else []
    if "/" not in pattern.rstrip("/"):
        segments = ["**", *segments]
    globs = [
        None if segment == "**" else Glob.plain(segment, ignore_case=False) for segment in segments
    ]

    def matches(event: Mapping[str, Any]) -> bool:
        for path in _frame_paths(event):
            parts = path.removeprefix("./").strip("/").split("/")[-_MOST_SEGMENTS:]
            if _owns(globs, parts, folder=folder, flat=flat, absolute=path.startswith("/")):
                return True
        return False

    return matches


def _owns(
    globs: list[Glob | None], parts: list[str], *, folder: bool, flat: bool, absolute: bool
) -> bool:
    """Match the pattern against a path or one of the folders above it.

    In an absolute path nobody knows where the repository begins, so only a pattern that floats
    can match.
    """
    if absolute and (not globs or globs[0] is not None):
        return False
    # reached: how many parts each prefix of the pattern may have used up.
    reached = {0}
    for glob in globs:
        if glob is None:
            reached = set(range(min(reached, default=len(parts) + 1), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and glob.matches(parts[at])}
    if flat:
        return len(parts) in reached
    # Short of the end: the pattern names a folder above the file.
    return any(at < len(parts) if folder else at <= len(parts) for at in reached)
