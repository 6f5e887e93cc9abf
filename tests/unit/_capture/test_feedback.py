"""Feedback: what a user says, as an item. Source: wire.md section 4."""

from __future__ import annotations

import json
import time
from typing import Any

from crashfree._capture.feedback import feedback_items
from crashfree._capture.scope import Scope
from crashfree._capture.settings import CaptureSettings
from tests.support.clock import FakeClock
from tests.support.normaliser import complaints
from tests.support.vectors import read

SETTINGS = CaptureSettings(release="app@1.0.0", environment="test")


def feedback(message: str = "it broke", *scopes: Scope, **how: Any) -> tuple[dict[str, Any], Any]:
    made = feedback_items(
        message, settings=SETTINGS, scopes=scopes, clock=FakeClock(time.time()), **how
    )
    payload = made.items[0].payload
    return json.loads(payload), made


def test_feedback_has_the_form_that_real_clients_send() -> None:
    theirs = json.loads(read("envelopes/node-feedback.envelope").split(b"\n")[2])
    about = "4e1d8bf2-82f4-4ba7-9946-9f88be543e4a"
    ours, made = feedback(
        "the button does nothing", name="Ada", email="ada@example.com", event_id=about
    )
    assert made.items[0].type == "feedback"
    assert made.items[0].category == "feedback"
    assert ours["contexts"]["feedback"] == theirs["contexts"]["feedback"]
    assert ours["event_id"] == made.event_id
    assert {"type", "level", "platform", "timestamp", "release", "environment", "sdk"} <= set(ours)
    assert ours["type"] == theirs["type"]
    assert complaints(made.items[0].payload) == []


def test_texts_are_cut_and_what_is_no_event_id_is_left_out() -> None:
    ours, _ = feedback("x" * 5000, name="n" * 500, url="", event_id="no id")
    assert len(ours["contexts"]["feedback"]["message"]) == 4096
    assert len(ours["contexts"]["feedback"]["name"]) == 200
    assert set(ours["contexts"]["feedback"]) == {"message", "name"}


def test_feedback_comes_from_the_user_of_the_scope_with_its_files() -> None:
    scope = Scope()
    scope.set_user({"id": "7"})
    scope.add_attachment(b"png", "screen.png")
    ours, made = feedback("m", Scope(), scope)
    assert ours["user"] == {"id": "7"}
    assert [item.type for item in made.items] == ["feedback", "attachment"]
    assert ours["contexts"]["trace"]["trace_id"] == scope.own_trace().trace_id
