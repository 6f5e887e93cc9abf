"""`dsn="local"` is the server of this machine, or an error that says how to start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crashfree._client.options import Options, resolve_options
from crashfree._delivery.spooldirectory import default_directory
from crashfree._ground import log
from crashfree.errors import ConfigurationError
from crashfree.server import discovery

_DSN = "http://key@127.0.0.1:8787/1"


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables whose state directory is empty."""
    variables = {"XDG_STATE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    monkeypatch.setenv("HOME", str(tmp_path))
    return variables


def _options(environ: dict[str, str], **given: Any) -> Options:
    return resolve_options({"release": "app@1.0.0", **given}, environ)


def _announce(environ: dict[str, str]) -> str:
    directory = default_directory(environ)
    assert directory is not None
    discovery.announce(directory, {"dsn": _DSN})
    return directory


@pytest.mark.parametrize("word", ["local", " Local\n"])
def test_local_is_the_server_that_runs_here(environ: dict[str, str], word: str) -> None:
    _announce(environ)
    assert [str(dsn) for dsn in _options(environ, dsn=word).dsn] == [_DSN]
    assert [str(dsn) for dsn in _options({**environ, "CRASHFREE_DSN": word}).dsn] == [_DSN]
    assert [str(dsn) for dsn in _options({**environ, "SENTRY_DSN": word}).dsn] == [_DSN]


def test_local_may_stand_beside_other_dsns(environ: dict[str, str]) -> None:
    _announce(environ)
    other = "https://key@sentry.example.com/2"
    assert [str(dsn) for dsn in _options(environ, dsn=["local", other]).dsn] == [_DSN, other]


def test_without_a_server_the_error_says_how_to_start_one(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"'local'.*no local server.*`crashfree serve`"):
        _options(environ, dsn="local")


def test_a_variable_without_a_server_warns_and_sends_nothing(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    log.forget_repeats()
    assert _options({**environ, "CRASHFREE_DSN": "local"}).dsn == ()
    assert "CRASHFREE_DSN" in caplog.text
    assert "crashfree serve" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="a process cannot be asked elsewhere")
def test_a_server_that_was_killed_is_not_found(environ: dict[str, str]) -> None:
    directory = _announce(environ)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = os.path.join(directory, discovery.FILE)
    discovery.write_private(path, b'{"dsn":"%s","pid":%d}' % (_DSN.encode(), gone.pid))
    with pytest.raises(ConfigurationError, match=r"has ended.*`crashfree serve`"):
        _options(environ, dsn="local")


def test_a_program_that_does_not_say_local_loads_nothing_of_the_server() -> None:
    code = (
        "import sys, crashfree; crashfree.init('http://k@127.0.0.1:9/1', release='a@1');"
        "print([name for name in sys.modules if name.startswith('crashfree.server')])"
    )
    variables = {**os.environ, "CRASHFREE_SPOOL_DIR": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables
    )
    assert done.stdout.strip() == "[]"
