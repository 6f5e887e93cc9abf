"""`crashfree.release`: the vectors of the servers' own parser, and properties over all Unicode."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._ground.text import FORBIDDEN, TRIMMED
from crashfree.errors import ConfigurationError, InvalidRelease
from crashfree.release import MAX_BYTES, Release, Version, compare_versions, parse_version
from tests.support.vectors import load

NAMES: list[dict[str, Any]] = load("release_names.json")["cases"]
ORDER: dict[str, Any] = load("release_order.json")

ANY_TEXT = st.text(st.characters(exclude_categories=()))
"""All of Unicode, lone surrogates included."""
PIECES = st.lists(
    st.sampled_from(
        ["@", ".", "-", "+", "0", "1", "10", "01", "a", "rc", "A", "_", "é", "/", "\n", " ",
         "latest", "18446744073709551616", "a86d127c4b2f", "\ud800", "\x1f"]
    ),
    max_size=14,
).map("".join)  # fmt: skip
VERSIONS = st.from_regex(
    r"\A(0|1|2|10)(\.(0|1|10)){0,3}(-(0|1|10|a|rc|B)(\.(0|2|10|a)){0,2})?(\+(1|2|10|1a|01|a\.b))?\Z"
)


def refusal(text: Any, **kwargs: Any) -> InvalidRelease:
    with pytest.raises(InvalidRelease) as caught:
        Release.parse(text, **kwargs)
    return caught.value


def version(text: str) -> Version:
    found = parse_version(text)
    assert found is not None
    return found


def as_the_parser_says(release: Release) -> dict[str, Any]:
    found: dict[str, Any] = {
        "package": release.package,
        "version_raw": release.version,
        "is_semver": release.parsed is not None,
        "build_hash": release.build_hash,
        "description": release.description,
    }
    parsed = release.parsed
    if parsed is not None:
        found |= {
            "major": release.major,
            "minor": release.minor,
            "patch": release.patch,
            "revision": release.revision,
            "pre": release.pre,
            "build_code": release.build,
            "raw_short": parsed.raw_short,
            "components": parsed.components,
            "raw_quad": list(parsed.raw_quad),
        }
    return found


# --- vectors ----------------------------------------------------------------------------------


def test_there_are_as_many_vectors_as_the_files_promise() -> None:
    assert len(NAMES) == 316
    assert len(ORDER["pairs"]) == 240


@pytest.mark.parametrize("case", NAMES, ids=lambda case: ascii(case["name"])[:50])
def test_a_name_is_judged_and_read_as_by_the_servers_parser(case: dict[str, Any]) -> None:
    """Source: releases.md section 1.2; a blank name, valid to the parser, is refused here."""
    if not case["valid"]:
        codes = {"restricted_name": "restricted"}
        assert refusal(case["name"]).code == codes.get(case["error"], case["error"])
        return
    if not case["parsed"]["version_raw"]:
        assert refusal(case["name"]).code == "empty"
        return
    found = as_the_parser_says(Release.parse(case["name"]))
    wanted = {key: case["parsed"][key] for key in found}
    assert found == wanted


@pytest.mark.parametrize("mode", ["result", "semver_precedence"])
def test_two_versions_compare_as_by_the_servers_parser(mode: str) -> None:
    """Source: releases.md section 3.4."""
    precedence = mode == "semver_precedence"
    wrong = []
    for pair in ORDER["pairs"]:
        a, b = parse_version(pair["a"]), parse_version(pair["b"])
        found = None
        if a is not None and b is not None:
            found = compare_versions(a, b, semver_precedence=precedence)
        if found != pair[mode]:
            wrong.append((pair["a"], pair["b"], found, pair[mode]))
    assert not wrong


def test_the_servers_comparison_runs_in_circles_and_our_sort_key_does_not() -> None:
    """Source: releases.md section 3.4: build codes that are numbers beside others that are not."""
    for triple in ORDER["cycles"]["triples"]:
        a, b, c = map(version, triple)
        assert (compare_versions(a, b), compare_versions(b, c), compare_versions(c, a)) == (
            -1,
            -1,
            -1,
        )
    orders = {
        tuple(sorted(triple, key=lambda text: version(text).sort_key()))
        for triple in itertools.permutations(["1.0+2", "1.0+10", "1.0+1a"])
    }
    assert orders == {("1.0+2", "1.0+10", "1.0+1a")}


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "character", "index", "suggestion"),
    [
        ("feature/x", "bad_characters", "/", 7, "feature-x"),
        ("@scope/pkg@1.0", "bad_characters", "/", 6, "@scope-pkg@1.0"),
        ("  a\tb\n", "bad_characters", "\t", 3, "a-b"),
        ("a\x7f", "bad_characters", "\x7f", 1, "a-"),
        ("C:\\app@1", "bad_characters", "\\", 2, "C:-app@1"),
        ("///", "bad_characters", "/", 0, None),
        ("", "empty", None, None, None),
        ("\u3000 \x85", "empty", None, None, None),
        (".", "restricted", None, None, None),
        (" .. ", "restricted", None, None, None),
        ("LaTeSt", "restricted", None, None, None),
        (" a\ud800b", "bad_unicode", "\ud800", 2, "a-b"),
        ("x" * 201, "too_long", None, None, "x" * 200),
        ("é" * 101, "too_long", None, None, "é" * 100),
        (None, "not_a_string", None, None, None),
        (b"a@1", "not_a_string", None, None, None),
        (1.0, "not_a_string", None, None, None),
    ],
)
def test_a_bad_name_tells_the_rule_the_place_and_a_better_name(
    text: Any, code: str, character: str | None, index: int | None, suggestion: str | None
) -> None:
    """Source: releases.md section 1.3."""
    error = refusal(text)
    assert (error.code, error.character, error.index, error.suggestion) == (
        code,
        character,
        index,
        suggestion,
    )
    assert isinstance(error, ConfigurationError)
    assert isinstance(error, ValueError)
    if character is not None:
        assert isinstance(text, str)
        assert text[index or 0] == character


def test_messages_say_what_a_user_needs() -> None:
    """Source: releases.md section 1.3."""
    blank = str(refusal(" ", setting="SENTRY_RELEASE"))
    assert "SENTRY_RELEASE" in blank
    assert "blank" in blank
    assert "myapp@1.0.0" in blank
    long = str(refusal("é" * 101))
    assert "200 UTF-8 bytes" in long
    assert "202 bytes" in long
    assert "101 characters" in long
    assert "'ééé" in long
    assert "newest release" in str(refusal("latest"))
    assert "addresses" in str(refusal(".."))
    several = str(refusal("a/b\\c/d\x00"))
    assert 'U+002F "/" at index 1' in several
    assert 'U+005C "\\"' in several
    assert "U+0000" in several
    assert several.count("U+002F") == 1
    assert "'a-b-c-d-'" in several
    assert "bytes" in str(refusal(b"x"))
    assert "index 1" in str(refusal("a\udfff"))


def test_messages_can_be_printed_anywhere() -> None:
    """No control character and no half character of the name gets into the message."""
    for text in ("a\ud800b/", "a\x1b[31m/", "a\nb", "\x85a\x85\x00"):
        message = str(refusal(text))
        assert message.isprintable()
        message.encode()


@pytest.mark.parametrize("character", sorted(FORBIDDEN))
def test_each_forbidden_character_is_refused_inside_a_name(character: str) -> None:
    assert refusal(f"a{character}b").character == character


def test_exactly_35_characters_are_forbidden_and_25_are_trimmed() -> None:
    """Source: releases.md section 1.2, from an exhaustive run of the servers' parser."""
    everything = [chr(code) for code in range(0x3100) if not 0xD800 <= code < 0xE000]
    refused = [each for each in everything if not valid(f"a{each}b")]
    assert len(refused) == 35
    trimmed = [
        each for each in everything if valid(f"{each}a") and Release.parse(f"{each}a").raw == "a"
    ]
    assert len(trimmed) == 25
    assert sorted(TRIMMED) == trimmed


