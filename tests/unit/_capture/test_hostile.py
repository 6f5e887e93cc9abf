"""Objects that do their worst meet capture: it never raises, never hangs, stays small.

What is thrown in: `repr`, `str`, `hash`, `eq`, `len`, iteration, attribute access and descriptors
that raise, lie, recurse, mutate or write megabytes; closed files, generators, weak proxies.
"""

from __future__ import annotations

import io
import json
import threading
import time
import weakref
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crashfree._capture.scope import Scope
from crashfree._capture.settings import CaptureSettings
from crashfree._client.pipeline import Filters, Pipeline
from crashfree._ground.clock import SYSTEM_CLOCK


class Raises:
    """Every special method raises."""

    def _no(self, *arguments: Any, **options: Any) -> Any:
        raise RuntimeError("hostile")

    __repr__ = __str__ = __hash__ = __eq__ = __len__ = __iter__ = __bool__ = _no  # type: ignore[assignment]
    __getitem__ = __contains__ = __format__ = __int__ = __float__ = __index__ = _no
    __call__ = __enter__ = __copy__ = __deepcopy__ = __reduce_ex__ = __sizeof__ = _no  # type: ignore[assignment]
    __dir__ = __lt__ = __add__ = __bytes__ = __fspath__ = _no

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("hostile")


class Recursive:
    def __repr__(self) -> str:
        return repr(self)


class Loud:
    def __repr__(self) -> str:
        return "x" * 5_000_000


class Lies:
    @property
    def __class__(self) -> Any:
        return dict

    @__class__.setter
    def __class__(self, value: Any) -> None: ...

    def __repr__(self) -> Any:
        return None


class EveryAttribute:
    """Has whatever it is asked for, itself again."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self


class Meta(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError("hostile")

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("hostile")

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise RuntimeError("hostile")

    def __repr__(cls) -> str:
        raise RuntimeError("hostile")

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("hostile")

    __hash__ = None  # type: ignore[assignment]


class OfMeta(metaclass=Meta):
    pass


class Growing(dict[Any, Any]):
    def __iter__(self) -> Any:
        while True:
            self[len(self)] = 1
            yield len(self)


class EndlessList(list[int]):
    def __iter__(self) -> Any:
        while True:
            yield 1

    def __len__(self) -> int:
        return 10**12


class StrangeText(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise RuntimeError("hostile")

    def __str__(self) -> str:
        raise RuntimeError("hostile")

    encode = isascii = lower = __getitem__ = __iter__ = __len__  # type: ignore[assignment]


class StrangeNumber(int):
    def __neg__(self) -> Any:
        raise RuntimeError("hostile")

    __le__ = __lt__ = __ge__ = __gt__ = __int__ = __repr__ = __str__ = __neg__  # type: ignore[assignment]


class Captures:
    """Its repr captures again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def __repr__(self) -> str:
        self.pipeline.exception(ValueError("again"), scopes=(Scope(),))
        return "captured"


class Target:
    pass


def closed_file() -> Any:
    file = io.StringIO()
    file.close()
    return file


def dead_proxy() -> Any:
    return weakref.proxy(Target())


def deep() -> Any:
    value: Any = []
    for _ in range(10_000):
        value = [value]
    return value


def running() -> Any:
    generator = (number for number in range(10))
    next(generator)
    return generator


HOSTILE: dict[str, Any] = {
    "raises": Raises,
    "recursive": Recursive,
    "loud": Loud,
    "lies": Lies,
    "every attribute": EveryAttribute,
    "of a metaclass": OfMeta,
    "a class": lambda: OfMeta,
    "growing": lambda: Growing({1: 2}),
    "endless": lambda: EndlessList([1] * 1000),
    "text": lambda: StrangeText("text"),
    "number": lambda: StrangeNumber(5),
    "closed": closed_file,
    "dead": dead_proxy,
    "deep": deep,
    "generator": running,
    "a module": lambda: json,
    "a lock": threading.Lock,
    "huge number": lambda: 10**100_000,
    "huge text": lambda: "x" * 5_000_000,
    "huge bytes": lambda: b"\xff" * 5_000_000,
    "huge list": lambda: [object()] * 500_000,
    "huge dict": lambda: dict.fromkeys(range(500_000)),
    "code": lambda: HOSTILE.get.__self__,
}


def made(name: str) -> Any:
    return HOSTILE[name]()


def pipeline(**changes: Any) -> Pipeline:
    own = CaptureSettings(release="app@1.0.0", with_locals=True)._replace(**changes)
    return Pipeline(own, Filters(error_storm_limit=0), clock=SYSTEM_CLOCK)


def fail(local: Any, error: BaseException) -> None:
    again = [local, {"key": local}]
    raise error if again else ValueError


