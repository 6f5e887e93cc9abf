"""Options that several commands share, and the reading of their values.

Source: releases.md section 5.1.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from crashfree._cli.parser import plain
from crashfree._protocol.timestamps import parse_timestamp

# So that an option given before the command's name is not undone by the command's own default.
_ABSENT: Any = argparse.SUPPRESS


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take the server's address, the token and extra headers."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--url", dest="server_url", metavar="URL", default=_ABSENT, help="the server's address"
    )
    group.add_argument(
        "--auth-token", metavar="TOKEN", default=_ABSENT, help="organization or user token"
    )
    group.add_argument(
        "--header",
        dest="headers",
        metavar="KEY:VALUE",
        action="append",
        default=_ABSENT,
        help="send this header with every request (repeatable)",
    )


def add_scope(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take server, organization, projects and the time to spend."""
    add_connection(parser)
    group = parser.add_argument_group("scope")
    group.add_argument("-o", "--org", default=_ABSENT, help="slug or id of the organization")
    group.add_argument(
        "-p",
        "--project",
        dest="projects",
        metavar="PROJECT",
        action="append",
        default=_ABSENT,
        help="slug or id of a project (repeatable)",
    )
    group.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        default=_ABSENT,
        help="give up on a call after this time, retries included (default 120)",
    )


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take `--dry-run`."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        default=_ABSENT,
        help="print the requests that would change something instead of sending them",
    )


def add_version(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take the name of a release as its argument."""
    parser.add_argument("version", metavar="VERSION", type=plain, help="the release's name")


def moment(text: str) -> float:
    """Read an instant: Unix seconds, RFC 3339, RFC 2822, or a date (its midnight, UTC)."""
    words = plain(text).strip()
    for read in (float, parse_timestamp, _date, _mail_date):
        try:
            seconds = read(words)
            datetime.fromtimestamp(seconds, timezone.utc)
        except (ValueError, OverflowError, OSError, TypeError):
            continue
        return seconds
    raise argparse.ArgumentTypeError(
        f"{words!r} is no instant; give Unix seconds, 2026-11-21T10:00:00Z or 2026-11-21"
    )


def positive(text: str) -> float:
    """Read a number of seconds above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def count(text: str) -> int:
    """Read a whole number from 0 up."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _date(text: str) -> float:
    if len(text) != 10:
        raise ValueError(text)
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()


def _mail_date(text: str) -> float:
    found = parsedate_to_datetime(text)
    return (found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)).timestamp()
