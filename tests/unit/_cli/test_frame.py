"""The frame of the command line: dispatch, help, exit codes, errors. Source: DESIGN section 10."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from crashfree import _cli
from crashfree._cli import COMMANDS, lazy, run
from crashfree._cli.failure import Failure, UsageFailure
from crashfree._cli.parser import Parser, did_you_mean, plain
from crashfree._version import __version__
from crashfree.errors import (
    ApiError,
    ConfigurationError,
    CrashfreeError,
    InvalidRelease,
    Unreachable,
)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"crashfree {__version__}\n"


def test_help_lists_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    for command in COMMANDS.values():
        assert f"  {command.name} " in told
        assert command.help in told
    assert "3 unreachable" in told


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_here_and_has_a_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: crashfree")
    assert name in told


def test_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "a command is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["relases"], "'releases'"),
        (["releases", "finalise", "x"], "'finalize'"),
        (["deploys", "nwe"], "'new'"),
        (["releases", "new", "--finalise", "x"], "'--finalize'"),
        (["releases", "new", "--finalise=1", "x"], "'--finalize'"),
        (["releases", "list", "--status", "opne"], "'open'"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_right_one(
    argv: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    told = capsys.readouterr().err
    assert f"did you mean {word}?" in told
    assert "usage:" in told


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    """An abbreviation that works today would change its meaning with the next option."""
    assert run(["releases", "new", "--fin", "x"]) == 2
    assert "--fin" in capsys.readouterr().err


def test_an_error_is_one_json_object_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["releases", "new", "--json", "a/b"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    error = json.loads(told.err)["error"]
    assert error["code"] == "invalid_release"
    assert error["rule"] == "bad_characters"
    assert error["suggestion"] == "a-b"
    assert error["status"] is None
    assert "U+002F" in error["message"]


def test_wrong_usage_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", "nonsense"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


@pytest.mark.parametrize("where", ["flag", "CRASHFREE_ALLOW_FAILURE", "SENTRY_ALLOW_FAILURE"])
def test_a_failure_can_be_allowed_and_is_still_told(
    where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["releases", "new", "a/b"]
    if where == "flag":
        argv.append("--allow-failure")
    else:
        monkeypatch.setenv(where, "1")
    assert run(argv) == 0
    told = capsys.readouterr().err
    assert "U+002F" in told
    assert "--allow-failure" in told


def test_a_command_without_its_module_breaks_no_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = _cli.Command("missing", "no_such_module", "not here")
    monkeypatch.setitem(COMMANDS, "missing", missing)
    assert run(["missing"]) == 2
    assert "not part of this installation" in capsys.readouterr().err
    assert run(["releases", "--help"]) == 0


def test_a_module_that_itself_fails_to_import_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    def broken(name: str) -> object:
        raise ModuleNotFoundError("No module named 'starlette'", name="starlette")

    monkeypatch.setattr(lazy.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        lazy.module("serve")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError(500, "x"), 1),
        (CrashfreeError("x"), 1),
        (Failure("x"), 1),
        (UsageFailure("x"), 2),
        (ConfigurationError("x"), 2),
        (InvalidRelease("x", code="empty"), 2),
        (Unreachable("x", sent=False), 3),
    ],
)
def test_exit_codes_are_those_of_the_design(
    error: CrashfreeError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(argv: object) -> int:
        raise error

    monkeypatch.setattr(_cli, "_dispatch", fail)
    assert run(["x"]) == code


def test_ctrl_c_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(argv: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(_cli, "_dispatch", interrupted)
    assert run(["x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_common_switches_stand_before_and_behind_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for argv in (
        ["--json", "releases", "new", "a/b"],
        ["releases", "--json", "new", "a/b"],
        ["releases", "new", "a/b", "--json"],
    ):
        assert run(argv) == 2
        assert json.loads(capsys.readouterr().err)["error"]["code"] == "invalid_release"


class TestDashedNames:
    """Release names may start with a dash."""

    @pytest.fixture
    def parser(self) -> Parser:
        parser = Parser(prog="x", takes_dashed_names=True)
        parser.add_argument("version", type=plain)
        parser.add_argument("-p", "--project", type=plain)
        parser.add_argument("-P", action="store_true")
        parser.add_argument("-C", action="store_true")
        return parser

    @pytest.mark.parametrize("name", ["-hyphenated", "-1.0", "-h-x", "-Px"])
    def test_a_name_with_a_dash_is_a_name(self, parser: Parser, name: str) -> None:
        assert parser.parse_args([name]).version == name
        assert parser.parse_args(["--", name]).version == name

    def test_options_stay_options(self, parser: Parser) -> None:
        args = parser.parse_args(["-PC", "-pweb", "v"])
        assert (args.version, args.project, args.P, args.C) == ("v", "web", True, True)
        args = parser.parse_args(["-p", "-odd", "-v1"])
        assert (args.project, args.version) == ("-odd", "-v1")

    def test_a_mistyped_long_option_is_no_name(self, parser: Parser) -> None:
        with pytest.raises(UsageFailure, match="--projet"):
            parser.parse_args(["v", "--projet", "x"])


def test_suggestions_need_some_likeness() -> None:
    assert did_you_mean("finalise", ["finalize", "new"]) == "; did you mean 'finalize'?"
    assert did_you_mean("zzz", ["a", "b"]) == " (known: a, b)"
    assert did_you_mean("zzz", ["a"], listing=False) == ""


@pytest.mark.slow
def test_help_and_one_command_load_only_what_they_need() -> None:
    code = (
        "import sys\n"
        "from crashfree._cli import run\n"
        "run(['--help'])\n"
        "loaded = [n for n in sys.modules if n.startswith(('crashfree.management', "
        "'crashfree.server', 'urllib3', 'crashfree._resolve'))]\n"
        "assert not loaded, loaded\n"
        "run(['deploys', '--help'])\n"
        "assert 'crashfree.server' not in sys.modules\n"
        "assert 'crashfree._cli.releases' not in sys.modules\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.slow
def test_the_module_and_a_closed_pipe_work() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "crashfree", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("crashfree ")
    command = f"{sys.executable} -m crashfree --help | head -n 1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert found.stderr == ""
