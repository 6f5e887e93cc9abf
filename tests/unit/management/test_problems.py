"""A server's refusals as sentences. Source: releases.md sections 4.1 and 5.3."""

from __future__ import annotations

import json

import pytest

from crashfree.management.problems import error_of, renamed_project
from tests.support.vectors import load


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"detail": "Invalid token"}, "Invalid token"),
        (
            {"detail": {"code": "x", "message": "Invalid projects (api)", "extra": {}}},
            "Invalid projects (api)",
        ),
        ({"error": "Chunk size too large"}, "Chunk size too large"),
        ("You are attempting this too often", "You are attempting this too often"),
        ({"version": ["This field is required."]}, "version: This field is required."),
        (
            {"commits": {"0": {"patch_set": {"3": {"type": ["T is not supported."]}}}}},
            "commits[0].patch_set[3].type: T is not supported.",
        ),
        ({"non_field_errors": ["No."]}, "No."),
        ({"detail": "Internal Error", "errorId": "abc"}, "Internal Error"),
        ({"a": ["one"], "b": ["two"]}, "a: one; b: two"),
    ],
)
def test_a_refusal_is_told_by_field_in_the_servers_words(body: object, expected: str) -> None:
    assert error_of(400, json.dumps(body).encode()).detail == expected


@pytest.mark.parametrize(
    "case",
    [case for case in load("release_api_validation.json")["cases"] if not case["accepted"]],
    ids=lambda case: json.dumps(case["errors"])[:60],
)
def test_every_validation_error_of_the_server_is_a_sentence_with_its_field(
    case: dict[str, object],
) -> None:
    errors = case["errors"]
    assert isinstance(errors, dict)
    detail = error_of(400, json.dumps(errors).encode()).detail
    assert str(next(iter(errors))) in detail
    assert "{" not in detail


@pytest.mark.parametrize("body", [b"", b"<h1>Bad gateway</h1>", b"\xff", b"[1,2]", b"null"])
def test_a_body_that_says_nothing_is_named_by_its_status(body: bytes) -> None:
    assert error_of(502, body).detail == "bad gateway"
    assert error_of(599, body).detail == "the server answered 599"


def test_a_renamed_project_is_told_by_its_new_name() -> None:
    body = {"slug": "web2", "detail": {"extra": {"url": "/x", "slug": "web2"}}}
    assert renamed_project(body) == "web2"
    assert error_of(302, json.dumps(body).encode()).detail == "the project was renamed to 'web2'"


def test_a_flood_of_errors_is_cut() -> None:
    body = {"commits": {str(n): {"id": ["bad"]} for n in range(500)}}
    detail = error_of(400, json.dumps(body).encode()).detail
    assert detail.endswith("and 488 more")


def test_the_body_stays_at_hand() -> None:
    error = error_of(400, b'{"detail":"x","extra":1}')
    assert (error.status, error.body) == (400, {"detail": "x", "extra": 1})
