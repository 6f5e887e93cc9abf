"""One event as a reader sees it, whatever is in it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree.server.pages.event import View, view


def frames(*marks: bool | None) -> list[dict[str, Any]]:
    """Frames, the oldest call first."""
    return [
        {"function": f"f{number}", "filename": "a.py", "lineno": number, "in_app": mark}
        for number, mark in enumerate(marks, 1)
    ]


def raised(*marks: bool | None) -> View:
    stack = {"frames": frames(*marks)}
    return view({"exception": {"values": [{"type": "E", "stacktrace": stack}]}})


def test_the_newest_call_comes_first_and_libraries_are_folded() -> None:
    (error,) = raised(False, False, True, True, False).errors
    assert [(run.in_app, [frame.function for frame in run.frames]) for run in error.runs] == [
        (False, ["f5"]),
        (True, ["f4", "f3"]),
        (False, ["f2", "f1"]),
    ]


def test_a_stack_without_marks_is_not_folded() -> None:
    (error,) = raised(None, False, None).errors
    assert [run.in_app for run in error.runs] == [True]


def test_what_was_raised_last_comes_first() -> None:
    values = [{"type": "Cause"}, {"type": "Effect"}]
    assert [error.type for error in view({"exception": values}).errors] == ["Effect", "Cause"]


def test_source_lines_are_numbered_around_the_current_one() -> None:
    frame = {
        "lineno": 3,
        "pre_context": ["one", "two"],
        "context_line": "three\n",
        "post_context": ["four"],
    }
    shown = view({"stacktrace": {"frames": [frame]}}).stack[0].frames[0]
    assert [(line.number, line.text, line.current) for line in shown.source] == [
        (1, "one", False),
        (2, "two", False),
        (3, "three", True),
        (4, "four", False),
    ]


def test_a_frame_without_source_has_no_lines() -> None:
    assert view({"stacktrace": {"frames": [{"lineno": 3}]}}).stack[0].frames[0].source == ()


def test_queries_and_cookies_are_read_in_both_forms() -> None:
    asked = view({"request": {"query_string": "a=1&b", "cookies": "x=1; y=2"}}).request
    assert asked is not None
    assert asked.query == (("a", "1"), ("b", ""))
    assert asked.cookies == (("x", "1"), ("y", "2"))
    asked = view({"request": {"query_string": [["a", "1"]], "cookies": {"x": "1"}}}).request
    assert asked is not None
    assert asked.query == (("a", "1"),)
    assert asked.cookies == (("x", "1"),)


def test_times_of_breadcrumbs_are_read_and_nonsense_is_no_time() -> None:
    stamps: list[object] = [1_700_000_000, "2026-11-21T00:00:00Z", "soon", -5, 1e300, True, None]
    crumbs = view(
        {"breadcrumbs": [{"timestamp": stamp, "message": "m"} for stamp in stamps]}
    ).crumbs
    assert [crumb.time for crumb in crumbs] == [
        1_700_000_000.0,
        1_795_219_200.0,
        None,
        None,
        None,
        None,
        None,
    ]


def test_an_event_cannot_fill_a_browser() -> None:
    """A hundred thousand breadcrumbs, tags and frames of a megabyte each are cut."""
    text = "x" * 1_000_000
    shown = view(
        {
            "breadcrumbs": [{"message": text}] * 5_000,
            "tags": {f"{number}{text[:50]}": text for number in range(5_000)},
            "exception": {
                "values": [
                    {
                        "type": text,
                        "stacktrace": {
                            "frames": [{"context_line": text, "vars": {text: text}}] * 5_000
                        },
                    }
                ]
                * 100
            },
        }
    )
    assert len(shown.crumbs) == 200
    assert shown.crumbs_left_out == 4_800
    assert len(shown.tags) == 100
    assert len(shown.errors) == 20
    assert sum(len(run.frames) for run in shown.errors[0].runs) == 250
    assert max(len(value) for _, value in shown.tags) == 400
    assert max(len(crumb.message) for crumb in shown.crumbs) == 4_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["values", "frames", "stacktrace", "type", "value", "handled", "mechanism", "data"]
            )
            | st.text(max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "exception",
        "threads",
        "stacktrace",
        "breadcrumbs",
        "tags",
        "user",
        "request",
        "contexts",
        "extra",
        "modules",
        "sdk",
        "message",
        "logentry",
        "transaction",
        "server_name",
    ]
)


@settings(deadline=None)
@given(st.dictionaries(fields, json_values, max_size=4))
def test_no_payload_is_too_odd(payload: dict[str, Any]) -> None:
    assert isinstance(view(payload), View)
