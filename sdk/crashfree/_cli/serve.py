"""`crashfree serve`: run the local release-health server until it is told to stop.

With `--ready-file` it writes, once it answers, a JSON object with `url`, `dsn`, `token`,
`organization`, `project`, `projects` and `page`, so that programs need not guess; the file goes
when the server does. SIGINT and SIGTERM stop it after what is being received has been written.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import threading
from types import FrameType
from typing import Any

from crashfree._cli import output
from crashfree._cli.failure import UsageFailure
from crashfree._cli.parser import Commands
from crashfree._delivery.spooldirectory import default_directory
from crashfree._ground import env, json
from crashfree.server import LocalServer, discovery


def add(commands: Commands) -> None:
    """Register `serve`."""
    parser = commands.add_parser(
        "serve", help="run the local release-health server", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=8787, help="port to listen on; 0 takes a free one (8787)"
    )
    parser.add_argument("--db", metavar="FILE", help="the database; without it data is temporary")
    parser.add_argument("--ready-file", metavar="FILE", help="written once the server answers")
    parser.add_argument(
        "--token",
        help="token of the management API; else CRASHFREE_SERVER_TOKEN, else the database's own",
    )
    parser.add_argument("--organization", default="crashfree", help="slug of the organization")
    parser.add_argument(
        "--project",
        action="append",
        metavar="SLUG",
        help="a project, made when it is not there; may be repeated (app)",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="take a host that other machines can reach; needs a token",
    )
    parser.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that browsers may use for this server; may be repeated",
    )
    parser.add_argument(
        "--trust-proxy", action="store_true", help="believe X-Forwarded-For and Forwarded"
    )
    parser.add_argument(
        "--keep-attachments", action="store_true", help="keep the bytes of attachments"
    )
    parser.add_argument(
        "--retention-days", type=int, default=90, metavar="N", help="how long data is kept (90)"
    )
    parser.add_argument(
        "--forward", metavar="DSN", help="pass everything on to this Sentry project as well"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    server = LocalServer(
        host=args.host,
        port=_port(args.port),
        database=args.db,
        token=args.token or _token(),
        projects=args.project or ("app",),
        organization=args.organization,
        allow_remote=args.allow_remote,
        forward=args.forward,
        settings={
            "hosts": tuple(name.lower() for name in args.host_name),
            "trust_proxy": args.trust_proxy,
            "keep_attachments": args.keep_attachments,
            "retention_days": args.retention_days,
        },
    )
    stop = threading.Event()

    def told_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    # Before the server is up: whoever reads the ready file may stop it at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told_to_stop)
    if args.ready_file:
        # Whoever waits for it must not be sent to a server of yesterday.
        discovery.retract(args.ready_file, stale=True)
    with server:
        # What exists now stays; and requests free their own data without the collector's help.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        told = ready(server)
        if args.json:
            output.emit(told)
        else:
            output.note(args, f"release health: {server.page}")
            output.note(args, f"DSN: {server.dsn}")
            output.note(args, f"token: {server.token}")
        announced = _announced(told, args)
        try:
            if args.ready_file:
                _write(args.ready_file, json.encode(told))
            while not stop.wait(1.0):
                if server.wait(0):
                    output.note(args, "the server has stopped by itself")
                    return 1
        finally:
            if args.ready_file:
                discovery.retract(args.ready_file)
            if announced is not None:
                discovery.withdraw(announced)
    return 0


def ready(server: LocalServer) -> dict[str, Any]:
    """Return what a program needs to use a server."""
    return {
        "url": server.url,
        "page": server.page,
        "dsn": server.dsn,
        "token": server.token,
        "organization": server.organization,
        "project": server.project,
        "projects": [
            {"slug": slug, "dsn": dsn} for slug, dsn in sorted(server.project_dsns.items())
        ],
        "pid": os.getpid(),
    }


def _port(port: int) -> int:
    if not 0 <= port <= 65_535:
        raise UsageFailure(f"--port {port}: must be 0 to 65535")
    return port


def _token() -> str | None:
    found = env.setting(env.environ(), "SERVER_TOKEN")
    return found.value if found is not None else None


def _announced(told: dict[str, Any], args: argparse.Namespace) -> str | None:
    """Say in the user's state directory that a server runs; return the directory."""
    directory = default_directory(env.environ())
    if directory is None:
        return None
    try:
        discovery.announce(directory, told)
    except OSError as error:
        output.note(args, f"programs cannot find this server by dsn='local': {error}")
        return None
    return directory


def _write(path: str, data: bytes) -> None:
    # A reader that waits for the file must not find half of it, and it holds a token.
    try:
        discovery.write_private(path, data)
    except OSError as error:
        raise UsageFailure(f"--ready-file {path}: {error}") from None
