"""What to write to get a program's releases and sessions here, for each kind of program.

Every snippet is complete: with the project's own DSN it runs as it stands.

Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

_SCRIPT: Final = """\
import crashfree

crashfree.init(
    "{dsn}",
    release="{package}@1.0.0",  # left out, it is found: git, CI, the package
    environment="production",
)
crashfree.set_user({{"id": "ada"}})

try:
    1 / 0
except ZeroDivisionError as error:
    crashfree.capture_exception(error)  # an error of the session, not a crash
"""
_FLASK: Final = """\
import crashfree
from flask import Flask

crashfree.init("{dsn}", release="{package}@1.0.0")

app = Flask(__name__)


@app.get("/pay/<int:amount>")
def pay(amount: int) -> dict[str, float]:
    return {{"share": 100 / amount}}  # /pay/0 crashes: see it arrive
"""
_DJANGO: Final = """\
# settings.py
import crashfree

crashfree.init("{dsn}", release="{package}@1.0.0")
"""
_FASTAPI: Final = """\
import crashfree
from fastapi import FastAPI

crashfree.init("{dsn}", release="{package}@1.0.0")

app = FastAPI()


@app.get("/pay/{{amount}}")
def pay(amount: int) -> dict[str, float]:
    return {{"share": 100 / amount}}  # /pay/0 crashes: see it arrive
"""
_CELERY: Final = """\
import crashfree
from celery import Celery

crashfree.init("{dsn}", release="{package}@1.0.0")

app = Celery("{package}", broker="redis://localhost")


@app.task
def pay(amount: int) -> float:
    return 100 / amount  # pay.delay(0) crashes: see it arrive
"""
_GUNICORN: Final = """\
export CRASHFREE_DSN='{dsn}'
export CRASHFREE_RELEASE='{package}@1.0.0'
crashfree run -- gunicorn --workers 4 app:app
"""
_RUN: Final = """\
export CRASHFREE_DSN='{dsn}'
export CRASHFREE_RELEASE='{package}@1.0.0'
crashfree run -- python app.py
"""
_SENTRY: Final = """\
import sentry_sdk

sentry_sdk.init("{dsn}", release="{package}@1.0.0")
"""
_CI: Final = """\
export CRASHFREE_URL='{url}'
export CRASHFREE_AUTH_TOKEN=...  # the token of this server: see Settings
export CRASHFREE_ORG='{organization}' CRASHFREE_PROJECT='{project}'
VERSION="$(crashfree releases propose-version)"
crashfree releases new "$VERSION"
crashfree releases set-commits --auto "$VERSION"
crashfree releases finalize "$VERSION"
crashfree deploys new -r "$VERSION" -e production
"""


class Snippet(NamedTuple):
    """How one kind of program is set up."""

    id: str
    name: str
    language: str
    """`python` or `sh`."""
    text: str
    note: str

    def filled(self, values: Mapping[str, str]) -> str:
        """Return it with `dsn`, `package`, `url`, `organization` and `project` put in."""
        return self.text.format_map(values)


SNIPPETS: Final = (
    Snippet(
        "script",
        "Script",
        "python",
        _SCRIPT,
        "The session begins with init and ends with the program, however that ends.",
    ),
    Snippet(
        "flask",
        "Flask",
        "python",
        _FLASK,
        "Each request is a session; one that an exception escapes from has crashed.",
    ),
    Snippet(
        "django",
        "Django",
        "python",
        _DJANGO,
        "WSGI, ASGI and REST framework alike: each request is a session.",
    ),
    Snippet(
        "fastapi",
        "FastAPI",
        "python",
        _FASTAPI,
        "Each request is a session, until its last byte is sent. Starlette is the same.",
    ),
    Snippet(
        "celery",
        "Celery",
        "python",
        _CELERY,
        "Each task is a session; a retry is no error.",
    ),
    Snippet(
        "gunicorn",
        "gunicorn",
        "sh",
        _GUNICORN,
        "Nothing is changed in the program; each worker counts for itself. uvicorn, hypercorn, "
        "granian and waitress are the same.",
    ),
    Snippet(
        "run",
        "Any program",
        "sh",
        _RUN,
        "Nothing is changed in the program. With --supervise, a death that leaves no trace is "
        "seen, too.",
    ),
    Snippet(
        "sentry",
        "Sentry SDKs",
        "python",
        _SENTRY,
        "Any Sentry SDK, of any language, takes this DSN: only the address is another.",
    ),
    Snippet(
        "ci",
        "CI",
        "sh",
        _CI,
        "Tells which commits are in a release and where it runs: suspect commits, deploy marks. "
        "sentry-cli does the same with SENTRY_ in place of CRASHFREE_.",
    ),
)


def find(name: str) -> Snippet | None:
    """Return a snippet by its id; the first one for an empty name."""
    return next((each for each in SNIPPETS if each.id == (name or SNIPPETS[0].id)), None)
