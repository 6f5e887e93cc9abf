"""The old configuration formats. Source: releases.md section 5.2."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crashfree.management import ini


def test_an_ini_file_reads_as_section_and_key() -> None:
    text = '\ufeff# note\n[Auth]\nToken = abc\n; note\n[defaults]\nurl: https://s/\norg="a b"\n'
    assert ini.read_ini(text) == {
        "auth.token": "abc",
        "defaults.url": "https://s/",
        "defaults.org": "a b",
    }


def test_a_broken_ini_line_is_skipped() -> None:
    assert ini.read_ini("[a\nnonsense\n=x\n[b]\nk=v") == {"b.k": "v"}


def test_properties_know_separators_escapes_and_continued_lines() -> None:
    text = (
        "! note\nauth.token = a\\u0062c\ndefaults.url:https\\://s\na.b c d\nlong=one \\\n   two\ne="
    )
    assert ini.read_properties(text) == {
        "auth.token": "abc",
        "defaults.url": "https://s",
        "a.b": "c d",
        "long": "one two",
        "e": "",
    }


def test_a_dotenv_file_knows_export_quotes_and_comments() -> None:
    text = "export A=1\nB='x # y'\nC=\"z\"\nD=v # note\n# E=2\n1F=3\nG\n"
    assert ini.read_dotenv(text) == {"A": "1", "B": "x # y", "C": "z", "D": "v"}


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for read in (ini.read_ini, ini.read_properties, ini.read_dotenv):
        for key, value in read(text).items():
            assert isinstance(key, str)
            assert isinstance(value, str)
