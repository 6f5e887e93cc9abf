"""logging: error records become events, the others breadcrumbs."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest

import crashfree
from crashfree.testing import capture
from crashfree_integrations.logging import CrashfreeHandler, LoggingIntegration

log = logging.getLogger("shop.cart")


@pytest.fixture
def seen() -> Iterator[capture]:
    with capture(integrations=[LoggingIntegration()]) as block:
        yield block


@pytest.fixture(autouse=True)
def every_level() -> Iterator[None]:
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(logging.NOTSET)


def fail() -> None:
    raise ValueError("no money")


def test_an_error_record_becomes_an_event(seen: capture) -> None:
    log.error("paying %s failed after %d ms", "ada", 5, extra={"order": 7})
    (event,) = seen.events
    assert event["level"] == "error"
    assert event["logger"] == "shop.cart"
    assert event["logentry"] == {
        "message": "paying %s failed after %d ms", "params": ["ada", 5],
        "formatted": "paying ada failed after 5 ms",
    }  # fmt: skip
    assert event["message"] == "paying ada failed after 5 ms"
    assert event["extra"] == {"order": 7}
    assert "exception" not in event


def test_without_an_exception_it_does_not_count_for_the_session(seen: capture) -> None:
    """Source: sessions.md section 3.2."""
    log.critical("bad")
    crashfree.end_session()
    assert seen.events[0]["level"] == "fatal"
    assert (seen.sessions[-1]["status"], seen.sessions[-1]["errors"]) == ("exited", 0)


def test_with_an_exception_it_tells_of_it_and_counts(seen: capture) -> None:
    try:
        fail()
    except ValueError:
        log.exception("paying failed")
    (event,) = seen.events
    (value,) = event["exception"]["values"]
    assert (value["type"], value["value"]) == ("ValueError", "no money")
    assert value["mechanism"] == {"type": "logging", "handled": True, "exception_id": 0}
    assert value["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["logentry"]["formatted"] == "paying failed"
    crashfree.end_session()
    assert seen.sessions[-1]["errors"] == 1


def test_logged_and_then_captured_is_told_once(seen: capture) -> None:
    try:
        fail()
    except ValueError as error:
        log.exception("paying failed")
        crashfree.capture_exception(error)
    assert len(seen.events) == 1


def test_other_records_become_breadcrumbs_of_the_next_event(seen: capture) -> None:
    log.debug("too fine")
    log.info("hello %s", "world")
    log.warning("careful", extra={"rows": 3})
    log.error("now")
    (event,) = seen.events
    crumbs = event["breadcrumbs"]["values"]
    assert [(c["level"], c["category"], c["message"]) for c in crumbs] == [
        ("info", "shop.cart", "hello world"), ("warning", "shop.cart", "careful"),
    ]  # fmt: skip
    assert crumbs[1]["data"] == {"rows": 3}


@pytest.mark.parametrize("name", ["crashfree", "crashfree.anything"])
def test_records_of_crashfree_are_left_alone(seen: capture, name: str) -> None:
    logging.getLogger(name).error("our own")
    crashfree.capture_message("m")
    assert len(seen.events) == 1
    assert "breadcrumbs" not in seen.events[0]


def test_what_a_callback_logs_is_left_alone() -> None:
    def before_send(event: Any, hint: Any) -> Any:
        log.error("in the callback")
        return event

    with capture(integrations=[LoggingIntegration()], before_send=before_send) as seen:
        log.error("outside")
    assert len(seen.events) == 1


def test_a_new_configuration_does_not_lose_us(seen: capture) -> None:
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "root": {"handlers": []}}
    )
    log.error("still here")
    assert len(seen.events) == 1


def test_filters_and_levels_of_the_program_decide_first(seen: capture) -> None:
    log.setLevel(logging.CRITICAL)
    log.error("too low")
    log.setLevel(logging.DEBUG)

    def no(record: logging.LogRecord) -> bool:
        return False

    log.addFilter(no)
    try:
        log.error("filtered")
    finally:
        log.removeFilter(no)
    assert seen.events == []


class Silent:
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("%d", ("text",)),
        ("%s %s", ("one",)),
        ("%s", (Silent(),)),
        (Silent(), ()),
        ("%(a)s", ({"b": 1},)),
    ],
)
def test_records_that_cannot_be_formatted_are_told_as_they_are(
    seen: capture, message: Any, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.error(message, *arguments)
    (event,) = seen.events
    assert event["logentry"]["formatted"] == (
        message if isinstance(message, str) else "<unprintable record>"
    )


def test_levels_and_loggers_can_be_chosen() -> None:
    rules = LoggingIntegration(
        breadcrumb_level=logging.WARNING, event_level=None, ignored_loggers=["noisy"]
    )
    with capture(integrations=[rules]) as seen:
        log.info("no")
        log.error("crumb")
        logging.getLogger("noisy.inner").error("no")
        logging.getLogger("noisyneighbour").error("crumb")
        crashfree.capture_message("m")
    (event,) = seen.events
    assert [c["message"] for c in event["breadcrumbs"]["values"]] == ["crumb", "crumb"]


def test_taken_out_it_leaves_logging_as_it_was() -> None:
    before = vars(logging.Logger)["callHandlers"]
    with capture(integrations=[LoggingIntegration()]):
        assert vars(logging.Logger)["callHandlers"] is not before
    assert vars(logging.Logger)["callHandlers"] is before


def test_the_handler_does_the_same_where_it_is_configured_by_hand() -> None:
    handler = CrashfreeHandler()
    log.addHandler(handler)
    try:
        with capture() as seen:
            log.info("before")
            log.error("now")
    finally:
        log.removeHandler(handler)
    (event,) = seen.events
    assert event["breadcrumbs"]["values"][0]["message"] == "before"


def test_a_storm_of_logged_exceptions_is_held_back_and_counted(seen: capture) -> None:
    for _ in range(50):
        try:
            fail()
        except ValueError:
            log.exception("again")
    crashfree.end_session()
    assert len(seen.events) == 10
    assert seen.sessions[-1]["errors"] == 50


def test_the_stack_of_a_logged_message_ends_at_the_program() -> None:
    with capture(integrations=[LoggingIntegration()], attach_stacktrace=True) as seen:
        log.error("where")
    (thread,) = seen.events[0]["threads"]["values"]
    last = thread["stacktrace"]["frames"][-1]
    assert last["function"] == "test_the_stack_of_a_logged_message_ends_at_the_program"


def test_error_records_of_servers_and_frameworks_are_breadcrumbs() -> None:
    """What they speak of is reported by their integrations, once."""
    import crashfree

    with capture(integrations=[LoggingIntegration()]) as seen:
        logging.getLogger("celery.app.trace").error("Task raised unexpected", exc_info=ValueError())
        logging.getLogger("gunicorn.error").error("Worker was sent SIGKILL")
        logging.getLogger("celeryish").error("ours")
        crashfree.capture_message("after")
    assert [event.get("logger") for event in seen.events] == ["celeryish", None]
    crumbs = seen.events[1]["breadcrumbs"]["values"]
    assert {"celery.app.trace", "gunicorn.error"} <= {crumb["category"] for crumb in crumbs}


@pytest.mark.parametrize("name", ["uvicorn.access", "gunicorn.access", "aiohttp.access"])
def test_access_logs_are_left_alone(seen: capture, name: str) -> None:
    """What was answered is no news to an event, which knows its own request."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.info("GET / 200")
    logger.error("GET / 500")
    log.info("paying")
    crashfree.capture_message("x")
    assert [crumb["message"] for crumb in seen.events[-1]["breadcrumbs"]["values"]] == ["paying"]
    assert len(seen.events) == 1
