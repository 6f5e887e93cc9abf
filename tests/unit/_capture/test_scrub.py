"""Secrets do not leave the process."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree._capture.meta import Notes
from crashfree._capture.scrub import Scrubber, without_secrets
from crashfree.types import Event

HIDDEN = "[Filtered]"

# The list of the incumbent, exact names in any case. Source: wire.md section 9.
DENIED = [
    "password", "passwd", "secret", "api_key", "apikey", "auth", "credentials", "mysql_pwd",
    "privatekey", "private_key", "token", "session", "csrftoken", "sessionid", "x_csrftoken",
    "set_cookie", "cookie", "authorization", "proxy-authorization", "x_api_key",
    "aiohttp_session", "connect.sid", "csrf_token", "csrf", "_csrf", "_csrf_token", "PHPSESSID",
    "_session", "symfony", "user_session", "_xsrf", "XSRF-TOKEN",
]  # fmt: skip
PERSONAL = ["x_forwarded_for", "x_real_ip", "ip_address", "remote_addr"]


def scrubbed(event: dict[str, Any], *, pii: bool = False) -> dict[str, Any]:
    given_event: Event = event  # type: ignore[assignment]
    Scrubber(send_default_pii=pii).scrub(given_event, Notes())
    return event


@pytest.mark.parametrize("key", DENIED)
def test_every_name_of_the_deny_list_is_hidden_however_it_is_written(key: str) -> None:
    words = key.replace("-", "_").replace(".", "_")
    spellings = {key, key.upper(), words.replace("_", "-"), words.replace("_", "."), words.title()}
    camel = "".join(part.capitalize() for part in words.split("_"))
    for spelling in (*spellings, camel, f"HTTP_{key}" if "cookie" in key else key):
        assert scrubbed({"extra": {spelling: "s"}})["extra"][spelling] == HIDDEN, spelling


@pytest.mark.parametrize("key", PERSONAL)
def test_addresses_are_hidden_unless_personal_data_is_wanted(key: str) -> None:
    header = key.replace("_", "-").title()
    for spelling in (key, header, f"HTTP_{key.upper()}"):
        assert scrubbed({"extra": {spelling: "1.2.3.4"}})["extra"][spelling] == HIDDEN
        assert scrubbed({"extra": {spelling: "1.2.3.4"}}, pii=True)["extra"][spelling] == "1.2.3.4"


@pytest.mark.parametrize(
    "key",
    ["db_password", "passwordHash", "client-secret", "accessToken", "X-Api-Key", "aws_apikey",
     "my.private.key", "Set-Cookie2", "aws_credentials", "password confirmation", "p_a_s_s_w_d"],
)  # fmt: skip
def test_names_that_hold_a_secret_word_are_hidden(key: str) -> None:
    assert scrubbed({"extra": {key: "s"}})["extra"][key] == HIDDEN


@pytest.mark.parametrize(
    "key", ["author", "authority", "passenger", "keyboard", "sessions_total", "compass", "sid"]
)
def test_names_that_only_look_alike_are_kept(key: str) -> None:
    assert scrubbed({"extra": {key: "s"}})["extra"][key] == "s"


def test_secrets_are_found_at_every_depth_and_place() -> None:
    """The incumbent looks at the top level only. Source: complaints-transport.md, 51 and 52."""

    def secret() -> dict[str, Any]:
        return {"a": [{"b": {"password": "s", "kept": 1}}]}

    event: dict[str, Any] = {
        "extra": secret(),
        "user": {"id": "1", "data": secret()},
        "tags": {"api-key": "s"},
        "request": {"headers": {"X-Api-Key": "s"}, "data": secret(), "cookies": {"a": "b"}},
        "contexts": {"own": secret(), "trace": {"trace_id": "t"}},
        "breadcrumbs": {"values": [{"data": secret()}]},
        "exception": {"values": [{"stacktrace": {"frames": [{"vars": secret()}]}}]},
        "threads": {"values": [{"stacktrace": {"frames": [{"vars": secret()}]}}]},
    }
    clean = scrubbed(event)
    assert "'s'" not in str(clean)
    assert str(clean).count("'kept': 1") == 7
    assert clean["contexts"]["trace"] == {"trace_id": "t"}


def test_what_describes_the_sdk_is_never_touched() -> None:
    event: dict[str, Any] = {
        "contexts": {"trace": {"token": "t"}}, "sdk": {"auth": 1}, "modules": {"itsdangerous": "1",
        "secret-lib": "2"}, "_meta": {"password": {}},
    }  # fmt: skip
    assert scrubbed(copy.deepcopy(event)) == event


def test_what_was_hidden_is_noted() -> None:
    """Source: wire.md section 8.3."""
    notes = Notes()
    event: Event = {"extra": {"deep": [{"token": "x"}]}}
    Scrubber(send_default_pii=False).scrub(event, notes)
    assert notes.tree == {"extra": {"deep": {"0": {"token": {"": {"rem": [["!config", "s"]]}}}}}}


def test_nothing_is_noted_where_there_was_nothing_to_hide() -> None:
    notes = Notes()
    event: Event = {"extra": {"token": None, "password": "", "secret": HIDDEN}}
    Scrubber(send_default_pii=False).scrub(event, notes)
    assert event["extra"] == {"token": None, "password": "", "secret": HIDDEN}
    assert notes.tree == {}


def test_a_header_as_a_pair_is_hidden() -> None:
    event = scrubbed({"extra": {"headers": [["Authorization", "x"], ["Accept", "y"]]}})
    assert event["extra"]["headers"] == [["Authorization", HIDDEN], ["Accept", "y"]]
    local = scrubbed({"extra": {"headers": [["'Cookie'", "'x'"]]}})
    assert local["extra"]["headers"] == [["'Cookie'", HIDDEN]]


def test_who_the_user_is_was_said_on_purpose() -> None:
    user = {"id": "1", "email": "a@b.example", "ip_address": "1.2.3.4"}
    assert scrubbed({"user": dict(user)})["user"] == user


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://key@sentry.example/1", f"https://{HIDDEN}@sentry.example/1"),
        ("https://key:secret@sentry.example/1", f"https://{HIDDEN}@sentry.example/1"),
        ("cannot reach postgres://u:p@db/x now", f"cannot reach postgres://{HIDDEN}@db/x now"),
        ("redis://:p%40ss@a and amqp://u:p@b//", f"redis://{HIDDEN}@a and amqp://{HIDDEN}@b//"),
        ("https://h/path@home?x=1", "https://h/path@home?x=1"),
        ("mail a@b.example via http://h/", "mail a@b.example via http://h/"),
        ("http://h/?token=abc&page=2", f"http://h/?token={HIDDEN}&page=2"),
        ("GET /x?a=1&api_key=abc HTTP/1.1", f"GET /x?a=1&api_key={HIDDEN} HTTP/1.1"),
        ("/x?access-token=abc#top", f"/x?access-token={HIDDEN}#top"),
        ("/x?token=&a=1", "/x?token=&a=1"),
        ("Bearer abc.def-123", f"Bearer {HIDDEN}"),
        ("header bearer eyJhbGciOi.J9 sent", f"header bearer {HIDDEN} sent"),
        ("Authorization: Basic dXNlcjpwYXNz", f"Authorization: Basic {HIDDEN}"),
        ("Basic knowledge is needed", "Basic knowledge is needed"),
        ("the bearer document of bonds", "the bearer document of bonds"),
        ("Unexpected token: } at 5", "Unexpected token: } at 5"),
        ("password: too short", "password: too short"),
        ("1 + 1 = 2", "1 + 1 = 2"),
        ("http://", "http://"),
        ("a://b", "a://b"),
        ("İİ https://u:p@h/?token=abc", f"İİ https://{HIDDEN}@h/?token={HIDDEN}"),
    ],
)
def test_secrets_in_texts_are_replaced_and_the_rest_stays(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
    if text == expected:
        assert without_secrets(text) is text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("User(name='a', password='b c')", f"User(name='a', password={HIDDEN})"),
        ("{'api_key': 'x', 'n': 1}", f"{{'api_key': {HIDDEN}, 'n': 1}}"),
        ('{"accessToken": "x\\"y", "n": 1}', f'{{"accessToken": {HIDDEN}, "n": 1}}'),
        ("password=hunter2 user=a", f"password={HIDDEN} user=a"),
        ("client_secret = abc;", f"client_secret = {HIDDEN};"),
        ("token: end of line", "token: end of line"),
        ("tokens=None", "tokens=None"),
        ("password=", "password="),
        ("İİİ password='abc'", f"İİİ password={HIDDEN}"),
    ],
)
def test_data_is_also_searched_for_assignments(text: str, expected: str) -> None:
    assert without_secrets(text, data=True) == expected


def test_a_query_string_alone_is_searched_from_its_first_name() -> None:
    assert without_secrets("token=abc&a=1", query=True) == f"token={HIDDEN}&a=1"
    event = scrubbed({"request": {"query_string": "a=1&sessionid=abc", "url": "http://u:p@h/"}})
    assert event["request"] == {
        "query_string": f"a=1&sessionid={HIDDEN}", "url": f"http://{HIDDEN}@h/",
    }  # fmt: skip


def test_messages_and_exception_values_are_searched_too() -> None:
    event = scrubbed(
        {
            "message": "https://k@h/1",
            "logentry": {"formatted": "https://k@h/1", "params": ["https://k@h/1", {"token": 1}]},
            "exception": {"values": [{"value": "https://k@h/1"}]},
            "breadcrumbs": {"values": [{"message": "https://k@h/1"}]},
        }
    )
    assert "k@h" not in str(event)
    assert event["logentry"]["params"][1] == {"token": HIDDEN}


@given(st.text(alphabet="ab:/@?&=;#%'\" \\token", max_size=60))
def test_no_text_makes_it_stumble_and_a_second_pass_finds_nothing(text: str) -> None:
    for data in (False, True):
        once = without_secrets(text, data=data)
        assert without_secrets(once, data=data) == once


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_userinfo_never_survives(user: str, host: str) -> None:
    user = "".join(c for c in user if c.isalnum()) or "u"
    host = "".join(c for c in host if c.isalnum()) or "h"
    assert without_secrets(f"x https://{user}:{user}@{host}/p") == f"x https://{HIDDEN}@{host}/p"


junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.just(object())),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(st.text(), below)),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["extra", "user", "request", "contexts", "breadcrumbs", "exception",
                         "threads", "tags", "message", "logentry"]),
        junk,
    )
)  # fmt: skip
def test_events_of_any_shape_are_taken(event: dict[str, Any]) -> None:
    scrubbed(event)


def test_the_official_scrubber_finds_nothing_that_we_left() -> None:
    """Source: wire.md section 22."""
    relay = pytest.importorskip("sentry_relay.processing")
    config = relay.convert_datascrubbing_config(
        {"scrubData": True, "scrubDefaults": True, "scrubIpAddresses": False, "sensitiveFields": []}
    )
    event = scrubbed(
        {
            "extra": dict.fromkeys(DENIED, "value") | {"url": "https://a:b@example.com/"},
            "request": {
                "headers": [["Authorization", "x"], ["X-Token", "y"]],
                "query_string": "password=1&b=2",
            },
            "exception": {
                "values": [
                    {"type": "E", "value": "e", "stacktrace": {"frames": [
                        {"function": "f", "vars": {"api_key": "1", "d": {"secret": "2"}}}]}}
                ]
            },
        }
    )  # fmt: skip
    assert "'value'" not in str(event["extra"])
    again = relay.pii_strip_event(config, copy.deepcopy(event))
    remarks = str(again.get("_meta") or {})
    assert "password" not in remarks.replace("@password", ""), remarks
    assert again["extra"] == event["extra"]
