"""`crashfree server`: look after the local server's data.

    crashfree server prune --db FILE --days 30      delete what is older
    crashfree server backup --db FILE COPY          copy the database while it is in use
    crashfree server export --db FILE               JSON lines, or CSV, to standard output
    crashfree server import --db FILE EXPORT        take in an export
    crashfree server filters --db FILE              show and change inbound filters

All of them work on the file, beside a running server or without one.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from crashfree._cli import output
from crashfree._cli.failure import Failure, UsageFailure
from crashfree._cli.parser import Commands, Parser
from crashfree._ground import json
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._protocol.timestamps import parse_timestamp
from crashfree.errors import ConfigurationError
from crashfree.server import extra

_DAY = 86_400
_SWITCHES = ("on", "off")


def add(commands: Commands) -> None:
    """Register `server` and its actions."""
    parser = commands.add_parser(
        "server", help="look after the local server's data", description=__doc__
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    _add_prune(actions)
    _add_backup(actions)
    _add_export(actions)
    _add_import(actions)
    _add_filters(actions)


def _database(parser: Parser) -> None:
    parser.add_argument("--db", metavar="FILE", required=True, help="the server's database")


def _add_prune(actions: Commands) -> None:
    parser = actions.add_parser("prune", help="delete what is older than some days")
    _database(parser)
    parser.add_argument("--days", type=float, required=True, help="what is older goes")
    parser.add_argument(
        "--max-events", type=int, metavar="N", help="keep only the newest N events a project"
    )
    parser.set_defaults(run=_prune)


def _prune(args: argparse.Namespace) -> int:
    if args.days <= 0:
        raise UsageFailure("--days must be more than 0")
    upkeep = extra("crashfree.server.upkeep")
    with _store(args) as store:
        gone = upkeep.prune(
            store, before=SYSTEM_CLOCK.time() - args.days * _DAY, max_events=args.max_events
        )
    deleted = {table: count for table, count in gone.items() if count}
    if args.json:
        output.emit({"deleted": deleted})
    elif not deleted:
        output.say("nothing to delete")
    else:
        output.table(("What", "Deleted"), [(name, str(n)) for name, n in deleted.items()])
    return 0


def _add_backup(actions: Commands) -> None:
    parser = actions.add_parser("backup", help="copy the database while it is in use")
    _database(parser)
    parser.add_argument("copy", metavar="COPY", help="the new file")
    parser.set_defaults(run=_backup)


def _backup(args: argparse.Namespace) -> int:
    if os.path.exists(args.copy):
        raise UsageFailure(f"{args.copy} is there already; name a new file")
    transfer = extra("crashfree.server.transfer")
    with _store(args) as store:
        try:
            transfer.backup(store, args.copy)
        except (OSError, sqlite3.Error) as error:
            raise UsageFailure(f"{args.copy}: {error}") from None
    if args.json:
        output.emit({"copy": args.copy, "bytes": os.path.getsize(args.copy)})
    else:
        output.note(args, f"copied to {args.copy}")
    return 0


def _add_export(actions: Commands) -> None:
    parser = actions.add_parser(
        "export",
        help="write projects, releases, sessions, aggregates and events as text",
        description="Users leave as keyed hashes. Commits, deploys, issues and settings are not "
        "in an export; a backup has them.",
    )
    _database(parser)
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    parser.add_argument(
        "--kind",
        action="append",
        choices=("project", "release", "session", "aggregate", "event"),
        help="only this kind; may be repeated (csv takes exactly one)",
    )
    parser.add_argument("--project", action="append", metavar="SLUG", help="only this project")
    parser.add_argument("--since", metavar="TIME", help="RFC 3339, or a date")
    parser.add_argument("--until", metavar="TIME", help="RFC 3339, or a date")
    parser.add_argument("--output", metavar="FILE", help="a file in place of standard output")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    if args.format == "csv" and len(args.kind or ()) != 1:
        raise UsageFailure("--format csv needs exactly one --kind")
    transfer = extra("crashfree.server.transfer")
    with _store(args) as store, store.read() as db, _opened(args.output) as out:
        lines = transfer.export_lines(
            db,
            at=SYSTEM_CLOCK.time(),
            kinds=args.kind or transfer.KINDS,
            projects=_projects(store, db, args.project),
            since=_time(args.since, "--since", 0.0),
            until=_time(args.until, "--until", float("inf")),
        )
        if args.format == "csv":
            transfer.write_csv(lines, args.kind[0], out)
        else:
            for line in lines:
                out.write(json.encode(line).decode() + "\n")
    return 0


def _add_import(actions: Commands) -> None:
    parser = actions.add_parser(
        "import",
        help="take in an export",
        description="Sessions are merged and events recognized; aggregates add up, so the same "
        "export is refused the second time.",
    )
    _database(parser)
    parser.add_argument("export", metavar="EXPORT", help="JSON lines; - is standard input")
    parser.add_argument("--again", action="store_true", help="take it in although it was before")
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> int:
    transfer = extra("crashfree.server.transfer")
    with _store(args, create=True) as store, _source(args.export) as lines:
        try:
            counts = transfer.import_lines(store, lines, at=SYSTEM_CLOCK.time(), again=args.again)
        except transfer.BadExport as error:
            raise UsageFailure(f"{args.export}: {error}") from None
        except transfer.AlreadyTaken:
            raise Failure(
                f"{args.export} was taken in before",
                code="already_imported",
                remedy="--again takes it in once more; aggregates are then counted twice",
            ) from None
    if args.json:
        output.emit({"imported": counts})
    else:
        output.say(f"imported {_counted(counts) or 'nothing'}")
    return 0


def _add_filters(actions: Commands) -> None:
    parser = actions.add_parser(
        "filters",
        help="show and change a project's inbound filters",
        description="Without options, shows every filter, what it can see and how many it "
        "dropped in the last 30 days. An empty value switches a list off.",
    )
    _database(parser)
    parser.add_argument("--project", default="app", metavar="SLUG", help="the project (app)")
    for option, meaning in (
        ("--releases", "globs over whole release names, such as 'app@0.*'"),
        ("--ip-addresses", "addresses and networks of senders"),
        ("--error-messages", "globs over error messages; sessions are not filtered by them"),
        ("--legacy-browsers", "ids, or default"),
    ):
        parser.add_argument(option, nargs="*", metavar="ENTRY", help=meaning)
    parser.add_argument("--web-crawlers", choices=_SWITCHES)
    parser.add_argument("--localhost", choices=_SWITCHES)
    parser.set_defaults(run=_filters)


def _filters(args: argparse.Namespace) -> int:
    rules = extra("crashfree.server.rules_api")
    filters = extra("crashfree.server.filters")
    changes: dict[str, Any] = {}
    for name in ("releases", "ip_addresses", "error_messages", "legacy_browsers"):
        entries = getattr(args, name)
        if entries is not None:
            changes[name] = [entry for entry in entries if entry]
    for name in ("web_crawlers", "localhost"):
        if getattr(args, name) is not None:
            changes[name] = getattr(args, name) == "on"
    with _store(args) as store:
        with store.read() as db:
            (project,) = _projects(store, db, [args.project])
        if changes:
            with store.write() as db:
                try:
                    rules.set_filters(store, db, project, changes)
                except filters.InvalidFilter as error:
                    option = error.name.replace("_", "-")
                    raise UsageFailure(f"--{option}: {error}") from None
        with store.read() as db:
            summaries = filters.summaries(
                rules.filter_settings(store, db, project),
                rules.dropped(db, project, since=SYSTEM_CLOCK.time() - 30 * _DAY),
            )
    if args.json:
        output.emit([entry.to_json() for entry in summaries])
        return 0
    output.table(
        ("Filter", "Setting", "Events", "Sessions", "Dropped", "Note"),
        [
            (
                entry.id,
                _setting(entry.settings),
                "yes",
                "yes" if entry.sessions else "no",
                _counted(entry.dropped) or "-",
                entry.note,
            )
            for entry in summaries
        ],
    )
    return 0


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "\n".join(str(entry) for entry in value) or "off"


@contextmanager
def _store(args: argparse.Namespace, *, create: bool = False) -> Generator[Any, None, None]:
    if not create and not os.path.exists(args.db):
        raise UsageFailure(f"--db {args.db}: there is no such file")
    busy = extra("crashfree.server.engine").Busy
    running = extra("crashfree.server.running")
    try:
        store = running.open_store(args.db)
    except ConfigurationError as error:
        raise UsageFailure(f"--db {args.db}: {error}") from None
    try:
        yield store
    except busy as error:
        raise Failure(
            f"--db {args.db}: another process keeps it busy: {error}",
            code="busy",
            remedy="try again; nothing is lost, and what was done stays done",
        ) from None
    except sqlite3.Error as error:
        raise Failure(f"--db {args.db}: {error}", code="database") from None
    finally:
        store.close()


def _projects(store: Any, db: Any, slugs: list[str] | None) -> dict[int, str]:
    known = {project.slug: project.id for project in store.projects(db)}
    for slug in slugs or ():
        if slug not in known:
            raise UsageFailure(f"--project {slug}: known are {', '.join(sorted(known))}")
    return {known[slug]: slug for slug in slugs or known}


def _time(text: str | None, option: str, default: float) -> float:
    if text is None:
        return default
    try:
        return parse_timestamp(text if "T" in text else f"{text}T00:00:00")
    except ValueError:
        raise UsageFailure(f"{option} {text}: not a time such as 2026-11-21T10:00:00Z") from None


@contextmanager
def _opened(path: str | None) -> Generator[IO[str], None, None]:
    if path is None:
        yield sys.stdout
        return
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise UsageFailure(f"--output {path}: {error}") from None


@contextmanager
def _source(path: str) -> Generator[IO[bytes], None, None]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UsageFailure(f"{path}: {error}") from None
