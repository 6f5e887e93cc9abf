"""One contract for HTTP: what a request counts as, whatever framework serves it.

`CONTRACT` is the table, as data; the docstring of `crashfree_integrations` shows it to users.
`HttpContract` runs it; a framework's test module gives it a `Harness` and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pytest

import crashfree
from crashfree.integration import Integration
from crashfree.testing import capture


class Case(NamedTuple):
    """One line of the table."""

    what: str
    path: str
    session: str
    event: str
    """"handled" or "unhandled"; "none": no event."""
    error: str | None = None
    """Type of the exception in the event; None: as the framework calls it."""
    gone: str | None = None
    """How the client goes away in the middle: its connection ends, or its task is cancelled."""


CONTRACT: tuple[Case, ...] = (
    Case("answered", "/ok", "exited", "none"),
    Case("an error was handled and captured", "/handled", "errored", "handled", "LookupError"),
    Case("an exception escapes", "/items/7/error", "crashed", "unhandled", "ZeroDivisionError"),
    Case("captured, then raised again", "/reraised", "crashed", "handled", "LookupError"),
    Case("answered with 500, by a return", "/returned", "exited", "none"),
    Case("answered with 500, by an exception of the framework", "/raised", "crashed", "unhandled"),
    Case("made a 503 by an error handler", "/turned", "crashed", "unhandled", "Broken"),
    Case("made a 400 by an error handler", "/refused", "exited", "none"),
    Case("answered with 404, by an exception", "/missing", "exited", "none"),
    Case("no such route", "/nowhere", "exited", "none"),
    Case("streamed", "/stream", "exited", "none"),
    Case("fails while streaming", "/stream-fails", "crashed", "unhandled", "BufferError"),
    Case("the client goes away", "/endless", "exited", "none", gone="disconnect"),
    Case("the client goes away, its task with it", "/endless", "exited", "none", gone="cancel"),
    Case("work after the answer fails", "/background", "exited", "unhandled", "BufferError"),
    Case("a websocket is closed", "ws:/talk", "exited", "none"),
    Case("a websocket's client goes away", "ws:/talk", "exited", "none", gone="disconnect"),
    Case("a websocket fails", "ws:/talk-fails", "crashed", "unhandled", "BufferError"),
)  # fmt: skip

ROUTED = "/items/7/error"
COOKIE = "session=1234567890"
SLOW = 10.0


class Broken(Exception):
    """The programs of the contract have an error handler for it that answers 503."""


class Refused(Exception):
    """The programs of the contract have an error handler for it that answers 400."""


class Talk(NamedTuple):
    """What a request came to."""

    status: int | None
    body: bytes
    escaped: BaseException | None = None


class Harness(Protocol):
    """A framework with the routes of the contract, served the way its servers do."""

    name: str
    route: str | None
    """What the framework calls the route of `ROUTED`; None: it has no routes."""
    lacks: Mapping[str, str]
    """Paths that the framework cannot have, each with the reason."""
    patched: Sequence[tuple[object, str]]
    """What the integration may replace."""

    def integrations(self) -> Sequence[Integration]: ...

    def application(self) -> Any: ...

    def wrapped(self, application: Any) -> Any:
        """Put the middleware for any framework around it."""
        ...

    def talk(
        self,
        application: Any,
        path: str,
        *,
        gone: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Talk: ...

    def receivers(self) -> object:
        """Return who listens to the framework's signals."""
        ...


def counts(seen: capture) -> dict[str, int]:
    """Return the sessions by outcome."""
    total: Counter[str] = Counter()
    for payload in seen.aggregates:
        for bucket in payload["aggregates"]:
            for outcome in ("exited", "errored", "crashed", "abnormal", "unhandled"):
                total[outcome] += int(str(bucket.get(outcome, 0)))
    return dict(+total)


def users(seen: capture) -> set[str | None]:
    """Return for whom sessions were counted."""
    return {bucket.get("did") for payload in seen.aggregates for bucket in payload["aggregates"]}


