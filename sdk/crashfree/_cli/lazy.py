"""Importing the module of a command when it is called, and only then."""

from __future__ import annotations

import importlib
from types import ModuleType


def module(name: str) -> ModuleType | None:
    """Import `crashfree._cli.<name>`; None when this installation has no such module.

    What that module itself fails to import is its own fault and is raised.
    """
    full = f"crashfree._cli.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
    return None