def judged(text: str) -> Release | InvalidRelease:
    try:
        return Release.parse(text)
    except InvalidRelease as error:
        return error


def valid(text: str) -> bool:
    return isinstance(judged(text), Release)


# --- suggestions ------------------------------------------------------------------------------


def test_a_suggestion_leaves_a_valid_name_alone() -> None:
    assert Release.suggest(" myapp@1.0 ") == "myapp@1.0"
    assert Release.suggest("---") == "---"


def test_a_suggestion_never_splits_a_character() -> None:
    assert Release.suggest("日" * 67) == "日" * 66


@given(ANY_TEXT | PIECES)
def test_a_suggestion_is_always_valid(text: str) -> None:
    suggestion = Release.suggest(text)
    if suggestion is not None:
        assert Release.parse(suggestion).raw == suggestion


# --- properties -------------------------------------------------------------------------------


@given(ANY_TEXT | PIECES)
def test_parsing_raises_nothing_but_its_own_error_and_twice_changes_nothing(text: str) -> None:
    release = judged(text)
    if isinstance(release, InvalidRelease):
        assert (release.character is None) == (release.index is None)
        assert release.index is None or text[release.index] == release.character
        return
    assert len(release.raw.encode()) <= MAX_BYTES
    assert not FORBIDDEN & set(release.raw)
    again = Release.parse(release.raw)
    assert again == release
    assert as_the_parser_says(again) == as_the_parser_says(release)
    release.hints()
    release.version_info()
    assert release.short


