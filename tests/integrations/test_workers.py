"""Celery, RQ, gunicorn and multiprocessing in one process: what they attach to, and let go again.

Their work is tested with real processes: journeys/test_celery.py, test_rq.py, test_run_servers.py,
test_multiprocessing.py.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

import pytest

import crashfree
from crashfree.errors import IntegrationError
from crashfree.integration import Integration
from crashfree.testing import capture
from crashfree_integrations.celery import CeleryIntegration
from crashfree_integrations.gunicorn import GunicornIntegration
from crashfree_integrations.multiprocessing import MultiprocessingIntegration
from crashfree_integrations.rq import RqIntegration

SIGNALS = (
    "celeryd_init", "worker_init", "celeryd_after_setup", "worker_process_init", "task_prerun",
    "task_failure", "task_postrun", "worker_process_shutdown",
)  # fmt: skip


def outcome(seen: capture) -> dict[str, int]:
    found: dict[str, int] = {}
    for payload in seen.aggregates:
        for bucket in payload["aggregates"]:
            for key, value in bucket.items():
                if key not in ("started", "did"):
                    found[key] = found.get(key, 0) + int(str(value))
    return found


def _celery() -> list[Any]:
    signals = pytest.importorskip("celery.signals")
    return [list(getattr(signals, name).receivers) for name in SIGNALS]


def _rq() -> list[Any]:
    worker = pytest.importorskip("rq.worker")
    classes = [value for value in vars(worker).values() if isinstance(value, type)]
    return [dict(vars(owner)) for owner in (worker.BaseWorker, *classes)]


def _gunicorn() -> list[Any]:
    base = pytest.importorskip("gunicorn.app.base")
    workers = pytest.importorskip("gunicorn.workers.base")
    return [dict(vars(base.BaseApplication)), dict(vars(workers.Worker))]


def _multiprocessing() -> list[Any]:
    return [dict(vars(BaseProcess))]


@pytest.mark.parametrize(
    ("integration", "state"),
    [
        (CeleryIntegration, _celery),
        (RqIntegration, _rq),
        (GunicornIntegration, _gunicorn),
        (MultiprocessingIntegration, _multiprocessing),
    ],
)
def test_taken_out_again_everything_is_as_it_was(integration: Any, state: Any) -> None:
    before = state()
    assert isinstance(integration(), Integration)
    with capture(integrations=[integration()]):
        assert state() != before
    after = state()
    assert after == before
    for then, now in zip(before, after, strict=True):
        if isinstance(then, dict):
            assert all(now[name] is value for name, value in then.items())


@pytest.mark.parametrize(
    ("module", "integration", "needed"),
    [
        ("celery", CeleryIntegration, "celery>=5.3"),
        ("rq", RqIntegration, "rq>=1.15"),
        ("gunicorn", GunicornIntegration, "gunicorn>=21.2"),
    ],
)
def test_a_version_that_is_too_old_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, module: str, integration: Any, needed: str
) -> None:
    old = ModuleType(module)
    old.__dict__["__version__"] = "0.9"
    monkeypatch.setitem(sys.modules, module, old)
    with pytest.raises(IntegrationError, match=rf"{needed}, found 0\.9"):
        with capture(integrations=[integration()]):
            pass


# --- Celery ---------------------------------------------------------------------------------


@pytest.fixture
def app() -> Iterator[Any]:
    celery = pytest.importorskip("celery")
    app = celery.Celery("tests", set_as_current=False)
    app.conf.task_always_eager = True
    yield app
    app.close()


def failing(app: Any) -> Any:
    @app.task
    def fails() -> None:
        raise OSError("eager")

    return fails


def test_an_eager_task_belongs_to_the_unit_that_called_it(app: Any) -> None:
    task = failing(app)
    with capture(integrations=[CeleryIntegration()], session_mode="request") as seen:
        with crashfree.session():
            task.delay()
        with crashfree.session():
            pass
    assert outcome(seen) == {"errored": 1, "exited": 1}
    assert len(seen.events) == 1


def test_an_eager_task_that_raises_into_its_caller_is_reported_by_the_caller(app: Any) -> None:
    app.conf.task_eager_propagates = True
    task = failing(app)
    with capture(integrations=[CeleryIntegration()], session_mode="request") as seen:
        with pytest.raises(OSError, match="eager"):
            with crashfree.session():
                task.delay()
    assert outcome(seen) == {"crashed": 1}
    assert len(seen.events) == 1


def test_a_program_with_eager_tasks_stays_one_session(app: Any) -> None:
    task = failing(app)
    with capture(integrations=[CeleryIntegration()]) as seen:
        task.delay()
    assert [(up["status"], up["errors"]) for up in seen.sessions] == [("exited", 1)]
    assert outcome(seen) == {}


# --- gunicorn -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "wrapped"),
    [("sync", "WsgiMiddleware"), ("gthread", "WsgiMiddleware"), ("of its own", "function")],
)
def test_what_a_worker_serves_is_counted_if_its_kind_is_known(worker: str, wrapped: str) -> None:
    base = pytest.importorskip("gunicorn.app.base")
    from gunicorn.workers.gthread import ThreadWorker
    from gunicorn.workers.sync import SyncWorker

    classes: dict[str, Any] = {
        "sync": SyncWorker,
        "gthread": ThreadWorker,
        "of its own": type("OwnWorker", (), {}),
    }

    class Configuration:
        worker_class = classes[worker]

    def application(environ: Any, start_response: Any) -> list[bytes]:
        return []

    class Program(base.BaseApplication):  # type: ignore[misc]
        def do_load_config(self) -> None:
            self.cfg = Configuration()

        def load(self) -> Any:
            return application

    with capture(integrations=[GunicornIntegration()]) as seen:
        assert type(Program().wsgi()).__name__ == wrapped
        assert not seen.client.application_mode
    assert Program().wsgi() is application
    assert seen.sessions == []


def test_a_worker_that_has_its_handlers_already_gets_the_new_one() -> None:
    """`init` is called by the application, which is loaded after that."""
    pytest.importorskip("gunicorn")
    from gunicorn.workers.sync import SyncWorker

    worker = SyncWorker.__new__(SyncWorker)
    before = signal.signal(signal.SIGABRT, worker.handle_abort)
    theirs = signal.getsignal(signal.SIGABRT)
    try:
        with capture(integrations=[GunicornIntegration()]):
            assert signal.getsignal(signal.SIGABRT) == worker.handle_abort != theirs
        assert signal.getsignal(signal.SIGABRT) is theirs
    finally:
        signal.signal(signal.SIGABRT, before)


def test_handlers_of_others_stay() -> None:
    pytest.importorskip("gunicorn")
    before = signal.getsignal(signal.SIGABRT)
    with capture(integrations=[GunicornIntegration()]):
        assert signal.getsignal(signal.SIGABRT) is before
