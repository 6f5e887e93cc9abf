"""What `doctor` finds: sections of labelled facts, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from crashfree.types import JSON


class Surroundings(NamedTuple):
    """What a section may look at; sections change nothing and send nothing."""

    environ: Mapping[str, str]
    directory: str | None
    """The project's directory; None for the working directory."""


class Section(NamedTuple):
    """One subject of the report."""

    name: str
    facts: Mapping[str, JSON]
    """For programs: what `--json` gives under the section's name."""
    rows: tuple[tuple[str, str], ...]
    """For people: label and text, which may have several lines."""
    problems: tuple[str, ...] = ()
    """What does not work, with the remedy; the `--strict` exit code goes by these."""
    hints: tuple[str, ...] = ()
    """What works and might be better."""
