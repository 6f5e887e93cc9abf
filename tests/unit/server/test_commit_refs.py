from __future__ import annotations

from typing import Any

import pytest

from crashfree.server.commit_refs import ignored, references
from crashfree.server.shortids import parse
from tests.support.vectors import load


@pytest.mark.parametrize(
    "case", load("commit_refs.json")["cases"], ids=lambda case: repr(case["message"])
)
def test_messages_name_the_issues_they_resolve(case: dict[str, Any]) -> None:
    found = references(case["message"], host="sentry.example.com")
    assert list(found.short_ids) == case["short_ids"]
    assert list(found.issue_ids) == case["issue_ids_from_urls"]
    resolved = [
        {
            "text": text,
            "project_slug": None if (part := parse(text)) is None else part.project_slug,
            "number": None if part is None else part.number,
        }
        for text in found.short_ids
    ]
    assert resolved == case["resolved_as"]
    assert ignored(case["message"]) is case["ignored_commit"]


def test_a_missing_message_names_nothing() -> None:
    assert references(None) == ((), ())
    assert not ignored(None)


def test_without_a_host_links_are_not_followed() -> None:
    message = "Fixes http://localhost:9000/issues/5"
    assert references(message).issue_ids == ()
    assert references(message, host="localhost").issue_ids == (5,)


def test_a_broken_link_is_skipped() -> None:
    assert references("Fixes http://[x/issues/5", host="x").issue_ids == ()


def test_a_long_run_of_words_takes_linear_time() -> None:
    assert references("fix " + "a " * 40_000 + "-", host=None).short_ids == ()
    assert references("fix " * 20_000, host="x").short_ids == ()
