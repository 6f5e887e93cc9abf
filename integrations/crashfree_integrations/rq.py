"""RQ: a unit of work for each job that a worker performs.

    import crashfree            # in the module of the jobs, or in the settings of the worker
    crashfree.init(...)         # attaches itself; or `crashfree run -- rq worker`

An error that leaves a job, a time-out too, is a crash of it, unless RQ is going to retry the job. A
work horse leaves by `os._exit`, so its account is closed right after the job; one that is killed
leaves its unit in the ledger, and the next horse counts it; the worker tells of it with an event
(`WorkHorseLost`, by what signal or exit status), unless somebody has stopped the job. The horses of
SpawnWorker are programs of their own: there `init` belongs into the module of the jobs. Events name
the function, and carry its arguments with `send_default_pii`.

Hooks: RQ has none around a job (its exception handlers see failures only), so methods of the
worker are wrapped: `work`, `perform_job`, `handle_exception`, `handle_job_success`,
`handle_job_failure` and `handle_work_horse_killed`, which calls the one handler that the program
may have given to its worker. Workers Worker, SimpleWorker, SpawnWorker and the worker pool.
Tested with RQ 1.15 and 3.0.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from crashfree.integration import AnyUnit, Kit
from crashfree.types import SessionMode
from crashfree_integrations.framework import framework, require

OLDEST: Final = "1.15"
MECHANISM: Final = "rq"
_SENDING: Final = ("ssl", "certifi", "urllib3")
"""What a client loads before it sends for the first time."""
_Method = Callable[..., Any]


class WorkHorseLost(Exception):
    """A work horse ended in the middle of its job. Never raised; what an event shows."""


class RqIntegration:
    """Attaches to the workers of this process."""

    name: str = "rq"
    mode: SessionMode | None = None

    def install(self, kit: Kit) -> None:
        rq: Any = framework("rq", OLDEST)
        worker: Any = import_module("rq.worker")
        exceptions: Any = import_module("rq.exceptions")
        require(exceptions, "DeserializationError")
        jobs = _Jobs(kit, exceptions.DeserializationError)
        for name, wrapper in (
            ("work", jobs.serving),
            ("perform_job", jobs.performing),
            ("handle_exception", jobs.failing),
            ("handle_job_success", jobs.succeeded),
            ("handle_job_failure", jobs.failed),
            ("handle_work_horse_killed", jobs.lost),
        ):
            for owner in _owners(worker, name):
                kit.wrap(owner, name, wrapper)
        job = rq.get_current_job()
        if job is not None:
            jobs.join(job)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _owners(worker: Any, name: str) -> list[Any]:
    """Return the worker classes that define `name` themselves."""
    base: Any = worker.BaseWorker
    members: dict[str, Any] = worker.__dict__
    classes = [base, *(each for each in members.values() if type(each) is type)]
    owners = [
        owner for owner in dict.fromkeys(classes) if issubclass(owner, base) and name in vars(owner)
    ]
    if not owners:
        require(base, name)
    return owners


class _Performance:
    """A job that is being performed."""

    __slots__ = ("awaited", "retried", "unit")
    unit: AnyUnit
    retried: bool
    """Whether RQ will try it again when it fails; older versions count that down too early."""
    awaited: set[str] | None
    """For one that was joined in the middle: the calls that are its last ones when it fails."""

    def __init__(self, unit: AnyUnit, *, retried: bool, joined: bool) -> None:
        self.unit = unit
        self.retried = retried
        self.awaited = {"handle_exception", "handle_job_failure"} if joined else None


class _Jobs:
    """The wrappers of one client."""

    def __init__(self, kit: Kit, unreadable: type[Exception]) -> None:
        self._kit = kit
        self._unreadable = unreadable
        self._running: dict[str, _Performance] = {}

    def join(self, job: Any) -> None:
        """Count the job that is being performed: the import of its module called `init`."""
        self._kit.client.serves_units()
        self._begin(job, joined=True)

    def serving(self, original: _Method) -> _Method:
        @wraps(original)
        def work(worker: Any, *arguments: Any, **named: Any) -> Any:
            # The worker performs its jobs in children: it has no session, and no thread to fork.
            self._kit.client.serves_units()
            for module in _SENDING:
                # Once here, and not in every horse.
                import_module(module)
            return original(worker, *arguments, **named)

        return work

    def performing(self, original: _Method) -> _Method:
        @wraps(original)
        def perform_job(worker: Any, job: Any, *arguments: Any, **named: Any) -> Any:
            unit = self._begin(job, joined=False)
            try:
                return original(worker, job, *arguments, **named)
            except BaseException as error:
                unit.crash(error)
                raise
            finally:
                self._end(worker, job)

        return perform_job

    def failing(self, original: _Method) -> _Method:
        @wraps(original)
        def handle_exception(worker: Any, job: Any, *exc_info: Any) -> Any:
            running = self._running.get(job.id)
            error = exc_info[1] if len(exc_info) == 3 else None
            if running is not None and isinstance(error, BaseException) and not running.retried:
                running.unit.crash(error)
            try:
                return original(worker, job, *exc_info)
            finally:
                self._ended_part(worker, job, "handle_exception")

        return handle_exception

    def failed(self, original: _Method) -> _Method:
        @wraps(original)
        def handle_job_failure(worker: Any, job: Any, *arguments: Any, **named: Any) -> Any:
            try:
                return original(worker, job, *arguments, **named)
            finally:
                self._ended_part(worker, job, "handle_job_failure")

        return handle_job_failure

    def succeeded(self, original: _Method) -> _Method:
        @wraps(original)
        def handle_job_success(worker: Any, job: Any, *arguments: Any, **named: Any) -> Any:
            done = original(worker, job, *arguments, **named)
            running = self._running.get(job.id)
            if running is not None and running.awaited is not None:
                self._end(worker, job)
            return done

        return handle_job_success

    def lost(self, original: _Method) -> _Method:
        @wraps(original)
        def handle_work_horse_killed(
            worker: Any, job: Any, retpid: Any, ret_val: Any, *rest: Any, **named: Any
        ) -> Any:
            # The count is in the horse's ledger; this is the event to it.
            with self._kit.unit(mechanism=MECHANISM, session=False) as unit:
                self._describe(unit, job)
                unit.crash(WorkHorseLost(f"the work horse {_end_of(ret_val)}"))
            return original(worker, job, retpid, ret_val, *rest, **named)

        return handle_work_horse_killed

    def _describe(self, unit: AnyUnit, job: Any) -> None:
        try:
            context = _context(self._kit, job)
        except self._unreadable:
            # RQ meets the same error in a moment, and fails the job for it.
            return
        unit.set_transaction(str(job.func_name))
        unit.scope.set_context("rq", context)

    def _begin(self, job: Any, *, joined: bool) -> AnyUnit:
        unit = self._kit.unit(mechanism=MECHANISM)
        self._describe(unit, job)
        unit.enter()
        retried = bool(job.retries_left)
        self._running[job.id] = _Performance(unit, retried=retried, joined=joined)
        return unit

    def _ended_part(self, worker: Any, job: Any, call: str) -> None:
        running = self._running.get(job.id)
        if running is None or running.awaited is None:
            return
        running.awaited.discard(call)
        if not running.awaited:
            self._end(worker, job)

    def _end(self, worker: Any, job: Any) -> None:
        running = self._running.pop(job.id, None)
        if running is None:
            return
        running.unit.leave()
        running.unit.end()
        if worker.is_horse:
            # It leaves by os._exit next.
            self._kit.client.close()


def _end_of(status: object) -> str:
    """Say how a process ended, from what `waitpid` returned."""
    if not isinstance(status, int):
        return "was lost"
    if not os.WIFSIGNALED(status):
        return f"left with status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"was killed by signal {number}"


def _context(kit: Kit, job: Any) -> dict[str, Any]:
    context: dict[str, Any] = {
        "job_id": job.id,
        "func": job.func_name,
        "queue": job.origin,
        "retries_left": job.retries_left,
    }
    if kit.client.options.send_default_pii:
        context["args"] = job.args
        context["kwargs"] = job.kwargs
    return context
