"""What commands print: results on standard output, everything else on standard error.

With `--json` standard output holds exactly one JSON value. Notes go to standard error and are
silent with `--quiet` and `--json`; warnings are not. Progress is drawn only where a terminal is.

Source: releases.md section 5.1 (tables).
"""

from __future__ import annotations

import argparse
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, cast

from crashfree._cli import report
from crashfree._ground import json

_BAR = 30


def emit(value: Any) -> None:
    """Print `value` as JSON, indented for a person on a terminal, compact for a program."""
    text = json.encode(value).decode()
    print(_indented(value) if sys.stdout.isatty() else text)


def say(text: str) -> None:
    """Print a line of the result."""
    print(text)


def note(args: argparse.Namespace, text: str) -> None:
    """Tell a person on standard error what is going on; silent with `--quiet` and `--json`."""
    if not args.quiet and not args.json:
        report.line(text)


def warn(text: str) -> None:
    """Tell on standard error what is wrong but does not end the command."""
    report.warning(text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header; a cell may hold several lines."""
    grid = [[cell.split("\n") for cell in row] for row in (header, *rows)]
    widths = [
        max(max((_width(line) for line in row[column]), default=0) for row in grid)
        for column in range(len(header))
    ]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    print(rule)
    for index, row in enumerate(grid):
        for line in range(max(len(cell) for cell in row)):
            cells = (cell[line] if line < len(cell) else "" for cell in row)
            padded = (_padded(cell, width) for cell, width in zip(cells, widths, strict=True))
            print("| " + " | ".join(padded) + " |")
        if index == 0:
            print(rule)
    print(rule)


class Progress:
    """Long work, drawn as a bar on a terminal and not at all elsewhere.

    A context manager; `advance` says how much is done.
    """

    _title: str
    _total: int
    _done: int
    _drawn: bool
    _enabled: bool

    def __init__(self, args: argparse.Namespace, title: str, total: int = 0) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._drawn = False
        self._enabled = sys.stderr.isatty() and not args.quiet and not args.json

    def __enter__(self) -> Progress:
        self._draw()
        return self

    def __exit__(self, *exc: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the bar away, so that a line can be written in its place."""
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def advance(self, amount: int = 1) -> None:
        """Count `amount` as done."""
        self._done += amount
        self._draw()

    def reached(self, done: int, total: int) -> None:
        """Say how much is done of how much."""
        self._done, self._total = done, total
        self._draw()

    def _draw(self) -> None:
        if not self._enabled:
            return
        self._drawn = True
        if self._total:
            filled = min(_BAR, _BAR * self._done // self._total)
            bar = "#" * filled + "." * (_BAR - filled)
            text = f"{self._title} [{bar}] {self._done}/{self._total}"
        else:
            text = f"{self._title} {self._done or '...'}"
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


def _width(text: str) -> int:
    """Return the columns that `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _indented(value: object) -> str:
    return "\n".join(_indent(value, ""))


def _indent(value: object, margin: str) -> list[str]:
    inner = margin + "  "
    if not value or not isinstance(value, (dict, list)):
        return [json.encode(value).decode()]
    if isinstance(value, dict):
        named = cast("dict[str, object]", value)
        entries = [(json.encode(key).decode() + ": ", entry) for key, entry in named.items()]
        return ["{", *_indent_entries(entries, inner), margin + "}"]
    entries = [("", entry) for entry in cast("list[object]", value)]
    return ["[", *_indent_entries(entries, inner), margin + "]"]


def _indent_entries(entries: list[tuple[str, object]], margin: str) -> list[str]:
    lines: list[str] = []
    for index, (label, entry) in enumerate(entries):
        nested = _indent(entry, margin)
        nested[0] = margin + label + nested[0]
        nested[-1] += "," if index + 1 < len(entries) else ""
        lines.extend(nested)
    return lines
