"""`crashfree._protocol.naming`: what passes both servers' rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._protocol.naming import (
    parse_dist,
    parse_environment,
    repair_environment,
    valid_dist,
    valid_environment,
)
from crashfree.errors import ConfigurationError

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)


@pytest.mark.parametrize("name", ["production", "Staging 2", "é" * 32, "none!", "..."])
def test_an_environment_passes_when_both_servers_take_it(name: str) -> None:
    """Source: releases.md section 3.7."""
    assert parse_environment(name) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "blank"),
        (" \n", "blank"),
        (".", "address"),
        ("..", "address"),
        ("none", "reserved"),
        ("None", "reserved"),
        ("NONE", "reserved"),
        ("a/b", 'U+002F "/" at index 1'),
        ("a\\b", "U+005C"),
        ("a\tb", "U+0009"),
        ("é" * 33, "66 bytes"),
        ("x" * 65, "65 bytes"),
        ("a\ud800", "half a character"),
    ],
)
def test_an_environment_is_refused_when_one_server_refuses_it(name: str, rule: str) -> None:
    """Source: releases.md section 3.7."""
    assert not valid_environment(name)
    with pytest.raises(ConfigurationError, match="SENTRY_ENVIRONMENT") as caught:
        parse_environment(name, setting="SENTRY_ENVIRONMENT")
    assert rule in str(caught.value)


def test_environment_and_dist_are_trimmed_like_releases() -> None:
    assert parse_environment("\u3000prod\n") == "prod"
    assert not valid_environment("\x1fprod")
    assert parse_dist(" 42\n") == "42"


@given(ANY_TEXT)
def test_what_is_valid_stays_itself_and_what_is_repaired_is_valid(text: str) -> None:
    if valid_environment(text):
        name = parse_environment(text)
        assert parse_environment(name) == name
        assert repair_environment(text) == name or not name.strip("-")
    else:
        with pytest.raises(ConfigurationError):
            parse_environment(text)
        repaired = repair_environment(text)
        assert repaired is None or parse_environment(repaired) == repaired


@pytest.mark.parametrize("name", ["1", "1.0-rc_2", "x" * 64])
def test_a_dist_of_plain_characters_passes(name: str) -> None:
    assert parse_dist(name) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 65, "é", "a+b", "a/b", "a\nb"])
def test_any_other_dist_is_refused(name: str) -> None:
    """Source: releases.md section 3.7."""
    assert not valid_dist(name)
    with pytest.raises(ConfigurationError, match="64 characters"):
        parse_dist(name)
