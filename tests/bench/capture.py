"""What capturing costs, beside sentry-sdk in the same run: `python tests/bench/capture.py`.

Each line is the median CPU time of one call, both programs measured in turns on the same frames;
nothing is sent. "whole" adds what the worker does afterwards: building, scrubbing, encoding.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from crashfree._capture.scope import Scope
from crashfree._capture.settings import CaptureSettings
from crashfree._client.pipeline import Filters, Pipeline
from crashfree._ground.clock import SYSTEM_CLOCK

try:
    import sentry_sdk
    from sentry_sdk.transport import Transport
except ImportError:
    sys.exit("this comparison needs sentry-sdk: pip install sentry-sdk==2.75.0")

DEPTHS = (5, 20, 100)
ROUNDS = 60


class NullTransport(Transport):  # type: ignore[misc]
    """Serialises what it is given, as the real one does, and forgets it."""

    def capture_envelope(self, envelope: Any) -> None:
        if MEASURE_WHOLE:
            envelope.serialize()


MEASURE_WHOLE = False


def deep(depth: int, payload: dict[str, Any]) -> None:
    label, numbers = f"level {depth}", list(range(5))
    if depth <= 1:
        raise ValueError(f"nothing left of {label} {len(numbers)}")
    deep(depth - 1, payload)


def failing(depth: int) -> BaseException:
    try:
        deep(depth, {"user": "ada", "items": [1, 2, 3]})
    except ValueError as error:
        return error
    raise AssertionError


def timed(action: Callable[[BaseException], object], depth: int) -> float:
    error = failing(depth)
    begin = time.thread_time_ns()
    action(error)
    return (time.thread_time_ns() - begin) / 1000


def compare(
    ours: Callable[[BaseException], object], theirs: Callable[[BaseException], object], depth: int
) -> tuple[float, float]:
    for action in (ours, theirs):
        for _ in range(5):
            timed(action, depth)
    mine: list[float] = []
    other: list[float] = []
    for _ in range(ROUNDS):
        mine.append(timed(ours, depth))
        other.append(timed(theirs, depth))
    return median(mine), median(other)


def fill(scope: Any) -> None:
    for index in range(5):
        scope.set_tag(f"tag{index}", f"value {index}")
    scope.set_context("cart", {"items": 3, "total": 12.5, "currency": "EUR"})
    scope.set_context("build", {"number": 42, "branch": "main"})
    for index in range(30):
        scope.add_breadcrumb(
            category="query", message=f"SELECT {index} FROM carts", data={"rows": index, "ms": 1.5}
        )


def sentry(**options: Any) -> Any:
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=NullTransport,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        release="bench@1.0.0",
        **options,
    )
    return sentry_sdk.capture_exception


def crashfree(settings: CaptureSettings, filters: Filters, scope: Scope, whole: bool) -> Any:
    pipeline = Pipeline(settings, filters._replace(error_storm_limit=0), clock=SYSTEM_CLOCK)
    scopes = (Scope(), scope)

    def capture(error: BaseException) -> None:
        report = pipeline.exception(error, scopes=scopes)
        assert report.item is not None
        if whole:
            assert report.item.payload

    return capture


def main() -> None:
    global MEASURE_WHOLE
    settings = CaptureSettings(release="bench@1.0.0")
    print(f"{'microseconds of CPU':44}{'frames':>7}{'ours':>9}{'sentry':>9}{'ratio':>8}{'goal':>7}")
    for whole in (False, True):
        MEASURE_WHOLE = whole
        for name, options, own, filters, filled, goal in (
            ("plain", {"include_local_variables": False}, settings, Filters(), False, 20),
            (
                "with local variables", {"include_local_variables": True},
                settings._replace(with_locals=True), Filters(), False, 8,
            ),
            (
                "before_send, tags, contexts, 30 breadcrumbs",
                {"include_local_variables": False, "before_send": lambda event, hint: event},
                settings, Filters(before_send=lambda event, hint: event), True, 8,
            ),
        ):  # fmt: skip
            theirs = sentry(**options)
            scope = Scope()
            if filled:
                fill(scope)
                fill(sentry_sdk.get_isolation_scope())
            ours = crashfree(own, filters, scope, whole)
            for depth in DEPTHS:
                mine, other = compare(ours, theirs, depth)
                goal_now = 4 if whole else goal
                print(
                    f"{('whole: ' if whole else '') + name:44}{depth:7}{mine:9.1f}{other:9.1f}"
                    f"{other / mine:8.1f}{goal_now:7}"
                )
            sentry_sdk.get_isolation_scope().clear()
    small()


def small() -> None:
    scope, empty = Scope(), Scope()
    for name, action, goal in (
        ("set_tag", lambda: scope.set_tag("key", "value"), 0.2),
        ("add_breadcrumb", lambda: scope.add_breadcrumb(CRUMB), 0.8),
        ("empty fork", empty.fork, 0.5),
    ):
        print(f"{name:44}{'':7}{best(action):9.3f}{'':17}{goal:7}")


CRUMB: Any = {"category": "query", "message": "SELECT 1", "data": {"rows": 1}}


def best(action: Callable[[], object]) -> float:
    rounds = 50_000
    found = []
    for _ in range(7):
        begin = time.thread_time_ns()
        for _ in range(rounds):
            pass
        overhead = time.thread_time_ns() - begin
        begin = time.thread_time_ns()
        for _ in range(rounds):
            action()
        found.append((time.thread_time_ns() - begin - overhead) / rounds / 1000)
    return min(found)


if __name__ == "__main__":
    main()
