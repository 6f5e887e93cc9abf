"""A Celery application with release health: `init` is all there is to it.

crashfree serve &                                       # prints the DSN
export CRASHFREE_DSN=... BROKER_URL=redis://localhost
celery --app examples.celery_worker worker &            # prefork, threads, gevent or solo
python examples/celery_worker.py                        # sends a task of each kind

Without a broker: `BROKER_URL=filesystem://` keeps the messages in the folder `queue`.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery, Task

import crashfree

crashfree.init(release="shop@1.0.0")

app = Celery("examples.celery_worker", broker=os.environ.get("BROKER_URL", "filesystem://"))
app.conf.task_ignore_result = True
if app.conf.broker_url == "filesystem://":
    for folder in ("queue", "queue-control"):
        Path(folder).mkdir(exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": "queue",
        "data_folder_out": "queue",
        "control_folder": "queue-control",
    }


@app.task
def pay(amount: int) -> float:
    """A session that went well, or one that crashed."""
    return 100 / amount


@app.task
def basket() -> None:
    """A session with an error that was handled."""
    try:
        raise LookupError("the basket is lost")
    except LookupError as error:
        crashfree.capture_exception(error)


@app.task(bind=True, max_retries=3)
def mail(self: Task, user: str) -> None:
    """Two sessions that went well: a retry is no error."""
    crashfree.set_user({"id": user})
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("the mail server is busy"), countdown=0)


if __name__ == "__main__":
    pay.delay(4)
    pay.delay(0)
    basket.delay()
    mail.delay("ada")
