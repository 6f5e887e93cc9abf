"""`crashfree doctor`, integrations: which there are, and whether their frameworks fit.

Read from what is installed beside this command; nothing of a framework is imported. Versions come
from the extras of the package that offers the integration, which name the oldest supported ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata, util
from typing import NamedTuple

from crashfree._cli.findings import Section, Surroundings
from crashfree._client.entrypoints import EntryPoint, entry_points
from crashfree._client.registry import BY_MODULE, BY_NAME, GROUP
from crashfree._ground import env
from crashfree.types import JSON

# Not every integration is named like what its framework is installed as.
_DISTRIBUTIONS = {"sentry_sdk": "sentry-sdk"}


class Found(NamedTuple):
    """One integration and its framework."""

    name: str
    module: str
    automatic: bool
    framework: str
    version: str | None
    """None: not installed, or part of Python."""
    needed: str | None
    state: str
    """"ready", "missing" (its framework), "too old", "broken" (itself), "off"."""


def section(here: Surroundings) -> Section:
    """The integrations that are installed, and what is wrong with them."""
    points = entry_points(GROUP)
    off = _listed(here, "DISABLED_INTEGRATIONS")
    found = [_judged(point, points, off) for point in points if point.group == BY_NAME]
    found.sort(key=lambda each: (each.state != "ready", each.name))
    problems = [
        f"{each.framework} {each.version} is too old for its integration, which needs "
        f"{each.needed}: pip install '{each.framework}{each.needed}', or set "
        f"CRASHFREE_DISABLED_INTEGRATIONS={each.name}"
        for each in found
        if each.state == "too old"
    ]
    problems += [
        f"integration {each.name!r} names the module {each.module}, which is not installed"
        for each in found
        if each.state == "broken"
    ]
    problems += _unusable(here, found)
    facts: dict[str, JSON] = {
        "found": [
            {
                "name": each.name,
                "state": each.state,
                "automatic": each.automatic,
                "framework": each.framework,
                "version": each.version,
                "needed": each.needed,
            }
            for each in found
        ]
    }
    return Section("integrations", facts, tuple(_rows(found)), tuple(problems))


def _rows(found: list[Found]) -> Iterator[tuple[str, str]]:
    ready = [each for each in found if each.state == "ready"]
    by_themselves = [_shown(each) for each in ready if each.automatic]
    on_demand = [_shown(each) for each in ready if not each.automatic]
    missing = [each.name for each in found if each.state == "missing"]
    off = [each.name for each in found if each.state == "off"]
    for label, entries in (
        ("automatic", by_themselves),
        ("by name", on_demand),
        ("not here", missing),
        ("off", off),
    ):
        if entries:
            yield label, ", ".join(entries)
    if not found:
        yield "found", "none"


def _shown(each: Found) -> str:
    return each.name if each.version is None else f"{each.name} ({each.version})"


def _unusable(here: Surroundings, found: list[Found]) -> Iterator[str]:
    states = {each.name: each.state for each in found}
    for name in _listed(here, "INTEGRATIONS"):
        state = states.get(name)
        if state is None:
            yield f"CRASHFREE_INTEGRATIONS names {name!r}, which no installed package offers"
        elif state == "missing":
            yield f"CRASHFREE_INTEGRATIONS names {name!r}, whose framework is not installed"


def _judged(point: EntryPoint, points: list[EntryPoint], off: list[str]) -> Found:
    automatic = [
        other.name
        for other in points
        if other.group == BY_MODULE and other[2:] == (point.module, point.attribute)
    ]
    imported = (automatic[0] if automatic else point.name).partition(".")[0]
    distribution = _DISTRIBUTIONS.get(point.name, point.name)
    version = _version(distribution)
    needed = _needed(point.name)
    if not _is_there(point.module.partition(".")[0]):
        state = "broken"
    elif point.name in off:
        state = "off"
    elif version is None and not _is_there(imported):
        state = "missing"
    elif version is not None and needed is not None and _numbers(version) < _numbers(needed[2:]):
        state = "too old"
    else:
        state = "ready"
    return Found(point.name, point.module, bool(automatic), distribution, version, needed, state)


def _listed(here: Surroundings, setting: str) -> list[str]:
    found = env.setting(here.environ, setting)
    text = "" if found is None else found.value
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_there(module: str) -> bool:
    if module in sys.stdlib_module_names:
        return True
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(distribution: str) -> str | None:
    if distribution in sys.stdlib_module_names:
        return None
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _needed(extra: str) -> str | None:
    """Return the `>=...` of the extra of that name; None when there is no such extra."""
    try:
        requirements = metadata.requires("crashfree") or []
    except metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        wanted, _, marker = requirement.partition(";")
        if marker.replace("'", '"').strip() == f'extra == "{extra.replace("_", "-")}"':
            at = wanted.find(">=")
            return None if at < 0 else wanted[at:].split(",")[0].strip()
    return None


def _numbers(version: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
