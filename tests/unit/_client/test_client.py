"""The client by itself: what a session makes of an event, in which envelope it travels."""

from __future__ import annotations

from typing import Any

import pytest

from crashfree._capture.scope import Scope
from crashfree._client.client import Client
from crashfree._client.options import Options, resolve_options
from crashfree._delivery.memory import MemoryTransport
from crashfree._ground import log
from crashfree._protocol.envelope import Envelope
from tests.support.clock import FakeClock


def options(**given: Any) -> Options:
    given.setdefault("release", "app@1.0.0")
    given.setdefault("spool", False)
    return resolve_options(given, {})


def client_of(clock: FakeClock, **given: Any) -> tuple[Client, MemoryTransport]:
    transport = MemoryTransport()
    return Client(options(**given), transport=transport, clock=clock), transport


def kinds(envelope: Envelope) -> list[str]:
    return [item.type for item in envelope.items]


UNHANDLED: Any = {"type": "excepthook", "handled": False}


def test_a_crash_and_its_session_share_an_envelope(clock: FakeClock) -> None:
    client, transport = client_of(clock)
    client.begin()
    clock.advance(5)
    client.capture_exception(ValueError("x"), mechanism=UNHANDLED)
    client.close()
    assert [kinds(envelope) for envelope in transport.envelopes] == [["event", "session"]]
    [session] = transport.sessions
    assert (session["status"], session["errors"], session["duration"]) == ("crashed", 1, 5.0)


def test_an_event_dropped_by_sampling_leaves_its_session_update_alone(clock: FakeClock) -> None:
    """Source: sessions.md W07: a quota must not hide a crash."""
    client, transport = client_of(clock, sample_rate=0.0)
    client.begin()
    assert client.capture_exception(ValueError("x"), mechanism=UNHANDLED) is None
    client.close()
    assert transport.events == []
    assert [session["status"] for session in transport.sessions] == ["crashed"]
    assert client.discards.totals() == {("sample_rate", "error"): 1}


def test_an_event_dropped_by_before_send_leaves_the_session_untouched(clock: FakeClock) -> None:
    """Source: sessions.md W08."""
    client, transport = client_of(clock, before_send=lambda event, hint: None)
    client.begin()
    client.capture_exception(ValueError("x"))
    client.close()
    [session] = transport.sessions
    assert (session["status"], session["errors"]) == ("exited", 0)
    assert client.discards.totals() == {("before_send", "error"): 1}


def test_close_ends_the_session_first_and_twice_is_once(clock: FakeClock) -> None:
    client, transport = client_of(clock)
    client.begin()
    clock.advance(2)
    assert client.close()
    assert client.close()
    [session] = transport.sessions
    assert (session["status"], session["duration"]) == ("exited", 2.0)
    assert transport.closed


def test_after_close_nothing_is_captured(clock: FakeClock) -> None:
    client, transport = client_of(clock)
    client.close()
    assert client.capture_message("x") is None
    assert client.capture_exception(ValueError()) is None
    client.start_session()
    assert client.flush()
    assert transport.envelopes == []


def test_without_a_release_there_are_events_and_no_sessions(clock: FakeClock) -> None:
    client, transport = client_of(clock, release="")
    client.begin()
    assert client.capture_exception(ValueError("x"), mechanism=UNHANDLED) is not None
    client.sessions.requests.begin().end()
    client.close()
    assert len(transport.events) == 1
    assert transport.sessions == []
    assert transport.aggregates == []


def test_flush_announces_the_session_and_sends_counts(clock: FakeClock) -> None:
    client, transport = client_of(clock)
    client.begin()
    assert client.flush()
    assert [(s["status"], s["init"]) for s in transport.sessions] == [("ok", True)]
    client.close()
    assert [s["seq"] for s in transport.sessions] == [0, 1]


def test_the_last_event_id_stands_in_the_isolation_scope(clock: FakeClock) -> None:
    client, _ = client_of(clock)
    scopes = (Scope(), Scope())
    event_id = client.capture_message("x", scopes=scopes)
    assert [scope.last_event_id for scope in scopes] == [None, event_id]
    client.close()


def test_a_client_that_was_abandoned_says_nothing(clock: FakeClock) -> None:
    client, transport = client_of(clock)
    client.begin()
    client.abandon()
    assert transport.envelopes == []


def test_a_client_is_a_context_manager(clock: FakeClock) -> None:
    client, transport = client_of(clock)
    with client:
        client.begin()
    assert client.closed
    assert len(transport.sessions) == 1


@pytest.mark.parametrize("raised", [ValueError("crumb"), TypeError()])
def test_a_breadcrumb_whose_filter_raises_is_dropped(
    clock: FakeClock, raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def before(crumb: Any, hint: Any) -> Any:
        raise raised

    client, _ = client_of(clock, before_breadcrumb=before)
    scope = Scope()
    client.add_breadcrumb({"message": "x"}, scope=scope)
    assert scope.breadcrumbs() == []
    client.close()


class TestWhoCapturesInside:
    """Foreign code that we call is not heard, and counted; what strikes between is."""

    def test_a_callback_that_captures_is_counted_and_nobody_is_told(self, clock: FakeClock) -> None:
        told: list[object] = []

        def before_send(event: Any, hint: Any) -> Any:
            assert client.capture_message("from before_send") is None
            assert client.capture_exception(ValueError()) is None
            assert client.capture_event({"message": "x"}) is None
            return event

        client, transport = client_of(
            clock, before_send=before_send, on_drop=lambda *loss: told.append(loss)
        )
        assert client.capture_message("outer") is not None
        client.close()
        (event,) = transport.events
        assert event["message"] == "outer"
        assert client.stats().dropped == {("ignored", "error"): 3}
        assert told == []

    def test_a_repr_that_captures_is_not_asked_for_ever(self, clock: FakeClock) -> None:
        class Captures:
            def __repr__(self) -> str:
                client.capture_exception(ValueError(self))
                return "me"

            __str__ = __repr__

        client, transport = client_of(clock, with_locals=True)
        value = Captures()
        scope = Scope()
        scope.set_extra("value", value)
        assert client.capture_exception(ValueError(value), scopes=(Scope(), scope)) is not None
        client.close()
        (event,) = transport.events
        assert event["exception"]["values"][0]["value"] == "me"
        assert client.stats().dropped[("ignored", "error")] >= 2

    def test_a_finalizer_that_strikes_inside_a_capture_is_heard(self, clock: FakeClock) -> None:
        class Captures:
            def __del__(self) -> None:
                client.capture_message("from the finalizer")

        class Clock(FakeClock):
            """Asked in the middle of every capture."""

            armed = False

            def time(self) -> float:
                if self.armed:
                    self.armed = False
                    Captures()
                return super().time()

        struck = Clock(clock.time())
        client, transport = client_of(struck)
        struck.armed = True
        assert client.capture_message("outer") is not None
        client.close()
        assert [event["message"] for event in transport.events] == ["from the finalizer", "outer"]
        assert client.stats().dropped == {}

    def test_what_is_logged_while_we_work_is_noise(self, clock: FakeClock) -> None:
        client, transport = client_of(clock)
        scope = Scope()
        before = log.working.set(True)
        try:
            hint: Any = {"log_record": object()}
            assert client.capture_event({"message": "from urllib3"}, hint) is None
            client.add_breadcrumb({"message": "from urllib3"}, scope=scope)
            assert client.capture_message("from a finalizer") is not None
        finally:
            log.working.reset(before)
        client.close()
        assert [event["message"] for event in transport.events] == ["from a finalizer"]
        assert scope.breadcrumbs() == []
        assert client.stats().dropped == {}
