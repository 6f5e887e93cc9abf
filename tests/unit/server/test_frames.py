from __future__ import annotations

from typing import Any

import pytest

from crashfree.server.frames import (
    as_list,
    as_mapping,
    as_text,
    event_frames,
    exceptions,
    in_app,
    pairs,
    paths,
)


@pytest.mark.parametrize("value", [None, 5, "x", True])
def test_what_has_the_wrong_shape_is_not_there(value: object) -> None:
    assert as_mapping(value) == {}
    assert as_list(value) == []
    assert pairs(value) == []
    assert as_text([value]) is None


def test_pairs_come_as_an_object_or_as_a_list() -> None:
    assert pairs({"a": 1}) == pairs([["a", 1]]) == [("a", 1)]
    assert pairs([["a"], 5, [1, 2], ["b", None]]) == [("b", None)]


def test_exceptions_come_with_and_without_their_wrapper() -> None:
    values = [{"type": "A"}, None, 5]
    assert exceptions({"exception": {"values": values}}) == [{"type": "A"}]
    assert exceptions({"exception": values}) == [{"type": "A"}]


def frame(name: str, **fields: Any) -> dict[str, Any]:
    return {"filename": name, **fields}


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (
            {
                "exception": {
                    "values": [
                        {"stacktrace": {"frames": [frame("a")]}},
                        {"stacktrace": {"frames": [frame("b")]}},
                    ]
                },
                "stacktrace": {"frames": [frame("c")]},
            },
            ["a", "b"],
        ),
        ({"exception": {"values": [{}]}, "stacktrace": {"frames": [frame("c")]}}, ["c"]),
        ({"threads": {"values": [{"stacktrace": {"frames": [frame("d")]}}]}}, ["d"]),
        (
            {
                "threads": [
                    {"current": True, "stacktrace": {"frames": [frame("e")]}},
                    {"crashed": True, "stacktrace": {"frames": [frame("f")]}},
                ]
            },
            ["f"],
        ),
        ({"threads": [{"id": 1}, {"id": 2}]}, []),
        ({}, []),
    ],
)
def test_the_frames_of_an_event_are_where_it_has_them(
    event: dict[str, Any], names: list[str]
) -> None:
    assert [found["filename"] for found in event_frames(event)] == names


def test_own_frames_count_and_all_where_none_is_marked() -> None:
    own, other = frame("a", in_app=True), frame("b", in_app=False)
    assert in_app([own, other]) == [own]
    assert in_app([other]) == [other]


def test_a_frame_goes_by_several_paths() -> None:
    java = {"module": "com.x.Main$Inner", "filename": "Main.java", "abs_path": "/b/Main.java"}
    assert list(paths(java, "java")) == ["com/x/Main.java", "Main.java", "/b/Main.java"]
    assert list(paths(java, "python")) == ["Main.java", "/b/Main.java"]
    assert next(paths({**java, "platform": "java"}, "python")) == "com/x/Main.java"
    assert list(paths({"filename": 5}, None)) == []