def captured(value: Any, error: BaseException | None = None, **changes: Any) -> dict[str, Any]:
    """Everything a program can hand over holds `value`; returns the event."""
    own = pipeline(**changes)
    scope = Scope()
    scope.set_tag("value", value)
    scope.set_extra("value", value)
    scope.set_context("value", {"value": value})
    scope.set_user({"id": value, "more": value})
    scope.set_fingerprint([value])
    scope.set_request({"url": value, "data": value, "headers": {"a": value}})
    scope.add_breadcrumb({"message": value, "data": {"value": value}, "timestamp": value})
    if error is None:
        error = ValueError(value)
    try:
        fail(value, error)
    except BaseException as caught:
        report = own.exception(caught, scopes=(Scope(), scope))
    assert report.item is not None
    payload = report.item.payload
    assert len(payload) <= 900_000
    event: dict[str, Any] = json.loads(payload.decode("utf-8", "strict"))
    return event


@pytest.mark.parametrize("name", HOSTILE)
def test_capture_never_raises_and_stays_bounded(name: str) -> None:
    begin = time.thread_time()
    event = captured(made(name))
    assert event["exception"]["values"][0]["type"] == "ValueError"
    assert time.thread_time() - begin < 2.0


class Evil(Exception):
    """An exception whose every own word raises."""

    def __str__(self) -> str:
        raise RuntimeError("hostile")

    __repr__ = __hash__ = __eq__ = __str__  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("hostile")


def test_an_exception_may_do_its_worst() -> None:
    event = captured(1, Evil(Raises()))
    assert event["exception"]["values"][0]["value"] == "<unprintable exception>"


FIELDS = (
    "event_id", "timestamp", "level", "message", "tags", "extra", "contexts", "user", "request",
    "breadcrumbs", "fingerprint", "modules", "sdk", "exception", "threads", "logentry", "release",
    "dist", "environment", "_meta", "unknown", "platform", "logger",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_events_of_programs_may_hold_anything_anywhere(name: str) -> None:
    value = made(name)
    event = dict.fromkeys(FIELDS, value)
    nested = {
        "exception": {"values": [{"type": value, "value": value, "mechanism": value,
                                  "stacktrace": {"frames": [{"function": value, "vars": value}]}}]},
        "breadcrumbs": {"values": [{"message": value, "data": value}]},
        "tags": {"a": value},
    }  # fmt: skip
    for one in (event, nested):
        report = pipeline().event(one, scopes=(Scope(),))
        assert report.item is not None
        assert len(report.item.payload) <= 900_000


def test_a_repr_that_captures_again_ends() -> None:
    """The client refuses captures from inside; the pipeline alone must survive them, too."""
    own = pipeline()
    scope = Scope()
    scope.set_extra("value", Captures(own))
    report = own.exception(ValueError("x"), scopes=(Scope(), scope))
    assert report.item is not None
    assert report.item.payload


def test_locals_that_another_thread_changes_are_read_or_given_up() -> None:
    """Source: wire.md section 7: guard against mutation from other threads."""
    shared: dict[str, Any] = {"n": 0}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            shared[f"k{number % 50}"] = [number]
            shared.pop(f"k{(number + 25) % 50}", None)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            captured(shared, source_context=False)
    finally:
        stop.set()
        thread.join()


@given(
    st.recursive(
        # By name: hypothesis itself would ask the objects for their repr.
        st.sampled_from(sorted(name for name in HOSTILE if not name.startswith("huge"))),
        lambda below: st.one_of(
            st.lists(below, max_size=3),
            st.tuples(below, below),
            st.dictionaries(st.text(max_size=5), below, max_size=3),
        ),
        max_leaves=12,
    )
)  # fmt: skip
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
def test_graphs_of_hostile_objects_are_survived(names: Any) -> None:
    captured(built(names))


def built(names: Any) -> Any:
    if isinstance(names, str):
        return made(names)
    if isinstance(names, dict):
        return {key: built(below) for key, below in names.items()}
    return type(names)(built(below) for below in names)


class SlowRepr:
    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock

    def __repr__(self) -> str:
        # The caller holds it: waiting for ever would be a deadlock of our making.
        got = self.lock.acquire(timeout=0.01)
        if got:
            self.lock.release()
        return "slow"


def test_many_slow_reprs_end_within_the_budget() -> None:
    """100 locals of 10 ms each end within the budget and one repr.

    Source: complaints-transport.md, 17, 31 and 32.
    """
    lock = threading.Lock()
    with lock:
        values = {f"v{number}": SlowRepr(lock) for number in range(100)}
        own = pipeline(source_context=False)
        begin = time.perf_counter()

        def fail_with() -> None:
            a = list(values.values())[:10]
            b = list(values.values())[10:20]
            c = list(values.values())[20:30]
            raise ValueError((a, b, c) is None)

        try:
            fail_with()
        except ValueError as error:
            report = own.exception(error, scopes=(Scope(),))
        took = time.perf_counter() - begin
    assert report.item is not None
    assert b"<skipped: time budget>" in report.item.payload
    assert took < 0.25
