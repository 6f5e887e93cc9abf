"""`crashfree releases propose-version`: the release that `init` would find in this folder.

Source: releases.md sections 2.2 and 5.1.
"""

from __future__ import annotations

import argparse
import os

from crashfree._cli import attempts, output
from crashfree._cli.failure import Failure, UsageFailure
from crashfree._cli.parser import Commands, Parser
from crashfree._ground import env
from crashfree._resolve.answers import Resolved
from crashfree._resolve.proposal import Proposal, propose
from crashfree.release import Release

_REMEDY = (
    "set CRASHFREE_RELEASE, run inside a git checkout, or write the name with `crashfree releases "
    "bake --release NAME`; asked were:"
)


def add_propose_version(group: Commands) -> None:
    """Register `releases propose-version`."""
    parser = group.add_parser(
        "propose-version",
        help="print the name this project's release has",
        description=(
            "Print the release that a program in this folder finds by itself. In a build the\n"
            "build service's variables come before git; --explain tells what was asked and why."
        ),
    )
    parser.set_defaults(run=_run)
    add_sources(parser)
    parser.add_argument(
        "--explain", action="store_true", help="tell on standard error what was asked, and why"
    )
    # Taken for the sake of scripts written for sentry-cli.
    parser.add_argument(
        "--allow-xcode-infoplist-preprocessing", action="store_true", help=argparse.SUPPRESS
    )


def add_sources(parser: Parser) -> None:
    """Let `parser` say where to look for the release."""
    add_directory(parser)
    parser.add_argument(
        "--distribution",
        metavar="NAME",
        help="take the version of this installed distribution, as release='auto:NAME' does",
    )
    parser.add_argument(
        "--from-package", action="store_true", help="take name and version of pyproject.toml"
    )


def add_directory(parser: Parser) -> None:
    """Let `parser` say which project is meant."""
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=_directory,
        help="the project's directory (default: this one)",
    )


def proposal_for(args: argparse.Namespace, *, baked: bool = True) -> Proposal:
    """Look for the release as the arguments say."""
    return propose(
        env.environ(),
        directory=args.directory,
        installed=args.distribution,
        from_package=args.from_package,
        baked=baked,
    )


def required(resolved: Resolved) -> Release:
    """Return the release; Failure, with all that was asked, when there is none."""
    if resolved.release is None:
        raise Failure(
            "no release could be found here",
            code="no_release",
            remedy="\n    ".join((_REMEDY, *attempts.lines(resolved.tried))),
        )
    return resolved.release


def _run(args: argparse.Namespace) -> int:
    if args.from_package and args.distribution is not None:
        raise UsageFailure("give --from-package or --distribution, not both")
    proposal = proposal_for(args)
    if args.explain and not args.json:
        _explain(args, proposal)
    release = required(proposal.resolved)
    if args.json:
        answer: dict[str, object] = {"version": release.raw, "source": proposal.resolved.source}
        if args.explain:
            answer["order"] = proposal.order
            answer["tried"] = attempts.facts(proposal.resolved.tried)
            answer["hints"] = [hint.message for hint in release.hints()]
        output.emit(answer)
    else:
        output.say(release.raw)
    return 0


def _directory(text: str) -> str:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no directory")
    return text


def _explain(args: argparse.Namespace, proposal: Proposal) -> None:
    output.note(args, proposal.order)
    for line in attempts.lines(proposal.resolved.tried):
        output.note(args, f"  {line}")
    release = proposal.resolved.release
    for hint in () if release is None else release.hints():
        output.note(args, f"hint: {hint.message}")
