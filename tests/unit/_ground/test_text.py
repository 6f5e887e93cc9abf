"""`crashfree._ground.text`: trimming and showing, by the servers' rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._ground.text import (
    TRIMMED,
    first_forbidden,
    lone_surrogate,
    same_ascii,
    shortened,
    shown,
    trim,
    what_was_cut,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_what_python_trims_and_servers_do_not_stays() -> None:
    """Source: releases.md section 1.2, step 2."""
    for character in "\x1c\x1d\x1e\x1f\u200b\ufeff\u180e":
        assert trim(character) == character
    assert trim(TRIMMED) == ""


@given(ANY_TEXT)
def test_trimming_cuts_at_the_ends_only_and_tells_of_it_when_it_does(text: str) -> None:
    cut = trim(text)
    assert trim(cut) == cut
    assert cut in text
    assert (what_was_cut(text) is None) == (cut == text)


def test_what_was_cut_is_counted_and_named_once() -> None:
    assert what_was_cut("a b") is None
    assert what_was_cut(" a\n\n ") == "4 blank characters cut off (U+0020, U+000A)"
    assert what_was_cut("a\n") == "1 blank character cut off (U+000A)"
    assert what_was_cut(" \n") == "2 blank characters cut off (U+0020, U+000A)"


@pytest.mark.parametrize(
    ("text", "index"),
    [("", None), ("aé ", None), ("a/", 1), ("\\", 0), ("é\x7f", 1), ("\x85", None)],
)
def test_the_first_forbidden_character_is_found(text: str, index: int | None) -> None:
    assert first_forbidden(text) == index


def test_words_are_compared_by_ascii_case_alone() -> None:
    """U+017F is an s to `casefold`, and no s to servers."""
    assert same_ascii("LateST", "latest")
    assert not same_ascii("late\u017ft", "latest")
    assert not same_ascii("latest ", "latest")


def test_half_characters_are_found_and_characters_shown_for_reading() -> None:
    assert lone_surrogate("a\udc00") == 1
    assert lone_surrogate("\U0001f600") is None
    assert (shown("/"), shown("\n"), shown("\ud800")) == ('U+002F "/"', "U+000A", "U+D800")
    assert shortened("x" * 61, 60) == f"'{'x' * 60}'..."
    assert shortened("\x1b") == "'\\x1b'"
