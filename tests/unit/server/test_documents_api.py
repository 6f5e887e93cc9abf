from __future__ import annotations

import json

from crashfree.server import LocalServer
from tests.support.serving import call, send

_PROJECT = "/api/0/projects/crashfree/app/"
_EVENT = "fc6d8c0c43fc4630ad850ee518f1b9d0"


def _item(kind: str, payload: bytes, **headers: str) -> bytes:
    head = json.dumps({"type": kind, "length": len(payload), **headers}).encode()
    return head + b"\n" + payload + b"\n"


def _taken(server: LocalServer, *items: bytes) -> None:
    assert send(server, b'{"event_id":"%s"}\n' % _EVENT.encode() + b"".join(items)).status == 200


def test_the_attachments_of_an_event_are_listed(server: LocalServer) -> None:
    file = _item("attachment", b"abc", filename="../a.txt", content_type="text/plain")
    _taken(server, _item("event", b'{"message":"x"}'), file)
    (shown,) = call(server, "GET", f"{_PROJECT}events/{_EVENT}/attachments/").json
    assert (shown["name"], shown["mimetype"], shown["size"]) == ("a.txt", "text/plain", 3)
    assert shown["kept"] is False
    assert call(server, "GET", f"{_PROJECT}events/{'0' * 32}/attachments/").json == []


def test_feedback_old_and_new_is_listed(server: LocalServer) -> None:
    old = {"event_id": _EVENT, "name": "Ada", "email": "a@b.c", "comments": "it broke"}
    new = {"contexts": {"feedback": {"message": "<b>it</b>", "contact_email": "d@e.f"}}}
    _taken(server, _item("user_report", json.dumps(old).encode()))
    _taken(server, _item("feedback", json.dumps(new).encode()))
    shown = call(server, "GET", _PROJECT + "user-feedback/").json
    assert [each["comments"] for each in shown] == ["<b>it</b>", "it broke"]
    assert [each["email"] for each in shown] == ["d@e.f", "a@b.c"]
    assert [each["eventID"] for each in shown] == [_EVENT, _EVENT]


def test_check_ins_are_listed(server: LocalServer) -> None:
    told = {"check_in_id": "c" * 32, "monitor_slug": "nightly", "status": "ok", "duration": 1.5}
    _taken(server, _item("check_in", json.dumps(told).encode()))
    (shown,) = call(server, "GET", _PROJECT + "checkins/").json
    assert (shown["id"], shown["monitorSlug"], shown["status"]) == ("c" * 32, "nightly", "ok")
