"""`crashfree releases prune`: delete old releases, many at once.

Servers keep releases that issues or sessions still need; those are counted, not an error.
Source: releases.md section 8.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

from crashfree._cli import options, output
from crashfree._cli.failure import UsageFailure
from crashfree._cli.parser import Commands
from crashfree._cli.session import Session
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree.errors import ApiError
from crashfree.management.models import ReleaseInfo

_UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


class Outcome(NamedTuple):
    """What became of the old releases."""

    deleted: list[str]
    kept: list[str]


def add_prune(group: Commands) -> None:
    """Register `releases prune`."""
    parser = group.add_parser(
        "prune",
        help="delete old releases",
        description="Delete releases that are older than a time. Releases that issues or sessions "
        "still need are kept by the server.",
    )
    parser.set_defaults(run=_run)
    options.add_scope(parser)
    options.add_dry_run(parser)
    parser.add_argument(
        "--older-than",
        type=age,
        required=True,
        metavar="AGE",
        help="a number and h, d or w: 90d (counted from release, else creation)",
    )
    parser.add_argument(
        "--keep",
        type=options.count,
        default=10,
        metavar="N",
        help="never the newest N (default 10)",
    )
    parser.add_argument("--query", help="only releases whose name holds this")
    parser.add_argument("--yes", action="store_true", help="needed to delete anything")


def age(text: str) -> float:
    """Read `36h`, `90d` or `12w` as seconds."""
    number, unit = text[:-1], text[-1:].lower()
    if unit not in _UNITS or not (number.isascii() and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 36h, 90d or 12w")
    return int(number) * _UNITS[unit]


def _run(args: argparse.Namespace) -> int:
    dry = getattr(args, "dry_run", False)
    if not dry and not args.yes:
        raise UsageFailure(
            "deleting releases cannot be undone", remedy="look with --dry-run, then give --yes"
        )
    with Session(args) as session:
        api = session.api
        project = api.projects[0] if api.projects else None
        found = list(api.list_releases(project=project, query=args.query, status="all"))
        old = _old(found, keep=args.keep, before=SYSTEM_CLOCK.time() - args.older_than)
        if dry:
            return _told(args, Outcome(old, []), "would be deleted")
        outcome = Outcome([], [])
        with output.Progress(args, "Deleting", len(old)) as progress:
            for version in old:
                try:
                    api.delete_release(version)
                    outcome.deleted.append(version)
                except ApiError as error:
                    if error.status != 400:
                        raise
                    outcome.kept.append(version)
                progress.advance()
    return _told(args, outcome, "deleted")


def _old(found: list[ReleaseInfo], *, keep: int, before: float) -> list[str]:
    """Return the names of those that are old enough, the newest `keep` aside."""
    dated = [(_instant(release), release.version) for release in found]
    dated.sort(key=lambda pair: pair[0] if pair[0] is not None else float("inf"), reverse=True)
    return [
        version for when, version in dated[keep:] if when is not None and when < before and version
    ]


def _instant(release: ReleaseInfo) -> float | None:
    moment = release.released or release.created
    return None if moment is None else moment.timestamp()


def _told(args: argparse.Namespace, outcome: Outcome, verb: str) -> int:
    if args.json:
        dry = bool(getattr(args, "dry_run", False))
        output.emit({"dry_run": dry, "deleted": outcome.deleted, "kept": outcome.kept})
        return 0
    for version in outcome.deleted:
        output.say(version)
    output.note(args, f"{len(outcome.deleted)} {verb}, {len(outcome.kept)} kept by the server")
    return 0
