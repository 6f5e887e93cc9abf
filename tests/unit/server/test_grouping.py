from __future__ import annotations

from typing import Any

import pytest

from crashfree.server.grouping import group


def error(
    *frames: tuple[str, str], kind: str = "ValueError", value: str = "bad", **fields: Any
) -> dict[str, Any]:
    return {
        "exception": {
            "values": [
                {
                    "type": kind,
                    "value": value,
                    "stacktrace": {
                        "frames": [
                            {"module": module, "function": function, "lineno": 5, "in_app": True}
                            for module, function in frames
                        ]
                    },
                }
            ]
        },
        **fields,
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return group(one).hash == group(other).hash


def test_the_stack_decides_not_message_nor_line() -> None:
    other = error(("app", "main"), ("app.db", "query"), value="else")
    other["exception"]["values"][0]["stacktrace"]["frames"][0]["lineno"] = 99
    assert same(error(("app", "main"), ("app.db", "query")), other)


@pytest.mark.parametrize(
    "other",
    [
        error(("app", "main"), ("app.db", "execute")),
        error(("app", "main")),
        error(("app", "main"), ("app.db", "query"), kind="KeyError"),
        error(("app", "main"), ("app.cache", "query")),
    ],
)
def test_another_function_or_type_is_another_problem(other: dict[str, Any]) -> None:
    assert not same(error(("app", "main"), ("app.db", "query")), other)


def test_frames_of_libraries_do_not_count_beside_own_ones() -> None:
    with_library = error(("app", "main"), ("app.db", "query"))
    frames = with_library["exception"]["values"][0]["stacktrace"]["frames"]
    frames.insert(1, {"module": "lib", "function": "call", "in_app": False})
    assert same(error(("app", "main"), ("app.db", "query")), with_library)


def test_a_deep_recursion_is_the_same_as_a_shallow_one() -> None:
    deep = error(("app", "walk"), *[("app", "step"), ("app", "down")] * 40)
    assert same(error(("app", "walk"), ("app", "step"), ("app", "down")), deep)


def test_without_a_stack_the_message_decides_with_numbers_as_one() -> None:
    def plain(value: str) -> dict[str, Any]:
        return {"exception": {"values": [{"type": "E", "value": value}]}}

    assert same(plain("user 17 not found at 0x7f3a"), plain("user 4 not found at 0x1b"))
    assert same(plain("id 0123456789abcdef01234567"), plain("id fedcba98765432100123abcd"))
    assert not same(plain("user 17 not found"), plain("group 17 not found"))


def test_a_message_is_grouped_by_its_template() -> None:
    one = {"logentry": {"message": "disk %s full", "formatted": "disk sda full"}}
    two = {"logentry": {"message": "disk %s full", "formatted": "disk sdb full"}}
    assert same(one, two)
    assert group(one).title == "disk sda full"
    assert group(one).type == "default"
    assert not same({"message": "a"}, {"message": "b"})


def test_a_fingerprint_of_the_client_wins() -> None:
    one = error(("app", "main"), fingerprint=["mine"])
    two = error(("app", "other"), kind="KeyError", fingerprint=["mine"])
    assert same(one, two)
    default = error(("app", "main"), fingerprint=["{{ default }}"])
    assert same(default, error(("app", "main")))
    split = error(("app", "main"), fingerprint=["{{ default }}", "tenant-1"])
    assert not same(split, default)


def test_files_with_a_hash_in_their_name_stay_the_same_file() -> None:
    def bundled(name: str) -> dict[str, Any]:
        return {"stacktrace": {"frames": [{"filename": name, "function": "f"}]}}

    assert same(bundled("/static/app.0123abcd9f.js"), bundled("/static/app.fedc4567aa.js"))


def test_a_chain_is_named_after_its_last_exception() -> None:
    event = error(("app", "main"), kind="RuntimeError", value="outer\nmore")
    event["exception"]["values"].insert(0, {"type": "KeyError", "value": "'x'"})
    found = group(event)
    assert found.title == "RuntimeError: outer"
    assert found.culprit == "app in main"
    assert found.metadata["type"] == "RuntimeError"


def test_an_unhandled_exception_marks_the_group() -> None:
    event = error(("app", "main"))
    assert not group(event).unhandled
    event["exception"]["values"][0]["mechanism"] = {"type": "excepthook", "handled": False}
    assert group(event).unhandled


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"exception": 5, "threads": "x", "level": [], "platform": {}},
        {"exception": {"values": [{"type": 5, "value": {}, "stacktrace": {"frames": [None, 3]}}]}},
        {"exception": [{"stacktrace": {"frames": [{"function": "<lambda>", "context_line": 4}]}}]},
        {"fingerprint": [None, {"a": 1}]},
        {"message": {"formatted": 4}},
        {"exception": {"values": [{"value": "\ud800"}]}},
    ],
)
def test_odd_events_have_a_group_like_any_other(event: dict[str, Any]) -> None:
    found = group(event)
    assert found.title
    assert len(found.hash) == 32
    assert found.level == "error"
