"""Two lists of commits made into one that a server will sort as it stands.

Pure; threads: any. Source: releases.md section 4.5 (the server sorts by timestamp, newest first,
and fails on a list where some have one and some have none).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crashfree._protocol.timestamps import parse_timestamp, rfc3339
from crashfree.management.models import Commit


def merged(newer: Sequence[Commit], existing: Sequence[Commit]) -> list[Commit]:
    """Return `newer` and what `existing` has besides, newest first, timestamps descending."""
    known = {(commit.repository, commit.id) for commit in newer}
    rest = [commit for commit in existing if (commit.repository, commit.id) not in known]
    if not rest:
        return list(newer)
    dated = [(_instant(commit), index, commit) for index, commit in enumerate([*newer, *rest])]
    fallback = min((when for when, _, _ in dated if when is not None), default=0.0)
    ordered = sorted(
        ((fallback if when is None else when), -index, commit) for when, index, commit in dated
    )
    return descending([commit for _, _, commit in reversed(ordered)])


def descending(commits: Sequence[Commit]) -> list[Commit]:
    """Return the commits with every timestamp below the one before it, changed where it must be."""
    answer: list[Commit] = []
    bound: float | None = None
    for commit in commits:
        when = _instant(commit)
        if when is None or (bound is not None and when >= bound):
            when = (bound if bound is not None else 1.0) - 1.0
            commit = replace(commit, timestamp=rfc3339(when))
        bound = when
        answer.append(commit)
    return answer


def _instant(commit: Commit) -> float | None:
    if commit.timestamp is None:
        return None
    try:
        return parse_timestamp(commit.timestamp)
    except ValueError:
        return None
