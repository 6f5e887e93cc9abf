"""Fixtures of the journeys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import browser as browsers


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running Chromium; the tests that ask for it are skipped where there is none."""
    with browsers.launched() as running:
        yield running
