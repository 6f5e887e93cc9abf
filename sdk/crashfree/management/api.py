"""`ReleaseApi`: releases, their commits, deploys and files, on Sentry or on the local server.

Calls block; each is one request unless its text says otherwise. Everything raises `ApiError` with
the server's own words, or `Unreachable`; arguments the server would refuse raise
`ConfigurationError` before any request. Every call but `create_deploy` may be repeated and
converges; `create_deploy` is repeated by itself only when the first request cannot have arrived.

Threads: any number may share one object, it holds no state but the connection pool. From async
code call it on a thread: `await asyncio.to_thread(api.finalize, "shop@1.2.0")`.

Source: releases.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

from typing_extensions import Self

from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree._ground.http import HttpClient, resolve_settings
from crashfree._version import __version__
from crashfree.errors import ApiError, ConfigurationError
from crashfree.management import instants, multipart
from crashfree.management.channel import READ_TIMEOUT, Channel, Http, path_of
from crashfree.management.merging import merged
from crashfree.management.models import (
    ArtifactBundle,
    Commit,
    Deploy,
    Identity,
    Ref,
    ReleaseFile,
    ReleaseInfo,
    Repository,
)
from crashfree.management.payloads import mapping
from crashfree.management.retries import RetryPolicy
from crashfree.management.settings import DEFAULT_URL, MissingSetting, Settings, resolve
from crashfree.release import Release

USER_AGENT = f"crashfree/{__version__}"
CONNECT_TIMEOUT = 10.0
_MAX_ENVIRONMENT = 64

Moment = datetime | float
"""An instant: an aware datetime, or seconds since the epoch."""


class ReleaseApi:
    """One organization on one server; a context manager, which closes its connections.

    `projects` are the slugs or ids that are used where none are given.
    `policy` bounds retries and time. `http` is the connection pool; None makes one from the
    environment (proxies, certificates).
    """

    organization: str
    projects: tuple[str, ...]
    channel: Channel
    _clock: Clock
    _own: HttpClient | None

    def __init__(
        self,
        *,
        organization: str,
        token: str,
        url: str = DEFAULT_URL,
        projects: Iterable[str] = (),
        http: Http | None = None,
        headers: Mapping[str, str] | None = None,
        user_agent: str = USER_AGENT,
        policy: RetryPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
        pause: Callable[[float], None] | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self.organization = checked_slug(organization, "organization")
        self.projects = tuple(checked_slug(project, "project") for project in projects)
        self._clock = clock
        self._own = None
        if http is None:
            http = self._own = default_http()
        self.channel = Channel(
            url,
            token,
            http=http,
            user_agent=user_agent,
            headers=headers,
            policy=policy,
            clock=clock,
            pause=pause,
            on_retry=on_retry,
        )

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        http: Http | None = None,
        clock: Clock = SYSTEM_CLOCK,
        pause: Callable[[float], None] | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> Self:
        """Make a client as environment variables and configuration files say.

        Raises ConfigurationError when token or organization are missing. See
        `crashfree.management.settings` for the places and their order.
        """
        settings = resolve() if settings is None else settings
        connection = settings.connection()
        own = None
        if http is None:
            http = own = default_http(
                proxy=settings.text("proxy"), ca_certs=settings.text("ca_certs")
            )
        if connection.organization is None:
            raise MissingSetting(
                "org",
                "an organization is required",
                "give --org, set CRASHFREE_ORG or SENTRY_ORG, or use a token that names one",
            )
        api = cls(
            organization=connection.organization.text,
            token=connection.token.text,
            url=connection.url.text,
            projects=settings.projects(),
            http=http,
            headers=settings.headers(),
            user_agent=user_agent(settings.text("pipeline")),
            policy=settings.policy(),
            clock=clock,
            pause=pause,
            on_retry=on_retry,
        )
        api._own = own
        return api

    def close(self) -> None:
        """Close idle connections, unless the pool was given; the object stays usable."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- releases ---------------------------------------------------------------------------

    def create_release(
        self,
        version: str,
        *,
        projects: Sequence[str] | None = None,
        url: str | None = None,
        ref: str | None = None,
        started: Moment | None = None,
        released: Moment | None = None,
        commits: Iterable[Commit] | None = None,
        refs: Iterable[Ref] | None = None,
    ) -> ReleaseInfo:
        """Create a release, or add the projects to an existing one.

        An existing release keeps its `url`, `ref` and release date in that request, so what was
        asked for and is missing in the answer is set by a second one.
        """
        body: dict[str, object] = {
            "version": Release.parse(version).raw,
            "projects": _references(self._projects(projects)),
        }
        wanted: dict[str, object] = {}
        _put(wanted, "url", url)
        _put(wanted, "ref", ref)
        if released is not None:
            wanted["dateReleased"] = instants.to_wire(released)
        body.update(wanted)
        if started is not None:
            body["dateStarted"] = instants.to_wire(started)
        if commits is not None:
            body["commits"] = [commit.payload() for commit in commits]
        if refs is not None:
            body["refs"] = [ref_.payload() for ref_ in refs]
        answer = self.channel.call(
            "POST", self._releases(), body=body, waits_for_conflict="commits" in body
        )
        missing = {
            key: value for key, value in wanted.items() if not mapping(answer.value).get(key)
        }
        if missing:
            answer = self.channel.call("PUT", self._release(version), body=missing)
        return ReleaseInfo.of(answer.value)

    def get_release(self, version: str, *, project: str | None = None) -> ReleaseInfo:
        """Return a release; ApiError with status 404 when there is none."""
        path = self._known(version) if project is None else self._release_in(project, version)
        return ReleaseInfo.of(self.channel.get(path).value)

    def list_releases(
        self,
        *,
        project: str | None = None,
        query: str | None = None,
        status: Literal["open", "archived", "all"] = "open",
        sort: str | None = None,
        environments: Sequence[str] = (),
        limit: int | None = None,
    ) -> Iterator[ReleaseInfo]:
        """Return releases, newest first, reading page after page as they are consumed.

        With `project` the newest is the one released last, without it the one created last.
        """
        if project is None:
            path = self._releases()
        else:
            path = path_of("projects", self.organization, project, "releases")
        asked: dict[str, object] = {}
        _put(asked, "query", query)
        _put(asked, "sort", sort)
        if status != "open":
            asked["status"] = "" if status == "all" else status
        if environments:
            asked["environment"] = list(environments)
        return (ReleaseInfo.of(entry) for entry in self.channel.pages(path, asked, limit=limit))

    def update_release(
        self,
        version: str,
        *,
        projects: Sequence[str] | None = None,
        url: str | None = None,
        ref: str | None = None,
        released: Moment | None = None,
    ) -> ReleaseInfo:
        """Change what is given. Servers ignore empty values: nothing can be cleared by them."""
        body: dict[str, object] = {}
        chosen = self._projects(projects, required=False)
        if chosen:
            body["projects"] = _references(chosen)
        _put(body, "url", url)
        _put(body, "ref", ref)
        if released is not None:
            body["dateReleased"] = instants.to_wire(released)
        return ReleaseInfo.of(self.channel.call("PUT", self._release(version), body=body).value)

    def finalize(
        self,
        version: str,
        *,
        released: Moment | None = None,
        url: str | None = None,
        projects: Sequence[str] | None = None,
    ) -> ReleaseInfo:
        """Mark a release as out, now or at `released`; the base of the next range of commits."""
        moment = self._clock.time() if released is None else released
        return self.update_release(version, projects=projects, url=url, released=moment)

    def archive(self, version: str) -> ReleaseInfo:
        """Hide a release; servers create it when there is none."""
        return self._set_status(version, "archived")

    def restore(self, version: str) -> ReleaseInfo:
        """Show an archived release again; servers create it when there is none."""
        # By POST: a PUT with status "open" is ignored, its stored value counts as empty.
        return self._set_status(version, "open")

    def delete_release(self, version: str) -> bool:
        """Delete a release; False when there was none."""
        return self._delete(self._known(version))

    # --- commits ----------------------------------------------------------------------------

    def set_commits(
        self, version: str, commits: Sequence[Commit], *, append: bool = False
    ) -> ReleaseInfo:
        """Make `commits` the release's commits, newest first.

        The list replaces what the release had. With `append` what it had stays, which takes one
        more request; commits it already has are not doubled.
        """
        chosen = list(commits)
        if append:
            chosen = merged(chosen, list(self.release_commits(version)))
        return self._put_release(version, {"commits": [commit.payload() for commit in chosen]})

    def set_refs(self, version: str, refs: Sequence[Ref]) -> ReleaseInfo:
        """Let the server fetch the commits from linked repositories; it does so later."""
        return self._put_release(version, {"refs": [ref.payload() for ref in refs]})

    def clear_commits(self, version: str) -> ReleaseInfo:
        """Remove all commits of a release."""
        return self._put_release(version, {"refs": []})

    def release_commits(self, version: str) -> Iterator[Commit]:
        """Return the commits of a release, newest first; none for an unknown release."""
        path = self._release(version) + "commits/"
        return (Commit.of(entry) for entry in self._pages_or_nothing(path))

    def previous_release(self, version: str) -> ReleaseInfo | None:
        """Return the newest release with commits up to `version`, itself included; None without."""
        try:
            answer = self.channel.get(self._release(version) + "previous-with-commits/")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        info = ReleaseInfo.of(answer.value)
        return info if info.version or info.last_commit is not None else None

    def repositories(self) -> Iterator[Repository]:
        """Return the repositories the server knows; none where it keeps no such list."""
        path = path_of("organizations", self.organization, "repos")
        return (Repository.of(entry) for entry in self._pages_or_nothing(path))

    # --- deploys ----------------------------------------------------------------------------

    def create_deploy(
        self,
        version: str,
        environment: str,
        *,
        name: str | None = None,
        url: str | None = None,
        started: Moment | None = None,
        finished: Moment | None = None,
        projects: Sequence[str] | None = None,
    ) -> Deploy:
        """Tell that a release went out to an environment; `finished` is now unless given.

        Twice told is twice deployed: the client repeats the request only when the first one cannot
        have arrived. `projects` None or empty means all projects of the release.
        """
        body: dict[str, object] = {
            "environment": checked_environment(environment),
            "name": name,
            "url": url,
            "dateStarted": None if started is None else instants.to_wire(started),
            "dateFinished": instants.to_wire(self._clock.time() if finished is None else finished),
        }
        if projects:
            body["projects"] = _references(
                tuple(checked_slug(project, "project") for project in projects)
            )
        path = self._release(version) + "deploys/"
        return Deploy.of(self.channel.call("POST", path, body=body, repeatable=False).value)

    def list_deploys(self, version: str) -> Iterator[Deploy]:
        """Return the deploys of a release, the last one first."""
        path = self._release(version) + "deploys/"
        return (Deploy.of(entry) for entry in self.channel.pages(path))

    # --- files ------------------------------------------------------------------------------

    def upload_file(
        self,
        version: str,
        name: str,
        content: bytes,
        *,
        dist: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        project: str | None = None,
        filename: str = "file",
    ) -> ReleaseFile | None:
        """Upload one file; None when the release already has a file of that name and dist.

        `name` is the full URL, or `~/path` for any host.
        """
        parts: list[multipart.Part] = [
            multipart.file("file", filename, content),
            multipart.field("name", name),
        ]
        if dist is not None:
            parts.append(multipart.field("dist", dist))
        parts.extend(multipart.field("header", f"{key}:{value}") for key, value in headers)
        content_type, data = multipart.encode(parts)
        path = self._files(version, project)
        try:
            answer = self.channel.post(path, content_type=content_type, data=data)
        except ApiError as error:
            if error.status == 409:
                return None  # what an interrupted upload left: there already
            raise
        return ReleaseFile.of(answer.value)

    def list_files(
        self, version: str, *, project: str | None = None, query: str | None = None
    ) -> Iterator[ReleaseFile]:
        """Return the files of a release."""
        asked: dict[str, object] = {}
        _put(asked, "query", query)
        path = self._files(version, project)
        return (ReleaseFile.of(entry) for entry in self.channel.pages(path, asked))

    def delete_file(self, version: str, file_id: str, *, project: str | None = None) -> bool:
        """Delete one file of a release; False when there was none."""
        return self._delete(self._files(version, project) + path_of(file_id))

    def list_bundles(self, project: str, *, query: str | None = None) -> Iterator[ArtifactBundle]:
        """Return the artifact bundles of a project; `query` is a release, dist or bundle id."""
        asked: dict[str, object] = {}
        _put(asked, "query", query)
        path = self._bundles(project)
        return (ArtifactBundle.of(entry) for entry in self.channel.pages(path, asked))

    def delete_bundle(self, project: str, bundle_id: str) -> bool:
        """Delete an artifact bundle of a project; False when there was none."""
        return self._delete(self._bundles(project), {"bundleId": bundle_id})

    # --- who we are -------------------------------------------------------------------------

    def identity(self) -> Identity:
        """Ask the server who the token makes us."""
        return Identity.of(self.channel.get("").value)

    # --- inside -----------------------------------------------------------------------------

    def _set_status(self, version: str, status: str) -> ReleaseInfo:
        body: dict[str, object] = {
            "version": Release.parse(version).raw,
            "projects": [],
            "status": status,
        }
        return ReleaseInfo.of(self.channel.call("POST", self._releases(), body=body).value)

    def _put_release(self, version: str, body: Mapping[str, object]) -> ReleaseInfo:
        answer = self.channel.call(
            "PUT", self._release(version), body=body, waits_for_conflict=True
        )
        return ReleaseInfo.of(answer.value)

    def _delete(self, path: str, query: Mapping[str, object] | None = None) -> bool:
        try:
            self.channel.call("DELETE", path, query=query)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _pages_or_nothing(self, path: str) -> Iterator[object]:
        try:
            yield from self.channel.pages(path)
        except ApiError as error:
            if error.status != 404:
                raise

    def _projects(self, given: Sequence[str] | None, *, required: bool = True) -> tuple[str, ...]:
        if given is not None:
            return tuple(checked_slug(project, "project") for project in given)
        if required and not self.projects:
            raise ConfigurationError("a project is required")
        return self.projects

    def _releases(self) -> str:
        return path_of("organizations", self.organization, "releases")

    def _release(self, version: str) -> str:
        return self._releases() + path_of(Release.parse(version).raw)

    def _known(self, version: str) -> str:
        """The path of a release that is there: servers hold names that today's rules refuse."""
        return self._releases() + path_of(addressable(version))

    def _release_in(self, project: str, version: str) -> str:
        return path_of("projects", self.organization, project, "releases", addressable(version))

    def _files(self, version: str, project: str | None) -> str:
        if project is None:
            return self._release(version) + "files/"
        return self._release_in(project, version) + "files/"

    def _bundles(self, project: str) -> str:
        return path_of("projects", self.organization, project, "files", "artifact-bundles")


