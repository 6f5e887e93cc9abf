"""Too large an event is made smaller in a fixed order. Source: wire.md section 8.4."""

from __future__ import annotations

import json
from typing import Any

from crashfree._capture.trim import encoded
from tests.support.normaliser import complaints


def frame(size: int, *, in_app: bool) -> dict[str, Any]:
    return {
        "function": "f", "filename": "a.py", "lineno": 1, "in_app": in_app,
        "vars": {"x": "v" * size}, "context_line": "c" * size, "pre_context": ["p" * size],
    }  # fmt: skip


def event(size: int = 1000) -> Any:
    return {
        "event_id": "a" * 32,
        "level": "error",
        "release": "app@1.0.0",
        "environment": "test",
        "tags": {"a": "b"},
        "modules": {f"m{n}": "1" for n in range(size // 10)},
        "extra": {"small": "s", "large": "l" * size, "larger": "l" * size * 2},
        "contexts": {"runtime": {"name": "CPython"}, "own": {"x": "o" * size}},
        "breadcrumbs": {"values": [{"message": "m" * (size // 8)} for _ in range(8)]},
        "exception": {
            "values": [
                {
                    "type": "E", "value": "v", "mechanism": {"type": "generic", "handled": False},
                    "stacktrace": {
                        "frames": [frame(size // 20, in_app=n % 2 == 0) for n in range(100)]
                    },
                }
            ]
        },
    }  # fmt: skip


def shrunk(limit: int) -> tuple[dict[str, Any], bytes]:
    data = encoded(event(), limit)
    return json.loads(data), data


def parts(made: dict[str, Any]) -> list[str]:
    """What is still there, in the order in which it goes."""
    frames = made["exception"]["values"][0].get("stacktrace", {}).get("frames", [])
    present = {
        "foreign vars": any("vars" in f and not f["in_app"] for f in frames),
        "modules": "modules" in made,
        "own vars": any("vars" in f and f["in_app"] for f in frames),
        "breadcrumbs": "breadcrumbs" in made,
        "extra": bool(made.get("extra")),
        "contexts": "own" in made.get("contexts", {}),
        "source": any("context_line" in f for f in frames),
        "frames": len(frames) == 100,
        "stack": bool(frames),
    }
    return [name for name, there in present.items() if there]


def test_an_event_that_fits_is_left_alone() -> None:
    before = event()
    assert json.loads(encoded(before)) == event()
    assert "_meta" not in before


def test_parts_go_in_the_order_of_the_specification() -> None:
    full = len(encoded(event()))
    seen: list[list[str]] = []
    for limit in range(full, 300, -200):
        made, data = shrunk(limit)
        assert len(data) <= limit
        left = parts(made)
        if not seen or seen[-1] != left:
            seen.append(left)
    everything = seen[0]
    assert everything[0] == "foreign vars"
    assert seen == sorted(seen, key=len, reverse=True)
    for left in seen:
        assert left == everything[len(everything) - len(left) :], "only the first ones may be gone"
    assert seen[-1] == []


def test_the_last_resort_tells_what_happened_under_which_release() -> None:
    made, data = shrunk(800)
    assert len(data) <= 800
    assert (made["release"], made["environment"], made["tags"]) == ("app@1.0.0", "test", {"a": "b"})
    (value,) = made["exception"]["values"]
    assert value == {"type": "E", "value": "v", "mechanism": {"type": "generic", "handled": False}}


def test_each_step_is_noted_and_the_normaliser_agrees() -> None:
    full = len(encoded(event()))
    for limit in (full - 1, full // 2, full // 4, full // 8, 1_500):
        made, data = shrunk(limit)
        assert made["_meta"]
        assert complaints(data) == []


def test_half_of_the_breadcrumbs_go_at_a_time_the_oldest_first() -> None:
    large = {"breadcrumbs": {"values": [{"message": f"{n}" + "m" * 100} for n in range(100)]}}
    made = json.loads(encoded(large, 4000))  # type: ignore[arg-type]
    kept = made["breadcrumbs"]["values"]
    assert kept[-1]["message"].startswith("99m")
    assert len(kept) in (25, 13)
    assert made["_meta"]["breadcrumbs"][""] == {"len": 100}


def test_the_largest_extra_goes_first() -> None:
    made = json.loads(encoded({"extra": {"a": "x" * 100, "b": "x" * 5000, "c": "x"}}, 1000))
    assert made["extra"] == {"a": "x" * 100, "c": "x"}
    assert made["_meta"] == {"extra": {"b": {"": {"rem": [["!limit", "x"]]}}}}
