"""When to ask again, and how long to wait before: one pure decision.

What makes asking again safe is the request's own nature, which the caller states: `repeatable`
requests may arrive twice without harm; others are repeated only when the first one cannot have
been acted upon.

Threads: any. Source: releases.md section 4.1 (RULE for the client).
"""

from __future__ import annotations

from dataclasses import dataclass

from crashfree._protocol.timestamps import parse_http_date

BUSY = frozenset((408, 429, 502, 503, 504, 507, 524))
_LONGEST_ASKED = 300.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try; seconds throughout.

    `retries` counts the attempts after the first; `budget` bounds one call as a whole, waits
    included. `conflict_budget` bounds the waiting for a release whose commits another job is just
    storing (409). `unreached_retries` is for addresses where nobody answers: mostly they are wrong.
    """

    retries: int = 5
    first: float = 1.0
    factor: float = 1.5
    longest: float = 5.0
    budget: float = 120.0
    conflict_budget: float = 60.0
    unreached_retries: int = 2


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt: a status, or no answer at all (status None)."""

    number: int
    elapsed: float
    status: int | None
    sent: bool = True
    retry_after: str | None = None


def pause_before_next(
    policy: RetryPolicy,
    attempt: Attempt,
    *,
    repeatable: bool,
    waits_for_conflict: bool,
    roll: float,
    now: float,
) -> float | None:
    """Return the seconds to wait before asking again; None when this was the last word.

    `attempt.number` counts from 1; `roll` in [0, 1) spreads clients that failed together; `now` is
    the wall clock, for a Retry-After that names a date.
    """
    if attempt.status == 409 and waits_for_conflict:
        pause = _spread(min(policy.longest, policy.first * attempt.number), roll)
        return pause if attempt.elapsed + pause <= policy.conflict_budget else None
    retries = policy.retries
    if attempt.status is None and not attempt.sent:
        retries = min(retries, policy.unreached_retries)
    if not _worth_it(attempt, repeatable=repeatable) or attempt.number > retries:
        return None
    asked = _asked(attempt.retry_after, now)
    if asked is not None:
        pause = asked
    else:
        steps = policy.factor ** (attempt.number - 1)
        pause = _spread(min(policy.longest, policy.first * steps), roll)
    return pause if attempt.elapsed + pause <= policy.budget else None


def _worth_it(attempt: Attempt, *, repeatable: bool) -> bool:
    if attempt.status is None:
        return repeatable or not attempt.sent
    if attempt.status not in BUSY:
        return False
    # A limiter refuses before anything is done; the other answers may come after the deed.
    return repeatable or attempt.status == 429


def _spread(pause: float, roll: float) -> float:
    return pause * (0.75 + 0.5 * roll)


def _asked(header: str | None, now: float) -> float | None:
    """Return what Retry-After asks for: seconds or a date; None when there is nothing readable."""
    if header is None or not header.strip():
        return None
    text = header.strip()
    try:
        if text.isascii() and text.isdecimal():
            seconds = float(text)
        else:
            seconds = parse_http_date(text) - now
    except ValueError:
        return None
    return min(max(0.0, seconds), _LONGEST_ASKED)
