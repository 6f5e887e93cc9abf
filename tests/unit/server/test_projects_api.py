from __future__ import annotations

from typing import Any

import pytest

from crashfree.server import LocalServer
from tests.support.serving import call, envelope, request, send

_PROJECTS = "/api/0/organizations/crashfree/projects/"


def _project(slug: str, rest: str = "") -> str:
    return f"/api/0/projects/crashfree/{slug}/{rest}"


def _post(server: LocalServer, dsn: str, body: bytes) -> int:
    key, _, rest = dsn.partition("://")[2].partition("@")
    project = rest.rpartition("/")[2]
    headers = [("X-Sentry-Auth", f"Sentry sentry_key={key}")]
    path = f"/api/{project}/envelope/"
    return request(server.url, "POST", path, headers=headers, body=body).status


def test_a_new_project_can_be_sent_to_at_once(server: LocalServer) -> None:
    made = call(server, "POST", _PROJECTS, {"name": "My Shop!", "platform": "python"})
    assert made.status == 201
    assert made.json["slug"] == "my-shop"
    keys = call(server, "GET", _project("my-shop", "keys/")).json
    assert len(keys) == 1
    assert _post(server, keys[0]["dsn"]["public"], b"{}\n") == 200
    assert "my-shop" in [each["slug"] for each in call(server, "GET", _PROJECTS).json]
    assert server.dsn_of("my-shop") == keys[0]["dsn"]["public"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"name": "  "}, 400),
        ({"name": "x", "slug": "Not a slug"}, 400),
        ({"name": "x", "slug": "123"}, 400),
        ({"name": "x", "platform": 5}, 400),
        ({"name": "again", "slug": "app"}, 409),
        ([], 400),
    ],
)
def test_a_project_that_cannot_be_is_refused(server: LocalServer, body: Any, status: int) -> None:
    assert call(server, "POST", _PROJECTS, body).status == status


def test_a_project_is_found_by_slug_and_by_number(server: LocalServer) -> None:
    by_slug = call(server, "GET", _project("app")).json
    assert call(server, "GET", _project(by_slug["id"])).json == by_slug
    assert call(server, "GET", _project("nobody")).status == 404


def test_a_disabled_project_takes_nothing_until_it_is_enabled(server: LocalServer) -> None:
    assert call(server, "PUT", _project("app"), {"disabled": True}).json["status"] == "disabled"
    try:
        assert send(server, b"{}\n").status == 403
    finally:
        call(server, "PUT", _project("app"), {"disabled": False})
    assert send(server, b"{}\n").status == 200


def test_a_key_can_be_made_switched_off_and_deleted(server: LocalServer) -> None:
    made = call(server, "POST", _project("app", "keys/"), {"name": "second"})
    assert made.status == 201
    dsn, path = made.json["dsn"]["public"], _project("app", f"keys/{made.json['id']}/")
    assert _post(server, dsn, b"{}\n") == 200
    assert call(server, "PUT", path, {"isActive": False}).json["isActive"] is False
    assert _post(server, dsn, b"{}\n") == 403
    assert call(server, "PUT", path, {"isActive": True, "name": "third"}).json["label"] == "third"
    assert _post(server, dsn, b"{}\n") == 200
    assert call(server, "DELETE", path).status == 204
    assert _post(server, dsn, b"{}\n") == 403
    assert call(server, "GET", path).status == 404


@pytest.mark.parametrize(
    "limits",
    [
        5,
        [5],
        [{"count": -1, "seconds": 1}],
        [{"count": 1, "seconds": 0}],
        [{"count": True, "seconds": 1}],
        [{"count": 1, "seconds": 1, "scope": "world"}],
        [{"count": 1, "seconds": 1, "categories": "error"}],
        [{"count": 1, "seconds": 1, "categories": [1]}],
    ],
)
def test_a_limit_that_cannot_be_is_refused(server: LocalServer, limits: Any) -> None:
    answer = call(server, "PUT", _project("app"), {"limits": limits})
    assert answer.status == 400
    assert "limits" in answer.json


def test_a_filter_set_by_an_option_works_at_once(server: LocalServer) -> None:
    answer = call(server, "PUT", _project("app"), {"options": {"filters:releases": "old@*"}})
    assert answer.status == 200, answer.body
    try:
        event = {"message": "x", "release": "old@1"}
        sent = send(server, envelope(("event", event)))
    finally:
        call(server, "PUT", _project("app"), {"options": {"filters:releases": ""}})
    assert sent.status == 200
    with server.store.read() as db:
        assert not db.execute("SELECT 1 FROM releases WHERE version = 'old@1'").fetchone()
        (quantity,) = db.execute(
            "SELECT quantity FROM tallies WHERE what = 'filtered' AND reason = 'release-version'"
        ).fetchone()
    assert quantity == 1
