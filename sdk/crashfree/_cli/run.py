"""`crashfree run -- CMD`: release health for a program that has never heard of crashfree.

Works for anything that ends in a Python interpreter: scripts, `-m`, console scripts, gunicorn,
celery, `uv run`, and their children. Options become environment variables, so that children see
them too. With `--supervise` this process stays as the parent, hands on the signals it gets, ends
with the program's exit status, and tells at once what a killed program left behind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import FrameType

import crashfree._launch
from crashfree._cli.failure import UsageFailure
from crashfree._cli.parser import Commands
from crashfree._client.client import Client
from crashfree._client.options import resolve_options
from crashfree._ground import env

NOT_FOUND = 127
NOT_EXECUTABLE = 126
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT")
_VARIABLES = (
    ("dsn", "CRASHFREE_DSN"),
    ("release", "CRASHFREE_RELEASE"),
    ("environment", "CRASHFREE_ENVIRONMENT"),
    ("session_mode", "CRASHFREE_SESSION_MODE"),
    ("spool_dir", "CRASHFREE_SPOOL_DIR"),
    ("integrations", "CRASHFREE_INTEGRATIONS"),
    ("disabled_integrations", "CRASHFREE_DISABLED_INTEGRATIONS"),
)


def add(commands: Commands) -> None:
    """Register `run`."""
    parser = commands.add_parser(
        "run",
        help="run a program with crashfree started in it",
        description=__doc__,
        usage="crashfree run [options] [--] CMD [ARG ...]",
    )
    parser.add_argument("--dsn", help="where to send; else CRASHFREE_DSN, SENTRY_DSN")
    parser.add_argument("--release", help="else found, as crashfree.init finds it")
    parser.add_argument("--environment", help="else CRASHFREE_ENVIRONMENT, SENTRY_ENVIRONMENT")
    parser.add_argument(
        "--session-mode", choices=("application", "request"), help="else by what is imported"
    )
    parser.add_argument("--spool-dir", metavar="DIR", help="where to keep what cannot be sent")
    parser.add_argument("--integrations", metavar="NAMES", help="to install, comma separated")
    parser.add_argument(
        "--disabled-integrations", metavar="NAMES", help="never to install, comma separated"
    )
    parser.add_argument(
        "--supervise", action="store_true", help="stay as the parent and report what killed it"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="CMD", help="and its arguments"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become the program, or watch over it."""
    command: list[str] = args.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise UsageFailure("crashfree run needs a program, as in: crashfree run -- python app.py")
    variables = environment(env.environ(), args)
    # Refused here with one sentence, and not in silence by every process of the program.
    options = resolve_options({"release": args.release, "dsn": args.dsn}, variables)
    found = shutil.which(command[0], path=variables.get("PATH"))
    if found is None:
        print(f"crashfree run: {command[0]}: command not found", file=sys.stderr)
        return NOT_FOUND
    if args.supervise:
        return supervise(command, found, variables, Client(options._replace(release=None)))
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(found, command, variables)
    except OSError as error:
        print(f"crashfree run: {found}: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE


def environment(base: Mapping[str, str], args: argparse.Namespace) -> dict[str, str]:
    """Return the environment in which every Python process starts crashfree."""
    variables = dict(base)
    for option, name in _VARIABLES:
        value: str | None = getattr(args, option)
        if value is not None:
            variables[name] = value
    folder = os.path.dirname(os.path.abspath(crashfree._launch.__file__))
    path = [place for place in variables.get("PYTHONPATH", "").split(os.pathsep) if place]
    variables["PYTHONPATH"] = os.pathsep.join([folder, *(p for p in path if p != folder)])
    return variables


def supervise(
    command: list[str], executable: str, variables: Mapping[str, str], client: Client
) -> int:
    """Run the program as a child; return its exit status, 128 + n when signal n ended it."""
    child = subprocess.Popen(command, executable=executable, env=dict(variables))

    def hand_on(number: int, frame: FrameType | None) -> None:
        if child.poll() is None:
            child.send_signal(number)

    before = {
        number: signal.signal(number, hand_on)
        for name in _SIGNALS
        if (number := getattr(signal, name, None)) is not None
    }
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    _tell(client)
    return status if status >= 0 else 128 - status


def _tell(client: Client) -> None:
    """Send what the program left behind, as its next start would."""
    client.begin()
    client.flush()
    client.close()
