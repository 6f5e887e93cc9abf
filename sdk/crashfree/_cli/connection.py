"""The options that name the server and who we are there, and the client they make."""

from __future__ import annotations

import argparse
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take the server's address, the token and extra headers."""
    suppress: Any = argparse.SUPPRESS
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--url", dest="server_url", metavar="URL", default=suppress, help="the server's address"
    )
    group.add_argument(
        "--auth-token", metavar="TOKEN", default=suppress, help="organization or user token"
    )
    group.add_argument(
        "--header",
        dest="headers",
        metavar="KEY:VALUE",
        action="append",
        default=suppress,
        help="send this header with every request (repeatable)",
    )
