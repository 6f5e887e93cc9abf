"""One running server: database, application, uvicorn, upkeep, in threads of this process.

    LocalServer.start -> Running.start: open the store, bind the socket, start the loop's thread
    LocalServer.stop  -> Running.stop: stop accepting, finish what is in work, close the store

The socket listens before `start` returns, so whoever is told the address can connect.

Threads: start and stop from one thread; `crashfree-server` runs the event loop, and
`crashfree-server-upkeep` looks after the database. Fork: a server does not survive into a child.

Source: DESIGN sections 3 and 7 (server).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import tempfile
import threading
from collections.abc import Coroutine, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple, cast

import uvicorn

from crashfree._ground import ids
from crashfree._ground.clock import SYSTEM_CLOCK, Clock
from crashfree._protocol.dsn import Dsn
from crashfree.errors import ConfigurationError
from crashfree.server import catalog_hooks, catalog_schema, filters
from crashfree.server.app import App, routes
from crashfree.server.connection import Connections, protocol_class
from crashfree.server.context import DEFAULT_PROJECT, Context, Settings
from crashfree.server.engine import Engine
from crashfree.server.faults import Faults
from crashfree.server.forward import Forward
from crashfree.server.projects import Projects
from crashfree.server.projects_api import dsn_of, valid_slug
from crashfree.server.recording import Hooks
from crashfree.server.store import Project, Store
from crashfree.server.upkeep import Upkeep

_START_WITHIN: Final = 15.0
_STOP_WITHIN: Final = 15.0
_BACKLOG: Final = 2048
_SLUGS: Final = "1 to 50 of a-z 0-9 _ -, and not only digits"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Wish(NamedTuple):
    """What a server is asked to be."""

    host: str = "127.0.0.1"
    port: int = 0
    database: str | None = None
    """None: a file in a temporary directory that goes with the server."""
    token: str | None = None
    """None: the one the database remembers, or a new one."""
    projects: tuple[str, ...] = (DEFAULT_PROJECT,)
    """Made when they are not there."""
    settings: Settings = Settings()
    clock: Clock = SYSTEM_CLOCK
    allow_remote: bool = False
    engine: Engine | None = None
    """Keeps the sessions in place of the database."""


class Running:
    """A server that runs."""

    url: str
    token: str
    store: Store
    faults: Faults
    app: App
    _directory: str | None
    _server: uvicorn.Server
    _thread: threading.Thread
    _upkeep: Upkeep
    _forward: Forward | None
    _pid: int

    def __init__(self, wish: Wish) -> None:
        _check(wish)
        self._pid = os.getpid()
        self._directory = None
        path = wish.database
        if path is None:
            self._directory = tempfile.mkdtemp(prefix="crashfree-server-")
            path = os.path.join(self._directory, "crashfree.db")
        listening: socket.socket | None = None
        try:
            listening = _listen(wish.host, wish.port)
            _check_forward(wish, listening.getsockname()[1])
            self.store = open_store(path, engine=wish.engine)
        except BaseException:
            if listening is not None:
                listening.close()
            self._remove_directory()
            raise
        try:
            self._run(wish, listening)
        except BaseException:
            listening.close()
            self.store.close()
            self._remove_directory()
            raise

    def _run(self, wish: Wish, listening: socket.socket) -> None:
        address = listening.getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.url = f"http://{host}:{address[1]}"
        self.token = wish.token or self.store.meta("token") or ids.event_id() + ids.event_id()
        self.store.set_meta("token", self.token)
        self._make_projects(wish)
        self.faults = Faults()
        context = Context(self.store, wish.settings, wish.clock, self.token, self.faults)
        connections = Connections()
        self.app = App(
            context,
            Projects(self.store, wish.clock, filters.load),
            routes(),
            reset=connections.reset,
        )
        self._upkeep = Upkeep(self.store, wish.clock, wish.settings)
        self._server = uvicorn.Server(
            uvicorn.Config(
                cast("Any", self.app),
                http=cast("Any", protocol_class(connections, self.app.intake.take)),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=True,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=5,
                backlog=_BACKLOG,
            )
        )
        self._forward = (
            Forward(self.store, Dsn.parse(wish.settings.forward), wish.clock)
            if wish.settings.forward is not None
            else None
        )
        self._serve(listening)
        self._upkeep.start()
        if self._forward is not None:
            self._forward.start()

    def _make_projects(self, wish: Wish) -> None:
        with self.store.write() as db:
            known = {project.slug for project in self.store.projects(db)}
            for slug in wish.projects:
                if slug not in known:
                    self.store.add_project(db, slug, at=wish.clock.time())

    def _serve(self, listening: socket.socket) -> None:
        failed: list[BaseException] = []
        up = threading.Event()

        async def serve() -> None:
            watcher = asyncio.create_task(_when_started(self._server, up))
            try:
                await self._server.serve(sockets=[listening])
            finally:
                watcher.cancel()

        def run() -> None:
            try:
                _run_loop(serve())
            except BaseException as error:  # noqa: BLE001 -- told to the starter below
                failed.append(error)
            finally:
                up.set()
                listening.close()

        self._thread = threading.Thread(target=run, name="crashfree-server", daemon=True)
        self._thread.start()
        if not up.wait(_START_WITHIN) or not self._server.started:
            self._server.should_exit = True
            raise ConfigurationError(f"the server did not start: {failed or 'no answer'}")

    @property
    def projects(self) -> Mapping[str, Project]:
        """All projects by slug."""
        with self.store.read(counts=False) as db:
            return {project.slug: project for project in self.store.projects(db)}

    def dsn(self, slug: str) -> str:
        """Return the DSN of a project: that of its oldest active key."""
        with self.store.read(counts=False) as db:
            row = db.execute(
                "SELECT public_key, project_id FROM project_keys JOIN projects"
                " ON projects.id = project_id WHERE slug = ? AND active"
                " ORDER BY project_keys.date_created, public_key",
                (slug,),
            ).fetchone()
        if row is None:
            raise ConfigurationError(f"there is no project {slug!r}, or it has no active key")
        return dsn_of(self.url, row[0], row[1])

    def stop(self) -> None:
        """Stop: what is in work is finished and written. Idempotent."""
        if os.getpid() != self._pid:
            return
        self._upkeep.stop()
        if self._forward is not None:
            self._forward.stop()
        self._server.should_exit = True
        self._thread.join(_STOP_WITHIN)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(_STOP_WITHIN)
        self.store.close()
        self._remove_directory()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; return whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a loop of its own; in uvloop's where that is installed."""
    try:
        loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _when_started(server: uvicorn.Server, up: threading.Event) -> None:
    while not server.started:
        await asyncio.sleep(0.001)
    up.set()


