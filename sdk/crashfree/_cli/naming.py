"""Releases found by less than their name: by its end (`--match`), or because they are the newest.

Source: releases.md section 8 (short names in lists, semver precedence).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from crashfree._cli import options, output
from crashfree._cli.failure import Failure
from crashfree._cli.parser import Commands, Parser, did_you_mean
from crashfree._cli.session import Session
from crashfree.errors import InvalidRelease
from crashfree.management.api import ReleaseApi
from crashfree.release import Release

_MOST = 1000


def add_match(parser: Parser) -> None:
    """Let `parser` take `--match`."""
    parser.add_argument(
        "--match",
        action="store_true",
        help="VERSION may be short: what stands behind package@, or the beginning of a hash",
    )


def add_latest(group: Commands) -> None:
    """Register `releases latest`."""
    parser = group.add_parser(
        "latest",
        help="print the newest release",
        description="Print the newest release: the one released last, or with --numeric the one "
        "of the highest version.",
    )
    parser.set_defaults(run=_run)
    options.add_scope(parser)
    parser.add_argument(
        "--numeric",
        action="store_true",
        help="by version, where rc.10 comes behind rc.9 and a release behind its candidates",
    )
    parser.add_argument("--query", help="only releases whose name holds this")
    parser.add_argument("-e", "--environment", action="append", default=[], metavar="ENV")


def found(api: ReleaseApi, text: str) -> str:
    """Return the one release that `text` names, in full or in short.

    Raises Failure when none does, or more than one.
    """
    project = api.projects[0] if api.projects else None
    listed = api.list_releases(project=project, query=text, status="all", limit=_MOST)
    names = [release.version for release in listed]
    if text in names:
        return text
    matching = [name for name in names if _is_short_for(text, name)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        shown = ", ".join(sorted(matching)[:10])
        raise Failure(f"{text!r} may be any of {shown}", code="ambiguous", remedy="give more of it")
    raise Failure(
        f"no release is called {text!r}{did_you_mean(text, names, listing=False)}", code="not_found"
    )


def _is_short_for(text: str, name: str) -> bool:
    parsed = _parsed(name)
    if parsed is None:
        return False
    return text in (parsed.version, parsed.short) or (
        len(text) >= 7 and parsed.kind == "hash" and parsed.version.startswith(text)
    )


def _run(args: argparse.Namespace) -> int:
    with Session(args) as session:
        api = session.api
        listed = api.list_releases(
            project=api.projects[0] if api.projects else None,
            query=args.query,
            environments=args.environment,
            limit=_MOST if args.numeric else 1,
        )
        names = [release.version for release in listed]
    newest = _highest(names) if args.numeric else next(iter(names), None)
    if newest is None:
        raise Failure("there is no release", code="not_found")
    if args.json:
        output.emit({"version": newest})
    else:
        output.say(newest)
    return 0


def _highest(names: Iterable[str]) -> str | None:
    parsed = [release for release in map(_parsed, names) if release and release.parsed]
    if not parsed:
        return None
    return max(parsed, key=lambda release: release.sort_key(semver_precedence=True)).raw


def _parsed(name: str) -> Release | None:
    try:
        return Release.parse(name)
    except InvalidRelease:
        return None
