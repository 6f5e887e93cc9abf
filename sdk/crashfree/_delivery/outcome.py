"""What became of a request, and what follows from it.

Total functions: every status and every failure has an outcome, and every outcome that loses data
has a reason. Pure; threads: any. Source: wire.md section 11.1.
"""

from __future__ import annotations

from crashfree._ground.typed import Literal, Protocol, TypeAlias
from crashfree.errors import Unreachable
from crashfree.types import DiscardReason

Outcome: TypeAlias = Literal[
    "accepted",  # 2xx: the server has it
    "limited",  # 429: the server counted the loss itself
    "too_large",  # 413: split once, else lost
    "refused",  # every other answer: lost
    "unwritten",  # not one byte went out: may be sent again
    "unanswered",  # written, no answer: the server may have it
    "withdrawn",  # not written, because somebody else took it in hand
    "failed",  # a fault of ours: lost
]

REASONS: dict[Outcome, DiscardReason | None] = {
    "accepted": None,
    "limited": None,
    "too_large": "send_error",
    "refused": "send_error",
    "unwritten": "network_error",
    "unanswered": "network_error",
    "withdrawn": None,
    "failed": "internal_sdk_error",
}
"""What a client report says when the items of such a request are given up."""


class Answered(Protocol):
    """A reply (`crashfree._ground.http.Reply`)."""

    @property
    def status(self) -> int: ...


def of_status(status: int) -> Outcome:
    """Return the outcome of an answer."""
    if 200 <= status < 300:
        return "accepted"
    if status == 429:
        return "limited"
    if status == 413:
        return "too_large"
    return "refused"


def outcome_of(result: Answered | BaseException) -> Outcome:
    """Return the outcome of a reply or of what was raised instead of one."""
    if isinstance(result, Unreachable):
        return "unanswered" if result.sent else "unwritten"
    return "failed" if isinstance(result, BaseException) else of_status(result.status)
