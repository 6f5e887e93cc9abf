"""Frameworks under the contract."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.support.http_contract")


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """Collect what a framework leaves open here, and not in somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