@given(st.lists(PIECES.filter(valid).map(Release.parse), min_size=2, max_size=6), st.booleans())
def test_the_sort_key_orders_any_two_names_and_only_equal_names_are_equal(
    releases: list[Release], precedence: bool
) -> None:
    keys = [release.sort_key(semver_precedence=precedence) for release in releases]
    sorted(keys)
    for (one, a), (two, b) in itertools.combinations(zip(releases, keys, strict=True), 2):
        assert (a == b) == (one == two)
        assert a < b or b < a or a == b


@given(VERSIONS, VERSIONS, st.booleans())
def test_the_sort_key_agrees_with_the_servers_comparison_where_that_is_an_order(
    one: str, two: str, precedence: bool
) -> None:
    a, b = version(one), version(two)
    order = compare_versions(a, b, semver_precedence=precedence)
    left = a.sort_key(semver_precedence=precedence)
    right = b.sort_key(semver_precedence=precedence)
    builds = [build for build in (a.build, b.build) if build is not None]
    circular = len({build.isdigit() for build in builds}) == 2 and not precedence
    if order and not circular:
        assert (left < right) == (order < 0)


# --- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app@1.2.3", "semver"),
        ("app@1.2.3.4-rc.1+5", "semver"),
        ("app@0", "semver"),
        ("app@26.3.0", "semver"),
        ("app@2026.3", "calver"),
        ("app@2026.03.01-1", "calver"),
        ("app@2026-03-01", "calver"),
        ("app@20260301", "calver"),
        ("app@202603", "calver"),
        ("app@202613", "semver"),
        ("app@20260332", "semver"),
        ("app@2026w09", "other"),
        ("app@9223372036854775807", "semver"),
        ("app@9223372036854775808", "other"),
        ("app@1.0.dev1", "other"),
        ("1.2.3", "other"),
        ("2026.3.1", "other"),
        ("a86d127c4b2f23a0a862620280427dcc01c78676", "hash"),
        ("app@a86d127c4b2f", "hash"),
        ("app@1.0+a86d127c4b2f", "semver"),
        ("main", "other"),
    ],
)
def test_the_kind_says_how_servers_order_the_release(name: str, kind: str) -> None:
    """Source: releases.md section 3.2."""
    release = Release.parse(name)
    assert release.kind == kind
    assert release.is_semver == (kind in ("semver", "calver"))


