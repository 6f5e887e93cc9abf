"""`crashfree repos list`: the repositories that the server knows.

Source: releases.md section 5.1.
"""

from __future__ import annotations

import argparse

from crashfree._cli import options, output
from crashfree._cli.parser import Commands
from crashfree._cli.session import Session


def add(commands: Commands) -> None:
    """Register `repos`."""
    parser = commands.add_parser(
        "repos", help="repositories", description="Look up the repositories the server knows."
    )
    options.add_scope(parser)
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    listing = actions.add_parser("list", help="list them", description="List the repositories.")
    options.add_scope(listing)
    listing.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    with Session(args) as session:
        found = list(session.api.repositories())
    if args.json:
        output.emit([repository.raw for repository in found])
    elif not found:
        output.say("No repos found")
    else:
        output.table(
            ("Name", "Provider", "URL"),
            [(entry.name, entry.provider_name, entry.url or "-") for entry in found],
        )
    return 0
