"""Exceptions with what they hang on."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from crashfree._capture import exceptions
from crashfree._capture.inapp import InApp
from crashfree._capture.source import SourceReader
from crashfree._capture.stacktrace import Frames
from tests.support.clock import FakeClock

needs_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with 3.11")


def values(error: BaseException, mechanism: Any = None) -> list[dict[str, Any]]:
    frames = Frames(InApp((), ()), SourceReader(FakeClock()), "/")
    chain = exceptions.take(error)
    return exceptions.build(chain, frames, mechanism or exceptions.GENERIC, {})  # type: ignore[return-value]


def raised(error: BaseException, *, cause: Any = ..., context: Any = None) -> BaseException:
    try:
        try:
            if context is not None:
                raise context
        except BaseException:
            if cause is ...:
                raise error  # noqa: B904
            raise error from cause
        if cause is ...:
            raise error
        raise error from cause
    except BaseException as caught:
        return caught


def tree(error: BaseException) -> list[tuple[Any, ...]]:
    """Type, id, parent and source of each, the outermost first."""
    return [
        (
            value["type"], value["mechanism"]["exception_id"],
            value["mechanism"].get("parent_id"), value["mechanism"].get("source"),
        )
        for value in reversed(values(error))
    ]  # fmt: skip


def test_a_single_exception_says_type_message_and_module() -> None:
    """Source: wire.md section 6.1."""
    (value,) = values(raised(ValueError("bad")))
    assert (value["type"], value["value"], value["module"]) == ("ValueError", "bad", None)
    assert value["mechanism"] == {"type": "generic", "handled": True, "exception_id": 0}
    assert len(value["stacktrace"]["frames"]) == 1

    class Own(Exception):
        pass

    (value,) = values(Own())
    assert value["type"].endswith("<locals>.Own")
    assert value["module"] == __name__
    assert "stacktrace" not in value


def test_a_chain_is_numbered_from_the_outermost_and_listed_oldest_first() -> None:
    error = raised(TypeError("t"), cause=raised(KeyError("k"), context=ValueError("v")))
    assert tree(error) == [
        ("TypeError", 0, None, None),
        ("KeyError", 1, 0, "__cause__"),
        ("ValueError", 2, 1, "__context__"),
    ]
    assert [value["type"] for value in values(error)] == ["ValueError", "KeyError", "TypeError"]


def test_inner_exceptions_are_chained_and_as_handled_as_the_outermost() -> None:
    """Source: wire.md section 6.2."""
    error = raised(TypeError("t"), context=KeyError("k"))
    inner, outer = values(error, {"type": "excepthook", "handled": False})
    assert (outer["mechanism"]["type"], outer["mechanism"]["handled"]) == ("excepthook", False)
    assert (inner["mechanism"]["type"], inner["mechanism"]["handled"]) == ("chained", False)


def test_a_suppressed_context_is_left_out() -> None:
    assert tree(raised(TypeError(), cause=None, context=KeyError())) == [
        ("TypeError", 0, None, None)
    ]


def test_a_cause_is_followed_even_when_its_mark_was_reset() -> None:
    error = raised(TypeError(), cause=KeyError())
    error.__suppress_context__ = False
    assert [entry[0] for entry in tree(error)] == ["TypeError", "KeyError"]


def test_cycles_end_at_the_second_visit() -> None:
    one, two = ValueError("1"), KeyError("2")
    one.__context__, two.__context__ = two, one
    assert [entry[0] for entry in tree(one)] == ["ValueError", "KeyError"]
    one.__context__ = one
    assert [entry[0] for entry in tree(one)] == ["ValueError"]


@needs_groups
def test_a_group_goes_depth_first_with_real_parents() -> None:
    """A cause below a member hangs on that member. Source: wire.md section 6.2."""
    namespace: dict[str, Any] = {"raised": raised}
    exec(
        """
