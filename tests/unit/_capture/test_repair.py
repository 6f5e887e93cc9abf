"""An event of any shape becomes one that servers take. Source: wire.md section 5."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._capture.meta import Notes
from crashfree._capture.normalize import Normalizer
from crashfree._capture.repair import Repairer, is_address, level_of
from tests.support.clock import FakeClock
from tests.support.normaliser import complaints

NOW = 1_790_000_000.0


def repaired(event: Any, *, personal: bool = False) -> dict[str, Any]:
    notes = Notes()
    normalizer = Normalizer(FakeClock(), max_bytes=8192, notes=notes)
    result = Repairer(normalizer, personal=personal, now=NOW).repaired(event)
    if notes.tree:
        result["_meta"] = notes.tree
    return result  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ({"level": "critical"}, {"level": "fatal"}),
        ({"level": "WARN"}, {"level": "warning"}),
        ({"level": 35}, {"level": "warning"}),
        ({"level": "loud"}, {"level": "error"}),
        ({"timestamp": "2026-11-21 01:00:00"}, {"timestamp": NOW}),
        ({"timestamp": "2026-11-21T01:00:00"}, {"timestamp": 1795222800.0}),
        ({"timestamp": 5}, {"timestamp": 5.0}),
        ({"timestamp": float("nan")}, {"timestamp": NOW}),
        (
            {"timestamp": datetime(2026, 11, 21, 1, tzinfo=timezone.utc)},
            {"timestamp": 1795222800.0},
        ),
        ({"release": "a/b"}, {}),
        ({"release": " app@1.0 "}, {"release": "app@1.0"}),
        ({"dist": "a+b"}, {}),
        ({"dist": 5}, {"dist": "5"}),
        ({"environment": "none"}, {}),
        ({"environment": "a/b"}, {"environment": "a-b"}),
        ({"tags": {"a b": 1, "ü": True, "n": "x\ny", "e": "", "release": "r"}},
         {"tags": {"a-b": "1", "_": "True", "n": "x y"}}),
        ({"tags": [["a", 1], ("b", 2), "c"]}, {"tags": {"a": "1", "b": "2"}}),
        ({"tags": 5}, {}),
        ({"fingerprint": "one"}, {"fingerprint": ["one"]}),
        ({"fingerprint": ["a", 5, None]}, {"fingerprint": ["a", "5"]}),
        ({"user": {"id": 5, "ip_address": "300.1.1.1", "plan": "pro"}},
         {"user": {"id": "5", "data": {"plan": "pro"}}}),
        ({"user": {"ip_address": "auto"}}, {"user": {"ip_address": "{{auto}}"}}),
        ({"user": 5}, {"user": {"id": "5"}}),
        ({"contexts": {"a": 5, "b": None, "c": {"x": 1}}},
         {"contexts": {"a": {"value": 5}, "c": {"x": 1}}}),
        ({"message": {"formatted": "m"}}, {"message": "m"}),
        ({"logentry": "m"}, {"logentry": {"formatted": "m"}}),
        ({"logentry": {"message": "%s", "params": "x"}},
         {"logentry": {"message": "%s", "params": ["x"]}}),
        ({"breadcrumbs": [{"message": "m", "level": "warn", "own": 1}, 5]},
         {"breadcrumbs": {"values": [{"message": "m", "level": "warning", "data": {"own": 1}}]}}),
        ({"breadcrumbs": {"values": []}}, {}),
        ({"breadcrumbs": [{"timestamp": 5e16}]}, {"breadcrumbs": {"values": [{"timestamp": NOW}]}}),
        ({"exception": {"type": ""}}, {}),
        ({"exception": {"type": "E", "value": 5}},
         {"exception": {"values": [{"type": "E", "value": "5"}]}}),
        ({"exception": [{"type": "E", "stacktrace": {"frames": []}}, {"module": "m"}]},
         {"exception": {"values": [{"type": "E"}]}}),
        ({"exception": {"values": [{"type": "E", "mechanism": {"handled": False}}]}},
         {"exception": {"values": [
             {"type": "E", "mechanism": {"type": "generic", "handled": False}}]}}),
        ({"threads": [{"id": 1, "name": 5, "crashed": 1}]},
         {"threads": {"values": [{"id": 1, "name": "5"}]}}),
        ({"modules": {"a": 1}}, {"modules": {"a": "1"}}),
        ({"sdk": {"name": "x"}}, {}),
        ({"unknown": 1, "extra": {"a": 2}}, {"extra": {"unknown": 1, "a": 2}}),
        ({"extra": 5}, {"extra": {"value": 5}}),
        ({"errors": [1], "type": "event", "received": 1}, {}),
        ({"transaction": "x" * 300}, {"transaction": "x" * 197 + "..."}),
        ({"request": {"method": "get", "cookies": {"a": 1}, "data": {"b": 2}, "odd": 1}},
         {"request": {"method": "GET"}}),
        ({5: 6, None: 7}, {"extra": {"5": 6, "None": 7}}),
    ],
)  # fmt: skip
def test_fields_are_repaired_or_left_out(given_value: Any, expected: Any) -> None:
    assert repaired(given_value) == expected


def test_frames_are_repaired_one_by_one() -> None:
    frame = {
        "filename": "a.py", "lineno": -1, "colno": "5", "function": 5, "in_app": "yes",
        "pre_context": ["a", 5], "context_line": None, "vars": {"x": object}, "odd": 1,
    }  # fmt: skip
    event = {"exception": {"type": "E", "stacktrace": {"frames": [frame, 5, {}]}}}
    (value,) = repaired(event)["exception"]["values"]
    assert value["stacktrace"]["frames"] == [
        {
            "filename": "a.py", "function": "5", "pre_context": ["a", "5"],
            "vars": {"x": "<class 'object'>"},
        }
    ]  # fmt: skip


def test_too_many_frames_keep_the_oldest_and_the_newest() -> None:
    frames = [{"function": str(number)} for number in range(1000)]
    event = repaired({"exception": {"type": "E", "stacktrace": {"frames": frames}}})
    kept = event["exception"]["values"][0]["stacktrace"]["frames"]
    assert [kept[0]["function"], kept[99]["function"], kept[100]["function"]] == ["0", "99", "850"]
    assert event["_meta"]["exception"]["values"]["0"]["stacktrace"]["frames"][""] == {"len": 1000}


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("1.2.3.4", True), ("255.255.255.255", True), ("256.1.1.1", False), ("1.2.3", False),
        ("::1", True), ("2001:db8::8a2e:370:7334", True), ("fe80::1%eth0", False),
        ("1::2::3", False),
        ("::ffff:1.2.3.4", True), ("1:2:3:4:5:6:7:8", True), ("1:2:3:4:5:6:7:8:9", False),
        ("12345::", False), ("", False), ("localhost", False), ("1.2.3.4.5", False),
        ("\uff11.2.3.4", False),
    ],
)  # fmt: skip
def test_addresses(text: str, valid: bool) -> None:
    assert is_address(text) is valid


def test_levels_of_logging_are_understood() -> None:
    """A custom number is the next lower standard level. Source: wire.md section 5."""
    assert [level_of(number) for number in (0, 10, 15, 20, 25, 30, 39, 40, 49, 50, 99)] == [
        "debug", "debug", "debug", "info", "info", "warning", "warning", "error", "error",
        "fatal", "fatal",
    ]  # fmt: skip


FIELDS = [
    "event_id", "timestamp", "platform", "level", "logger", "transaction", "server_name", "release",
    "dist", "environment", "message", "logentry", "tags", "extra", "contexts", "user", "request",
    "breadcrumbs", "fingerprint", "modules", "sdk", "exception", "threads", "something",
]  # fmt: skip
NAMES = st.sampled_from(
    ["values", "type", "value", "module", "frames", "stacktrace", "lineno", "vars", "mechanism",
     "handled", "id", "name", "data", "message", "formatted", "params", "url", "method", "headers",
     "cookies", "timestamp", "level", "category", "a b", "ü"]
)  # fmt: skip
JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30),
        st.just(object()), st.binary(max_size=10),
    ),
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(NAMES, below, max_size=5), st.tuples(below)
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_a_program_makes_the_official_normaliser_has_nothing_to_complain(
    event: dict[str, Any],
) -> None:
    result = repaired(event)
    result.pop("timestamp", None)  # its age is the sender's affair
    payload = json.dumps(result, allow_nan=False).encode("utf-8", "replace")
    payload = json.dumps(json.loads(payload), ensure_ascii=False).encode("utf-8", "replace")
    assert complaints(payload) == []
