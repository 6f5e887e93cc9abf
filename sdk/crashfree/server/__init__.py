"""The local release-health server: takes what every Sentry SDK sends, answers with exact numbers.

    with LocalServer() as server:
        crashfree.init(server.dsn, release="app@1.0")

The server itself needs the extra `server` (starlette, uvicorn); importing this module does not.

Threads: start and stop a server from one thread; the rest of its methods from any.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

from typing_extensions import Self

from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree.errors import ConfigurationError

_EXTRA: Final = "server"
_NEEDED: Final = frozenset(("starlette", "uvicorn", "h11", "anyio", "jinja2"))


class LocalServer:
    """A release-health server in this process, on a free loopback port unless told otherwise.

    A context manager; or `start()` and `stop()`. Without `database` the data goes to a temporary
    directory and with it.

    Raises ConfigurationError from `start` when the extra is not installed, naming it, when the
    address cannot be had, or when an address that others can reach is asked for without
    `allow_remote` and `token`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        database: str | os.PathLike[str] | None = None,
        token: str | None = None,
        projects: Sequence[str] = ("app",),
        organization: str = "crashfree",
        clock: Clock = SYSTEM_CLOCK,
        allow_remote: bool = False,
        forward: str | None = None,
        settings: Mapping[str, Any] | None = None,
        engine: Any = None,
    ) -> None:
        """Say what the server shall be.

        `forward` is the DSN of a Sentry project that everything is passed on to as well.
        `settings` overrides fields of `crashfree.server.context.Settings` (limits, retention).
        `engine` (a `crashfree.server.engine.Engine`) keeps the sessions in place of SQLite.
        """
        self._host = host
        self._port = port
        self._database = None if database is None else os.fspath(database)
        self._token = token
        self._projects = tuple(projects)
        self._organization = organization
        self._clock = clock
        self._allow_remote = allow_remote
        self._engine = engine
        self._settings = {"forward": forward, **(settings or {})}
        self._running: Any = None

    def start(self) -> Self:
        """Start serving; returns when the server answers. A second call does nothing."""
        if self._running is None:
            running = extra("crashfree.server.running")
            settings = extra("crashfree.server.context").Settings
            try:
                chosen = settings(organization=self._organization, **self._settings)
            except TypeError as error:
                raise ConfigurationError(f"settings: {error}") from None
            self._running = running.Running(
                running.Wish(
                    host=self._host,
                    port=self._port,
                    database=self._database,
                    token=self._token,
                    projects=self._projects,
                    settings=chosen,
                    clock=self._clock,
                    allow_remote=self._allow_remote,
                    engine=self._engine,
                )
            )
        return self

    def stop(self) -> None:
        """Stop; what was being received is finished and written. Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return str(self._live().url)

    @property
    def dsn(self) -> str:
        """Where clients send to: the DSN of the first project."""
        return self.dsn_of(self.project)

    def dsn_of(self, project: str) -> str:
        """Return the DSN of a project; raises ConfigurationError when there is none."""
        return str(self._live().dsn(project))

    @property
    def token(self) -> str:
        """The bearer token of the management API."""
        return str(self._live().token)

    @property
    def page(self) -> str:
        """The address of the page; it brings the token along, so open it once."""
        return f"{self.url}/?token={quote(self.token, safe='')}"

    @property
    def organization(self) -> str:
        """The slug of the organization."""
        return self._organization

    @property
    def project(self) -> str:
        """The slug of the first project."""
        return self._projects[0]

    @property
    def project_dsns(self) -> Mapping[str, str]:
        """The DSN of every project, by slug."""
        return {slug: self.dsn_of(slug) for slug in self._live().projects}

    @property
    def faults(self) -> Any:
        """The fault plan (`crashfree.server.faults.Faults`): what the next answers do wrong."""
        return self._live().faults

    @property
    def store(self) -> Any:
        """The database (`crashfree.server.store.Store`)."""
        return self._live().store

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; return whether it has."""
        return self._running is None or bool(self._running.wait(timeout))

    def _live(self) -> Any:
        if self._running is None:
            raise ConfigurationError("the server has not been started")
        return self._running


def extra(name: str) -> Any:
    """Import a module that needs the extra `server`.

    Raises ConfigurationError with the command that installs it when it is missing.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        raise ConfigurationError(
            f"the local server needs {missing!r}, which is not installed: "
            f"pip install 'crashfree[{_EXTRA}]'"
        ) from None
