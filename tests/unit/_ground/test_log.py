from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from crashfree._ground import log
from tests.support.clock import FakeClock


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    log.forget_repeats()
    log.set_debug(False)
    yield
    log.forget_repeats()
    log.set_debug(False)


def test_a_warning_goes_to_the_logger_crashfree(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("no release: 100% of sessions are off")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("crashfree", "WARNING")
    assert record.getMessage() == "no release: 100% of sessions are off"


def test_the_same_warning_is_said_once_a_minute(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Source: wire.md section 19."""
    for _ in range(3):
        log.warning("w", clock=clock)
    clock.advance(59.9)
    log.warning("w", clock=clock)
    assert len(caplog.records) == 1
    clock.advance(0.2)
    log.warning("w", clock=clock)
    assert len(caplog.records) == 2


def test_warnings_of_one_kind_share_a_key(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    log.warning("status 500 at 10:00", key="status-500", clock=clock)
    log.warning("status 500 at 10:01", key="status-500", clock=clock)
    log.warning("status 503 at 10:01", key="status-503", clock=clock)
    assert [record.getMessage() for record in caplog.records] == [
        "status 500 at 10:00",
        "status 503 at 10:01",
    ]


def test_what_was_said_can_be_forgotten(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    log.warning("w", clock=clock)
    log.forget_repeats()
    log.warning("w", clock=clock)
    assert len(caplog.records) == 2


def test_a_clock_that_went_back_does_not_silence_a_warning(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    log.warning("w", clock=clock)
    clock.mono -= 500
    log.warning("w", clock=clock)
    assert len(caplog.records) == 2


def test_the_memory_of_warnings_is_bounded(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        log.warning(f"w{number}", clock=clock)
    assert len(caplog.records) == 1000
    assert len(log._spoken) <= 256  # pyright: ignore[reportPrivateUsage]


def test_while_we_speak_the_mark_says_that_we_are_inside() -> None:
    """Handlers of the application must not capture our own words as events."""
    seen: list[bool] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(log.inside.get())

    handler = Watching()
    logger = logging.getLogger("crashfree")
    logger.addHandler(handler)
    try:
        log.warning("w")
    finally:
        logger.removeHandler(handler)
    assert seen == [True]
    assert not log.inside.get()


def test_the_mark_is_taken_back_when_a_handler_raises() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError

    handler = Broken()
    logger = logging.getLogger("crashfree")
    logger.addHandler(handler)
    try:
        with pytest.raises(RuntimeError):
            log.warning("w")
    finally:
        logger.removeHandler(handler)
    assert not log.inside.get()


def test_debug_lines_are_written_only_when_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    log.debug("nothing")
    assert capsys.readouterr().err == ""
    log.set_debug(True)
    assert log.debugging()
    log.debug("sent 3 items")
    log.warning("no release")
    assert capsys.readouterr().err == (
        " [crashfree] DEBUG: sent 3 items\n [crashfree] WARNING: no release\n"
    )


def test_with_debug_on_a_warning_is_said_once_too(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    log.set_debug(True)
    log.warning("w")
    log.warning("w")
    assert capsys.readouterr().err == " [crashfree] WARNING: w\n"
    assert caplog.records == []


class Full(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError("no space left")


@pytest.mark.parametrize("kind", ["none", "closed", "full", "ascii"])
def test_a_stderr_that_cannot_be_written_is_no_trouble(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream: io.TextIOBase | None = None
    if kind == "closed":
        stream = io.StringIO()
        stream.close()
    elif kind == "full":
        stream = Full()
    elif kind == "ascii":
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    log.set_debug(True)
    log.debug("grüße")
    log.warning("grüße")


def test_logging_is_not_imported_before_the_first_word() -> None:
    program = (
        "import sys; from crashfree._ground import log; log.debug('x');"
        "assert 'logging' not in sys.modules; log.warning('spoken');"
        "assert 'logging' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "spoken" in done.stderr


def test_a_mark_is_that_of_its_thread() -> None:
    seen: list[bool] = []
    outside = log.inside.set(True)
    thread = threading.Thread(target=lambda: seen.append(log.inside.get()))
    thread.start()
    thread.join()
    assert seen == [False]
    assert log.inside.get()
    log.inside.reset(outside)
    assert not log.inside.get()


def test_greenlets_that_share_a_thread_have_marks_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gevent replaces `get_ident` after crashfree was loaded: by the launcher, say."""

    def become(greenlet: int) -> None:
        # For the log alone: a thread that ends meanwhile asks the module itself who it is.
        patched = SimpleNamespace(get_ident=lambda: greenlet)
        monkeypatch.setattr("crashfree._ground.log.threading", patched)

    become(1)
    worker = log.inside.set(True)
    become(2)
    assert not log.inside.get()
    request = log.inside.set(True)
    become(3)
    other = log.inside.set(True)
    become(2)
    log.inside.reset(request)
    assert not log.inside.get()
    become(3)
    assert log.inside.get()
    log.inside.reset(other)
    become(1)
    assert log.inside.get()
    log.inside.reset(worker)
    assert not log.inside.get()


def test_a_nested_mark_leaves_the_outer_one() -> None:
    outer = log.inside.set(True)
    inner = log.inside.set(True)
    log.inside.reset(inner)
    assert log.inside.get()
    log.inside.reset(outer)
    assert not log.inside.get()
