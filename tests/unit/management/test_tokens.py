"""Auth tokens. Source: releases.md section 5.2."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.management import tokens


def organization_token(**claims: object) -> str:
    encoded = base64.b64encode(json.dumps({"iat": 1.0, **claims}).encode()).decode()
    return f"sntrys_{encoded}_{'A' * 43}"


def test_an_organization_token_carries_address_and_organization() -> None:
    token = organization_token(url="https://s.example", region_url=None, org="acme")
    found = tokens.claims(token)
    assert found == tokens.OrganizationToken("https://s.example", None, "acme")
    assert tokens.well_formed(token)


def test_an_organization_token_may_name_no_address() -> None:
    found = tokens.claims(organization_token(url=None, org="acme"))
    assert found is not None
    assert found.url is None


@pytest.mark.parametrize("url", ["ftp://x", "javascript:x", "nonsense", 5])
def test_an_address_that_is_none_is_not_taken_from_a_token(url: object) -> None:
    found = tokens.claims(organization_token(url=url, org="acme"))
    assert found is not None
    assert found.url is None


@pytest.mark.parametrize("token", ["sntryu_" + "ab" * 32, "ab" * 32, "junk", "", "sntrys_%%%_x"])
def test_other_tokens_carry_nothing(token: str) -> None:
    assert tokens.claims(token) is None


def test_user_tokens_are_64_hex_digits() -> None:
    assert tokens.well_formed("sntryu_" + "ab" * 32)
    assert tokens.well_formed("0123456789abcdef" * 4)
    assert not tokens.well_formed("junk")


def test_a_log_shows_no_more_than_eight_characters_of_a_token() -> None:
    secret = organization_token(url="https://s", org="acme")
    shown = tokens.without_secrets(f"Authorization: Bearer {secret} and {'ab' * 32}!")
    assert secret not in shown
    assert "ab" * 32 not in shown
    assert shown == "Authorization: Bearer sntrys_e*** and abababab***!"


def test_a_short_secret_is_not_shown_at_all() -> None:
    assert tokens.redacted("short") == "***"


@given(st.text())
def test_any_text_is_a_token_that_can_be_looked_at(text: str) -> None:
    tokens.claims("sntrys_" + text)
    tokens.well_formed(text)
    assert tokens.trimmed(text + "\n") == text.strip()
