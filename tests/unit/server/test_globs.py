from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.server.globs import MAX_LENGTH, MAX_STARS, Glob, GlobSet


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "[1.2",
        "a]",
        "a}",
        "{a",
        "{a,{b}}",
        "[b-a]",
        "[[]",
        "a\\",
        "[a\\",
        "{a[}",
        "a" * (MAX_LENGTH + 1),
        "*a" * (MAX_STARS + 1),
        "{" + "*," * (MAX_STARS + 1) + "}",
    ],
)
def test_an_unreadable_or_too_complex_pattern_is_none(pattern: str) -> None:
    assert Glob.compile(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a*b*c", "aXbYc", True),
        ("ab*ba", "aba", False),
        ("ab*ba", "abba", True),
        ("*a*a*", "xa", False),
        ("a{b,c*}d", "acxxd", True),
        ("a{b,c*}d", "ad", False),
        ("{,a}{,a}{,a}", "aa", True),
        ("{,a}{,a}{,a}", "aaaa", False),
        ("x{*}y", "x\n/y", True),
        ("[!a-c]?", "dz", True),
        ("[!a-c]?", "bz", False),
        ("[^a]", "^", True),
        ("[a-]", "-", True),
        ("\\{a,b\\}", "{a,b}", True),
        ("{a\\,b,c}", "a,b", True),
        ("İ?", "İx", True),
    ],
)
def test_patterns_match_whole_texts(pattern: str, text: str, expected: bool) -> None:
    glob = Glob.compile(pattern)
    assert glob is not None
    assert glob.matches(text) is expected


def test_case_is_told_apart_only_on_demand() -> None:
    exact = Glob.compile("Shop@*", ignore_case=False)
    assert exact is not None
    assert exact.matches("Shop@1")
    assert not exact.matches("shop@1")


def test_a_set_skips_what_it_cannot_read() -> None:
    globs = GlobSet(["[", "a*"])
    assert globs
    assert globs.matches("ABC")
    assert not globs.matches("x")
    assert not globs.matches(None)
    assert not GlobSet(["[", ""])


@given(
    st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "{a,b*}", "{,ab}"]), max_size=8),
    st.text("abc", max_size=10),
)
def test_matching_agrees_with_a_backtracking_expression(parts: list[str], text: str) -> None:
    regex = {
        "*": ".*",
        "?": ".",
        "[!a]": "[^a]",
        "{a,b*}": "(?:a|b.*)",
        "{,ab}": "(?:|ab)",
    }
    glob = Glob.compile("".join(parts))
    if not parts:
        assert glob is None
        return
    assert glob is not None
    expected = re.fullmatch("".join(regex.get(part, part) for part in parts), text, re.DOTALL)
    assert glob.matches(text) is (expected is not None)


@pytest.mark.parametrize("pattern", ["*a" * 31 + "*b", "*?a" * 31 + "*b", "{a,a*}" * 30 + "b"])
def test_a_hostile_pattern_takes_a_bounded_number_of_steps(pattern: str) -> None:
    """A backtracking matcher would need longer than the age of the universe here."""
    glob = Glob.compile(pattern)
    assert glob is not None
    assert not glob.matches("a" * 2000)
