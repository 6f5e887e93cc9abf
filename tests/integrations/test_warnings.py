"""warnings become breadcrumbs when that is asked for."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import crashfree
from crashfree.testing import capture
from crashfree_integrations.warnings import WarningsIntegration


def test_a_warning_that_is_shown_becomes_a_breadcrumb(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(
        warnings, "showwarning", lambda *arguments, **named: shown.append(arguments)
    )
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with capture(integrations=[WarningsIntegration()]) as seen:
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            crashfree.capture_message("m")
        assert warnings.showwarning is before
    (crumb,) = seen.events[0]["breadcrumbs"]["values"]
    assert crumb["category"] == "warning.DeprecationWarning"
    assert crumb["message"] == "old"
    assert crumb["data"]["filename"] == __file__
    assert len(shown) == 1, "it is still shown"
