"""Stack traces: bounded, honest about paths and lines, and without a live frame."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from crashfree._capture.inapp import InApp
from crashfree._capture.source import SourceReader
from crashfree._capture.stacktrace import Frames, Variables, take_callers, take_traceback
from tests.support.clock import FakeClock


def frames_of(traceback: TracebackType | None, **how: Any) -> list[dict[str, Any]]:
    frames = Frames(InApp((), ()), SourceReader(FakeClock()), how.pop("cwd", "/"))
    return frames.build(take_traceback(traceback, how.get("variables")), {})  # type: ignore[return-value]


def traceback_of(function: Any, *arguments: Any) -> TracebackType | None:
    try:
        function(*arguments)
    except BaseException as error:
        return error.__traceback__
    raise AssertionError("it did not raise")


class Shop:
    def pay(self) -> None:
        raise ValueError("no money")  # this line


def test_a_frame_says_where_it_is() -> None:
    """Source: wire.md section 6.3."""
    frame = frames_of(traceback_of(Shop().pay))[-1]
    assert frame["abs_path"] == __file__
    assert frame["module"] == __name__
    assert frame["function"] == ("Shop.pay" if sys.version_info >= (3, 11) else "pay")
    assert frame["context_line"] == '        raise ValueError("no money")  # this line'
    assert frame["pre_context"][-1] == "    def pay(self) -> None:"
    assert len(frame["pre_context"]) == len(frame["post_context"]) == 5
    assert frame["in_app"] is True


@pytest.mark.skipif(sys.version_info < (3, 11), reason="columns came with 3.11")
def test_columns_are_counted_in_characters_from_one() -> None:
    def fail() -> None:
        _ = "äöü€" + 5  # type: ignore[operator]

    frame = frames_of(traceback_of(fail))[-1]
    line, end = frame["context_line"], frame["data"]["end_colno"]
    assert line[frame["colno"] - 1 : end - 1] == '"äöü€" + 5'


@pytest.mark.skipif(sys.version_info < (3, 11), reason="columns came with 3.11")
def test_an_expression_of_several_lines_says_where_it_ends() -> None:
    def fail() -> None:
        int(
            "x",
        )

    frame = frames_of(traceback_of(fail))[-1]
    assert frame["data"] == {"end_lineno": frame["lineno"] + 2}


def module_at(path: Path, name: str, source: str) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(source, str(path), "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("path", "module", "filename"),
    [
        ("shop/cart/items.py", "shop.cart.items", "shop/cart/items.py"),
        ("shop/cart/__init__.py", "shop.cart", "shop/cart/__init__.py"),
        ("shop/__init__.py", "shop", "shop/__init__.py"),
        ("tool.py", "tool", "tool.py"),
        ("scripts/run.py", "__main__", "run.py"),
        ("elsewhere/generated.py", "shop.generated", "generated.py"),
    ],
)
def test_file_names_are_relative_to_the_folder_of_the_top_package(
    tmp_path: Path, path: str, module: str, filename: str
) -> None:
    namespace = module_at(tmp_path / path, module, "def fail():\n    1 / 0\n")
    frame = frames_of(traceback_of(namespace["fail"]))[-1]
    assert (frame["filename"], frame["abs_path"]) == (filename, str(tmp_path / path))


def test_a_relative_path_belongs_to_the_directory_of_the_start(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("def fail():\n    1 / 0\n")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def fail():\n    1 / 0\n", "script.py", "exec"), namespace)
    frame = frames_of(traceback_of(namespace["fail"]), cwd=str(tmp_path))[-1]
    assert frame["abs_path"] == str(tmp_path / "script.py")
    assert frame["context_line"] == "    1 / 0"


def test_what_is_no_file_has_no_source() -> None:
    frame = frames_of(traceback_of(exec, "1 / 0"))[-1]
    assert (frame["filename"], frame["abs_path"]) == ("<string>", "<string>")
    assert "context_line" not in frame
    assert frame["lineno"] == 1


def hidden() -> None:
    __tracebackhide__ = True
    raise ValueError


def not_hidden() -> None:
    __tracebackhide__ = False
    raise ValueError


def test_frames_that_ask_to_be_hidden_are_left_out() -> None:
    assert [frame["function"].rpartition(".")[2] for frame in frames_of(traceback_of(hidden))] == [
        "traceback_of"
    ]
    assert frames_of(traceback_of(not_hidden))[-1]["function"] == "not_hidden"


def dive(depth: int) -> None:
    if depth:
        dive(depth - 1)
    raise ValueError


def test_a_deep_recursion_keeps_the_oldest_and_the_newest() -> None:
    """The incumbent's event of a RecursionError has 500 kB. Source: wire.md section 6.3."""
    stack = take_traceback(traceback_of(dive, 600), None)
    assert len(stack.frames) == 250
    assert stack.total == 602
    frames = frames_of(traceback_of(dive, 600))
    assert sum("context_line" in frame for frame in frames) <= 100
    assert all("context_line" in frame for frame in frames[-50:])


