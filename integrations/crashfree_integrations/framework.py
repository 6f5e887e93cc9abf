"""The framework that an integration attaches to: is it there, is it new enough, does it fit.

Threads: those of `Integration.install`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from crashfree.errors import IntegrationError


def framework(name: str, needed: str, *, distribution: str | None = None) -> ModuleType:
    """Return the module `name` of a framework in version `needed` or newer.

    `distribution`: what it is installed as, where that differs. Where an integration is attached by
    itself the module has been imported already; one that is named in `init` is imported here.

    Raises IntegrationError naming the version found and the version needed.
    """
    installed_as = distribution or name
    remedy = f"pip install '{installed_as}>={needed}'"
    try:
        module = import_module(name)
    except ImportError as error:
        raise IntegrationError(
            f"the integration for {installed_as} needs {installed_as}>={needed}, found none "
            f"({error}); {remedy}"
        ) from error
    found = _version(module, installed_as)
    if found is not None and _parts(found) < _parts(needed):
        raise IntegrationError(
            f"the integration for {installed_as} needs {installed_as}>={needed}, found {found}; "
            f"{remedy}, or take it out with disabled_integrations"
        )
    return module


def require(owner: object, *names: str) -> None:
    """Raise IntegrationError when `owner` lacks something that an integration holds on to."""
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        where = getattr(owner, "__qualname__", getattr(owner, "__name__", repr(owner)))
        raise IntegrationError(
            f"{getattr(owner, '__module__', 'the framework')}:{where} has no "
            f"{', '.join(missing)}: this version of the framework does not fit this version of "
            "crashfree"
        )


def _version(module: ModuleType, distribution: str) -> str | None:
    # Not every framework says it (Flask warns who asks), and asking the metadata costs more.
    said: object = vars(module).get("__version__")
    if isinstance(said, str):
        return said
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _parts(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: of `2.4.0rc1` it is `(2, 4, 0)`."""
    parts: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        parts.append(int(digits))
        if digits != part:
            break
    return tuple(parts)
