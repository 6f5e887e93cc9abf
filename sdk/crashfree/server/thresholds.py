"""From which crash-free rate on a release is good, fair or bad: two limits for the whole server.

    mark(99.7, thresholds.load(store))        "good"

Marks only colour what is shown; no number depends on them.

Threads: any.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple

from starlette.responses import Response

from crashfree._ground import json
from crashfree.server.endpoint import Call, Problem, answer, api
from crashfree.server.fields import Free, Object
from crashfree.server.frames import as_mapping
from crashfree.server.store import Store

Mark = Literal["good", "fair", "bad"]
_META: Final = "thresholds"


class Thresholds(NamedTuple):
    """Crash-free rates in percent."""

    good: float = 99.5
    """From here on a release is good."""
    fair: float = 98.0
    """From here on it is fair, below it is bad."""


class Unusable(ValueError):
    """Limits that cannot be; `field` is the one that is wrong."""

    field: str

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


THRESHOLDS: Final = Object({"good": Free(), "fair": Free()}, closed=True)


def mark(rate: float | None, limits: Thresholds) -> Mark | None:
    """Return how good a rate (in percent) is; None without data."""
    if rate is None:
        return None
    return "good" if rate >= limits.good else "fair" if rate >= limits.fair else "bad"


def load(store: Store) -> Thresholds:
    """Return the limits of a server."""
    kept = store.meta(_META)
    if kept is None:
        return Thresholds()
    stored = as_mapping(json.decode(kept.encode()))
    return Thresholds(stored["good"], stored["fair"])


def save(store: Store, good: object, fair: object) -> Thresholds:
    """Keep new limits; raises Unusable."""
    limits = Thresholds(_checked("good", good), _checked("fair", fair))
    if limits.fair > limits.good:
        raise Unusable("fair", "This may not be above the limit of what is good.")
    store.set_meta(_META, json.encode(limits._asdict()).decode())
    return limits


def _checked(field: str, value: object) -> float:
    """Read a rate: a number, or text as a form sends it."""
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("%"))
        except ValueError:
            value = None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise Unusable(field, "A valid number is required.")
    if not 0 <= value <= 100:
        raise Unusable(field, "A rate is between 0 and 100 percent.")
    return float(value)


def get_thresholds(call: Call) -> Response:
    """Return from which crash-free rate on, in percent, a release is good or fair."""
    return answer(load(call.store)._asdict())


def set_thresholds(call: Call) -> Response:
    """Change from which crash-free rate on, in percent, a release is good or fair."""
    body: dict[str, Any] = call.json_object()
    known = load(call.store)
    try:
        changed = save(call.store, body.get("good", known.good), body.get("fair", known.fair))
    except Unusable as refusal:
        raise Problem(400, {refusal.field: [str(refusal)]}) from None
    return answer(changed._asdict())


_PATH: Final = "/api/0/organizations/{organization}/thresholds/"
ROUTES: Final = [api(_PATH, GET=get_thresholds, PUT=set_thresholds)]
BODIES: Final = {("PUT", _PATH): THRESHOLDS}