def test_local_variables_are_taken_of_the_newest_frames_but_never_of_a_module(
    tmp_path: Path,
) -> None:
    """The locals of a module are its settings and imports. Source: wire.md section 6.3."""

    def shown(variables: Any) -> Variables:
        return Variables({name: repr(value)[:10] for name, value in variables.items()}, {})

    source = "SECRET = 'abc'\ndef fail(number):\n    text = 'x'\n    1 / 0\nfail(5)\n"
    with pytest.raises(ZeroDivisionError) as caught:
        module_at(tmp_path / "m.py", "m", source)
    frames = frames_of(caught.value.__traceback__, variables=shown)
    assert frames[-1]["vars"] == {"number": "5", "text": "'x'"}
    assert frames[-2]["function"] == "<module>"
    assert "vars" not in frames[-2]
    deep = frames_of(traceback_of(dive, 120), variables=shown)
    assert [("vars" in frame) for frame in deep].count(True) == 50
    assert "vars" in deep[-1]


def test_a_frame_is_not_kept_alive() -> None:
    """What was taken may wait in a queue; the program's objects must not wait with it."""

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    def fail() -> None:
        big = Big()
        alive.append(weakref.ref(big))
        raise ValueError(big is None)

    taken = [take_traceback(traceback_of(fail), None)]
    gc.collect()
    assert taken[0].frames
    assert alive[0]() is None


def test_each_event_has_frames_of_its_own() -> None:
    """A callback may change an event; the next one must not see it."""
    frames = Frames(InApp((), ()), SourceReader(FakeClock()), "/")
    traceback = traceback_of(Shop().pay)
    first = frames.build(take_traceback(traceback, None), {})
    first[-1]["pre_context"].clear()
    first[-1]["function"] = "changed"
    second = frames.build(take_traceback(traceback, None), {})
    assert second[-1]["function"] != "changed"
    assert len(second[-1]["pre_context"]) == 5


def test_the_source_is_read_again_when_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    namespace = module_at(file, "m", "def fail():\n    1 / 0\n")
    clock = FakeClock()
    frames = Frames(InApp((), ()), SourceReader(clock), "/")
    traceback = traceback_of(namespace["fail"])

    def line() -> str:
        return frames.build(take_traceback(traceback, None), {})[-1]["context_line"]

    assert line() == "    1 / 0"
    file.write_text("def fail():\n    # a new line\n    1 / 0\n")
    assert line() == "    1 / 0", "looked at once a second, not at each event"
    clock.advance(1.5)
    assert line() == "    # a new line"


def test_callers_are_taken_from_the_outside_in() -> None:
    def inner() -> Any:
        return take_callers(sys._getframe(), None)

    names = [taken.code.co_name for taken in inner().frames]
    assert names[-2:] == ["test_callers_are_taken_from_the_outside_in", "inner"]


def test_frames_of_crashfree_itself_are_left_out() -> None:
    namespace: dict[str, Any] = {"__name__": "crashfree._somewhere"}
    exec("def call(function):\n    function()\n", namespace)
    names = [frame["module"] for frame in frames_of(traceback_of(namespace["call"], Shop().pay))]
    assert names == [__name__, __name__]
