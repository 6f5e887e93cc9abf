"""Integrations: found by entry points, installed when their framework is imported, undone by close.

A name in `init(integrations=[...])` is looked up in the group `crashfree.integrations`; the group
`crashfree.auto` maps foreign modules to the integration that is attached once that module has been
imported. Nothing of a framework is ever imported from here.

Threads: install and uninstall on the thread of init or close, or on the one that imports the
framework (under its import lock). Fork: kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from crashfree._client import current, guard, whenimported
from crashfree._client.client import Client
from crashfree._client.entrypoints import EntryPoint, entry_points
from crashfree._client.unit import AnyUnit, RequestSource, Service, begin_unit
from crashfree._ground import log
from crashfree._ground.typed import Protocol, TypeVar, cast, runtime_checkable
from crashfree.errors import IntegrationError
from crashfree.types import Breadcrumb, EventProcessor, Hint, Mechanism, SessionMode

F = TypeVar("F", bound=Callable[..., object])

GROUP = "crashfree."
BY_NAME = "crashfree.integrations"
BY_MODULE = "crashfree.auto"
_MISFITS = (IntegrationError, ImportError, AttributeError, TypeError)
"""How it shows that a framework is not what its integration expects."""


@runtime_checkable
class Integration(Protocol):
    """What a framework's integration offers."""

    name: str
    """The word users switch it with; unique."""
    mode: SessionMode | None
    """"request": a process with this framework serves units of work. None: says nothing."""

    def install(self, kit: Kit) -> None:
        """Attach to the framework, which is imported by now. May raise IntegrationError."""

    def uninstall(self) -> None:
        """Detach what `Kit.wrap` does not undo by itself."""


class Kit:
    """What an integration works with: its client, units, and changes that can be undone."""

    __slots__ = ("_client", "_name", "_undo")
    _client: Client
    _name: str
    _undo: list[Callable[[], None]]

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._undo = []

    @property
    def client(self) -> Client:
        """The client this integration was installed for."""
        return self._client

    def unit(self, *, mechanism: str, session: bool = True) -> AnyUnit:
        """Begin a unit of work: one request, one task, one connection.

        Returns the running unit (whose end belongs to whoever began it) when there is one in this
        context, so that nested frameworks count once. `session=False` gives scopes and request
        data without counting a session.
        """
        return begin_unit(self._client, mechanism, session=session)

    def service(self, mechanism: str, request: RequestSource | None = None) -> Service:
        """Return what units of this integration have in common, for `Unit.serving`."""
        return Service(self._client, mechanism, request)

    def account(self, error: BaseException, *, mechanism: Mechanism) -> None:
        """Count an error that another SDK reports for the session it happened in."""
        _accounted(self._client, error, mechanism)

    def capture_unhandled(self, error: BaseException, *, mechanism: str) -> str | None:
        """Capture an error that nothing in the program caught; returns the event's id."""
        return _captured_unhandled(self._client, error, mechanism)

    def capture_handled(
        self, error: BaseException, *, mechanism: str, hint: Hint | None = None
    ) -> str | None:
        """Capture an error that the framework turned into an answer; returns the event's id."""
        return _captured_handled(self._client, error, mechanism, hint)

    def add_breadcrumb(self, crumb: Breadcrumb) -> None:
        """Note something that happened, for the next event of this unit."""
        self._client.add_breadcrumb(crumb, scope=current.isolation_scope())

    def on_event(self, processor: EventProcessor) -> None:
        """Let `processor` see every event of this client until the integration is removed."""
        self._client.add_processor(processor)
        self._undo.append(lambda: self._client.remove_processor(processor))

    def sessions_only(self) -> None:
        """Send no events while this integration is there: another SDK reports the errors."""
        client = self._client
        client.sends_events = False

        def undo() -> None:
            client.sends_events = True

        self._undo.append(undo)

    def on_uninstall(self, undo: Callable[[], None]) -> None:
        """Call `undo` when the integration is removed, last registered first."""
        self._undo.append(undo)

    def wrap(self, owner: object, name: str, wrapper: Callable[[F], F]) -> None:
        """Replace `owner.name` by `wrapper(original)`; uninstall puts the original back.

        Only where a framework has no hook of its own. Static and class methods keep their kind.
        The original is put back only while the wrapper is still what stands there: whoever wrapped
        after us stays, and our part falls silent with the client.
        """
        space: Mapping[str, object] = vars(owner)
        own = name in space
        original = space[name] if own else getattr(owner, name)
        wrapped: object
        if isinstance(original, staticmethod):
            wrapped = staticmethod(wrapper(cast("F", original.__func__)))
        elif isinstance(original, classmethod):
            wrapped = classmethod(wrapper(cast("F", vars(owner)[name].__func__)))
        else:
            wrapped = wrapper(cast("F", original))
        setattr(owner, name, wrapped)

        def undo() -> None:
            if vars(owner).get(name) is not wrapped:
                return
            if own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)

        self._undo.append(undo)

    def when_imported(self, name: str, callback: Callable[[ModuleType], None]) -> None:
        """Call `callback(module)` right after the code of a module has run; now, if it has.

        Never imports it. Not called any more once the integration is removed.
        """

        def imported(module: ModuleType) -> None:
            _tell_of_import(callback, module)

        whenimported.when_imported(name, imported)
        self._undo.append(lambda: whenimported.forget(imported))

    def warn(self, message: str) -> None:
        """Say what the operator of the program has to change, on the log of crashfree."""
        log.warning(f"{self._name}: {message}")

    def undo(self) -> None:
        """Take back everything, last change first. Idempotent."""
        while self._undo:
            _undo_one(self._undo.pop())