@pytest.mark.parametrize(
    ("name", "short", "description"),
    [
        ("app@1.0+5", "1.0 (5)", "1.0 (5)"),
        ("app@nightly", "nightly", "app@nightly"),
        ("nightly", "nightly", "nightly"),
        ("app@a86d127c4b2f23a0a862", "a86d127c4b2f", "a86d127c4b2f"),
        ("app@1.0+a86d127c4b2f23a0a862", "1.0 (a86d127c4b2f)", "1.0 (a86d127c4b2f)"),
    ],
)
def test_the_short_version_never_holds_the_package(name: str, short: str, description: str) -> None:
    """Source: releases.md section 3.1, last line."""
    release = Release.parse(name)
    assert (release.short, release.description) == (short, description)


def test_version_info_is_the_servers_object() -> None:
    """Source: releases.md section 4.3."""
    assert Release.parse("app@1.2-rc.1+57").version_info() == {
        "package": "app",
        "version": {
            "raw": "1.2-rc.1+57",
            "major": 1,
            "minor": 2,
            "patch": 0,
            "pre": "rc.1",
            "buildCode": "57",
            "components": 2,
        },
        "description": "1.2-rc.1 (57)",
        "buildHash": None,
    }
    assert Release.parse("nightly").version_info() == {
        "package": None,
        "version": {"raw": "nightly"},
        "description": "nightly",
        "buildHash": None,
    }


def test_semver_precedence_sorts_candidates_as_people_do() -> None:
    names = ["a@1.0.0", "a@1.0.0-rc.10", "a@1.0.0-rc.2", "a@1.0.0-beta", "a@nightly", "b@0.1"]
    releases = [Release.parse(name) for name in names]
    shown = sorted(releases, key=lambda release: release.sort_key(semver_precedence=True))
    assert [release.raw for release in shown] == [
        "a@nightly",
        "a@1.0.0-beta",
        "a@1.0.0-rc.2",
        "a@1.0.0-rc.10",
        "a@1.0.0",
        "b@0.1",
    ]
    assert [release.raw for release in sorted(releases)][1:4] == [
        "a@1.0.0-beta",
        "a@1.0.0-rc.10",
        "a@1.0.0-rc.2",
    ]


def test_numbers_of_any_length_are_read_without_harm() -> None:
    digits = "9" * 10_000
    found = version(f"{digits}.1-{digits}+{digits}")
    assert (found.major, found.minor) == (0, 1)
    assert found.sort_key() < version("1").sort_key()
    assert compare_versions(version(f"1-{digits}"), version("1-5"), semver_precedence=True) == 1
    assert compare_versions(version(f"1-{digits}"), version("1-a"), semver_precedence=True) == -1


def test_a_release_is_a_value() -> None:
    release = Release.parse(" app@1.0 ")
    assert release == Release.parse("app@1.0")
    assert release != "app@1.0"
    assert len({release, Release.parse("app@1.0")}) == 1
    assert str(release) == "app@1.0"
    assert repr(release) == "Release('app@1.0')"
    assert pickle.loads(pickle.dumps(release)) == release
    assert copy.deepcopy(release) == release
    with pytest.raises(AttributeError, match="immutable"):
        release.raw = "other"
    with pytest.raises(AttributeError, match="immutable"):
        del release.raw
    assert Release.parse("app@1.0") <= release < Release.parse("app@1.1") >= release
    assert Release.parse("app@1.1") > release


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("myapp@1.0", []),
        ("1.0", ["no_package"]),
        ("HEAD", ["failed_lookup", "no_package"]),
        ("undefined", ["failed_lookup", "no_package"]),
        ("app@1.0 (5)", ["parentheses"]),
        ("my app@1.0", ["inner_space"]),
        ("app@1.0\u200b", ["invisible"]),
        ("\ufeffapp@1.0", ["invisible"]),
        ("app\u202e@1.0", ["invisible"]),
    ],
)
def test_hints_name_what_may_be_wrong_with_a_valid_name(name: str, codes: list[str]) -> None:
    """Source: releases.md section 1.2, last paragraph."""
    assert [hint.code for hint in Release.parse(name).hints()] == codes
