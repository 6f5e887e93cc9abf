"""From a command's arguments to a client of the right server; from its errors to a remedy.

    with Session(args) as session:
        session.api.finalize(...)

The client is made when it is first asked for, so that wrong usage is told before missing settings.
Threads: the main thread. Source: releases.md sections 5.2 and 5.3.
"""

from __future__ import annotations

import argparse
from types import TracebackType

from crashfree._cli import output
from crashfree._cli.dryrun import Recorder
from crashfree._ground import json
from crashfree._ground.http import HttpClient
from crashfree.errors import ApiError, InvalidRelease, Unreachable
from crashfree.management import settings as settings_module
from crashfree.management.api import ReleaseApi, checked_slug, default_http, user_agent
from crashfree.management.channel import Channel, Http
from crashfree.management.models import Identity
from crashfree.management.problems import NotJson
from crashfree.management.settings import Connection, MissingSetting, Settings
from crashfree.release import Release


class Refused(ApiError):
    """A refusal with what to do about it."""

    remedy: str

    def __init__(self, error: ApiError, message: str, remedy: str) -> None:
        super().__init__(error.status, error.detail, body=error.body)
        self.args = (message,)
        self.remedy = remedy


class OutOfReach(Unreachable):
    """No answer, with what to do about it."""

    remedy: str

    def __init__(self, error: Unreachable, message: str, remedy: str) -> None:
        super().__init__(message, sent=error.sent)
        self.remedy = remedy


class Session:
    """One command's talk with one server."""

    settings: Settings
    _args: argparse.Namespace
    _api: ReleaseApi | None
    _connection: Connection | None
    _recorder: Recorder | None
    _client: HttpClient | None

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._api = None
        self._connection = None
        self._recorder = None
        self._client = None
        self.settings = settings_of(args)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._client.close()
        if isinstance(error, ApiError) and not isinstance(error, Refused):
            raise self._explained(error) from error
        if isinstance(error, Unreachable) and not isinstance(error, OutOfReach):
            raise self._out_of_reach(error) from error

    @property
    def dry(self) -> bool:
        """Whether nothing must be changed."""
        return bool(getattr(self._args, "dry_run", False))

    @property
    def api(self) -> ReleaseApi:
        """The client; MissingSetting without token or organization."""
        if self._api is None:
            _ = self.connection  # tells its notes first
            self._api = ReleaseApi.from_settings(
                self.settings, http=self._http(), on_retry=self._tell_retry
            )
        return self._api

    @property
    def connection(self) -> Connection:
        """Server, token and organization; MissingSetting without a token."""
        if self._connection is None:
            self._connection = self.settings.connection()
            self._tell_notes()
        return self._connection

    def identity(self) -> Identity:
        """Ask the server who the token makes us; needs no organization."""
        connection = self.connection
        channel = Channel(
            connection.url.text,
            connection.token.text,
            http=self._http(),
            user_agent=user_agent(self.settings.text("pipeline")),
            headers=self.settings.headers(),
            policy=self.settings.policy(),
            on_retry=self._tell_retry,
        )
        return Identity.of(channel.get("").value)

    def requires_projects(self) -> None:
        """Raise MissingSetting when no project is known."""
        if not self.api.projects:
            raise MissingSetting(
                "project",
                "a project is required",
                "give -p PROJECT, or set CRASHFREE_PROJECT or SENTRY_PROJECT",
            )

    def finish_dry_run(self) -> bool:
        """Print the requests that were kept; False when this is no dry run."""
        if self._recorder is None:
            return False
        if self._args.json:
            output.emit({"dry_run": True, "requests": self._recorder.kept})
            return True
        for request in self._recorder.kept:
            output.say(f"{request['method']} {request['url']}")
            if request["body"] is not None:
                output.say(json.encode(request["body"]).decode())
        return True

    def _http(self) -> Http:
        if self._client is None:
            self._client = default_http(
                proxy=self.settings.text("proxy"), ca_certs=self.settings.text("ca_certs")
            )
        if not self.dry:
            return self._client
        self._recorder = Recorder(self._client)
        return self._recorder

    def _tell_retry(self, text: str) -> None:
        output.note(self._args, text)

    def _tell_notes(self) -> None:
        for note in self.settings.notes:
            output.warn(note)
        self.settings.notes.clear()

    def _explained(self, error: ApiError) -> Refused:
        connection = self.connection
        server = connection.url.text
        if error.status == 401:
            return Refused(
                error,
                f"{server} does not accept the token: {error.detail}",
                f"the token comes from {connection.token.origin.where}; "
                "is it complete, still valid, and of this server?",
            )
        if error.status == 403:
            return Refused(
                error,
                f"the token may not do this: {error.detail}",
                "it needs the scope project:releases (or org:ci), and org:read to list "
                "repositories; `crashfree login-check` shows what it has",
            )
        if error.status == 404:
            return Refused(
                error,
                f"not found on {server}: {self._named()}",
                "are they spelled as in their addresses, and may the token see them?",
            )
        if isinstance(error, NotJson):
            return Refused(error, f"{server}: {error.detail}", "")
        if not error.status:  # found out here, from what the server said before
            return Refused(error, error.detail, "")
        return Refused(error, f"{server} refused ({error.status}): {error.detail}", "")

    def _named(self) -> str:
        parts: list[str] = []
        version = getattr(self._args, "version", None) or getattr(self._args, "release", None)
        if version:
            parts.append(f"release {version!r}")
        if self._api is not None:
            parts.append(f"organization {self._api.organization!r}")
            parts.extend(f"project {project!r}" for project in self._api.projects)
        return ", ".join(parts) or "the address"

    def _out_of_reach(self, error: Unreachable) -> OutOfReach:
        url = self.connection.url
        return OutOfReach(
            error,
            f"{url.text} does not answer: {error}",
            f"the address comes from {url.origin.where}; is it right, and does the server run?",
        )


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings that a command's flags and the surroundings make together."""
    flags: dict[str, str] = {}
    for name, attribute in (
        ("url", "server_url"),
        ("token", "auth_token"),
        ("org", "org"),
        ("release", "release"),
    ):
        value = getattr(args, attribute, None)
        if value:
            flags[name] = value
    if getattr(args, "headers", None):
        flags["header"] = "\n".join(args.headers)
    if getattr(args, "projects", None):
        flags["project"] = "\n".join(checked_slug(slug, "project") for slug in args.projects)
    if getattr(args, "timeout", None):
        flags["timeout"] = str(args.timeout)
    return settings_module.resolve(flags)


def release_name(args: argparse.Namespace, text: str) -> str:
    """Return a valid release name; InvalidRelease, exit code 2, says what is wrong with it."""
    release = Release.parse(text, setting="VERSION")
    if release.raw != text:
        output.note(args, f"note: blanks around the release name are cut: {release.raw!r}")
    return release.raw


def chosen_release(args: argparse.Namespace, settings: Settings) -> str:
    """Return the release of `-r`, else of the environment; MissingSetting when there is none."""
    for value in settings.all("release"):
        try:
            return Release.parse(value.text, setting=value.origin.where).raw
        except InvalidRelease as error:
            if value.origin.where == "--release":
                raise
            output.warn(f"ignored: {error}")
    raise MissingSetting(
        "release",
        "a release is required",
        "give -r VERSION, or set CRASHFREE_RELEASE or SENTRY_RELEASE",
    )
