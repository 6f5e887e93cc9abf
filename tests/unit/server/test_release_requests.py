from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from crashfree.server.fields import Invalid
from crashfree.server.release_requests import CREATE, DEPLOY, UPDATE, ref_range
from tests.support.vectors import load

ENDPOINTS = {"create": CREATE, "update": UPDATE, "deploy": DEPLOY}


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value


@pytest.mark.parametrize(
    "case", load("release_api_validation.json")["cases"], ids=lambda case: str(case)[:80]
)
def test_bodies_are_read_like_the_original_does(case: dict[str, Any]) -> None:
    endpoint = ENDPOINTS[case["endpoint"]]
    if not case["accepted"]:
        with pytest.raises(Invalid) as caught:
            endpoint.read(case["body"])
        assert caught.value.errors == case["errors"]
    else:
        assert plain(endpoint.read(case["body"])) == case["validated"]


def test_the_version_is_trimmed_and_answered_as_stored() -> None:
    assert CREATE.read({"version": " w@1\t", "projects": []})["version"] == "w@1"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("é" * 101, "Ensure this field has no more than 200 UTF-8 bytes."),
        ("a\0b", "Null characters are not allowed."),
        ("a\x01b", "Release with name a\x01b is not allowed"),
        ("Latest", "Release with name Latest is not allowed"),
        (" \u3000", "This field may not be blank."),
        (True, "Not a valid string."),
    ],
)
def test_names_that_ingestion_would_lose_are_refused_here(version: object, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        CREATE.read({"version": version, "projects": []})
    assert caught.value.errors == {"version": [message]}


@pytest.mark.parametrize("name", ["none", "NONE", ".", "..", "a\\b", "a\tb", "é" * 33])
def test_environments_that_a_session_could_not_carry_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        DEPLOY.read({"environment": name})
    assert caught.value.errors == {"environment": ["Invalid value for environment"]}


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        CREATE.read(
            {
                "version": "a/b",
                "commits": [{"id": "x"}, {"patch_set": [{"path": "a", "type": "A"}, 5]}],
                "refs": "x",
            }
        )
    assert caught.value.errors == {
        "version": ["Release with name a/b is not allowed"],
        "projects": ["This field is required."],
        "commits": {
            "1": {
                "id": ["This field is required."],
                "patch_set": {
                    "1": {"non_field_errors": ["Invalid data. Expected a dictionary, but got int."]}
                },
            }
        },
        "refs": ['Expected a list of items but got type "str".'],
    }


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        UPDATE.read([])
    assert caught.value.errors == {
        "non_field_errors": ["Invalid data. Expected a dictionary, but got list."]
    }


def test_a_ref_names_its_range() -> None:
    assert ref_range({"commit": "a..b"}) == ("a", "b")
    assert ref_range({"commit": "b", "previousCommit": "a"}) == ("a", "b")
    assert ref_range({"commit": "b", "previousCommit": ""}) == (None, "b")
    assert ref_range({"commit": "b"}) == (None, "b")
