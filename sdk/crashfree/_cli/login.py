"""`crashfree login-check` and `crashfree info`: which server, and who we are there.

Source: releases.md section 5.1.
"""

from __future__ import annotations

import argparse

from crashfree._cli import options, output
from crashfree._cli.failure import REFUSED
from crashfree._cli.parser import Commands
from crashfree._cli.session import Session, settings_of
from crashfree.errors import ApiError, CrashfreeError, Unreachable
from crashfree.management.models import Identity
from crashfree.management.settings import DEFAULT_URL, Settings


def add(commands: Commands) -> None:
    """Register `login-check`."""
    parser = commands.add_parser(
        "login-check",
        help="ask the server who we are",
        description="Ask the server who the token makes us. Fails when it is not accepted.",
    )
    parser.set_defaults(run=_check)
    options.add_scope(parser)


def add_info(commands: Commands) -> None:
    """Register `info`."""
    parser = commands.add_parser(
        "info",
        help="server, organization, project and authentication",
        description="Show server, organization, project and who the token makes us.",
    )
    parser.set_defaults(run=_info)
    options.add_scope(parser)
    parser.add_argument("--config-status-json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-defaults", action="store_true", help="no organization and project")


def _check(args: argparse.Namespace) -> int:
    with Session(args) as session:
        url = session.connection.url.text
        identity = session.identity()
        origin = session.connection.token.origin.where
    if args.json:
        output.emit({"url": url, "token_from": origin, **_described(identity)})
    else:
        who = identity.user or "an organization's token"
        output.say(f"{url} accepts the token of {origin}: {who}")
        output.say(f"Scopes: {', '.join(identity.scopes) or 'none'}")
    return 0


def _info(args: argparse.Namespace) -> int:
    if args.config_status_json:
        return _status(args)
    with Session(args) as session:
        connection = session.connection
        identity = session.identity()
        projects = session.settings.projects()
    organization = connection.organization.text if connection.organization else None
    if args.json:
        output.emit(
            {
                "url": connection.url.text,
                "org": organization,
                "projects": list(projects),
                **_described(identity),
            }
        )
        return 0
    output.say(f"Sentry Server: {connection.url.text}")
    if not args.no_defaults:
        output.say(f"Default Organization: {organization or '-'}")
        output.say(f"Default Project: {projects[0] if projects else '-'}")
    output.say("\nAuthentication Info:\n  Method: Auth Token")
    if identity.user is not None:
        output.say(f"  User: {identity.user}")
    if identity.scopes:
        output.say("  Scopes:")
        for scope in identity.scopes:
            output.say(f"    - {scope}")
    return 0


def _described(identity: Identity) -> dict[str, object]:
    return {
        "user": identity.user,
        "scopes": list(identity.scopes),
        "server_version": identity.server_version,
    }


def _status(args: argparse.Namespace) -> int:
    """The machine-readable form of sentry-cli: it tells of a refusal instead of failing."""
    settings = settings_of(args)
    successful = False
    kind = None
    problem: CrashfreeError | None = None
    try:
        with Session(args) as session:
            kind = "token"
            session.identity()
            successful = True
    except (ApiError, Unreachable) as error:
        problem = error
    output.emit(_status_of(settings, kind, successful=successful, problem=problem))
    return 0 if successful else REFUSED


def _status_of(
    settings: Settings, kind: str | None, *, successful: bool, problem: CrashfreeError | None
) -> dict[str, object]:
    projects = settings.projects()
    answer: dict[str, object] = {
        "config": {
            "org": settings.text("org"),
            "project": projects[0] if projects else None,
            "url": (settings.text("url") or DEFAULT_URL).rstrip("/"),
        },
        "auth": {"type": kind, "successful": successful},
        "have_dsn": settings.get("dsn") is not None,
    }
    if problem is not None:
        answer["error"] = str(problem)
    return answer
