"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import FakeClock

# No test measures time: how long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def strict_boundary() -> Iterator[None]:
    """Let errors of our own pass the boundary: a test must see them."""
    from crashfree._client import guard

    guard.set_strict(True)
    yield
    guard.set_strict(False)


@pytest.fixture(autouse=True)
def no_variables_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep a release, a DSN or a spool of this machine out of the tests."""
    for name in list(os.environ):
        if name.startswith(("CRASHFREE_", "SENTRY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CRASHFREE_SPOOL_DIR", str(tmp_path_factory.getbasetemp() / "spool"))
