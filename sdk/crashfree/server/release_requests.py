"""The bodies that the release endpoints take.

Stricter than the original in two places, both because ingestion would lose the data later: a
version is trimmed and counted in UTF-8 bytes, and an environment is refused when a session could
not carry it. An e-mail address may have 200 characters only where `roomy` is asked for.

Pure; any thread. Source: releases.md sections 1.2, 3.7 and 4.4 to 4.6.
"""

from __future__ import annotations

from typing import Any

from crashfree.errors import InvalidRelease
from crashfree.release import Release
from crashfree.server.fields import (
    NO_NUL,
    NOT_BLANK,
    Choice,
    DateTime,
    Field,
    Invalid,
    ListOf,
    Object,
    Slug,
    Text,
    Url,
    too_long,
)

OPEN, ARCHIVED = 0, 1
STATUS_NAMES = ("open", "archived")


def _version(text: str) -> str:
    if len(text) > 200:
        raise Invalid([too_long(200)])
    try:
        return Release.parse(text).raw
    except InvalidRelease as refusal:
        if refusal.code == "empty":
            raise Invalid([NOT_BLANK]) from None
        if refusal.code == "too_long":
            raise Invalid(["Ensure this field has no more than 200 UTF-8 bytes."]) from None
        if refusal.character == "\0":
            raise Invalid([NO_NUL]) from None
        raise Invalid([f"Release with name {text} is not allowed"]) from None


def _patch_type(text: str) -> str:
    if text not in ("A", "M", "D"):
        raise Invalid([f"Commit patch_set type {text} is not supported."])
    return text


def _ref_commit(text: str) -> str:
    if text.startswith("..") or text.endswith(".."):
        raise Invalid(["Commit cannot begin or end with .."])
    if ".." in text:
        if any(len(side) > 64 for side in text.split("..")):
            raise Invalid(["Start or end commit too long - max is 64 chars each"])
    elif len(text) > 64:
        raise Invalid(["Commit too long - max is 64 chars"])
    return text


def _environment(text: str) -> str:
    if len(text) > 64:
        raise Invalid([too_long(64)])
    if (
        any(char in "\n\r\f/\\\t" or char < " " or char == "\x7f" for char in text)
        or text in (".", "..")
        or text.lower() == "none"
        or len(text.encode("utf-8", "replace")) > 64
    ):
        raise Invalid(["Invalid value for environment"])
    return text


_PATCH = Object(
    {
        "path": Text(most=510, blank=False, nullable=False, required=True),
        "type": Text(most=1, blank=False, nullable=False, required=True, check=_patch_type),
    }
)
_COMMIT = Object(
    {
        "id": Text(most=64, blank=False, nullable=False, required=True),
        "repository": Text(most=64),
        "message": Text(trim=False),
        "author_name": Text(most=128),
        "author_email": Text(most=75),
        "timestamp": DateTime(),
        "patch_set": ListOf(_PATCH, nullable=True),
    }
)
_REF = Object(
    {
        "repository": Text(most=200, blank=False, nullable=False, required=True),
        "commit": Text(blank=False, nullable=False, required=True, check=_ref_commit),
        "previousCommit": Text(most=64),
    }
)
_HEAD_COMMIT = Object(
    {
        "currentId": Text(most=64, blank=False, nullable=False, required=True),
        "repository": Text(most=200, blank=False, nullable=False, required=True),
        "previousId": Text(most=64),
    }
)
_STATUS = Choice(
    {name: value for value, name in enumerate(STATUS_NAMES)}, message="Invalid status {}"
)

_CHANGES: dict[str, Field] = {
    "ref": Text(most=200),
    "url": Url(),
    "dateReleased": DateTime(),
    "commits": ListOf(_COMMIT),
    "refs": ListOf(_REF, nullable=True),
    "headCommits": ListOf(_HEAD_COMMIT),
    "status": _STATUS,
}

CREATE = Object(
    {
        "version": Text(blank=False, nullable=False, required=True, trim=False, check=_version),
        "projects": ListOf(Slug(), required=True),
        "owner": Text(),
        **_CHANGES,
    }
)
"""POST to the releases of an organization."""

CREATE_IN_PROJECT = Object(
    {
        "version": Text(blank=False, nullable=False, required=True, trim=False, check=_version),
        "owner": Text(),
        **_CHANGES,
    }
)
"""POST to the releases of a project, whose path says which."""

UPDATE = Object(_CHANGES)
"""PUT to a release."""

DEPLOY = Object(
    {
        "environment": Text(blank=False, nullable=False, required=True, check=_environment),
        "name": Text(most=64),
        "url": Url(),
        "dateStarted": DateTime(),
        "dateFinished": DateTime(),
        "projects": ListOf(Slug()),
    }
)
"""POST to the deploys of a release."""


def ref_range(ref: dict[str, Any]) -> tuple[str | None, str]:
    """Return the base (None: not said) and the head that a checked ref names."""
    base, dots, head = str(ref["commit"]).rpartition("..")
    if dots:
        return base or None, head
    return ref.get("previousCommit") or None, head
