"""`crashfree doctor`: what crashfree would do in this folder, and why.

Uses the code of `init` for every answer. Sends nothing, changes nothing, shows no secret.

A subject of the report is a function in `SECTIONS`; each takes the `Surroundings` and returns one
`Section`. Source: releases.md sections 1.2 and 2.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from crashfree._cli import attempts, integrations, output, waiting
from crashfree._cli.failure import DONE, REFUSED
from crashfree._cli.findings import Section, Surroundings
from crashfree._cli.parser import Commands
from crashfree._cli.propose import add_directory
from crashfree._client.options import read_dsn
from crashfree._ground import env
from crashfree._protocol.dsn import Dsn
from crashfree._protocol.naming import valid_environment
from crashfree._resolve.answers import Resolved
from crashfree._resolve.environment import find_environment, resolve_server_name
from crashfree._resolve.git import find_commit
from crashfree._resolve.proposal import foresee, propose
from crashfree._version import __version__
from crashfree.errors import InvalidDsn
from crashfree.types import JSON

_NO_RELEASE = (
    "without a release sessions are off: set CRASHFREE_RELEASE, give init(release='myapp@1.0.0'), "
    "or write a file with `crashfree releases bake`"
)


def add(commands: Commands) -> None:
    """Register `doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="say what crashfree would do here, and why",
        description=(
            "Say what crashfree.init() would find in this folder, and why. What a program gives\n"
            "init as arguments, and a file baked into the program itself, is not seen from here."
        ),
    )
    parser.set_defaults(run=_run)
    add_directory(parser)
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 when something does not work"
    )


def release(here: Surroundings) -> Section:
    """The release, its source, and what else was asked."""
    resolved = foresee(here.environ, directory=here.directory)
    found = resolved.release
    hints = [] if found is None else [hint.message for hint in found.hints()]
    hints.extend(_disagreements(here, resolved))
    facts: dict[str, JSON] = {
        "name": None if found is None else found.raw,
        "source": resolved.source,
        "kind": None if found is None else found.kind,
        "short": None if found is None else found.short,
        "tried": attempts.facts(resolved.tried),
    }
    rows: list[tuple[str, str]] = []
    if found is None:
        rows.append(("name", "none"))
    else:
        rows.extend((("name", found.raw), ("source", resolved.source), ("kind", found.kind)))
    rows.append(("asked", "\n".join(attempts.lines(resolved.tried))))
    refused = tuple(each.detail for each in resolved.tried if each.outcome == "refused")
    problems = refused if found is not None else (*refused, _NO_RELEASE)
    return Section("release", facts, tuple(rows), problems, tuple(hints))


def deployment(here: Surroundings) -> Section:
    """The environment and the server's name."""
    found = find_environment(None, here.environ)
    server = resolve_server_name(None, here.environ)
    facts: dict[str, JSON] = {
        "environment": found.name,
        "environment_source": found.source,
        "server_name": server,
    }
    source = "by default" if found.source == "default" else found.source
    rows = (("environment", f"{found.name} ({source})"), ("server name", server or "none"))
    return Section("deployment", facts, rows, _refused_environment(here))


def destination(here: Surroundings) -> Section:
    """Where events and sessions would go; the DSN without its secret."""
    dsn, variable, problem = _dsn(here)
    shown = None if dsn is None else dsn.redacted()
    facts: dict[str, JSON] = {"dsn": shown, "source": variable and f"env:{variable}"}
    rows = (
        ("dsn", f"{shown} ({variable})" if shown else "not set in the environment"),
        ("sent to", dsn.envelope_url if dsn is not None else "nowhere, unless init gets a DSN"),
    )
    return Section("destination", facts, rows, () if problem is None else (problem,))


def sessions(here: Surroundings) -> Section:
    """Whether sessions would be sent, and why not."""
    resolved = foresee(here.environ, directory=here.directory)
    dsn, _, _ = _dsn(here)
    reasons: list[str] = []
    switch = env.variable(here.environ, "CRASHFREE_DISABLED")
    if switch is not None and env.boolean(switch.value) is True:
        reasons.append("CRASHFREE_DISABLED is set")
    if resolved.release is None:
        reasons.append("no release")
    if dsn is None:
        reasons.append("no DSN in the environment")
    facts: dict[str, JSON] = {"on": not reasons, "why_not": list(reasons)}
    text = "on" if not reasons else f"off: {', '.join(reasons)}"
    return Section("sessions", facts, (("sessions", text),))


SECTIONS: tuple[Callable[[Surroundings], Section], ...] = (
    release,
    deployment,
    destination,
    sessions,
    waiting.section,
    integrations.section,
)


def _run(args: argparse.Namespace) -> int:
    here = Surroundings(env.environ(), args.directory)
    found = [section(here) for section in SECTIONS]
    problems = [problem for section in found for problem in section.problems]
    if args.json:
        output.emit(_described(found))
    else:
        for section in found:
            _print(section)
    return REFUSED if problems and args.strict else DONE


def _described(found: list[Section]) -> dict[str, JSON]:
    answer: dict[str, JSON] = {"crashfree": __version__}
    for section in found:
        facts = dict(section.facts)
        facts["problems"] = list(section.problems)
        facts["hints"] = list(section.hints)
        answer[section.name] = facts
    return answer


def _print(section: Section) -> None:
    output.say(section.name)
    marked = [("problem", text) for text in section.problems]
    marked += [("hint", text) for text in section.hints]
    for label, text in (*section.rows, *marked):
        first, *rest = text.split("\n")
        output.say(f"  {label:<12} {first}")
        for line in rest:
            output.say(f"  {'':<12} {line}")


def _disagreements(here: Surroundings, resolved: Resolved) -> list[str]:
    found: list[str] = []
    if resolved.release is None:
        return found
    name = resolved.release.raw
    if resolved.source.startswith("file:"):
        checkout = find_commit(here.directory or os.curdir, here.environ)
        if checkout.commit is not None and checkout.commit != name:
            found.append(
                f"the baked file says {name!r}, git {checkout.commit!r}: a file left behind by an "
                "earlier build? Remove it, or bake anew"
            )
    proposed = propose(here.environ, directory=here.directory)
    other = proposed.resolved.release
    if other is not None and other != resolved.release:
        found.append(
            f"`crashfree releases propose-version` says {other.raw!r} here ({proposed.order}); "
            "give the program that name in CRASHFREE_RELEASE, or bake it"
        )
    return found


def _refused_environment(here: Surroundings) -> tuple[str, ...]:
    named = env.setting(here.environ, "ENVIRONMENT")
    if named is None or valid_environment(named.value):
        return ()
    return (f"{named.variable} is no valid environment and is ignored: {named.value!r}",)


def _dsn(here: Surroundings) -> tuple[Dsn | None, str | None, str | None]:
    """Return the DSN, the variable that holds it, and what is wrong with it."""
    named = env.setting(here.environ, "DSN")
    if named is None:
        return None, None, None
    try:
        return read_dsn(named.value, here.environ), named.variable, None
    except InvalidDsn as error:
        return None, named.variable, f"{named.variable}: {error}"
