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


def test_a_kept_attachment_can_be_fetched_and_never_runs() -> None:
    data = b"<script>alert(1)</script>"
    with LocalServer(settings={"keep_attachments": True}) as server:
        name = 'a"\r\nX: y\u2028.html'
        file = _item("attachment", data, filename=name, content_type="text/html")
        _taken(server, _item("event", b'{"message":"x"}'), file)
        (shown,) = call(server, "GET", f"{_PROJECT}events/{_EVENT}/attachments/").json
        assert shown["kept"] is True
        path = f"{_PROJECT}events/{_EVENT}/attachments/{shown['id']}/"
        assert call(server, "GET", path).json == shown
        found = call(server, "GET", f"{path}?download=1")
        assert (found.status, found.body) == (200, data)
        assert found.headers["Content-Type"] == "application/octet-stream"
        assert found.headers["Content-Disposition"].startswith('attachment; filename="a_')
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert "X" not in found.headers
        other = f"{_PROJECT}events/{'0' * 32}/attachments/{shown['id']}/"
        for wrong in (other, path.replace(f"/{shown['id']}/", "/x/"), path + "more/"):
            assert call(server, "GET", wrong).status == 404


def test_an_attachment_whose_bytes_were_not_kept_says_so(server: LocalServer) -> None:
    _taken(server, _item("event", b'{"message":"x"}'), _item("attachment", b"a", filename="b"))
    (shown, *_) = call(server, "GET", f"{_PROJECT}events/{_EVENT}/attachments/").json
    path = f"{_PROJECT}events/{_EVENT}/attachments/{shown['id']}/?download=1"
    answer = call(server, "GET", path)
    assert answer.status == 404
    assert "--keep-attachments" in answer.json["detail"]


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
