"""RQ: a unit of work for each job that a worker performs.

    import crashfree             # in the module that the jobs live in, or `crashfree run -- rq worker`
    crashfree.init(...)          # attaches itself

An error that leaves a job is a crash of it, unless RQ will retry the job. A work horse leaves by
`os._exit`, so its account is closed right after the job; one that is killed leaves its unit in the
ledger.

Hooks: RQ has none around a job (its exception handlers see failures only), so `perform_job`,
`handle_exception` and `main_work_horse` of the worker are wrapped. Tested with RQ 1.15 and 3.0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from crashfree.integration import Kit
from crashfree.types import SessionMode
from crashfree_integrations.framework import framework, require

OLDEST: Final = "1.15"
MECHANISM: Final = "rq"


class RqIntegration:
    """Attaches to the workers of this process."""

    name: str = "rq"
    mode: SessionMode | None = None

    def install(self, kit: Kit) -> None:
        framework("rq", OLDEST)
        from rq import worker

        base: Any = getattr(worker, "BaseWorker", worker.Worker)
        for name, wrapper in (
            ("perform_job", _performing(kit)),
            ("handle_exception", _failing(kit)),
            ("main_work_horse", _leaving(kit)),
        ):
            for owner in _owners(worker, base, name):
                kit.wrap(owner, name, wrapper)

    def uninstall(self) -> None:
        """Everything is undone by the kit."""


def _owners(module: Any, base: Any, name: str) -> list[Any]:
    """Return the worker classes that define `name` themselves."""
    classes = [base, *(value for value in vars(module).values() if isinstance(value, type))]
    owners = [
        owner
        for owner in dict.fromkeys(classes)
        if issubclass(owner, base) or owner is base
        if name in vars(owner)
    ]
    if not owners:
        require(base, name)
    return owners


def _performing(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def perform_job(self: Any, job: Any, *rest: Any, **named: Any) -> Any:
            with kit.unit(mechanism=MECHANISM) as unit:
                unit.set_transaction(str(job.func_name))
                unit.scope.set_context("rq", _context(kit, job))
                return original(self, job, *rest, **named)

        return perform_job

    return wrapper


def _failing(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def handle_exception(self: Any, job: Any, *exc_info: Any) -> Any:
            error = exc_info[1] if len(exc_info) == 3 else None
            if isinstance(error, BaseException) and not getattr(job, "retries_left", None):
                kit.capture_unhandled(error, mechanism=MECHANISM)
            return original(self, job, *exc_info)

        return handle_exception

    return wrapper


def _leaving(kit: Kit) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def main_work_horse(self: Any, *rest: Any, **named: Any) -> Any:
            try:
                return original(self, *rest, **named)
            finally:
                # RQ calls os._exit next, in older versions inside: see perform_job there.
                kit.client.close()

        return main_work_horse

    return wrapper


def _context(kit: Kit, job: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"job_id": job.id, "func": job.func_name, "queue": job.origin}
    if kit.client.options.send_default_pii:
        context["args"] = job.args
        context["kwargs"] = job.kwargs
    return context
