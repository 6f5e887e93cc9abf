"""The command line: `crashfree COMMAND …`.

Each command lives in a module of its own, named in `COMMANDS`, which is imported only when that
command is called, so that help and every command load what they need and a command whose extra is
missing breaks no other. Such a module offers

    def add(commands: Commands) -> None      (`Commands` is in `crashfree._cli.parser`)

which registers the command's parser and sets `run=function` on it; `function(args) -> int` returns
the exit code: 0 done, 1 refused by the server, 2 wrong usage or name, 3 unreachable. Whatever it
raises as a `CrashfreeError` becomes one sentence on standard error, or one JSON object when
`--json` was given.

Threads: the main thread. Source: DESIGN section 10, releases.md section 5.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from crashfree._cli import lazy, options, report
from crashfree._cli.failure import USAGE, UsageFailure
from crashfree._cli.parser import Parser, common_defaults, did_you_mean
from crashfree._ground import env, log
from crashfree._version import __version__
from crashfree.errors import CrashfreeError

INTERRUPTED = 130


class Command(NamedTuple):
    """One line of the help and the module that serves it."""

    name: str
    module: str
    help: str


class Section(NamedTuple):
    """Commands that belong together, under one heading of the help."""

    title: str
    commands: tuple[Command, ...]


SECTIONS = (
    Section(
        "releases",
        (
            Command("setup", "setup", "guide a repository through release, commits and deploy"),
            Command("releases", "releases", "create, finalize, list, describe releases"),
            Command("deploys", "deploys", "say which release is out where"),
            Command("artifacts", "artifacts", "upload and list the files of a release"),
            Command("files", "files", "list, upload and delete release files"),
            Command("repos", "repos", "list the repositories the server knows"),
        ),
    ),
    Section(
        "local server",
        (
            Command("serve", "serve", "run the local release-health server"),
            Command("server", "server", "look after the local server's data"),
        ),
    ),
    Section(
        "this machine",
        (
            Command("run", "run", "run a program with crashfree in it"),
            Command("doctor", "doctor", "say what crashfree would do here, and why"),
            Command("spool", "spool", "what waits on disk for a network"),
            Command("send-event", "send", "send one event"),
            Command("send-envelope", "send", "send an envelope from a file"),
        ),
    ),
    Section(
        "configuration",
        (
            Command("login-check", "login", "ask the server who we are"),
            Command("info", "info", "server, organization, project and authentication"),
            Command("config", "config", "the settings and where each came from"),
        ),
    ),
)
COMMANDS = {command.name: command for section in SECTIONS for command in section.commands}
# Options of the top level that take a value, so that the command's name can be found behind them.
_VALUED = frozenset(("--url", "--header", "--auth-token", "--log-level"))


def run(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name); return the exit code. Never raises.

    KeyboardInterrupt and a reader who closed the pipe end quietly.
    """
    token = report.speak_json("--json" in argv)
    try:
        return _run(argv)
    finally:
        report.speak_as_before(token)


def _run(argv: Sequence[str]) -> int:
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
    except CrashfreeError as error:
        return report.failed(error, allowed=_failure_allowed(argv))
    except KeyboardInterrupt:
        report.line("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python's own flush at exit must not complain.
        report.silence_stdout()
        return 0
    except SystemExit as stop:  # argparse after --help and --version
        return stop.code if isinstance(stop.code, int) else USAGE
    return report.allowed(code) if code and _failure_allowed(argv) else code


def _dispatch(argv: Sequence[str]) -> int:
    name = _command_name(argv)
    parser = _root(name)
    if name is None:
        parser.parse_args(argv)  # --help and --version end here, an unknown option too
        raise UsageFailure("a command is required", usage=parser.format_usage().strip())
    if name not in COMMANDS:
        raise UsageFailure(
            f"unknown command {name!r}{did_you_mean(name, COMMANDS)}",
            usage=parser.format_usage().strip(),
        )
    args = parser.parse_args(argv, common_defaults())
    if _log_level(args) not in ("trace", "debug"):
        return _called(args)
    before = log.debugging()
    log.set_debug(True)
    try:
        return _called(args)
    finally:
        log.set_debug(before)


def _log_level(args: argparse.Namespace) -> str:
    if args.log_level is not None:
        return str(args.log_level)
    found = env.setting(env.environ(), "LOG_LEVEL")
    return found.value.lower() if found is not None else ""


def _called(args: argparse.Namespace) -> int:
    code = args.run(args)
    return code if isinstance(code, int) else 0


def _command_name(argv: Sequence[str]) -> str | None:
    """Return the first word that is neither an option nor an option's value."""
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word in _VALUED:
            skip = True
        elif not word.startswith("-"):
            return word
    return None


def _root(name: str | None) -> Parser:
    """Build the top parser with the one command that is called, or only the list of all."""
    parser = Parser(
        prog="crashfree",
        usage="crashfree [switches] COMMAND ...",
        description="Releases and release health for Python.",
        epilog=_listing(),
        add_help=True,
    )
    parser.add_argument("--version", action="version", version=f"crashfree {__version__}")
    options.add_connection(parser)
    if name in COMMANDS:
        # `prog`: else argparse would begin every usage with our own wording of it.
        commands = parser.add_subparsers(
            prog="crashfree", metavar="COMMAND", dest="command", required=True
        )
        _module_of(COMMANDS[name]).add(commands)
    return parser


def _module_of(command: Command) -> Any:
    """Import the module that serves `command`; say so plainly when this build has none."""
    found = lazy.module(command.module)
    if found is None:
        raise UsageFailure(
            f"the command {command.name!r} is not part of this installation", code="not_installed"
        )
    return found


def _listing() -> str:
    width = max(len(name) for name in COMMANDS) + 2
    lines: list[str] = []
    for section in SECTIONS:
        lines.append(f"{section.title}:")
        lines.extend(f"  {command.name:<{width}}{command.help}" for command in section.commands)
        lines.append("")
    lines.append("`crashfree COMMAND --help` tells more.")
    lines.append(
        "Exit codes: 0 done, 1 refused by the server, 2 wrong usage or name, 3 unreachable."
    )
    return "\n".join(lines)


def _failure_allowed(argv: Sequence[str]) -> bool:
    if "--allow-failure" in argv:
        return True
    found = env.setting(env.environ(), "ALLOW_FAILURE")
    return found is not None and env.boolean(found.value) is True