@guard.boundary(None)
def _accounted(client: Client, error: BaseException, mechanism: Mechanism) -> None:
    client.capture_exception(
        error, mechanism=mechanism, scopes=current.scopes(), unit=current.unit()
    )


@guard.boundary(None)
def _captured_unhandled(client: Client, error: BaseException, mechanism: str) -> str | None:
    return client.capture_exception(
        error,
        mechanism={"type": mechanism, "handled": False},
        scopes=current.scopes(),
        unit=current.unit(),
    )


@guard.boundary(None)
def _captured_handled(
    client: Client, error: BaseException, mechanism: str, hint: Hint | None
) -> str | None:
    return client.capture_exception(
        error,
        mechanism={"type": mechanism, "handled": True},
        hint=hint,
        scopes=current.scopes(),
        unit=current.unit(),
    )


@guard.boundary(None)
def _tell_of_import(callback: Callable[[ModuleType], None], module: ModuleType) -> None:
    callback(module)


@guard.boundary(None)
def _undo_one(undo: Callable[[], None]) -> None:
    undo()


class Registry:
    """The integrations of one client."""

    __slots__ = ("_client", "_disabled", "_installed", "_problems", "_watching")
    _client: Client
    _disabled: frozenset[str]
    _installed: dict[str, tuple[Integration, Kit]]
    _watching: list[whenimported.Callback]
    _problems: dict[str, str]

    def __init__(self, client: Client, disabled: Sequence[str]) -> None:
        self._client = client
        self._disabled = frozenset(disabled)
        self._installed = {}
        self._watching = []
        self._problems = {}

    def install_given(self, given: Sequence[Integration | str]) -> None:
        """Install what `init` was told to; raises IntegrationError naming what is missing."""
        for entry in given:
            if isinstance(entry, str):
                self._install(self._named(entry), required=True)
            else:
                self._install(entry, required=True)

    def watch(self) -> None:
        """Attach automatic integrations, now or when their framework gets imported."""
        for point in entry_points(GROUP):
            if point.group == BY_MODULE:
                self._watch(point)

    def uninstall(self) -> None:
        """Take every integration out again, last installed first."""
        for callback in self._watching:
            whenimported.forget(callback)
        self._watching.clear()
        while self._installed:
            name, (integration, kit) = self._installed.popitem()
            self._client.integrations.remove(name)
            _remove(integration, kit)

    @property
    def names(self) -> list[str]:
        """The installed integrations, in order of installation."""
        return list(self._installed)

    @property
    def problems(self) -> dict[str, str]:
        """Integrations that could not be installed, each with the reason."""
        return dict(self._problems)

    def _watch(self, point: EntryPoint) -> None:
        def imported(module: ModuleType) -> None:
            self._install_automatic(point)

        self._watching.append(imported)
        whenimported.when_imported(point.name, imported)

    def _install_automatic(self, point: EntryPoint) -> None:
        if self._client.closed or self._is_disabled(point):
            return
        _install_quietly(self, point)

    def install_point(self, point: EntryPoint) -> None:
        """Install what an automatic entry point stands for; a failure is remembered, not raised."""
        try:
            self._install(_load(point), required=False)
        except _MISFITS as error:
            self._problems[point.name] = str(error)
            log.debug(f"integration for {point.name} is left out: {error}")

    def _is_disabled(self, point: EntryPoint) -> bool:
        short = point.module.rpartition(".")[2]
        return bool({point.name, short} & self._disabled)

    def _install(self, integration: Integration, *, required: bool) -> None:
        name = integration.name
        if name in self._installed or (name in self._disabled and not required):
            return
        kit = Kit(self._client, name)
        try:
            integration.install(kit)
        except BaseException:
            kit.undo()
            raise
        self._installed[name] = (integration, kit)
        self._client.integrations.append(name)
        if integration.mode == "request":
            self._client.serves_units()
        log.debug(f"integration {name} is installed")

    def _named(self, name: str) -> Integration:
        points = [point for point in entry_points(GROUP) if point.group == BY_NAME]
        for point in points:
            if point.name == name:
                return _load(point)
        known = ", ".join(sorted(point.name for point in points)) or "none is installed"
        raise IntegrationError(
            f"integrations names {name!r}, which no installed package offers; known: {known}"
        )


@guard.boundary(None)
def _install_quietly(registry: Registry, point: EntryPoint) -> None:
    registry.install_point(point)


@guard.boundary(None)
def _remove(integration: Integration, kit: Kit) -> None:
    try:
        integration.uninstall()
    finally:
        kit.undo()


def _load(point: EntryPoint) -> Integration:
    try:
        __import__(point.module)
        factory = getattr(sys.modules[point.module], point.attribute)
    except (ImportError, AttributeError) as error:
        raise IntegrationError(
            f"integration {point.name!r} ({point.module}:{point.attribute}) cannot be loaded: "
            f"{error}; install its framework or take the name out"
        ) from error
    integration = factory()
    if not isinstance(integration, Integration):
        raise IntegrationError(
            f"{point.module}:{point.attribute} is no integration: it needs name, mode, install() "
            "and uninstall()"
        )
    return integration
