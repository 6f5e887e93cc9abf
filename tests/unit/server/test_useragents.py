from __future__ import annotations

from typing import Any

import pytest

from crashfree.server.useragents import DEFAULT_RULE, LEGACY_RULES, browser, is_crawler, is_legacy
from tests.support.vectors import load

CRAWLERS = load("crawlers.json")
LEGACY = load("legacy_browsers.json")


@pytest.mark.parametrize("case", CRAWLERS["cases"], ids=lambda case: str(case["user_agent"]))
def test_crawlers_are_told_by_their_name(case: dict[str, Any]) -> None:
    assert is_crawler(case["user_agent"]) is case["filtered"]


@pytest.mark.parametrize("case", LEGACY["cases"], ids=lambda case: str(case["user_agent"]))
def test_legacy_browsers_are_told_by_family_and_major(case: dict[str, Any]) -> None:
    assert is_legacy(case["user_agent"], case["browsers"]) is case["filtered"]


def test_the_rules_are_those_of_the_table() -> None:
    for rule in LEGACY["rules"]:
        family, lowest, highest = LEGACY_RULES[rule["id"]]
        assert family == rule["family"]
        operator, number = rule["major"].split()
        for major in range(130):
            expected = {
                "<": major < int(number),
                "<=": major <= int(number),
                "==": major == int(number),
            }[operator]
            assert (lowest <= major <= highest) is expected
    assert len(LEGACY_RULES) == len(LEGACY["rules"])


@pytest.mark.parametrize("entry", CRAWLERS["deny"], ids=str)
def test_every_listed_crawler_is_denied(entry: dict[str, str]) -> None:
    assert is_crawler(f"x {entry.get('text', 'spider')} ")


def test_without_a_version_nothing_is_legacy() -> None:
    assert browser("Mozilla/5.0 (compatible; MSIE; Windows)") is None
    assert not is_legacy(None, [DEFAULT_RULE])
    assert not is_legacy("Mozilla/5.0", [DEFAULT_RULE, *LEGACY_RULES])
