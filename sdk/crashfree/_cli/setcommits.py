"""`crashfree releases set-commits`: which commits belong to a release.

Source: releases.md section 5.4.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from crashfree._cli import options, output
from crashfree._cli.failure import UsageFailure
from crashfree._cli.parser import Commands, Parser
from crashfree._cli.session import Session, release_name
from crashfree.management.association import INITIAL_DEPTH, Plan, Wish, associate
from crashfree.management.commits import MAX_COMMITS
from crashfree.management.models import Ref

_NOTHING = (
    "No commits found. Leaving release alone. If you believe there should be some, "
    "change commits range or initial depth and try again."
)


def add_set_commits(group: Commands) -> None:
    """Register `releases set-commits`."""
    parser = group.add_parser(
        "set-commits",
        help="say which commits belong to a release",
        description="Say which commits belong to a release. Without a choice the commits of this "
        "checkout since the previous release are sent.",
        takes_dashed_names=True,
    )
    parser.set_defaults(run=_run)
    options.add_scope(parser)
    options.add_dry_run(parser)
    options.add_version(parser)
    _add_choices(parser)
    _add_range(parser)
    _add_naming(parser)


def _add_choices(parser: Parser) -> None:
    choice = parser.add_argument_group("which commits")
    choice.add_argument(
        "--auto",
        action="store_true",
        help="let the server fetch them when it reads this repository",
    )
    choice.add_argument("--local", action="store_true", help="send those of this checkout")
    choice.add_argument("--clear", action="store_true", help="remove all commits of the release")
    choice.add_argument(
        "-c",
        "--commit",
        dest="specs",
        metavar="SPEC",
        action="append",
        default=[],
        help="REPO@COMMIT or REPO@FROM..TO; with --local also COMMIT or FROM..TO (repeatable)",
    )
    choice.add_argument(
        "--append", action="store_true", help="keep the commits that the release has"
    )


def _add_range(parser: Parser) -> None:
    which = parser.add_argument_group("range")
    which.add_argument("--from", dest="base", metavar="REF", help="the commits since REF")
    which.add_argument(
        "--since-deploy", metavar="ENV", help="the commits since the last deploy to ENV"
    )
    which.add_argument(
        "--initial-depth",
        type=options.count,
        default=INITIAL_DEPTH,
        metavar="N",
        help=f"how many when there is no base (default {INITIAL_DEPTH})",
    )
    which.add_argument(
        "--max-commits", type=options.count, default=MAX_COMMITS, metavar="N", help="never more"
    )
    which.add_argument(
        "--path", dest="paths", action="append", default=[], help="only below PATH (repeatable)"
    )
    which.add_argument(
        "--ignore-missing", action="store_true", help="do not warn when the base is not here"
    )
    which.add_argument("--strict", action="store_true", help="fail when the base is not here")
    which.add_argument("--ignore-empty", action="store_true", help=argparse.SUPPRESS)


def _add_naming(parser: Parser) -> None:
    naming = parser.add_argument_group("repository")
    naming.add_argument(
        "--remote", metavar="NAME|URL", help="the remote it was cloned from (default origin)"
    )
    naming.add_argument("--repo", metavar="OWNER/NAME", help="file the commits under this name")
    naming.add_argument(
        "--checkout", metavar="DIR", default=".", help="the checkout (default: here)"
    )


def _run(args: argparse.Namespace) -> int:
    version = release_name(args, args.version)
    _check(args)
    with Session(args) as session:
        wish = Wish(
            auto=args.auto,
            local=args.local,
            clear=args.clear,
            specs=tuple(args.specs),
            base=args.base,
            since_deploy=args.since_deploy,
            paths=tuple(args.paths),
            initial_depth=args.initial_depth,
            max_commits=args.max_commits,
            ignore_missing=args.ignore_missing,
            strict=args.strict,
            append=args.append,
            remote=args.remote or session.settings.text("vcs_remote"),
            repository=args.repo,
            directory=args.checkout,
        )
        with output.Progress(args, "Reading commits") as progress:

            def tell(plan: Plan) -> None:
                progress.clear()
                _tell(args, plan)

            plan = associate(
                session.api,
                version,
                wish,
                on_plan=tell,
                on_read=lambda count: progress.reached(count, 0),
            )
        if session.finish_dry_run():
            return 0
    if args.json:
        output.emit(_described(version, plan))
    else:
        _conclude(version, plan)
    return 0


def _check(args: argparse.Namespace) -> None:
    for other in ("auto", "clear"):
        if args.local and getattr(args, other):
            raise UsageFailure(f"--local cannot be used with --{other}")
    if args.auto and args.specs:
        raise UsageFailure("--auto cannot be used with --commit")
    if args.base is not None and args.since_deploy is not None:
        raise UsageFailure("--from cannot be used with --since-deploy")


def _tell(args: argparse.Namespace, plan: Plan) -> None:
    for sentence in plan.notes:
        output.note(args, sentence)
    for sentence in plan.warnings:
        output.warn(sentence)
    if args.json or getattr(args, "dry_run", False):
        return
    if plan.kind == "refs":
        output.table(("Repository", "Revision"), [_row(ref) for ref in plan.refs])
    elif plan.kind == "clear":
        output.say("Clearing commits for release.")


def _row(ref: Ref) -> Sequence[str]:
    current = _short(ref.commit)
    return (
        ref.repository,
        current if ref.previous is None else f"{_short(ref.previous)} -> {current}",
    )


def _short(commit: str) -> str:
    return commit[:12] if len(commit) >= 40 else commit


def _conclude(version: str, plan: Plan) -> None:
    if plan.kind == "nothing":
        output.say(_NOTHING)
    elif plan.kind == "commits":
        output.say(f"Success! Set commits for release {version}")


def _described(version: str, plan: Plan) -> dict[str, object]:
    return {
        "version": version,
        "kind": plan.kind,
        "append": plan.append,
        "refs": [ref.payload() for ref in plan.refs],
        "commits": [commit.id for commit in plan.commits],
        "files": sum(len(commit.changes or ()) for commit in plan.commits),
        "notes": plan.notes,
        "warnings": plan.warnings,
    }
