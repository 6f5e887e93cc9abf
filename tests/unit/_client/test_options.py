"""A wrong argument raises with value, rule and remedy; a wrong variable is said, no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from crashfree._client.options import Options, resolve_options
from crashfree._ground import log
from crashfree.errors import ConfigurationError, InvalidDsn, InvalidRelease

DSN = "https://key@sentry.example.com/1"


def options(environ: dict[str, str] | None = None, **given: Any) -> Options:
    given.setdefault("release", "app@1.0.0")
    return resolve_options(given, environ or {})


@pytest.fixture(autouse=True)
def fresh_warnings() -> None:
    log.forget_repeats()


def test_nothing_given_is_the_documented_defaults() -> None:
    resolved = options()
    assert resolved.dsn == ()
    assert resolved.environment == "production"
    assert resolved.background_timeout == 30.0
    assert resolved.debug is False
    assert resolved.keep_alive is True
    assert resolved.release is not None
    assert resolved.release_source == "argument"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("background_timeout", -1, ["-1", "seconds", "from 0 to"]),
        ("background_timeout", True, ["True", "number"]),
        ("background_timeout", timedelta(seconds=-1), ["-1"]),
        ("background_timeout", "30", ["'30'", "number"]),
        ("background_timeout", float("nan"), ["nan"]),
        ("sample_rate", 1.5, ["1.5", "from 0 to 1"]),
        ("session_mode", "server", ["'server'", "'application' or 'request'"]),
        ("debug", "yes", ["'yes'", "True or False"]),
        ("before_send", "drop", ["'drop'", "a function"]),
        ("ignore_errors", [int], ["exception types"]),
        ("ignore_errors", "KeyError", ["'KeyError'", "a list"]),
        ("ignore_errors", KeyError, ["a list"]),
        ("tags", ["a"], ["mapping"]),
        ("user", "ada", ["user={'id': '42'}"]),
        ("crashed_statuses", [9], ["100 to 599"]),
        ("crashed_statuses", 500, ["range(500, 600)"]),
        ("queue_size", 0, ["0", "from 1"]),
        ("queue_size", 1.5, ["whole number"]),
        ("spool_dir", 3, ["a path"]),
        ("ca_certs", "/nowhere/ca.pem", ["/nowhere/ca.pem", "exists"]),
        ("http_proxy", "ftp://proxy", ["'ftp://proxy'", "http://proxy:3128"]),
        ("compression", "lzma", ["'gzip'"]),
        ("in_app_include", "shop", ["a list of texts"]),
        ("spotlight", "localhost", ["URL"]),
        ("environment", "a/b", ["a/b"]),
        ("dist", "a+b", ["a+b"]),
    ],
)
def test_a_wrong_argument_names_value_rule_and_remedy(
    name: str, value: object, words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options(**{name: value})
    message = str(caught.value)
    assert name in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("realease", "release"),
        ("enviroment", "environment"),
        ("beforesend", "before_send"),
        ("include_local_variables", "with_locals"),
        ("cache_dir", "spool_dir"),
        ("version", "release"),
    ],
)
def test_an_unknown_option_gets_a_suggestion(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{wrong} is no option.*did you mean {meant}="):
        options(**{wrong: "x"})


def test_an_unknown_option_near_to_nothing_points_to_help() -> None:
    with pytest.raises(ConfigurationError, match=r"help\(crashfree.init\)"):
        options(zzzzzzzz=1)


def test_a_bad_dsn_never_shows_its_secret() -> None:
    with pytest.raises(InvalidDsn) as caught:
        options(dsn="ftp://public:topsecret@host/1")
    assert "topsecret" not in str(caught.value)
    with pytest.raises(InvalidDsn, match="DSN"):
        options(dsn=42)


def test_several_dsns_may_be_given() -> None:
    other = "https://key@other.example.com/2"
    assert [str(dsn) for dsn in options(dsn=[DSN, other]).dsn] == [DSN, other]


def test_a_bad_release_raises_with_code_and_suggestion() -> None:
    with pytest.raises(InvalidRelease) as caught:
        options(release="feature/x")
    assert caught.value.code == "bad_characters"
    assert caught.value.suggestion == "feature-x"


def test_our_variables_win_over_the_accepted_ones_and_arguments_over_both() -> None:
    environ = {"SENTRY_DSN": "https://s@h/1", "CRASHFREE_DSN": "https://c@h/1"}
    assert options(environ).dsn[0].public_key == "c"
    assert options(environ, dsn=DSN).dsn[0].public_key == "key"
    assert options({"SENTRY_DSN": f"  {DSN}\n"}).dsn[0].public_key == "key"
    assert options(environ, dsn="").dsn == ()


def test_a_wrong_variable_is_said_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    resolved = options(
        {
            "CRASHFREE_DSN": "nonsense",
            "CRASHFREE_SESSION_MODE": "server",
            "SENTRY_DEBUG": "perhaps",
            "CRASHFREE_KEEP_ALIVE": "off",
        }
    )
    assert resolved.dsn == ()
    assert resolved.session_mode is None
    assert resolved.debug is False
    assert resolved.keep_alive is False
    assert "CRASHFREE_DSN" in caplog.text
    assert "CRASHFREE_SESSION_MODE" in caplog.text


def test_durations_may_be_timedeltas() -> None:
    assert options(background_timeout=timedelta(minutes=1)).background_timeout == 60.0
    assert options(shutdown_timeout=0).shutdown_timeout == 0.0


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        (None, None, None),
        (None, "1", "http://localhost:8969/stream"),
        (None, "off", None),
        (None, "http://box:1/stream", "http://box:1/stream"),
        (True, None, "http://localhost:8969/stream"),
        (True, "http://box:1/stream", "http://box:1/stream"),
        (False, "1", None),
        ("http://mine/stream", "http://box:1/stream", "http://mine/stream"),
    ],
)
def test_spotlight_follows_its_precedence(
    given: object, variable: str | None, expected: str | None
) -> None:
    """Source: wire.md section 20."""
    environ = {} if variable is None else {"SENTRY_SPOTLIGHT": variable}
    assert options(environ, spotlight=given).spotlight == expected


def test_options_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        options().debug = True  # type: ignore[misc]
