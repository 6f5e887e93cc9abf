from __future__ import annotations

from datetime import datetime, timezone

import pytest

from crashfree.server.fields import (
    Choice,
    DateTime,
    Flag,
    Free,
    Invalid,
    ListOf,
    Object,
    Slug,
    Text,
    Url,
    described,
    is_url,
    parse_datetime,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        ("2026-01-02T03:04", "2026-01-02T03:04:00+00:00"),
        ("2026-01-02 03:04:05,5", "2026-01-02T03:04:05.500000+00:00"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05+02:30", "2026-01-02T00:34:05+00:00"),
        ("2026-01-02T03:04:05-0100", "2026-01-02T04:04:05+00:00"),
        ("2026-01-02T03:04:05+02", "2026-01-02T01:04:05+00:00"),
    ],
)
def test_instants_are_read_in_utc(text: str, expected: str) -> None:
    found = parse_datetime(text)
    assert found is not None
    assert found.isoformat() == expected
    assert found.tzinfo is timezone.utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "2026-02-30T00:00",
        "2026-01-01T25:00",
        "2026-01-01T00:00+25:00",
        "2026-01-01T00:00+01:60",
        "1700000000",
        "2026-01-01T00:00Z\nx",
        "0001-01-01T00:00+23:59",
        "9999-12-31T23:59-23:59",
    ],
)
def test_what_spells_no_instant_is_none(text: str) -> None:
    assert parse_datetime(text) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9000/x",
        "https://a.b/c?d#e",
        "ftp://h/",
        "http://[::1]:80/",
        "http://1.2.3.4",
    ],
)
def test_web_addresses(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.b",
        "//a.b",
        "javascript:alert(1)",
        "http://",
        "http://a b/",
        "http://a:99999/",
        "http://[x",
        "http://-a/",
        "http://.a/",
    ],
)
def test_no_web_addresses(url: str) -> None:
    assert not is_url(url)


def test_unknown_keys_are_left_out_or_refused() -> None:
    fields = {"a": Text()}
    assert Object(fields).read({"a": 1, "b": 2}) == {"a": "1"}
    with pytest.raises(Invalid) as caught:
        Object(fields, closed=True).read({"a": "1", "b": 2})
    assert caught.value.errors == {"b": ["Unknown field."]}


def test_a_null_is_refused_unless_allowed() -> None:
    shape = Object({"on": Flag(), "free": Free(), "when": DateTime()})
    assert shape.read({"free": None, "when": None}) == {"free": None, "when": None}
    with pytest.raises(Invalid) as caught:
        shape.read({"on": None})
    assert caught.value.errors == {"on": ["This field may not be null."]}
    with pytest.raises(Invalid) as caught:
        shape.read({"on": 1})
    assert caught.value.errors == {"on": ["Must be a valid boolean."]}


def test_a_list_may_have_a_least_length() -> None:
    with pytest.raises(Invalid) as caught:
        ListOf(Slug(), least=1).read([])
    assert caught.value.errors == ["This list may not be empty."]
    with pytest.raises(Invalid) as caught:
        ListOf(Slug()).read(["a", True])
    assert caught.value.errors == {"1": ["Not a valid string."]}


def test_fields_describe_themselves() -> None:
    shape = Object(
        {
            "a": Text(most=3, blank=False, nullable=False, required=True),
            "b": ListOf(Url(), nullable=True),
            "c": Choice({"x": 1}, message="{}"),
            "d": DateTime(nullable=False),
            "e": Slug(),
            "f": Free(),
            "g": Flag(),
        },
        closed=True,
    )
    assert described(shape) == {
        "type": "object",
        "properties": {
            "a": {"type": "string", "maxLength": 3, "minLength": 1},
            "b": {"type": ["array", "null"], "items": {"type": ["string", "null"]}},
            "c": {"type": "string", "enum": ["x"]},
            "d": {"type": "string", "format": "date-time"},
            "e": {"type": ["string", "integer"]},
            "f": {},
            "g": {"type": "boolean"},
        },
        "required": ["a", "e"],
        "additionalProperties": False,
    }


def test_a_datetime_of_the_datetime_field_is_aware() -> None:
    assert DateTime().read("2026-01-01") == datetime(2026, 1, 1, tzinfo=timezone.utc)
    with pytest.raises(Invalid):
        DateTime().read(1700000000)
