"""`crashfree._resolve.environment`: argument, then variable, then default."""

from __future__ import annotations

import os
from typing import Any

import pytest

from crashfree._ground import log
from crashfree._resolve.environment import (
    find_environment,
    resolve_dist,
    resolve_environment,
    resolve_server_name,
)
from crashfree.errors import ConfigurationError


@pytest.mark.parametrize(
    ("argument", "environ", "name", "source"),
    [
        ("qa", {"SENTRY_ENVIRONMENT": "x"}, "qa", "argument"),
        (" qa\n", {}, "qa", "argument"),
        (None, {"CRASHFREE_ENVIRONMENT": "a", "SENTRY_ENVIRONMENT": "b"}, "a",
         "env:CRASHFREE_ENVIRONMENT"),
        (None, {"CRASHFREE_ENVIRONMENT": " ", "SENTRY_ENVIRONMENT": " b "}, "b",
         "env:SENTRY_ENVIRONMENT"),
        (None, {"SENTRY_ENVIRONMENT": ""}, "production", "default"),
        (None, {}, "production", "default"),
        ("", {"SENTRY_ENVIRONMENT": "b"}, "production", "default"),
        (" ", {}, "production", "default"),
    ],
)  # fmt: skip
def test_the_environment_comes_from_argument_variable_or_default(
    argument: str | None, environ: dict[str, str], name: str, source: str
) -> None:
    """Source: releases.md section 2.6; blank means production."""
    assert find_environment(argument, environ) == (name, source)
    assert resolve_environment(argument, environ) == name


@pytest.mark.parametrize("argument", ["a/b", "none", "x" * 65, 3])
def test_a_bad_environment_argument_raises(argument: Any) -> None:
    with pytest.raises(ConfigurationError, match="environment"):
        resolve_environment(argument, {})


def test_a_bad_environment_variable_is_said_with_its_repair(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log.forget_repeats()
    assert resolve_environment(None, {"SENTRY_ENVIRONMENT": "eu/qa"}) == "production"
    for part in ("SENTRY_ENVIRONMENT", "U+002F", "'eu-qa'", "'production'"):
        assert part in caplog.text


@pytest.mark.parametrize(
    ("argument", "dist"), [(None, None), ("", None), (" ", None), (" 57\n", "57"), (57, "57")]
)
def test_the_dist_comes_from_the_program_alone(argument: Any, dist: str | None) -> None:
    """Source: releases.md section 2.6."""
    assert resolve_dist(argument) == dist


def test_a_bad_dist_raises() -> None:
    with pytest.raises(ConfigurationError, match="dist"):
        resolve_dist("a b")


def test_the_server_name_is_the_hosts_own() -> None:
    assert resolve_server_name(None, {}) == (os.uname().nodename if hasattr(os, "uname") else None)
    assert resolve_server_name(None, {"SENTRY_SERVER_NAME": " web-1 "}) == "web-1"
    assert resolve_server_name("web-2", {"SENTRY_SERVER_NAME": "web-1"}) == "web-2"
    assert resolve_server_name("", {"SENTRY_SERVER_NAME": "web-1"}) is None


def test_a_host_without_uname_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "uname", raising=False)
    assert resolve_server_name(None, {"COMPUTERNAME": "DESK"}) == "DESK"
    assert resolve_server_name(None, {}) is None