member = raised(OSError(2, "no"), cause=KeyError("why"))
inner = ExceptionGroup("inner", [TypeError("t"), member])
error = raised(ExceptionGroup("outer", [ValueError("v"), inner]), context=LookupError("before"))
""",
        namespace,
    )
    assert tree(namespace["error"]) == [
        ("ExceptionGroup", 0, None, None),
        ("LookupError", 1, 0, "__context__"),
        ("ValueError", 2, 0, "exceptions[0]"),
        ("ExceptionGroup", 3, 0, "exceptions[1]"),
        ("TypeError", 4, 3, "exceptions[0]"),
        ("FileNotFoundError", 5, 3, "exceptions[1]"),
        ("KeyError", 6, 5, "__cause__"),
    ]
    marked = [value["mechanism"].get("is_exception_group") for value in values(namespace["error"])]
    assert marked.count(True) == 2


@needs_groups
def test_a_member_that_is_also_the_context_is_told_once() -> None:
    namespace: dict[str, Any] = {"raised": raised}
    exec(
        "one = ValueError('v')\n"
        "error = raised(ExceptionGroup('g', [one, KeyError()]), context=one)",
        namespace,
    )
    assert [entry[::3] for entry in tree(namespace["error"])] == [
        ("ExceptionGroup", None), ("ValueError", "__context__"), ("KeyError", "exceptions[1]"),
    ]  # fmt: skip


def test_fifty_exceptions_are_kept_and_all_are_counted() -> None:
    error: BaseException = ValueError(0)
    for number in range(1, 5000):
        outer = ValueError(number)
        outer.__context__ = error
        error = outer
    chain = exceptions.take(error)
    assert len(chain.exceptions) == 50
    assert chain.total == 5000
    assert chain.exceptions[0].message == "4999"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Dead(Mute):
    def __repr__(self) -> str:
        raise RuntimeError("none at all")


def test_messages_that_raise_fall_back_to_repr_and_then_to_a_marker() -> None:
    assert values(Mute(1))[0]["value"] == "Mute(1)"
    assert values(Dead(1))[0]["value"] == "<unprintable exception>"


def test_notes_follow_the_message_when_they_are_text() -> None:
    error = ValueError("bad")
    error.__notes__ = ["first", 5, "second"]  # type: ignore[attr-defined, unused-ignore]
    assert values(error)[0]["value"] == "bad\nfirst\nsecond"
    error.__notes__ = 5  # type: ignore[attr-defined, unused-ignore]
    assert values(error)[0]["value"] == "bad"


def test_an_error_of_the_system_has_its_number() -> None:
    (value,) = values(FileNotFoundError(2, "No such file"))
    assert value["mechanism"]["meta"] == {"errno": {"number": 2, "name": "ENOENT"}}
    assert "meta" not in values(OSError("just text"))[0]["mechanism"]


def test_a_syntax_error_ends_in_the_line_that_the_parser_stumbled_over(tmp_path: Any) -> None:
    file = tmp_path / "wrong.py"
    file.write_text("one = 1\ntwo = = 2\n")
    with pytest.raises(SyntaxError) as caught:
        compile(file.read_text(), str(file), "exec")
    frame = values(caught.value)[0]["stacktrace"]["frames"][-1]
    assert (frame["filename"], frame["lineno"], frame["colno"]) == ("wrong.py", 2, 7)
    assert frame["context_line"] == "two = = 2"
    assert frame["pre_context"] == ["one = 1"]


def test_a_syntax_error_in_text_shows_the_text() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("one = = 1\n", "<string>", "exec")
    assert values(caught.value)[0]["stacktrace"]["frames"][-1]["context_line"] == "one = = 1"


class Evasive(Exception):
    """Overrides everything that could be overridden."""

    __cause__ = __context__ = __traceback__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
    __suppress_context__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
    __notes__ = property(lambda self: 1 / 0)

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("not telling")


def test_an_exception_that_hides_everything_is_still_told() -> None:
    error = raised(Evasive("x"), context=None)
    (value,) = values(error)
    assert value["type"] == "Evasive"
    assert value["stacktrace"]["frames"]
