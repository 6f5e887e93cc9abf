"""Tables, JSON, progress, instants and ages. Source: releases.md section 5.1."""

from __future__ import annotations

import argparse
import io
import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._cli import options, output
from crashfree._cli.ago import ago, instant, span

NOW = 1_790_000_000.0


def test_a_table_has_borders_a_header_and_lines_in_cells(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.table(("Name", "Commits"), [("w@1", "abc\nde"), ("w@22", "")])
    assert capsys.readouterr().out == (
        "+------+---------+\n"
        "| Name | Commits |\n"
        "+------+---------+\n"
        "| w@1  | abc     |\n"
        "|      | de      |\n"
        "| w@22 |         |\n"
        "+------+---------+\n"
    )


def test_wide_and_combining_characters_keep_the_borders_straight(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.table(("N",), [("日本",), ("e\u0301",), ("abcd",)])
    rows = capsys.readouterr().out.splitlines()[3:6]
    assert rows == ["| 日本 |", "| e\u0301    |", "| abcd |"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_json_for_people_and_for_programs_says_the_same(value: object) -> None:
    assert json.loads(output._indented(value)) == json.loads(json.dumps(value))


def test_json_is_one_line_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"a": [1, {"b": "ü"}]})
    assert capsys.readouterr().out == '{"a":[1,{"b":"ü"}]}\n'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("switch", ["quiet", "json", None])
def test_a_bar_is_drawn_on_a_terminal_unless_told_not_to(
    switch: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    args = argparse.Namespace(quiet=switch == "quiet", json=switch == "json")
    with output.Progress(args, "Uploading", 4) as progress:
        progress.advance(2)
        drawn = terminal.getvalue()
    if switch is None:
        assert drawn.endswith(f"Uploading [{'#' * 15}{'.' * 15}] 2/4")
        assert terminal.getvalue().endswith("\r\x1b[K")
    else:
        assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000", 1_700_000_000.0),
        ("1700000000.5", 1_700_000_000.5),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000.0),
        ("2023-11-14T22:13:20", 1_700_000_000.0),
        ("Tue, 14 Nov 2023 22:13:20 +0000", 1_700_000_000.0),
        ("2023-11-14", 1_699_920_000.0),
        (" 0 ", 0.0),
    ],
)
def test_an_instant_is_read_in_every_usual_form(text: str, expected: float) -> None:
    assert options.moment(text) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2023-13-01", "inf", "nan", "1e99", "14.11.2023"]
)
def test_other_words_are_no_instant(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.moment(text)


@given(st.text())
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    try:
        datetime.fromtimestamp(options.moment(text), timezone.utc)
    except argparse.ArgumentTypeError:
        return


@pytest.mark.parametrize(
    ("text", "reader"),
    [
        ("0", options.positive),
        ("-1", options.positive),
        ("x", options.positive),
        ("inf", options.positive),
        ("1.5", options.count),
        ("-1", options.count),
        ("", options.count),
        ("²", options.count),
    ],
)
def test_numbers_out_of_range_are_refused(text: str, reader: object) -> None:
    assert callable(reader)
    with pytest.raises(argparse.ArgumentTypeError):
        reader(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3_599, "59 minutes"),
        (3_600, "1 hour"),
        (27_000_000, "7500 hours"),
    ],
)
def test_a_span_is_told_in_its_largest_unit(seconds: int, words: str) -> None:
    assert span(seconds) == words


def test_moments_before_behind_and_missing() -> None:
    moment = datetime.fromtimestamp(NOW, timezone.utc)
    assert ago(moment, NOW + 7_200) == "2 hours ago"
    assert ago(moment, NOW - 7_200) == "in 2 hours"
    assert ago(None, NOW) == "-"
    assert instant(None) == "-"
    assert instant(moment).endswith(" UTC")
