"""Beside sentry-sdk: it reports the errors, crashfree counts the sessions, nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import crashfree
from crashfree.errors import IntegrationError
from crashfree.testing import capture
from crashfree_integrations.sentry_sdk import SWITCHES, SentrySdkIntegration
from crashfree_integrations.wsgi import WsgiMiddleware

sentry_sdk = pytest.importorskip("sentry_sdk")


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    """What sentry-sdk sends, as envelopes."""
    from sentry_sdk.transport import Transport

    envelopes: list[Any] = []

    class Keeping(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            envelopes.append(envelope)

    def start(**options: Any) -> None:
        sentry_sdk.init(
            "http://key@127.0.0.1:9/1", release="a@1", transport=Keeping,
            default_integrations=False, **options,
        )  # fmt: skip

    start()
    envelopes.append(start)
    yield envelopes
    sentry_sdk.init(default_integrations=False)


def item_types(sent: list[Any]) -> list[str]:
    return [item.type for envelope in sent[1:] for item in envelope.items]


def outcome(seen: capture) -> dict[str, int]:
    [payload] = seen.aggregates
    [bucket] = payload["aggregates"]
    return {key: int(str(value)) for key, value in bucket.items() if key not in ("started", "did")}


def test_an_error_it_captures_counts_for_our_unit_and_is_sent_by_it_alone(
    sent: list[Any],
) -> None:
    with capture(session_mode="request", integrations=[SentrySdkIntegration()]) as seen:
        with crashfree.session():
            sentry_sdk.capture_exception(ValueError("theirs"))
    assert outcome(seen) == {"errored": 1}
    assert seen.events == []
    assert item_types(sent) == ["event"]


def test_an_error_that_both_see_leaving_a_request_is_one_crash(sent: list[Any]) -> None:
    from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise RuntimeError("both")

    with capture(session_mode="request", integrations=["sentry_sdk"]) as seen:
        wrapped = WsgiMiddleware(SentryWsgiMiddleware(app))
        environ: Any = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "PATH_INFO": "/"}
        with pytest.raises(RuntimeError, match="both"):
            wrapped(environ, lambda *_: lambda _: None)
        sentry_sdk.flush()
    assert outcome(seen) == {"crashed": 1}
    assert seen.events == []
    assert item_types(sent) == ["event"], "its own session tracking is off"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"before_send": lambda event, hint: None}, {"exited": 1}),
        ({"ignore_errors": [ValueError]}, {"exited": 1}),
        ({"sample_rate": 0.0}, {"errored": 1}),
    ],
    ids=["before_send", "ignore_errors", "sampling"],
)
def test_its_filters_decide_as_ours_would(
    sent: list[Any], options: dict[str, Any], expected: dict[str, int]
) -> None:
    """Source: sessions.md section 3.3."""
    sent[0](**options)
    with capture(session_mode="request", integrations=[SentrySdkIntegration()]) as seen:
        with crashfree.session():
            sentry_sdk.capture_exception(ValueError("filtered"))
    assert outcome(seen) == expected
    assert item_types(sent) == []


def test_messages_and_warnings_do_not_count(sent: list[Any]) -> None:
    with capture(session_mode="request", integrations=[SentrySdkIntegration()]) as seen:
        with crashfree.session():
            sentry_sdk.capture_message("fatal words", level="fatal")
            sentry_sdk.capture_exception(ValueError("low"), level="warning")
    assert outcome(seen) == {"exited": 1}


def test_an_application_session_learns_of_its_errors_too(sent: list[Any]) -> None:
    with capture(integrations=[SentrySdkIntegration()]) as seen:
        sentry_sdk.capture_exception(ValueError("theirs"))
    assert [(s["status"], s["errors"]) for s in seen.sessions] == [("exited", 1)]
    assert seen.events == []


def test_taken_out_again_everything_is_as_it_was(sent: list[Any]) -> None:
    from sentry_sdk import sessions
    from sentry_sdk.client import _Client

    def state() -> list[Any]:
        switches = [getattr(sessions, name) for name in SWITCHES if hasattr(sessions, name)]
        return [*switches, vars(_Client)["_should_sample_error"]]

    before = state()
    assert len(before) >= 2
    with capture(integrations=[SentrySdkIntegration()]):
        assert not any(now is then for now, then in zip(state(), before, strict=True))
    assert all(now is then for now, then in zip(state(), before, strict=True))
    with capture() as seen:
        crashfree.capture_message("events go again")
    assert len(seen.events) == 1


def test_a_version_whose_sessions_cannot_be_switched_off_is_refused(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would count."""
    for name in SWITCHES:
        monkeypatch.delattr(sentry_sdk.sessions, name, raising=False)
    with pytest.raises(IntegrationError, match="_is_auto_session_tracking_enabled"):
        with capture(integrations=[SentrySdkIntegration()]):
            pass
