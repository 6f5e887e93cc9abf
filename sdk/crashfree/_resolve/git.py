"""The commit that is checked out, by reading git's files.

Costs some twenty microseconds and no process. Where the files do not say it (a reftable
repository), `crashfree._resolve.gitcommand` asks git itself, once and bounded.

Reading files runs no hook and obeys no configuration, so that a repository of another owner, which
git refuses to touch, is as good as any.

Invariants: never raises; a repository without commits has no commit (never the text "HEAD");
what is returned is 40 or 64 lower-case hex digits.

Threads: any. Source: releases.md section 2.3.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from crashfree._ground import env
from crashfree._ground.typed import NamedTuple

_HEX = "0123456789abcdef"
_MAX_SYMBOLIC = 5
_MAX_SMALL_FILE = 64 * 1024
# A repository of a hundred thousand refs has about 6 MB of them.
_MAX_PACKED_REFS = 64 * 1024 * 1024


class Checkout(NamedTuple):
    """A directory of git: what belongs to one working tree, and what all of them share."""

    git_dir: str
    common_dir: str


class Found(NamedTuple):
    """The commit, or why there is none."""

    commit: str | None
    detail: str
    conclusive: bool = True
    """False: the files cannot tell, git may."""


class _Unreadable(Exception):
    """A file that should tell is not there, or cannot be read; the text says which."""


class _Inconclusive(Exception):
    """The files are of a kind that only git reads."""


def find_commit(directory: str, environ: Mapping[str, str]) -> Found:
    """Return the commit that the checkout around `directory` stands on."""
    try:
        checkout = _find_checkout(directory, environ)
        if checkout is None:
            return Found(None, "no git repository here or above")
        commit = _head(checkout)
    except _Inconclusive as error:
        return Found(None, str(error), conclusive=False)
    except _Unreadable as error:
        return Found(None, str(error))
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL in it. The text of the error names the file.
        return Found(None, f"cannot be read: {error}")
    return Found(commit, f"HEAD of {checkout.git_dir}")


def _find_checkout(directory: str, environ: Mapping[str, str]) -> Checkout | None:
    """Return the repository that git would use in `directory`; None when there is none."""
    start = os.path.realpath(directory)
    explicit = env.variable(environ, "GIT_DIR")
    if explicit is not None:
        git_dir = os.path.join(start, explicit.value)
        if _is_file(git_dir):
            git_dir = _followed(git_dir)
        return _checkout(git_dir, environ)
    for place in _upwards(start, environ):
        entry = os.path.join(place, ".git")
        git_dir = _followed(entry) if _is_file(entry) else entry
        for candidate in (git_dir, place):
            checkout = _checkout(candidate, environ)
            if checkout is not None:
                return checkout
        if git_dir != entry:
            return None  # git, too, stops at a `.git` file that leads nowhere
    return None


def _upwards(start: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield `start` and the directories above it that git would look into."""
    ceilings = _ceilings(environ)
    across = env.variable(environ, "GIT_DISCOVERY_ACROSS_FILESYSTEM")
    bounded = across is None or env.boolean(across.value) is not True
    device = os.stat(start).st_dev
    place = start
    while True:
        yield place
        above = os.path.dirname(place)
        if above == place or above in ceilings:
            return
        if bounded and os.stat(above).st_dev != device:
            return
        place = above


def _ceilings(environ: Mapping[str, str]) -> frozenset[str]:
    # As in git: links are resolved, except in what follows an empty entry.
    resolve = True
    found: list[str] = []
    for entry in environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep):
        if not entry:
            resolve = False
        elif os.path.isabs(entry):
            found.append(os.path.realpath(entry) if resolve else os.path.normpath(entry))
    return frozenset(found)


def _followed(file: str) -> str:
    """Return where a `.git` file leads: worktrees and submodules have one."""
    text = _read(file).decode("utf-8", "surrogateescape")
    if not text.startswith("gitdir:"):
        raise _Unreadable(f"{file} does not say where the repository is")
    return os.path.join(os.path.dirname(file), text[len("gitdir:") :].strip())


def _checkout(git_dir: str, environ: Mapping[str, str]) -> Checkout | None:
    """Return the repository at `git_dir`, if that is one."""
    common = git_dir
    shared = os.path.join(git_dir, "commondir")
    if _is_file(shared):
        common = os.path.join(git_dir, _read(shared).decode("utf-8", "surrogateescape").strip())
    if not os.path.lexists(os.path.join(git_dir, "HEAD")):
        return None
    objects = env.variable(environ, "GIT_OBJECT_DIRECTORY")
    places = (
        os.path.join(common, "objects") if objects is None else objects.value,
        os.path.join(common, "refs"),
    )
    return Checkout(git_dir, common) if all(map(os.path.isdir, places)) else None


def _head(checkout: Checkout) -> str:
    """Return the commit; follows symbolic refs, some steps."""
    if os.path.isdir(os.path.join(checkout.common_dir, "reftable")):
        raise _Inconclusive("the refs are in a reftable, which only git reads")
    content = _line(os.path.join(checkout.git_dir, "HEAD"))
    for _ in range(_MAX_SYMBOLIC):
        if not content.startswith("ref:"):
            break
        name = content[len("ref:") :].strip()
        content = _ref(checkout, name)
    if not is_commit(content):
        raise _Unreadable(f"HEAD of {checkout.git_dir} leads to no commit")
    return content


def _ref(checkout: Checkout, name: str) -> str:
    """Return what the ref called `name` holds: a commit, or the name of another ref."""
    if not name.startswith("refs/") or ".." in name.split("/"):
        raise _Unreadable(f"HEAD of {checkout.git_dir} names no ref")
    for directory in dict.fromkeys((checkout.git_dir, checkout.common_dir)):
        try:
            return _line(os.path.join(directory, *name.split("/")))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, _Unreadable):
            continue  # it may be packed
    packed = _packed(checkout.common_dir, name)
    if packed is None:
        raise _Unreadable(f"no commit yet on {name} of {checkout.git_dir}")
    return packed


def _packed(common_dir: str, name: str) -> str | None:
    try:
        data = _read(os.path.join(common_dir, "packed-refs"), limit=_MAX_PACKED_REFS)
    except FileNotFoundError:
        return None
    wanted = b" " + os.fsencode(name)
    at = data.find(wanted + b"\n")
    if at < 0 and data.endswith(wanted):
        at = len(data) - len(wanted)
    if at < 0:
        return None
    return data[data.rfind(b"\n", 0, at) + 1 : at].decode("ascii", "replace")


def is_commit(text: str) -> bool:
    """Return whether `text` is the full id of a commit, SHA-1 or SHA-256."""
    return len(text) in (40, 64) and not text.strip(_HEX)


def _line(path: str) -> str:
    return _read(path).decode("utf-8", "surrogateescape").strip()


def _read(path: str, limit: int = _MAX_SMALL_FILE) -> bytes:
    if not _is_file(path):
        # Opening a named pipe would wait for a writer.
        os.stat(path)
        raise _Unreadable(f"{path} is not a file")
    with open(path, "rb") as file:
        return file.read(limit)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