def user_agent(pipeline: str | None = None) -> str:
    """Return our name, followed by that of the pipeline that runs us."""
    if pipeline is None or not pipeline.isascii() or not pipeline.isprintable():
        return USER_AGENT
    return f"{USER_AGENT} {pipeline}"


def default_http(*, proxy: str | None = None, ca_certs: str | None = None) -> HttpClient:
    """Return a connection pool as the environment wants it: proxies and certificates.

    Connecting takes at most 10 s, one request 60 s.
    """
    settings = resolve_settings(http_proxy=proxy, https_proxy=proxy, ca_certs=ca_certs)
    return HttpClient(settings._replace(connect_timeout=CONNECT_TIMEOUT, timeout=READ_TIMEOUT))


def checked_slug(value: str, kind: str) -> str:
    """Return an organization's or project's slug or id.

    Raises ConfigurationError for what can be neither: a display name, an empty value.
    """
    slug = value.strip()
    if not slug:
        raise ConfigurationError(f"the {kind} is blank; give its slug or id")
    if slug in (".", "..") or any(char in "/\\ \t\r\n" for char in slug):
        raise ConfigurationError(
            f"{value!r} is no {kind}; give the slug from its address, or the id, not the name"
        )
    return slug


def addressable(version: str) -> str:
    """Return a name as it is, or raise InvalidRelease when no address can hold it."""
    if version.strip() in ("", ".", "..") or "/" in version:
        return Release.parse(version).raw
    return version


def checked_environment(value: str) -> str:
    """Return an environment's name as servers store it, or raise ConfigurationError."""
    name = value.strip()
    if not name:
        raise ConfigurationError("the environment is blank; give its name, for instance production")
    if name == "None" or any(char in "/\n\r" for char in name):
        raise ConfigurationError(
            f"{value!r} is no environment name: no slash, no line break, not 'None'"
        )
    if len(name) > _MAX_ENVIRONMENT:
        raise ConfigurationError(
            f"the environment name has {len(name)} characters, at most {_MAX_ENVIRONMENT} are taken"
        )
    return name


def _references(projects: Sequence[str]) -> list[str | int]:
    """Return projects as the API wants them: ids as numbers, slugs as text."""
    return [
        int(project) if project.isascii() and project.isdecimal() else project
        for project in projects
    ]


def _put(target: dict[str, object], key: str, value: object) -> None:
    if value is not None:
        target[key] = value
