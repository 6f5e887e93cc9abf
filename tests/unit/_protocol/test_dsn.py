"""Rules of wire.md section 1; the vectors are the specification's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashfree._protocol.dsn import Dsn
from crashfree.errors import ConfigurationError, InvalidDsn
from tests.support.vectors import load

CASES: list[dict[str, Any]] = load("dsn.json")["cases"]
GOOD = [case for case in CASES if case["ok"]]
BAD = [case for case in CASES if not case["ok"]]
PARTS = ("scheme", "public_key", "secret_key", "host", "port", "path", "project_id", "org_id")


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case["dsn"].strip())
def test_a_good_dsn_gives_every_part_and_the_address(case: dict[str, Any]) -> None:
    dsn = Dsn.parse(case["dsn"])
    assert {name: getattr(dsn, name) for name in PARTS} == {name: case[name] for name in PARTS}
    assert dsn.envelope_url == case["envelope_url"]


@pytest.mark.parametrize("case", BAD, ids=lambda case: repr(case["dsn"]))
def test_a_bad_dsn_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidDsn):
        Dsn.parse(case["dsn"])


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case["dsn"].strip())
def test_the_text_of_a_dsn_parses_back_to_it(case: dict[str, Any]) -> None:
    dsn = Dsn.parse(case["dsn"])
    assert Dsn.parse(str(dsn)) == dsn


def test_an_invalid_dsn_is_a_value_error_and_a_configuration_error() -> None:
    with pytest.raises(ValueError) as caught:
        Dsn.parse("nonsense")
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        ("ftp://k@host/1", "https://"),
        ("https://host/1", "no public key"),
        ("https://:s@host/1", "public key is empty"),
        ("https://k@/1", "no host"),
        ("https://k@host", "project id"),
        ("https://k@host/abc", "digits"),
        ("https://k@host:70000/1", "port"),
        ("https://k@host:/1", "port"),
        ("https://k@host:+80/1", "port"),
        ("https://k@host:٨٠/1", "port"),
        ("https://k@[::1/5", "IPv6"),
        ("https://k@[fe80::zz]/5", "IPv6"),
        ("https://k@[::1]x/5", "IPv6"),
        ("https://k@ho st/5", "host"),
        ("https://k@bücher.example/5", "xn--"),
        ("https://k@host/a b/5", "path"),
        ("https://k y@host/5", "key"),
        ("https://k\ny@host/5", "key"),
        ("https://k,sentry_key=other@host/5", "key"),
    ],
)
def test_the_message_names_the_rule_and_shows_the_form(text: str, rule: str) -> None:
    with pytest.raises(InvalidDsn) as caught:
        Dsn.parse(text)
    assert rule in str(caught.value)
    assert "<project id>" in str(caught.value)


@given(
    template=st.sampled_from(
        [
            "https://k:{}@host/abc",
            "https://k:{}@host:0/1",
            "https://k:{}@/1",
            "ftp://k:{}@host/1",
            "k:{}@host/1",
            "https://:{}@host/1",
            "https://k:{}@host",
            "https://k:{} @host/1",
            "https://k:{}/1",
            "https://{}/x",
        ]
    ),
    secret=st.text("0123456789abcdef", min_size=8, max_size=32).map(lambda tail: "S3cr-" + tail),
)
@settings(deadline=None)
def test_no_error_message_holds_the_secret(template: str, secret: str) -> None:
    with pytest.raises(InvalidDsn) as caught:
        Dsn.parse(template.format(secret))
    assert secret.lower() not in str(caught.value).lower()


def test_logs_see_the_public_key_only() -> None:
    dsn = Dsn.parse("https://public:s3cret@host:8443/sub/7")
    assert dsn.redacted() == "https://public:***@host:8443/sub/7"
    assert repr(dsn) == "Dsn('https://public:***@host:8443/sub/7')"
    assert "s3cret" not in f"{dsn!r}"
    assert str(dsn) == "https://public:s3cret@host:8443/sub/7"
    assert Dsn.parse("https://public@host/7").redacted() == "https://public@host/7"


def test_the_auth_header_names_key_version_and_client_and_a_secret_only_when_there_is_one() -> None:
    client = "crashfree.python/1.2.3"
    assert Dsn.parse("https://abc@host/1").auth_header(client) == (
        "Sentry sentry_key=abc, sentry_version=7, sentry_client=crashfree.python/1.2.3"
    )
    assert Dsn.parse("https://abc:xyz@host/1").auth_header(client) == (
        "Sentry sentry_key=abc, sentry_version=7, sentry_client=crashfree.python/1.2.3, "
        "sentry_secret=xyz"
    )


def test_the_base_url_leaves_out_a_default_port_and_ends_without_a_slash() -> None:
    assert Dsn.parse("https://k@host:443/a/b/1").base_url == "https://host/a/b"
    assert Dsn.parse("http://k@host:443/1").base_url == "http://host:443"


@pytest.mark.parametrize(
    ("host", "org_id"),
    [
        ("o12.ingest.sentry.io", "12"),
        ("o12", None),
        ("o.example.com", None),
        ("o1x.example.com", None),
        ("x1.example.com", None),
    ],
)
def test_the_organization_is_read_from_a_host_that_names_it(host: str, org_id: str | None) -> None:
    assert Dsn.parse(f"https://k@{host}/1").org_id == org_id


def test_a_secret_may_hold_an_at_sign_and_a_colon() -> None:
    dsn = Dsn.parse("https://k:a@b:c@host/1")
    assert (dsn.public_key, dsn.secret_key, dsn.host) == ("k", "a@b:c", "host")
    assert Dsn.parse(str(dsn)) == dsn


def test_equal_texts_make_equal_dsns() -> None:
    assert Dsn.parse("https://k@HOST:443/1?x#y") == Dsn.parse(" HTTPS://k@host/1\n")
    assert Dsn.parse("https://k@host/1") != Dsn.parse("https://k@host/01")


VISIBLE = st.characters(min_codepoint=33, max_codepoint=126)


@given(st.text(VISIBLE, max_size=60))
@settings(deadline=None)
def test_any_text_is_refused_or_survives_being_written_and_read(text: str) -> None:
    try:
        dsn = Dsn.parse(f"https://{text}")
    except InvalidDsn:
        return
    assert Dsn.parse(str(dsn)) == dsn
    assert dsn.envelope_url.startswith(f"https://{dsn.host}")
