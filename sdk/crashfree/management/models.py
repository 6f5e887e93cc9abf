"""What the API speaks of: releases, commits, deploys, repositories, files.

Read from the server with `of`, which takes anything and never raises; `raw` keeps the server's own
object for whoever needs a field that has no name here. What is sent has `payload()`. Immutable.

Threads: any. Source: releases.md sections 4.3 to 4.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from crashfree.management import instants
from crashfree.management.payloads import Payload, array, count, mapping, text

ChangeType = Literal["A", "M", "D"]
ReleaseStatus = Literal["open", "archived"]


def _no_payload() -> Payload:
    return {}


@dataclass(frozen=True)
class Change:
    """One path that a commit added, modified or deleted."""

    path: str
    type: ChangeType

    def payload(self) -> dict[str, str]:
        """Return the wire form."""
        return {"path": self.path, "type": self.type}


@dataclass(frozen=True)
class Commit:
    """A commit as the client sends it and as the server lists it.

    `timestamp` is RFC 3339; the server sorts by it, newest first. `changes` is None when unknown
    (a listed commit) and empty when the commit changed nothing of its own (a merge).
    """

    id: str
    repository: str | None = None
    message: str = ""
    author_name: str | None = None
    author_email: str | None = None
    timestamp: str | None = None
    changes: Sequence[Change] | None = None
    raw: Payload = field(default_factory=_no_payload, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Commit:
        """Read a commit that the server listed."""
        payload = mapping(value)
        author = mapping(payload.get("author"))
        return cls(
            id=text(payload, "id") or "",
            repository=text(mapping(payload.get("repository")), "name"),
            message=text(payload, "message") or "",
            author_name=text(author, "name"),
            author_email=text(author, "email"),
            timestamp=text(payload, "dateCreated"),
            raw=payload,
        )

    def payload(self) -> dict[str, object]:
        """Return the wire form; the message is always text, for a null breaks the server."""
        answer: dict[str, object] = {"id": self.id, "message": self.message}
        for key, value in (
            ("repository", self.repository),
            ("author_name", self.author_name),
            ("author_email", self.author_email),
            ("timestamp", self.timestamp),
        ):
            if value is not None:
                answer[key] = value
        if self.changes is not None:
            answer["patch_set"] = [change.payload() for change in self.changes]
        return answer


@dataclass(frozen=True)
class Ref:
    """A range of commits that the server fetches for itself from a linked repository."""

    repository: str
    commit: str
    previous: str | None = None

    def payload(self) -> dict[str, object]:
        """Return the wire form."""
        return {
            "repository": self.repository,
            "commit": self.commit,
            "previousCommit": self.previous,
        }


@dataclass(frozen=True)
class Deploy:
    """A release that went out to an environment."""

    id: str
    environment: str
    name: str | None = None
    url: str | None = None
    started: datetime | None = None
    finished: datetime | None = None
    raw: Payload = field(default_factory=_no_payload, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Deploy:
        """Read a deploy that the server told of."""
        payload = mapping(value)
        return cls(
            id=text(payload, "id") or "",
            environment=text(payload, "environment") or "",
            name=text(payload, "name"),
            url=text(payload, "url"),
            started=instants.from_wire(payload.get("dateStarted")),
            finished=instants.from_wire(payload.get("dateFinished")),
            raw=payload,
        )


@dataclass(frozen=True)
class Project:
    """A project that a release belongs to."""

    slug: str
    id: str | None = None
    name: str | None = None
    platform: str | None = None

    @classmethod
    def of(cls, value: object) -> Project:
        """Read a project."""
        payload = mapping(value)
        return cls(
            slug=text(payload, "slug") or "",
            id=text(payload, "id"),
            name=text(payload, "name"),
            platform=text(payload, "platform"),
        )


@dataclass(frozen=True)
class ReleaseInfo:
    """A release as the server describes it; `released` is None until it is finalized."""

    version: str
    status: str = "open"
    ref: str | None = None
    url: str | None = None
    created: datetime | None = None
    released: datetime | None = None
    new_issues: int = 0
    commit_count: int = 0
    deploy_count: int = 0
    projects: Sequence[Project] = ()
    last_commit: Commit | None = None
    last_deploy: Deploy | None = None
    first_event: datetime | None = None
    last_event: datetime | None = None
    raw: Payload = field(default_factory=_no_payload, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> ReleaseInfo:
        """Read a release."""
        payload = mapping(value)
        commit, deploy = payload.get("lastCommit"), payload.get("lastDeploy")
        return cls(
            version=text(payload, "version") or "",
            status=text(payload, "status") or "open",
            ref=text(payload, "ref"),
            url=text(payload, "url"),
            created=instants.from_wire(payload.get("dateCreated")),
            released=instants.from_wire(payload.get("dateReleased")),
            new_issues=count(payload, "newGroups"),
            commit_count=count(payload, "commitCount"),
            deploy_count=count(payload, "deployCount"),
            projects=tuple(Project.of(entry) for entry in array(payload.get("projects"))),
            last_commit=Commit.of(commit) if mapping(commit) else None,
            last_deploy=Deploy.of(deploy) if mapping(deploy) else None,
            first_event=instants.from_wire(payload.get("firstEvent")),
            last_event=instants.from_wire(payload.get("lastEvent")),
            raw=payload,
        )


@dataclass(frozen=True)
class Repository:
    """A repository that the organization's server knows."""

    id: str
    name: str
    url: str | None = None
    provider: str = "unknown"
    provider_name: str = "Unknown Provider"
    status: str = "active"
    raw: Payload = field(default_factory=_no_payload, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Repository:
        """Read a repository."""
        payload = mapping(value)
        provider = mapping(payload.get("provider"))
        return cls(
            id=text(payload, "id") or "",
            name=text(payload, "name") or "",
            url=text(payload, "url"),
            provider=text(provider, "id") or "unknown",
            provider_name=text(provider, "name") or "Unknown Provider",
            status=text(payload, "status") or "active",
            raw=payload,
        )


@dataclass(frozen=True)
class ReleaseFile:
    """A file that was uploaded to a release."""

    id: str
    name: str
    dist: str | None = None
    size: int = 0
    sha1: str | None = None
    headers: Mapping[str, object] = field(default_factory=_no_payload)
    created: datetime | None = None
    raw: Payload = field(default_factory=_no_payload, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> ReleaseFile:
        """Read a release file."""
        payload = mapping(value)
        return cls(
            id=text(payload, "id") or "",
            name=text(payload, "name") or "",
            dist=text(payload, "dist"),
            size=count(payload, "size"),
            sha1=text(payload, "sha1"),
            headers=mapping(payload.get("headers")),
            created=instants.from_wire(payload.get("dateCreated")),
            raw=payload,
        )


@dataclass(frozen=True)
class ArtifactBundle:
    """A bundle of files, found by debug id or by its releases and dists."""

    id: str
    file_count: int = 0
    associations: Sequence[tuple[str | None, str | None]] = ()
    created: datetime | None = None
    modified: datetime | None = None
    raw: Payload = field(default_factory=_no_payload, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> ArtifactBundle:
        """Read a bundle."""
        payload = mapping(value)
        pairs = (mapping(entry) for entry in array(payload.get("associations")))
        return cls(
            id=text(payload, "bundleId") or "",
            file_count=count(payload, "fileCount"),
            associations=tuple((text(pair, "release"), text(pair, "dist")) for pair in pairs),
            created=instants.from_wire(payload.get("date")),
            modified=instants.from_wire(payload.get("dateModified")),
            raw=payload,
        )


@dataclass(frozen=True)
class Identity:
    """Who the token makes us: scopes, and a user unless the token is an organization's."""

    scopes: Sequence[str] = ()
    user: str | None = None
    server_version: str | None = None
    raw: Payload = field(default_factory=_no_payload, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Identity:
        """Read the answer of the API's root."""
        payload = mapping(value)
        user = mapping(payload.get("user"))
        auth = mapping(payload.get("auth"))
        return cls(
            scopes=tuple(str(scope) for scope in array(auth.get("scopes"))),
            user=text(user, "email") or text(user, "username"),
            server_version=text(payload, "version"),
            raw=payload,
        )
