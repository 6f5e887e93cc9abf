"""`crashfree deploys`: which release went out where; also the older `releases deploys VERSION …`.

Source: releases.md section 5.1.
"""

from __future__ import annotations

import argparse

from crashfree._cli import options, output
from crashfree._cli.ago import span
from crashfree._cli.parser import Commands, Parser
from crashfree._cli.session import Session, chosen_release, release_name
from crashfree._ground.clock import SYSTEM_CLOCK


def add(commands: Commands) -> None:
    """Register `deploys`."""
    parser = commands.add_parser(
        "deploys", help="deploys", description="Say which release went out where, and look it up."
    )
    options.add_scope(parser)
    _add_actions(parser, with_release=True)


def add_legacy_deploys(group: Commands) -> None:
    """Register `releases deploys VERSION new|list`."""
    parser = group.add_parser(
        "deploys",
        help="the older form of `crashfree deploys`",
        description="The older form of `crashfree deploys`.",
    )
    options.add_scope(parser)
    options.add_version(parser)
    _add_actions(parser, with_release=False)


def _add_actions(parser: Parser, *, with_release: bool) -> None:
    actions = parser.add_subparsers(metavar="ACTION", dest="deploy_action", required=True)
    new = actions.add_parser("new", help="tell of a deploy", description="Tell of a deploy.")
    new.set_defaults(run=_new)
    listing = actions.add_parser("list", help="list deploys", description="List the deploys.")
    listing.set_defaults(run=_list)
    for leaf in (new, listing):
        options.add_scope(leaf)
        if with_release:
            leaf.add_argument("-r", "--release", metavar="VERSION", help="the release's name")
    options.add_dry_run(new)
    new.add_argument("-e", "--env", dest="environment", metavar="ENV", required=True)
    new.add_argument("-n", "--name", help="a name for this deploy")
    new.add_argument("-u", "--url", dest="deploy_url", metavar="URL", help="a page about it")
    new.add_argument("--started", type=options.moment, metavar="TIMESTAMP")
    new.add_argument("--finished", type=options.moment, metavar="TIMESTAMP", help="default: now")
    new.add_argument(
        "-t",
        "--time",
        type=options.count,
        metavar="SECONDS",
        help="how long it took, up to now (wins over the two)",
    )


def _version(args: argparse.Namespace, session: Session) -> str:
    given = getattr(args, "version", None)
    if given is not None:
        return release_name(args, given)
    return chosen_release(args, session.settings)


def _new(args: argparse.Namespace) -> int:
    started, finished = args.started, args.finished
    if args.time is not None:
        finished = SYSTEM_CLOCK.time()
        started = finished - args.time
    with Session(args) as session:
        version = _version(args, session)
        deploy = session.api.create_deploy(
            version,
            args.environment,
            name=args.name,
            url=args.deploy_url,
            started=started,
            finished=finished,
            # Only what was asked for here: without projects all of the release count as deployed.
            projects=getattr(args, "projects", None),
        )
        if session.finish_dry_run():
            return 0
    if args.json:
        output.emit(deploy.raw)
    else:
        output.say(f"Created new deploy {deploy.name or 'unnamed'} for {args.environment!r}")
    return 0


def _list(args: argparse.Namespace) -> int:
    with Session(args) as session:
        found = list(session.api.list_deploys(_version(args, session)))
    if args.json:
        output.emit([deploy.raw for deploy in found])
    elif not found:
        output.say("No deploys found")
    else:
        now = SYSTEM_CLOCK.time()
        output.table(
            ("Environment", "Name", "Finished"),
            [
                (
                    deploy.environment,
                    deploy.name or "unnamed",
                    span(now - deploy.finished.timestamp()) if deploy.finished else "-",
                )
                for deploy in found
            ],
        )
    return 0
