"""Running errors stop at the boundary and are counted; what belongs to the program passes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crashfree._client import guard
from crashfree._ground import log


@pytest.fixture(autouse=True)
def lenient() -> Iterator[None]:
    guard.set_strict(False)
    log.forget_repeats()
    yield
    guard.set_strict(True)
    guard.set_witness(None)


@guard.boundary("default")
def failing(error: BaseException | None) -> str:
    if error is not None:
        raise error
    return "done"


def test_an_error_becomes_the_default(caplog: pytest.LogCaptureFixture) -> None:
    assert failing(None) == "done"
    assert failing(ValueError("inside")) == "default"
    assert "ValueError: inside" in caplog.text
    assert "the program is not affected" in caplog.text


def test_the_same_place_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        failing(ValueError("inside"))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_belongs_to_the_program_passes(error: BaseException) -> None:
    with pytest.raises(type(error)):
        failing(error)


def test_the_witness_is_told(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, str]] = []
    guard.set_witness(lambda error, place: seen.append((str(error), place)))
    failing(ValueError("inside"))
    assert seen == [("inside", f"{__name__}.failing")]


def test_a_witness_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: Exception, place: str) -> None:
        raise RuntimeError("the witness")

    guard.set_witness(broken)
    assert failing(ValueError("inside")) == "default"


def test_strict_lets_errors_through_for_our_own_tests() -> None:
    guard.set_strict(True)
    with pytest.raises(ValueError, match="inside"):
        failing(ValueError("inside"))
