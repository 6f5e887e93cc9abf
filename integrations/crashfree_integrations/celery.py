"""Celery: a unit of work for each task that a worker runs.

    import celery, crashfree
    crashfree.init(...)         # in the module of the app; attaches itself
    app = celery.Celery("shop")

An error that leaves a task is a crash of it. A retry is none, nor are Ignore, Reject and what the
task names in `throws`. A task that runs into its hard time limit has crashed; one that is revoked,
or cut off by the end of its worker, has not. A worker process that is lost leaves its unit in the
ledger, and a sibling or the next start counts it by what killed the process. A program that only
sends tasks stays what it is, and a task that runs eagerly belongs to the work that called it.
Events name the task, and carry its arguments with `send_default_pii`.

Hooks: Celery's signals, all official. Pools prefork, threads, gevent, eventlet and solo.
Tested with Celery 5.3 and 5.7.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from importlib import import_module
from time import monotonic  # noqa: TID251 -- to be held against a limit by Celery's clock
from typing import Any, Final

from crashfree.integration import AnyUnit, Kit
from crashfree.types import SessionMode
from crashfree_integrations.framework import framework, require

OLDEST: Final = "5.3"
MECHANISM: Final = "celery"
_LEEWAY: Final = 0.25
"""Seconds; the pool counts a time limit from a little before the task begins."""


class CeleryIntegration:
    """Attaches to the workers of this process."""

    name: str = "celery"
    mode: SessionMode | None = None

    def install(self, kit: Kit) -> None:
        framework("celery", OLDEST)
        signals: Any = import_module("celery.signals")
        exceptions: Any = import_module("celery.exceptions")
        require(exceptions, "TaskPredicate", "TimeLimitExceeded")
        tasks = _Tasks(kit, exceptions.TaskPredicate, exceptions.TimeLimitExceeded)
        receivers: tuple[tuple[str, Callable[..., None]], ...] = (
            ("celeryd_init", tasks.serve),
            ("worker_init", tasks.serve),
            ("celeryd_after_setup", tasks.serve),
            ("worker_process_init", tasks.serve),
            ("task_prerun", tasks.begin),
            ("task_failure", tasks.fail),
            ("task_postrun", tasks.end),
            ("worker_process_shutdown", tasks.leave),
        )
        require(signals, *(name for name, _ in receivers))
        for name, receiver in receivers:
            _connect(kit, getattr(signals, name), receiver)
        if _in_pool():
            # `init` was called by a receiver of the signal that would have told.
            tasks.serve()

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _connect(kit: Kit, signal: Any, receiver: Callable[..., None]) -> None:
    signal.connect(receiver, weak=False)
    kit.on_uninstall(lambda: signal.disconnect(receiver))


def _in_pool() -> bool:
    """Return whether this is a process of a worker's pool."""
    billiard = sys.modules.get("billiard")
    return billiard is not None and billiard.current_process().name != "MainProcess"


class _Running:
    """A task at work."""

    __slots__ = ("began", "outer", "unit")
    unit: AnyUnit
    began: float
    outer: BaseException | None
    """What was being handled when it began; an error that passes by later is another one."""

    def __init__(self, unit: AnyUnit) -> None:
        self.unit = unit
        self.began = monotonic()
        self.outer = sys.exc_info()[1]


class _Tasks:
    """The receivers of one client."""

    def __init__(self, kit: Kit, predicate: type[BaseException], over: type[BaseException]) -> None:
        self._kit = kit
        self._predicate = predicate
        self._over = over
        # By identity of the request on top of the task's stack, which lives as long as it runs.
        self._running: dict[int, _Running] = {}
        self._limit: float | None = None
        self._told: deque[str] = deque(maxlen=100)

    def serve(self, *, sender: Any = None, **_: Any) -> None:
        """This process is a worker: it serves tasks, and so do the children of its pool."""
        limit: object = getattr(sender, "time_limit", None)
        if isinstance(limit, (int, float)):
            self._limit = limit
        self._kit.client.serves_units()

    def begin(self, *, task: Any, args: Any = (), kwargs: Any = None, **_: Any) -> None:
        request = task.request
        if request.is_eager:
            return
        unit = self._kit.unit(mechanism=MECHANISM)
        unit.set_transaction(str(task.name))
        unit.scope.set_context("celery", _context(self._kit, task, args, kwargs))
        unit.enter()
        self._running[id(request)] = _Running(unit)

    def fail(
        self, *, sender: Any, exception: BaseException, task_id: str | None = None, **_: Any
    ) -> None:
        request = sender.request
        running = self._running.get(id(request))
        # Celery hands over what can be pickled, maybe a stand-in; the error itself passes by.
        original = sys.exc_info()[1]
        error = exception if original is None else original
        if self._is_no_error(sender, error) or self._is_no_error(sender, exception):
            return
        if running is not None:
            running.unit.crash(error)
        elif request.is_eager or self._kit.client.application_mode:
            self._kit.capture_handled(error, mechanism=MECHANISM)
        elif task_id is None or task_id not in self._told:
            # The worker's main process tells of a child that was lost, or killed for taking too
            # long (that twice). The count is in the child's ledger; this is the event to it.
            if task_id is not None:
                self._told.append(task_id)
            self._kit.capture_unhandled(exception, mechanism=MECHANISM)

    def end(self, *, task: Any, **_: Any) -> None:
        running = self._running.pop(id(task.request), None)
        if running is None:
            return
        unit = running.unit
        error = sys.exc_info()[1]
        if error is not None and error is not running.outer:
            self._interrupted(task, running, error)
        unit.leave()
        unit.end()

    def leave(self, *, exitcode: int | None = None, **_: Any) -> None:
        """A process of the pool is about to leave, without atexit."""
        # One that was told to go by a signal may be killed a moment later, in the middle of a
        # request that nobody could repeat. What its ledger holds is exact.
        if not _by_signal(exitcode):
            self._kit.client.close()

    def _interrupted(self, task: Any, running: _Running, error: BaseException) -> None:
        if self._is_no_error(task, error):
            return
        by_itself = isinstance(error, SystemExit) and not _by_signal(error.code)
        if by_itself or isinstance(error, Exception):
            running.unit.crash(error)
            return
        limit = self._passed_limit(task, running)
        if limit is None:
            return
        if isinstance(error, SystemExit):
            # The event comes from the main process, which tells of it as an error.
            running.unit.fail()
            return
        # A green thread. Newer versions of Celery tell of it too, but not where it hung.
        self._told.append(task.request.id)
        running.unit.crash(self._over(limit).with_traceback(error.__traceback__))

    def _is_no_error(self, task: Any, error: BaseException) -> bool:
        if isinstance(error, self._predicate):
            return True
        throws: Any = getattr(task, "throws", None) or ()
        expected: tuple[type[BaseException], ...] = tuple(throws)
        return isinstance(error, expected)

    def _passed_limit(self, task: Any, running: _Running) -> float | None:
        limits: Any = task.request.timelimit or (None, None)
        limit: float | None = limits[0] or task.time_limit or self._limit
        if not limit or monotonic() - running.began + _LEEWAY < limit:
            return None
        return limit


def _by_signal(code: object) -> bool:
    """Return whether a process of the pool exits because a signal told it to."""
    # billiard's handler exits with the signal's number less 256.
    return isinstance(code, int) and -256 < code <= -128


def _context(kit: Kit, task: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    request = task.request
    context: dict[str, Any] = {
        "task_id": request.id,
        "task_name": task.name,
        "retries": request.retries,
    }
    if kit.client.options.send_default_pii:
        context["args"] = args
        context["kwargs"] = kwargs
    return context
