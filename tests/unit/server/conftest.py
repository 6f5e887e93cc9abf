"""One server for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crashfree.server import LocalServer


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running
