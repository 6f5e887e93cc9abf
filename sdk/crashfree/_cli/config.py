"""`crashfree config`: the settings, and where each of them came from.

Source: releases.md section 5.2.
"""

from __future__ import annotations

import argparse

from crashfree._cli import options, output
from crashfree._cli.parser import Commands
from crashfree._cli.session import settings_of
from crashfree.errors import ConfigurationError
from crashfree.management import tokens
from crashfree.management.settings import DEFAULT_URL, NAMES, SECRETS, Settings, Value

_NO_ROWS = "default"


def add(commands: Commands) -> None:
    """Register `config`."""
    parser = commands.add_parser(
        "config",
        help="the settings and where each came from",
        description="Show the settings that commands would use. Secrets are cut short.",
    )
    parser.set_defaults(run=_run)
    options.add_scope(parser)
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also what was overruled, and whether the token may go to that server",
    )


def _run(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    verdict = _verdict(settings) if args.explain else None
    if args.json:
        output.emit(_described(settings, verdict, explain=args.explain))
        return 0
    rows: list[tuple[str, str, str]] = []
    for name in NAMES:
        values = settings.all(name)
        if not values:
            if name == "url":
                rows.append((name, DEFAULT_URL, _NO_ROWS))
            elif args.explain:
                rows.append((name, "-", "not set"))
            continue
        rows.append((name, _shown(name, values[0]), values[0].origin.where))
        if args.explain:
            rows.extend(
                ("", _shown(name, value), f"{value.origin.where} (overruled)")
                for value in values[1:]
            )
    output.table(("Setting", "Value", "From"), rows)
    for sentence in settings.notes:
        output.note(args, sentence)
    if verdict is not None:
        output.say(verdict)
    return 0


def _verdict(settings: Settings) -> str:
    """Say where the token would go."""
    if settings.get("token") is None:
        return "No token is set: commands that talk to a server will ask for one."
    try:
        connection = settings.connection()
    except ConfigurationError as error:
        remedy = getattr(error, "remedy", "")
        return f"Refused: {error}" + (f"\n  {remedy}" if remedy else "")
    organization = connection.organization
    where = f"organization {organization.text}" if organization else "no organization"
    return f"The token would be sent to {connection.url.text}, {where}."


def _shown(name: str, value: Value) -> str:
    if name not in SECRETS:
        return tokens.without_secrets(value.text)
    return tokens.redacted(value.text)


def _described(settings: Settings, verdict: str | None, *, explain: bool) -> dict[str, object]:
    answer: dict[str, object] = {}
    for name in NAMES:
        values = settings.all(name)
        shown = [{"value": _shown(name, value), "from": value.origin.where} for value in values]
        if explain:
            answer[name] = shown
        else:
            answer[name] = shown[0] if shown else None
    if explain:
        answer["notes"] = list(settings.notes)
        answer["verdict"] = verdict
    return answer