def open_store(path: str, *, engine: Engine | None = None) -> Store:
    """Open a database, made and brought up to date as needed, with all that listens to it.

    `engine` keeps the sessions in place of the file.

    Raises ConfigurationError for a file that cannot be used.
    """
    try:
        return Store(
            path,
            hooks=Hooks(catalog_hooks.issue_of, catalog_hooks.release_created),
            catalog_migrations=catalog_schema.MIGRATIONS,
            engine=engine,
        )
    except (sqlite3.Error, ValueError) as error:
        raise ConfigurationError(f"the database {path} cannot be used: {error}") from None


def _check(wish: Wish) -> None:
    if wish.settings.forward is not None:
        Dsn.parse(wish.settings.forward)
    if wish.host not in _LOOPBACK and not wish.allow_remote:
        raise ConfigurationError(
            f"host {wish.host!r} can be reached by other machines; say so with allow_remote "
            "(--allow-remote) and give a token"
        )
    if wish.host not in _LOOPBACK and not wish.token:
        raise ConfigurationError(
            f"host {wish.host!r} can be reached by other machines: a token of your own is needed"
        )
    _check_settings(wish.settings)
    if not wish.projects:
        raise ConfigurationError("at least one project is needed")
    for slug in wish.projects:
        if not valid_slug(slug):
            raise ConfigurationError(f"project {slug!r}: {_SLUGS}")


def _check_forward(wish: Wish, port: int) -> None:
    # Each envelope would come back and be passed on again, for ever.
    if wish.settings.forward is not None:
        upstream = Dsn.parse(wish.settings.forward)
        if upstream.port == port and upstream.host.strip("[]") in (wish.host, *_LOOPBACK):
            raise ConfigurationError("forward (--forward) names this server itself")


def _check_settings(settings: Settings) -> None:
    # What is older goes every hour: nobody wants to learn that by an empty database.
    if settings.retention_days < 1:
        raise ConfigurationError(
            f"retention_days (--retention-days) is {settings.retention_days}: at least 1"
        )
    if settings.max_events < 0:
        raise ConfigurationError(f"max_events is {settings.max_events}: 0 or more")
    if not valid_slug(settings.organization):
        raise ConfigurationError(f"organization {settings.organization!r}: {_SLUGS}")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio turns off the delay of small packets (40 ms an answer, where head and
    # body are written apart) only for sockets that say they are TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from None
    return listening
