"""Auth tokens: what an organization's token carries, what is well formed, what a log may show.

Pure; threads: any. Source: releases.md section 5.2 (token forms).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from crashfree._ground import json
from crashfree.management.payloads import mapping, text

_ORGANIZATION = "sntrys_"
_USER = "sntryu_"
_SHOWN = 8
_SECRET = re.compile(r"(?:sntrys_|sntryu_)\S+|\b[0-9a-fA-F]{64}\b|(?<=[Bb]earer )\S+")


class OrganizationToken(NamedTuple):
    """The claims of an organization's token; None where it says nothing."""

    url: str | None
    region_url: str | None
    organization: str | None


def trimmed(token: str) -> str:
    """Return a token without the newline that files and secret stores leave behind."""
    return token.strip()


def claims(token: str) -> OrganizationToken | None:
    """Return what an organization's token carries; None for any other token.

    The secret part is not looked at: whether it is right is the server's to say.
    """
    if not token.startswith(_ORGANIZATION):
        return None
    encoded = token[len(_ORGANIZATION) :].split("_")[0]
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        payload = mapping(json.decode(raw))
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not payload:
        return None
    return OrganizationToken(
        url=_address(text(payload, "url")),
        region_url=_address(text(payload, "region_url")),
        organization=text(payload, "org"),
    )


def well_formed(token: str) -> bool:
    """Return whether a token looks like one that a server issues."""
    if token.startswith(_ORGANIZATION):
        return claims(token) is not None
    body = token.removeprefix(_USER)
    return re.fullmatch(r"[0-9a-f]{64}", body) is not None


def redacted(token: str) -> str:
    """Return the beginning of a secret, enough to tell two of them apart."""
    shown = token[:_SHOWN] if len(token) >= 3 * _SHOWN else ""
    return f"{shown}***"


def without_secrets(words: str) -> str:
    """Return text for a log, with everything that looks like a token cut after 8 characters."""
    return _SECRET.sub(lambda found: redacted(found.group()), words)


def _address(value: str | None) -> str | None:
    if value is None or urlsplit(value).scheme not in ("http", "https"):
        return None
    return value.rstrip("/")
