"""Scopes: cheap to set, safe to share, exact to fork."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._capture.scope import Scope, apply, merged
from crashfree.types import Event


def changes() -> st.SearchStrategy[list[tuple[str, tuple[Any, ...]]]]:
    names = st.sampled_from(["a", "b", "c"])
    values = st.integers(0, 5)
    return st.lists(
        st.one_of(
            st.tuples(st.just("set_tag"), st.tuples(names, values)),
            st.tuples(st.just("remove_tag"), st.tuples(names)),
            st.tuples(st.just("set_extra"), st.tuples(names, values)),
            st.tuples(st.just("remove_extra"), st.tuples(names)),
            st.tuples(
                st.just("set_context"),
                st.tuples(names, st.one_of(st.none(), st.dictionaries(names, values))),
            ),
            st.tuples(st.just("set_user"), st.tuples(st.one_of(st.none(), st.just({"id": "1"})))),
            st.tuples(st.just("set_level"), st.tuples(st.sampled_from(["info", "error"]))),
            st.tuples(st.just("set_fingerprint"), st.tuples(st.lists(names))),
            st.tuples(st.just("add_breadcrumb"), st.tuples(st.just({"message": "m"}))),
            st.tuples(st.just("clear_breadcrumbs"), st.just(())),
            st.tuples(st.just("clear"), st.just(())),
        ),
        max_size=12,
    )


def contents(scope: Scope) -> object:
    return (
        scope.tags, scope.extra, scope.contexts, scope.user, scope.level, scope.fingerprint,
        scope.transaction, [crumb.get("message") for crumb in scope.breadcrumbs()],
        scope.breadcrumb_total, scope.processors, scope.attachments,
    )  # fmt: skip


def perform(scope: Scope, steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    for name, arguments in steps:
        getattr(scope, name)(*arguments)


@given(before=changes(), left=changes(), right=changes())
def test_after_a_fork_nothing_crosses_either_way(before: Any, left: Any, right: Any) -> None:
    """Invariant: a fork is unaffected by later changes of its source, and the other way round."""
    source = Scope()
    perform(source, before)
    fork = source.fork()
    assert contents(fork) == contents(source)
    expected_source, expected_fork = Scope(), Scope()
    perform(expected_source, before + left)
    perform(expected_fork, before + right)
    perform(source, left)
    perform(fork, right)
    assert contents(source) == contents(expected_source)
    assert contents(fork) == contents(expected_fork)


def test_the_mappings_that_were_given_may_be_changed_afterwards() -> None:
    scope = Scope()
    context, user, crumb = {"a": 1}, {"id": "1"}, {"message": "m"}
    scope.set_context("c", context)
    scope.set_user(user)
    scope.add_breadcrumb(crumb)
    for given_one in (context, user, crumb):
        given_one.clear()
    assert scope.contexts == {"c": {"a": 1}}
    assert scope.user == {"id": "1"}
    assert scope.breadcrumbs()[0]["message"] == "m"


def test_the_more_specific_scope_wins() -> None:
    one, two = Scope(), Scope()
    one.set_tag("shared", "one")
    one.set_tag("own", "one")
    one.set_level("info")
    two.set_tag("shared", "two")
    two.set_transaction("GET /two")
    result = merged(one, two)
    assert result.tags == {"shared": "two", "own": "one"}
    assert (result.level, result.transaction) == ("info", "GET /two")


def test_breadcrumbs_of_several_scopes_come_in_the_order_of_their_times() -> None:
    one, two = Scope(), Scope()
    for scope, moment in ((one, 3.0), (two, 1.0), (one, 5.0), (two, 4.0)):
        scope.add_breadcrumb({"message": str(moment), "timestamp": moment})
    assert [crumb["timestamp"] for crumb in merged(one, two).breadcrumbs()] == [1.0, 3.0, 4.0, 5.0]


def test_only_the_newest_breadcrumbs_are_kept_and_the_total_is_known() -> None:
    """Source: wire.md section 8.4, point 4."""
    scope = Scope()
    for number in range(25):
        scope.add_breadcrumb({"message": str(number)}, limit=10)
    assert [crumb["message"] for crumb in scope.breadcrumbs()] == [str(n) for n in range(15, 25)]
    assert scope.breadcrumb_total == 25
    fork = scope.fork()
    fork.add_breadcrumb({"message": "more"}, limit=10)
    assert (fork.breadcrumb_total, scope.breadcrumb_total) == (26, 25)
    assert merged(scope, fork).breadcrumb_total == 51


def test_a_limit_of_none_keeps_no_breadcrumb() -> None:
    scope = Scope()
    scope.add_breadcrumb({"message": "m"}, limit=0)
    assert scope.breadcrumbs() == []
    assert merged(scope).breadcrumbs() == []


def test_another_limit_keeps_what_fits() -> None:
    scope = Scope()
    for number in range(5):
        scope.add_breadcrumb({"message": str(number)}, limit=5)
    scope.add_breadcrumb({"message": "5"}, limit=3)
    assert [crumb["message"] for crumb in scope.breadcrumbs()] == ["3", "4", "5"]
    assert scope.breadcrumb_total == 6


def test_breadcrumbs_may_be_given_as_keywords() -> None:
    scope = Scope()
    scope.add_breadcrumb(message="m", category="c")
    scope.add_breadcrumb({"message": "n"}, category="d")
    assert [(c["message"], c["category"]) for c in scope.breadcrumbs()] == [("m", "c"), ("n", "d")]


class Hostile:
    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __iter__(self) -> Any:
        raise RuntimeError("iter")

    def keys(self) -> Any:
        raise RuntimeError("keys")


@pytest.mark.parametrize("value", [Hostile(), None, 5, object(), [1, 2], float("nan")])
def test_no_method_raises_whatever_it_is_given(value: Any) -> None:
    scope = Scope()
    scope.set_tag(value, value)
    scope.set_tags(value)
    scope.set_context(value, value)
    scope.set_extra(value, value)
    scope.set_extras(value)
    scope.set_user(value)
    scope.set_level(value)
    scope.set_fingerprint(value)
    scope.set_transaction(value)
    scope.set_trace(value)
    scope.add_breadcrumb(value)
    scope.add_attachment(filename=value)
    merged(scope, scope.fork())


def test_a_runaway_loop_of_tags_stays_bounded() -> None:
    scope = Scope()
    for number in range(3000):
        scope.set_tag(f"tag{number}", "x")
    assert len(scope.tags) == 1000
    assert "tag2999" in scope.tags


def test_an_unknown_level_is_said_and_ignored() -> None:
    scope = Scope()
    scope.set_level("loud")  # type: ignore[arg-type]
    assert scope.level is None


def test_traces_are_of_one_scope_and_of_the_form_of_the_wire() -> None:
    scope = Scope()
    trace = scope.own_trace()
    assert scope.own_trace() == trace
    assert scope.fork().own_trace() != trace
    assert len(trace.trace_id) == 32
    assert len(trace.span_id) == 16
    scope.set_trace("A" * 32, "b" * 16)
    assert scope.own_trace()[0] == "a" * 32
    assert scope.own_trace().parent_span_id == "b" * 16
    for bad in ("0" * 32, "g" * 32, "a" * 31, ""):
        scope.set_trace(bad)
        assert scope.own_trace().trace_id == "a" * 32


def test_attachments_that_no_envelope_could_carry_are_refused_when_they_are_added(
    tmp_path: Any,
) -> None:
    """Source: wire.md section 8.4, point 3."""
    scope = Scope()
    scope.add_attachment(bytes(10 * 1024 * 1024 + 1), "big.bin")
    assert scope.attachments == ()
    scope.add_attachment(bytes(10 * 1024 * 1024), "fits.bin")
    scope.add_attachment(bytes(6 * 1024 * 1024), "too-much-together.bin")
    assert [one["filename"] for one in scope.attachments] == ["fits.bin"]
    file = tmp_path / "report.txt"
    file.write_bytes(b"hello")
    scope.add_attachment(path=str(file), content_type="text/plain")
    assert scope.attachments[1] == {
        "filename": str(file), "data": b"hello", "content_type": "text/plain",
    }  # fmt: skip
    scope.add_attachment(path=str(tmp_path / "missing"))
    assert len(scope.attachments) == 2


def test_an_event_keeps_what_it_says_itself() -> None:
    scope = Scope()
    scope.set_tag("shared", "scope")
    scope.set_tag("more", "scope")
    scope.set_user({"id": "scope"})
    scope.set_level("info")
    event: Event = {"tags": {"shared": "event"}, "user": {"id": "event"}, "level": "error"}
    applied = apply(scope, event)
    assert applied["tags"] == {"shared": "event", "more": "scope"}
    assert applied["user"] == {"id": "event"}
    assert applied["level"] == "info"


def test_scopes_are_written_and_read_by_many_threads_at_once() -> None:
    scope = Scope()
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        try:
            barrier.wait()
            for turn in range(500):
                scope.set_tag(f"t{number}-{turn % 20}", turn)
                scope.add_breadcrumb(message=f"{number}")
                merged(scope, scope.fork())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(scope.tags) == 80
    assert scope.breadcrumb_total == 2000
