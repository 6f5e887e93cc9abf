"""What the sources of a release say, and how the first good answer is found.

Invariants: no source raises; a source that gives a name nobody may use is warned of, and the next
one is asked. Threads: any. Source: releases.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from crashfree._ground import log
from crashfree._ground.text import trim, what_was_cut
from crashfree._ground.typed import Literal, NamedTuple
from crashfree.errors import InvalidRelease
from crashfree.release import Release


class Attempt(NamedTuple):
    """One source that was asked."""

    source: str
    """`argument`, `env:NAME`, `file:PATH`, `git`, `host`, `distribution:NAME`, ..."""
    outcome: Literal["found", "absent", "refused"]
    detail: str


class Resolved(NamedTuple):
    """The release, the source that named it, and all that was asked, in order.

    Without a release the source is `none`; it is `argument` when the program wants none.
    """

    release: Release | None
    source: str
    tried: tuple[Attempt, ...]


class Answer(NamedTuple):
    """What one source says: a name that is not checked yet, or why it has none."""

    source: str
    name: str | None
    detail: str
    fault: str | None = None
    """What to warn of: the source was meant to answer and could not."""


Source = Callable[[], Iterable[Answer]]


def first_valid(sources: Iterable[Source]) -> Resolved:
    """Ask the sources in order; the first valid name is the release.

    A source that gives a name nobody may use is warned of, and the next one is asked.
    """
    tried: list[Attempt] = []
    for source in sources:
        for answer in source():
            release, attempt = _checked(answer)
            tried.append(attempt)
            if release is not None:
                return Resolved(release, answer.source, tuple(tried))
    return Resolved(None, "none", tuple(tried))


def from_variable(environ: Mapping[str, str], name: str) -> Answer:
    """Return what the variable says; blank counts as not set."""
    # Not `_ground.env`, which trims as Python does: releases have their own white space.
    text = environ.get(name, "")
    value = trim(text)
    if not value:
        return Answer(f"env:{name}", None, "blank" if text else "not set")
    return Answer(f"env:{name}", value, what_was_cut(text) or "set")


def set_variables(environ: Mapping[str, str], names: Iterable[str], title: str) -> Iterator[Answer]:
    """Yield what is set of `names`, in order; one answer called `title` when nothing is."""
    found = False
    for name in names:
        answer = from_variable(environ, name)
        if answer.name is not None:
            found = True
            yield answer
    if not found:
        yield Answer(title, None, f"none is set of {', '.join(names)}")


def _checked(answer: Answer) -> tuple[Release | None, Attempt]:
    if answer.name is None:
        if answer.fault is None:
            return None, Attempt(answer.source, "absent", answer.detail)
        log.warning(f"release: {answer.fault}; the next source is tried")
        return None, Attempt(answer.source, "refused", answer.fault)
    setting = answer.source.removeprefix("env:").removeprefix("file:")
    try:
        release = Release.parse(answer.name, setting=setting)
    except InvalidRelease as error:
        log.warning(f"{error}; the next source is tried")
        return None, Attempt(answer.source, "refused", str(error))
    return release, Attempt(answer.source, "found", answer.detail)
