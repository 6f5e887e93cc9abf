"""A Celery application whose tasks write down what they begin, and a worker for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.support.lives import Lives
from tests.support.program import environment
from tests.support.waiting import wait_until

APPLICATION = '''
import ctypes, os, signal, sys, time
{init}
from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
import atomicqueue

app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.broker_transport_options = {{
    "data_folder_in": os.environ["QUEUE"], "data_folder_out": os.environ["QUEUE"],
    "control_folder": os.environ["QUEUE"] + "-control", "polling_interval": 0.05,
}}
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 1
app.conf.beat_schedule_filename = os.environ["QUEUE"] + "-beat"
TRUTH = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(word):
    os.write(TRUTH, b"%s %d\\n" % (word.encode(), os.getpid()))


@app.task
def ok():
    note("ok")

@app.task
def error():
    note("error")
    raise ValueError("leaves the task")

@app.task
def handled():
    note("handled")
    import crashfree
    try:
        1 / 0
    except ZeroDivisionError as error:
        crashfree.capture_exception(error)

@app.task(throws=(KeyError,))
def expected():
    note("expected")
    raise KeyError("expected")

@app.task
def ignored():
    note("ignored")
    raise Ignore()

@app.task
def rejected():
    note("rejected")
    raise Reject("no", requeue=False)

@app.task(bind=True, max_retries=2)
def retried(self):
    """Fails, fails, succeeds: three executions."""
    note("retried")
    if self.request.retries < 2:
        raise self.retry(exc=ValueError("again"), countdown=0)

@app.task(bind=True, max_retries=1)
def given_up(self):
    """Fails, is retried, fails for good."""
    note("given_up")
    raise self.retry(exc=ValueError("for good"), countdown=0)

@app.task(soft_time_limit=1)
def soft_limit():
    note("soft_limit")
    time.sleep(30)

@app.task(soft_time_limit=1)
def soft_limit_met():
    note("soft_limit_met")
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return

@app.task(time_limit=1)
def hard_limit():
    note("hard_limit")
    time.sleep(30)

@app.task
def sleeping():
    note("sleeping")
    time.sleep(60)

@app.task
def killed():
    note("killed")
    os.kill(os.getpid(), signal.SIGKILL)

@app.task
def left():
    note("left")
    os._exit(7)

@app.task
def segfault():
    note("segfault")
    ctypes.string_at(8)

@app.task
def exits():
    note("exits")
    sys.exit(3)

@app.task
def eager():
    note("eager")
    failing.apply()

@app.task
def failing():
    note("failing")
    raise OSError("in an eager task")

@app.task
def sender():
    note("sender")
    ok.delay()
'''
INIT = 'import crashfree\ncrashfree.init(release="app@1.0")'


class CeleryWorker:
    """One running worker; a context manager that leaves no process behind."""

    def __init__(self, lives: Lives, folder: Path, *options: str, **variables: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.truth = folder / "truth"
        self.truth.touch()
        queue = folder / "queue"
        queue.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).with_name("atomicqueue.py"), folder)
        (folder / "tasks.py").write_text(APPLICATION.format(init=variables.pop("INIT", INIT)))
        self._options = options or ("--pool", "prefork", "--concurrency", "2")
        self._prefix = variables.pop("PREFIX", "-m").split()
        self.env = environment(
            {
                **lives.env,
                "BROKER": "filesystem://",
                "QUEUE": str(queue),
                "TRUTH": str(self.truth),
                "PYTHONPATH": str(folder),
                **variables,
            }
        )

    def __enter__(self) -> CeleryWorker:
        self.start()
        return self

    def start(self) -> None:
        """Start the worker and wait until it is ready."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._prefix, "celery", "-A", "tasks", "worker", "-l", "info",
                 "--without-gossip", "--without-mingle", "--without-heartbeat", *self._options],
                cwd=self.folder, env=self.env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._ready, 60, f"no worker: {self.output}")

    def __exit__(self, *exc: object) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def truths(self) -> Counter[str]:
        """How often each task was begun."""
        return Counter(line.split()[0] for line in self.truth.read_text().splitlines())

    def process_of(self, task: str) -> int:
        """The process that began a task last."""
        lines = [line.split() for line in self.truth.read_text().splitlines()]
        return [int(pid) for name, pid in lines if name == task][-1]

    def send(self, **tasks: int) -> None:
        """Send so many of each task, from a program that crashfree knows nothing of."""
        source = "; ".join(
            f"[tasks.{name}.delay() for _ in range({times})]" for name, times in tasks.items()
        )
        subprocess.run(
            [sys.executable, "-c", f"import tasks; {source}"],
            cwd=self.folder, env={**self.env, "CRASHFREE_DISABLED": "1"}, check=True, timeout=60,
        )  # fmt: skip

    def wait_for(self, **begun: int) -> None:
        """Wait until so many executions of these tasks have begun."""
        wait_until(
            lambda: all(self.truths[name] >= times for name, times in begun.items()),
            60,
            f"{begun} not in {self.truths}: {self.output}",
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the worker to end, as its operator does; tasks that have begun are finished."""
        self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker does not stop: {self.output}") from None

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker has ended: {self.output}")
        return " ready." in self.output
