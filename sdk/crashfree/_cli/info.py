"""`crashfree info`; see `crashfree._cli.login`."""

from __future__ import annotations

from crashfree._cli.login import add_info
from crashfree._cli.parser import Commands


def add(commands: Commands) -> None:
    """Register `info`."""
    add_info(commands)
