"""Suspect commits: which commits of a release touched the files of a stack trace.

A changed file fits a frame by the number of trailing path parts that agree. The answer lists the
strongest author first and walks the newest frame first; the original does both the other way
round, although it means the same.

Pure; any thread. Source: releases.md sections 6.3 and 6.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from crashfree.server.frames import as_text, event_frames, in_app, path

MOST_FRAMES = 25
RELEASES_LOOKED_AT = 5
MOST_SUGGESTED = 2
_POINTS = (5, 4, 3, 2, 1)
_LEAST_SUGGESTED_SCORE = 2


class Change(NamedTuple):
    """A file that a commit changed."""

    commit: int
    path: str


class Match(NamedTuple):
    """A commit that fits a frame, and how well."""

    commit: int
    score: int


class Committer(NamedTuple):
    """An author with the commits that speak against them."""

    author: int
    points: int
    commits: tuple[Match, ...]

    @property
    def score(self) -> int:
        """The best fit among the commits."""
        return max(match.score for match in self.commits)


def parts(text: str) -> list[str]:
    """Split a path at `/`, or at backslashes when it has no `/`; in lower case."""
    separator = "/" if "/" in text else "\\"
    return [part for part in text.lower().split(separator) if part]


def score(one: str, other: str) -> int:
    """Return how many trailing parts of two paths agree."""
    agreeing = 0
    for mine, its in zip(reversed(parts(one)), reversed(parts(other))):  # noqa: B905 -- lengths differ on purpose
        if mine != its:
            break
        agreeing += 1
    return agreeing


def base_name(text: str) -> str:
    """Return the last part of a path, in lower case; empty for an empty path."""
    return next(iter(reversed(parts(text))), "")


def matches(frame_path: str, changes: Iterable[Change]) -> list[Match]:
    """Return the best fitting commits for one frame, ties included.

    A file that agrees in its name alone counts only when it has no folder.
    """
    best = 0
    found: dict[int, Match] = {}
    for change in changes:
        fit = score(frame_path, change.path)
        if fit == 0 or (fit == 1 and len(parts(change.path)) > 1) or fit < best:
            continue
        if fit > best:
            best = fit
            found = {}
        found.setdefault(change.commit, Match(change.commit, fit))
    return list(found.values())


def best_files(frames: Sequence[str], changes: Iterable[Change]) -> dict[int, str]:
    """Return for each commit the changed file that fits one of the frames best."""
    found: dict[int, tuple[int, str]] = {}
    for change in changes:
        fit = max((score(frame, change.path) for frame in frames), default=0)
        if fit > found.get(change.commit, (0, ""))[0]:
            found[change.commit] = (fit, change.path)
    return {commit: path for commit, (_, path) in found.items()}


def frame_paths(event: Mapping[str, Any]) -> list[str]:
    """Return the paths of the frames to look at, oldest call first, each once."""
    platform = as_text(event.get("platform"))
    looked_at = in_app(event_frames(event))[-MOST_FRAMES:]
    found = (path(frame, platform) for frame in looked_at)
    return list(dict.fromkeys(text for text in found if text))


def committers(
    frames: Sequence[str], changes: Sequence[Change], authors: Mapping[int, int | None]
) -> list[Committer]:
    """Rank the authors of `changes`, strongest first.

    `frames` are walked in the order given; `authors` names the author of each commit, None when
    it is unknown. Five points go to the first commit, then one less each time.
    """
    by_name: dict[str, list[Change]] = {}
    for change in changes:
        by_name.setdefault(base_name(change.path), []).append(change)
    left = list(_POINTS)
    points: dict[int, int] = {}
    commits: dict[int, dict[int, Match]] = {}
    for frame in frames:
        for match in matches(frame, by_name.get(base_name(frame), ())):
            author = authors.get(match.commit)
            if author is None:
                continue
            if left:
                points[author] = points.get(author, 0) + left.pop(0)
            if author in points:
                kept = commits.setdefault(author, {})
                known = kept.get(match.commit)
                if known is None or known.score < match.score:
                    kept[match.commit] = match
    ranked = sorted(points, key=lambda author: -points[author])
    return [Committer(author, points[author], tuple(commits[author].values())) for author in ranked]


def suspects(
    event: Mapping[str, Any], changes: Sequence[Change], authors: Mapping[int, int | None]
) -> list[Committer]:
    """Rank the authors for an event, its newest frame first."""
    return committers(frame_paths(event)[::-1], changes, authors)


def suggested(ranked: Iterable[Committer]) -> list[int]:
    """Return at most two authors who may be suggested as assignees, best fit first."""
    fitting = [entry for entry in ranked if entry.score >= _LEAST_SUGGESTED_SCORE]
    fitting.sort(key=lambda entry: -entry.score)
    return [entry.author for entry in fitting[:MOST_SUGGESTED]]