class HttpContract:
    """The suite; a subclass names its `harness`."""

    harness: Harness

    @pytest.fixture(autouse=True)
    def _clean(self) -> Iterator[None]:
        yield
        crashfree.get_global_scope().clear()
        crashfree.get_isolation_scope().clear()

    def observed(self, **options: Any) -> capture:
        return capture(integrations=self.harness.integrations(), **options)

    def skip_without(self, path: str) -> None:
        if path in self.harness.lacks:
            pytest.skip(f"{self.harness.name}: {self.harness.lacks[path]}")

    @pytest.mark.parametrize("case", CONTRACT, ids=[case.what for case in CONTRACT])
    def test_a_request_counts_as_the_table_says(self, case: Case) -> None:
        self.skip_without(case.path)
        if case.gone is not None:
            self.skip_without(case.gone)
        application = self.harness.application()
        with self.observed() as seen:
            self.harness.talk(application, case.path, gone=case.gone)
        assert counts(seen) == {case.session: 1}
        if case.event == "none":
            assert seen.events == []
            return
        (event,) = seen.events
        values = event["exception"]["values"]
        if case.error is not None:
            # In a group, or with the answer of the framework that it was the cause of, perhaps.
            assert case.error in {value["type"] for value in values}
        handled = all(value["mechanism"].get("handled") is not False for value in values)
        assert handled is (case.event == "handled")

    def test_the_program_sees_the_same_answer_as_without_us(self) -> None:
        application = self.harness.application()
        for path in ("/ok", "/stream", "/returned", "/items/7/error", "/nowhere", "/refused"):
            if path in self.harness.lacks:
                continue
            alone = self.harness.talk(application, path)
            with self.observed():
                watched = self.harness.talk(application, path)
            assert watched[:2] == alone[:2]
            assert type(watched.escaped) is type(alone.escaped)

    def test_an_event_tells_of_its_request_and_route(self) -> None:
        application = self.harness.application()
        with self.observed() as seen:
            self.harness.talk(
                application,
                f"{ROUTED}?page=2",
                headers={"X-Probe": "yes", "Cookie": COOKIE, "X-Forwarded-For": "192.0.2.9"},
            )
        (event,) = seen.events
        request = event["request"]
        assert request["method"] == "GET"
        assert request["url"].partition("//")[2].partition("/")[2] == ROUTED[1:]
        assert request["query_string"] == "page=2"
        assert {name.lower(): value for name, value in request["headers"].items()}[
            "x-probe"
        ] == "yes"
        assert event.get("transaction") == self.harness.route

    def test_nothing_personal_is_told_unless_it_was_allowed(self) -> None:
        personal = {"Cookie": COOKIE, "X-Forwarded-For": "192.0.2.9", "Content-Type": "text/plain"}
        application = self.harness.application()
        with self.observed() as seen:
            self.harness.talk(application, "/read-fails", headers=personal, body=b"my-own-text")
        (event,) = seen.events
        told = str(event)
        assert COOKIE not in told
        assert "192.0.2.9" not in told
        assert "my-own-text" not in told
        assert "user" not in event
        assert "REMOTE_ADDR" not in told

    def test_what_is_personal_is_told_when_it_was_allowed(self) -> None:
        self.skip_without("data")
        personal = {"Content-Type": "text/plain"}
        application = self.harness.application()
        with self.observed(send_default_pii=True) as seen:
            self.harness.talk(application, "/read-fails", headers=personal, body=b"my-own-text")
        (event,) = seen.events
        assert event["request"]["data"] == "my-own-text"
        assert event["request"]["env"]["REMOTE_ADDR"]

    def test_a_user_who_becomes_known_late_is_counted_and_told(self) -> None:
        """The body streams already when the program learns for whom."""
        application = self.harness.application()
        with self.observed() as seen:
            self.harness.talk(application, "/late-user")
        assert users(seen) == {"late-7"}
        with self.observed() as seen:
            self.harness.talk(application, "/late-user-fails")
        assert users(seen) == {"late-7"}
        assert seen.events[0]["user"]["id"] == "late-7"

    def test_a_user_of_one_request_is_nobody_in_the_next(self) -> None:
        application = self.harness.application()
        with self.observed() as seen:
            self.harness.talk(application, "/late-user")
            self.harness.talk(application, "/ok")
        assert users(seen) == {"late-7", None}

    @pytest.mark.parametrize(
        ("path", "outcome"),
        [("/ok", "exited"), (ROUTED, "crashed"), ("/stream-fails", "crashed")],
    )
    def test_nested_middleware_counts_once(self, path: str, outcome: str) -> None:
        wrapped = self.harness.wrapped(self.harness.wrapped(self.harness.application()))
        with self.observed() as seen:
            self.harness.talk(wrapped, path)
        assert counts(seen) == {outcome: 1}
        assert len(seen.events) == (outcome == "crashed")
        if path == ROUTED:
            assert seen.events[0].get("transaction") == self.harness.route

    def test_two_applications_in_one_process_count_each_request_once(self) -> None:
        first, second = self.harness.application(), self.harness.application()
        with self.observed() as seen:
            self.harness.talk(first, "/ok")
            self.harness.talk(second, ROUTED)
            self.harness.talk(first, "/handled")
        assert counts(seen) == {"exited": 1, "crashed": 1, "errored": 1}
        assert len(seen.events) == 2

    def test_the_process_is_no_session_of_its_own(self) -> None:
        application = self.harness.application()
        with self.observed() as seen:
            self.harness.talk(application, "/ok")
        assert seen.sessions == []

    def test_crashed_statuses_make_a_returned_500_a_crash(self) -> None:
        application = self.harness.application()
        with self.observed(crashed_statuses={500}) as seen:
            self.harness.talk(application, "/returned")
        assert counts(seen) == {"crashed": 1}
        assert seen.events == []

    def test_without_automatic_sessions_events_still_come(self) -> None:
        application = self.harness.application()
        with self.observed(auto_session_tracking=False) as seen:
            self.harness.talk(application, ROUTED)
        assert counts(seen) == {}
        assert len(seen.events) == 1

    def test_uninstall_leaves_the_framework_as_it_was(self) -> None:
        before = [vars(owner).get(name) for owner, name in self.harness.patched]
        receivers = self.harness.receivers()
        with self.observed():
            during = [vars(owner).get(name) for owner, name in self.harness.patched]
            if self.harness.patched:
                assert during != before
        after = [vars(owner).get(name) for owner, name in self.harness.patched]
        assert all(now is then for now, then in zip(after, before, strict=True))
        assert self.harness.receivers() == receivers

    def test_after_close_an_application_that_was_served_goes_on_and_is_not_counted(self) -> None:
        application = self.harness.application()
        with self.observed() as seen:
            self.harness.talk(application, "/ok")
        assert self.harness.talk(application, "/ok").body == b"fine"
        assert counts(seen) == {"exited": 1}


def quietly() -> None:
    """Handle an error the way programs do."""
    try:
        raise LookupError("handled")
    except LookupError as error:
        crashfree.capture_exception(error)


def captured_and_raised() -> None:
    """Capture an error and let it go on."""
    try:
        raise LookupError("again")
    except LookupError as error:
        crashfree.capture_exception(error)
        raise


def divide(item: int) -> float:
    """Fail."""
    return item / 0
