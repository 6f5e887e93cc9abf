"""`crashfree releases`: create, finalize, list, describe, archive, restore, delete.

Names, flags, messages and requests are sentry-cli's where those are right.
Source: releases.md section 5.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from crashfree._cli import lazy, options, output
from crashfree._cli.ago import ago, instant
from crashfree._cli.failure import Failure, UsageFailure
from crashfree._cli.naming import add_match, found
from crashfree._cli.parser import Commands, Parser
from crashfree._cli.session import Session, release_name
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree.errors import ApiError
from crashfree.management.models import Commit, ReleaseInfo
from crashfree.release import Release

Run = Callable[[argparse.Namespace], int]
# Commands of this group that live in modules of their own: module, function that adds them.
_ELSEWHERE = (
    ("propose", "add_propose_version"),
    ("setcommits", "add_set_commits"),
    ("deploys", "add_legacy_deploys"),
    ("files", "add_release_files"),
    ("naming", "add_latest"),
    ("prune", "add_prune"),
    ("bake", "add_bake"),
)
_PAGE = 100


def add(commands: Commands) -> None:
    """Register `releases`."""
    parser = commands.add_parser(
        "releases", help="releases", description="Create, finalize, list and describe releases."
    )
    options.add_scope(parser)
    group = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    _add_new(group)
    _add_finalize(group)
    _add_list(group)
    _add_info(group)
    _add_simple(group, "archive", _archive, "hide a release")
    _add_simple(group, "restore", _restore, "show an archived release again")
    _add_simple(group, "delete", _delete, "delete a release")
    for name, function in _ELSEWHERE:
        found = lazy.module(name)
        if found is not None:
            getattr(found, function)(group)


def _leaf(group: Commands, name: str, run: Run, text: str, **kwargs: Any) -> Parser:
    parser = group.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", **kwargs
    )
    parser.set_defaults(run=run)
    options.add_scope(parser)
    return parser


def _add_new(group: Commands) -> None:
    parser = _leaf(group, "new", _new, "create a release", takes_dashed_names=True)
    options.add_version(parser)
    options.add_dry_run(parser)
    parser.add_argument("--url", dest="release_url", metavar="URL", help="a page about the release")
    parser.add_argument("--ref", help="the commit, branch or tag it was built from")
    parser.add_argument(
        "--finalize", action="store_true", help="mark it as released in the same step"
    )


def _add_finalize(group: Commands) -> None:
    parser = _leaf(
        group, "finalize", _finalize, "mark a release as released", takes_dashed_names=True
    )
    options.add_version(parser)
    options.add_dry_run(parser)
    parser.add_argument("--url", dest="release_url", metavar="URL", help="a page about the release")
    parser.add_argument(
        "--released", type=options.moment, metavar="TIMESTAMP", help="when (default: now)"
    )
    parser.add_argument("--started", metavar="TIMESTAMP", help=argparse.SUPPRESS)


def _add_list(group: Commands) -> None:
    parser = _leaf(group, "list", _list, "list the releases, newest first")
    parser.add_argument("-P", "--show-projects", action="store_true", help="a column of projects")
    parser.add_argument("-R", "--raw", action="store_true", help="only the names")
    parser.add_argument("-D", "--delimiter", metavar="TEXT", help="between the names (with --raw)")
    parser.add_argument("--query", help="part of the name, or release.version:…")
    parser.add_argument("--status", choices=("open", "archived", "all"), default="open")
    parser.add_argument("--sort", help="date, build, semver, adoption, sessions, …")
    parser.add_argument(
        "-e", "--environment", dest="environments", action="append", default=[], metavar="ENV"
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--all", action="store_true", help="all of them (default: one page, 100)")
    amount.add_argument("--limit", type=options.count, default=_PAGE, metavar="N")


def _add_info(group: Commands) -> None:
    parser = _leaf(group, "info", _info, "describe a release", takes_dashed_names=True)
    options.add_version(parser)
    add_match(parser)
    parser.add_argument("-P", "--show-projects", action="store_true", help="a column of projects")
    parser.add_argument("-C", "--show-commits", action="store_true", help="a column of commits")


def _add_simple(group: Commands, name: str, run: Run, text: str) -> None:
    parser = _leaf(group, name, run, text, takes_dashed_names=True)
    options.add_version(parser)
    add_match(parser)
    options.add_dry_run(parser)


def _new(args: argparse.Namespace) -> int:
    version = release_name(args, args.version)
    with Session(args) as session:
        session.requires_projects()
        now = SYSTEM_CLOCK.time()
        release = session.api.create_release(
            version,
            url=args.release_url,
            ref=args.ref,
            started=now,
            released=now if args.finalize else None,
        )
        for hint in Release.parse(version).hints():
            output.note(args, f"hint: {hint.message}")
        return _told(args, session, release, f"Created release {version}")


def _finalize(args: argparse.Namespace) -> int:
    version = release_name(args, args.version)
    if args.started is not None:
        output.warn("--started is ignored: a release has no start any more")
    with Session(args) as session:
        release = session.api.finalize(version, released=args.released, url=args.release_url)
        return _told(args, session, release, f"Finalized release {version}")


def _meant(args: argparse.Namespace, session: Session) -> str:
    if args.match:
        return found(session.api, args.version)
    return release_name(args, args.version)


def _archive(args: argparse.Namespace) -> int:
    with Session(args) as session:
        version = _meant(args, session)
        return _told(args, session, session.api.archive(version), f"Archived release {version}")


def _restore(args: argparse.Namespace) -> int:
    with Session(args) as session:
        version = _meant(args, session)
        return _told(args, session, session.api.restore(version), f"Restored release {version}")


def _delete(args: argparse.Namespace) -> int:
    with Session(args) as session:
        version = found(session.api, args.version) if args.match else args.version
        deleted = session.api.delete_release(version)
        if session.finish_dry_run():
            return 0
    if args.json:
        output.emit({"version": version, "deleted": deleted})
    elif deleted:
        output.say(f"Deleted release {version}!")
    else:
        output.say(f"Did nothing. Release with this version ({version}) does not exist.")
    return 0


def _told(args: argparse.Namespace, session: Session, release: ReleaseInfo, text: str) -> int:
    if not session.finish_dry_run():
        if args.json:
            output.emit(release.raw)
        else:
            output.say(text)
    return 0


def _list(args: argparse.Namespace) -> int:
    if args.delimiter is not None and not args.raw:
        raise UsageFailure("--delimiter needs --raw")
    with Session(args) as session:
        api = session.api
        listed = list(
            api.list_releases(
                project=api.projects[0] if api.projects else None,
                query=args.query,
                status=args.status,
                sort=args.sort,
                environments=args.environments,
                limit=None if args.all else args.limit,
            )
        )
    if args.json:
        output.emit([release.raw for release in listed])
    elif args.raw:
        delimiter = "\n" if args.delimiter is None else args.delimiter
        output.say(delimiter.join(release.version for release in listed))
    elif listed:
        _list_table(listed, with_projects=args.show_projects)
    return 0


def _list_table(found: list[ReleaseInfo], *, with_projects: bool) -> None:
    now = SYSTEM_CLOCK.time()
    header = ["Released", "Version"]
    if with_projects:
        header.append("Projects")
    header.extend(("New Events", "Last Event"))
    rows: list[list[str]] = []
    for release in found:
        released = ago(release.released, now) if release.released else "(unreleased)"
        row = [released, release.version]
        if with_projects:
            row.append("\n".join(project.slug for project in release.projects))
        row.extend((str(release.new_issues), ago(release.last_event, now)))
        rows.append(row)
    output.table(header, rows)


def _info(args: argparse.Namespace) -> int:
    with Session(args) as session:
        try:
            version = found(session.api, args.version) if args.match else args.version
            release = session.api.get_release(version)
            commits = list(session.api.release_commits(version)) if args.show_commits else []
        except ApiError as error:
            if error.status == 404:
                raise Failure(f"release {args.version!r} not found", code="not_found") from None
            raise
    if args.json:
        shown = dict(release.raw)
        if args.show_commits:
            shown["commits"] = [commit.raw for commit in commits]
        output.emit(shown)
    elif not args.quiet:
        _info_table(args, release, commits)
    return 0


def _info_table(args: argparse.Namespace, release: ReleaseInfo, commits: list[Commit]) -> None:
    header = ["Version", "Date created"]
    row = [release.version, instant(release.created)]
    if release.last_event is not None:
        header.append("Last event")
        row.append(instant(release.last_event))
    if args.show_projects:
        header.append("Projects")
        row.append("\n".join(project.slug for project in release.projects))
    if args.show_commits:
        header.append("Commits")
        row.append("\n".join(commit.id for commit in commits))
    output.table(header, [row])
