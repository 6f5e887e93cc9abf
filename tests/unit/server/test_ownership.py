from __future__ import annotations

from typing import Any

import pytest

from crashfree.server.ownership import (
    Owner,
    Ownership,
    OwnershipError,
    Rule,
    parse,
    parse_code_owners,
)
from tests.support.vectors import load

VECTORS = load("ownership_rules.json")


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: repr(case["rules"]))
def test_rules_are_read_and_matched(case: dict[str, Any]) -> None:
    if "parse_error" in case:
        where = case["parse_error"]
        with pytest.raises(OwnershipError) as caught:
            parse(case["rules"])
        assert str(caught.value).endswith(f"(line {where['line']}, column {where['column']})")
        assert str(caught.value).startswith("Parse error: ")
        return
    rules = parse(case["rules"])
    assert [rule.to_json() for rule in rules] == case["schema"]["rules"]
    for event in VECTORS["events"]:
        found = [rule.matches(event) for rule in rules]
        assert found == case["matches"][event["name"]], event["name"]


def frames(*names: str) -> dict[str, Any]:
    return {"stacktrace": {"frames": [{"filename": name} for name in names]}}


def test_the_error_names_the_line() -> None:
    with pytest.raises(OwnershipError, match=r"line 3, column 3"):
        parse("path:a b@c\n# x\n  nobody-owns-this\n")


def test_a_quoted_pattern_may_hold_escapes() -> None:
    (rule,) = parse(r'path:"a \"b\" \\*" x@y')
    assert rule.pattern == 'a "b" \\*'


def test_an_unreadable_glob_is_taken_by_its_letters() -> None:
    (rule,) = parse("path:app/[[id]/*.tsx x@y")
    assert rule.matches(frames("app/[[id]/page.tsx"))
    assert not rule.matches(frames("app/i/page.tsx"))


def owned() -> Ownership:
    return Ownership(
        rules=parse("path:src/* first@x.y\npath:src/app.py second@x.y #team third@x.y"),
        code_owners=parse_code_owners("*.py @org/python dev@x.y @nobody\n\n# c\ndocs/\n"),
    )


def test_owners_to_show_are_those_of_all_matching_rules() -> None:
    shown = [str(owner) for _, owner in owned().owners(frames("src/app.py"))]
    assert shown == ["#python", "dev@x.y", "first@x.y", "second@x.y", "#team", "third@x.y"]


def test_the_last_matching_rule_assigns_and_code_owners_come_last() -> None:
    ownership = owned()
    assigned = [str(owner) for _, owner in ownership.assignees(frames("src/app.py"))]
    assert assigned == ["second@x.y", "#team"]
    assigned = [str(owner) for _, owner in ownership.assignees(frames("lib/x.py"))]
    assert assigned == ["#python", "dev@x.y"]
    assert ownership.assignees(frames("lib/x.js")) == []


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.js", "a/b/c.js", True),
        ("docs/*", "docs/a.md", True),
        ("docs/*", "docs/build/a.md", False),
        ("docs/", "a/docs/b.md", True),
        ("docs/", "docs", False),
        ("/docs/", "a/docs/b.md", False),
        ("a/**/z.py", "a/z.py", True),
        ("a/**/z.py", "a/b/c/z.py", True),
        ("a/**/z.py", "b/z.py", False),
        ("**/logs", "x/logs/y.py", True),
        ("src/[id].js", "src/[id].js", True),
        ("src/[id].js", "src/i.js", False),
        ("SRC/a.py", "src/a.py", False),
        ("/src/a.py", "/srv/app/src/a.py", False),
        ("*", "anything", True),
        ("./x", "x", False),
    ],
)
def test_code_owner_patterns_are_those_of_gitignore(
    pattern: str, path: str, expected: bool
) -> None:
    rule = Rule("codeowners", pattern, (Owner("team", "t"),))
    assert rule.matches(frames(path)) is expected


@pytest.mark.parametrize("event", [{}, {"tags": 5}, {"tags": [["a"], 3]}, {"stacktrace": "x"}])
def test_odd_events_match_nothing(event: dict[str, Any]) -> None:
    for rule in parse("path:* a@b\nurl:* a@b\nmodule:* a@b\ntags.x:* a@b\ncodeowners:* a@b"):
        assert not rule.matches(event)
