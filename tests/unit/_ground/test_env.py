from __future__ import annotations

import pytest

from crashfree._ground.env import Setting, boolean, environ, number, setting, variable


def test_our_variable_comes_before_the_accepted_one() -> None:
    both = {"CRASHFREE_DSN": "ours", "SENTRY_DSN": "theirs"}
    assert setting(both, "DSN") == Setting("ours", "CRASHFREE_DSN")
    assert setting({"SENTRY_DSN": "theirs"}, "DSN") == Setting("theirs", "SENTRY_DSN")
    assert setting({}, "DSN") is None


@pytest.mark.parametrize("blank", ["", " ", "\n", " \t\r\n"])
def test_a_blank_variable_is_not_set_and_hides_no_other(blank: str) -> None:
    variables = {"CRASHFREE_RELEASE": blank, "SENTRY_RELEASE": "app@1.0"}
    assert setting(variables, "RELEASE") == Setting("app@1.0", "SENTRY_RELEASE")
    assert variable(variables, "CRASHFREE_RELEASE") is None


def test_whitespace_around_a_value_is_cut() -> None:
    assert variable({"X": " a b \n"}, "X") == Setting("a b", "X")


@pytest.mark.parametrize("word", ["true", "T", "y", "YES", "on", " 1 "])
def test_words_that_switch_on(word: str) -> None:
    assert boolean(word) is True


@pytest.mark.parametrize("word", ["false", "F", "n", "NO", "off", " 0 "])
def test_words_that_switch_off(word: str) -> None:
    assert boolean(word) is False


@pytest.mark.parametrize("word", ["", "2", "maybe", "truefalse", "ja"])
def test_other_words_count_as_not_set(word: str) -> None:
    """Source: wire.md section 19."""
    assert boolean(word) is None


def test_only_finite_numbers_are_numbers() -> None:
    assert number("2.5") == 2.5
    assert number(" 3 ") == 3.0
    for text in ("", "two", "nan", "inf", "-inf", "1e999"):
        assert number(text) is None


def test_the_environment_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = environ()
    monkeypatch.setenv("CRASHFREE_TEST_LIVE", "yes")
    assert setting(variables, "TEST_LIVE") == Setting("yes", "CRASHFREE_TEST_LIVE")
