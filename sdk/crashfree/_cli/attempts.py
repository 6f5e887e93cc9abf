"""How a look-up for a release is told: which sources were asked, and what each said."""

from __future__ import annotations

from crashfree._resolve.answers import Attempt
from crashfree.types import JSON

_MARKS = {"found": "+", "absent": "-", "refused": "!"}


def lines(tried: tuple[Attempt, ...]) -> list[str]:
    """Return one line for each source: `+` named the release, `-` had none, `!` had a bad one."""
    return [f"{_MARKS[each.outcome]} {each.source}: {each.detail}" for each in tried]


def facts(tried: tuple[Attempt, ...]) -> list[JSON]:
    """Return the same for programs."""
    return [
        {"source": each.source, "outcome": each.outcome, "detail": each.detail} for each in tried
    ]
