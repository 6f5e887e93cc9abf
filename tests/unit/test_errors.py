from __future__ import annotations

import copy
import pickle

import pytest

from crashfree import errors
from crashfree.errors import (
    ApiError,
    ConfigurationError,
    CrashfreeError,
    EnvelopeError,
    IntegrationError,
    InvalidDsn,
    InvalidRelease,
    Unreachable,
)

ERRORS: list[CrashfreeError] = [
    CrashfreeError("m"),
    ConfigurationError("m"),
    InvalidDsn("m"),
    InvalidRelease("m", code="bad_characters", character="/", index=3, suggestion="a@1"),
    IntegrationError("m"),
    EnvelopeError("m", code="empty_body"),
    ApiError(409, "already there", body={"detail": "already there"}),
    Unreachable("m", sent=True),
]


def test_every_error_is_held_against_the_rules_below() -> None:
    named = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, CrashfreeError)
    }
    assert {type(error) for error in ERRORS} == named


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_whole(error: CrashfreeError) -> None:
    """Pools pickle what their children raise; what cannot be read back hangs them."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", [ConfigurationError, InvalidDsn, InvalidRelease, IntegrationError])
def test_a_wrong_setting_is_a_value_error(kind: type[Exception]) -> None:
    assert issubclass(kind, ConfigurationError)
    assert issubclass(kind, ValueError)


def test_a_refusal_shows_status_and_words() -> None:
    assert str(ApiError(404, "no such release")) == "404: no such release"
