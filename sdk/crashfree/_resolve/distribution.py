"""The installed distribution that a program belongs to, and its version.

The last resort of a program that was installed: `importlib.metadata` costs 17 to 47 ms to load, so
it is loaded here, when everything else has failed or a distribution was asked for by name.

A server or runner that carries somebody else's program (gunicorn, celery, pytest) owns `__main__`
but is not the release that runs; it is never the answer.

Invariants: never raises.

Threads: any.
"""

from __future__ import annotations

from crashfree._ground.typed import NamedTuple, Protocol
from crashfree._resolve.program import Program

_RUNNERS = frozenset(
    (
        "ansible-core",
        "behave",
        "bpython",
        "celery",
        "coverage",
        "crashfree",
        "daphne",
        "ddtrace",
        "debugpy",
        "django",
        "dramatiq",
        "fastapi",
        "fastapi-cli",
        "flask",
        "gevent",
        "granian",
        "gunicorn",
        "honcho",
        "huey",
        "hypercorn",
        "ipykernel",
        "ipython",
        "jupyter-core",
        "jupyter-server",
        "jupyterlab",
        "litestar",
        "meinheld",
        "newrelic",
        "notebook",
        "nox",
        "opentelemetry-instrumentation",
        "pdm",
        "pex",
        "pip",
        "pipenv",
        "pipx",
        "poetry",
        "ptpython",
        "pytest",
        "pyuwsgi",
        "robotframework",
        "rq",
        "sanic",
        "scrapy",
        "streamlit",
        "supervisor",
        "tox",
        "twisted",
        "uv",
        "uvicorn",
        "uwsgi",
        "waitress",
        "watchdog",
        "watchfiles",
    )
)
# Whatever a broken installation or somebody's import hook may do to a look-up.
_FAULTS = (ImportError, OSError, ValueError, LookupError, AttributeError, TypeError)


class Distribution(NamedTuple):
    """An installed distribution: its name as its author wrote it, and its version."""

    name: str
    version: str


class _Fields(Protocol):
    """The metadata of a distribution."""

    def __contains__(self, name: str, /) -> bool: ...

    def __getitem__(self, name: str, /) -> str: ...


def installed(name: str) -> Distribution | None:
    """Return the distribution called `name` in any spelling; None when it is not installed."""
    from importlib import metadata

    if not name:
        return None  # Python 3.10 takes it for any distribution
    try:
        found = metadata.distribution(name)
        return _described(found.metadata)
    except _FAULTS:
        return None


def owner(program: Program) -> Distribution | str:
    """Return the distribution that the program belongs to, or why there is none."""
    if program.script is None and program.module is None:
        return f"{program.describe()} belongs to no installed distribution"
    try:
        found = _owner(program)
    except _FAULTS as error:
        return f"the installed distributions cannot be read: {error}"
    if found is None:
        return f"{program.describe()} belongs to no installed distribution"
    if _normalized(found.name) in _RUNNERS:
        return f"{found.name} only runs the program; its version says nothing about it"
    return found


def _owner(program: Program) -> Distribution | None:
    from importlib import metadata

    if program.script is not None:
        for group in ("console_scripts", "gui_scripts"):
            for entry in metadata.entry_points(group=group, name=program.script):
                if entry.dist is not None:
                    return _described(entry.dist.metadata)
    if program.module is None:
        return None  # what a script imports may be anybody's
    top = program.module.partition(".")[0]
    # The usual case, without opening the records of all that is installed.
    namesake = installed(top)
    if namesake is not None and _normalized(namesake.name) == _normalized(top):
        return namesake
    for name in metadata.packages_distributions().get(top, ()):
        return installed(name)
    return None


def _described(fields: _Fields) -> Distribution | None:
    # Asking for a field that a broken installation lacks is deprecated, and warned of, since 3.12.
    if "Name" not in fields or "Version" not in fields:
        return None
    name, version = fields["Name"], fields["Version"]
    return Distribution(name, version) if name and version else None


def _normalized(name: str) -> str:
    # Source: the packaging standard (PEP 503): case and runs of - _ . do not count.
    return "-".join(
        part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part
    )
