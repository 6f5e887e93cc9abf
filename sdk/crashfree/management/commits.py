"""Commits of a range, as a server wants them, from one run of `git log`.

What is told of a commit is what it changed against its first parent; a merge changed nothing of
its own. Timestamps are the committer's, made strictly descending, because servers sort by them.
A commit that a server would refuse is mended, never left out, and the mending is reported.

Invariant: the list is newest first as git orders it, so that the head of the range leads.

Threads: any. Source: releases.md sections 4.5 (limits) and 5.4 (faults and their rules).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from crashfree.management import instants
from crashfree.management.git import Checkout, GitError
from crashfree.management.merging import descending
from crashfree.management.models import Change, ChangeType, Commit

MAX_COMMITS = 1000
MAX_FILES = 20_000
MAX_REPOSITORY = 64
_MAX_PATH = 510
_MAX_NAME = 128
_MAX_EMAIL = 75
_MAX_MESSAGE = 64 * 1024
_FORMAT = "%H%x00%P%x00%aN%x00%aE%x00%cd%x00%B"
_FIELDS = 6
_TELL_EVERY = 100
_TYPES: dict[bytes, ChangeType] = {b"A": "A", b"D": "D", b"M": "M", b"T": "M"}


@dataclass
class Log:
    """The commits of a range, newest first, and what has to be said about them."""

    commits: list[Commit] = field(default_factory=list["Commit"])
    warnings: list[str] = field(default_factory=list[str])
    files: int = 0
    complete: bool = True
    """False when a limit cut the range short."""


@dataclass
class _Raw:
    """One commit as git printed it."""

    fields: list[bytes]
    changes: list[tuple[bytes, bytes]]


def read_log(
    checkout: Checkout,
    *,
    head: str,
    base: str | None = None,
    depth: int | None = None,
    repository: str | None = None,
    paths: Sequence[str] = (),
    max_commits: int = MAX_COMMITS,
    max_files: int = MAX_FILES,
    on_read: Callable[[int], None] | None = None,
) -> Log:
    """Return the commits that `head` has and `base` has not; without a base all, or `depth`.

    `paths` keeps only commits that touch one of them, and of those only what lies under them.
    `max_commits` and `max_files` bound what one request can carry; the newest commits are kept.
    `on_read` is told how many commits have been read, now and then.
    """
    log = Log()
    if depth is not None and depth <= 0:
        return log
    wanted = max_commits if depth is None else min(depth, max_commits)
    boundary = checkout.boundary() if checkout.is_shallow() else frozenset[str]()
    mender = _Mender(repository, log)
    cut: list[str] = []
    for raw in _records(checkout, head, base, wanted + 1, paths):
        if len(log.commits) == wanted:
            log.complete = depth is not None and depth <= max_commits
            break
        commit = mender.commit(raw, at_boundary=raw.fields[0].decode("ascii") in boundary)
        changes = commit.changes or ()
        if log.files + len(changes) > max_files and log.commits:
            log.complete = False
            break
        if commit.id in boundary:
            cut.append(commit.id)
        log.files += len(changes)
        log.commits.append(commit)
        if on_read is not None and len(log.commits) % _TELL_EVERY == 0:
            on_read(len(log.commits))
    if not log.complete:
        log.warnings.append(
            f"only the newest {len(log.commits)} commits are sent "
            f"(limits: {max_commits} commits, {max_files} files)"
        )
    if cut:
        log.warnings.append(
            f"this is a shallow clone: history ends at {cut[0][:12]}, whose files are unknown; "
            "clone with full history (actions/checkout: fetch-depth: 0, GitLab: GIT_DEPTH: 0)"
        )
    return log


def selected(checkout: Checkout, revisions: Sequence[str], *, repository: str | None = None) -> Log:
    """Return exactly the commits named, each a revision or a range `FROM..TO`.

    They are listed in the order given, with descending timestamps; a commit named twice is listed
    once.
    """
    log = Log()
    known: set[str] = set()
    for revision in revisions:
        base, dots, head = revision.rpartition("..")
        tip = required(checkout, head or "HEAD")
        if dots:
            part = read_log(
                checkout, head=tip, base=required(checkout, base), repository=repository
            )
        else:
            part = read_log(checkout, head=tip, depth=1, repository=repository)
        log.warnings.extend(part.warnings)
        log.complete = log.complete and part.complete
        for commit in part.commits:
            if commit.id not in known:
                known.add(commit.id)
                log.commits.append(commit)
                log.files += len(commit.changes or ())
    log.commits = descending(log.commits)
    return log


def required(checkout: Checkout, revision: str) -> str:
    """Return the full id of a revision, or raise GitError that says what helps."""
    if "..." in revision:
        raise GitError(f"{revision!r} is no range here", remedy="write FROM..TO with two dots")
    found = checkout.resolve(revision)
    if found is None:
        raise GitError(
            f"this checkout has no commit {revision!r}",
            remedy="fetch it first (git fetch --unshallow --tags in a shallow clone)"
            if checkout.is_shallow()
            else "fetch it first (git fetch --tags)",
        )
    return found


def fitting_repository(name: str) -> str:
    """Return a repository's name as servers take it: its last 64 characters at a path border."""
    while len(name) > MAX_REPOSITORY and "/" in name:
        name = name.partition("/")[2]
    return name[:MAX_REPOSITORY]


class _Mender:
    """Makes commits that no server refuses; says once for each kind what it mended."""

    def __init__(self, repository: str | None, log: Log) -> None:
        self._log = log
        self._bound: int | None = None
        self._said: set[str] = set()
        self._repository = repository
        if repository is not None and len(repository) > MAX_REPOSITORY:
            self._repository = fitting_repository(repository)
            self._say("repository", f"the repository's name is cut to {self._repository!r}")

    def commit(self, raw: _Raw, *, at_boundary: bool) -> Commit:
        sha, parents, name, email, when, message = raw.fields
        identity = sha.decode("ascii")
        is_merge = b" " in parents
        short = identity[:12]
        return Commit(
            id=identity,
            repository=self._repository,
            message=self._cut(_decoded(message), _MAX_MESSAGE, "message", short),
            author_name=self._cut(_decoded(name).strip(), _MAX_NAME, "author name", short) or None,
            author_email=self._cut(_decoded(email).strip(), _MAX_EMAIL, "author e-mail", short)
            or None,
            timestamp=self._timestamp(when),
            changes=() if is_merge or at_boundary else self._changes(raw.changes, short),
        )

    def _timestamp(self, when: bytes) -> str:
        seconds, _, zone = when.decode("ascii", "replace").partition(" ")
        moment = int(seconds) if seconds.lstrip("-").isdecimal() else 0
        if self._bound is not None and moment >= self._bound:
            moment = self._bound - 1
        self._bound = moment
        return instants.with_offset(moment, _offset(zone))

    def _changes(self, changes: list[tuple[bytes, bytes]], short: str) -> tuple[Change, ...]:
        kept: dict[str, Change] = {}
        for status, raw_path in changes:
            path = _path(raw_path)
            if len(path) > _MAX_PATH or not path.strip():
                self._say(
                    "path",
                    f"{short}: a path that servers refuse is left out ({path[:60]!r}..., "
                    f"{len(path)} characters, limit {_MAX_PATH})",
                )
                continue
            known = kept.get(path)
            # One entry for each path: a file that a directory or link replaced is modified.
            kind: ChangeType = "M" if known is not None else _TYPES.get(status[:1], "M")
            kept[path] = Change(path, kind)
        return tuple(kept.values())

    def _cut(self, text: str, limit: int, what: str, short: str) -> str:
        if len(text) <= limit:
            return text
        self._say(what, f"{short}: the {what} is cut to {limit} characters")
        return text[:limit]

    def _say(self, kind: str, sentence: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._log.warnings.append(sentence)


def _records(
    checkout: Checkout, head: str, base: str | None, limit: int, paths: Sequence[str]
) -> Iterator[_Raw]:
    """Run `git log` and cut its output into commits.

    Each is six fields and then pairs of status and path. A status is one letter, a commit's id is
    never that short, so the two cannot be mistaken for each other whatever a path is called.
    """
    arguments = [
        "log",
        "-z",
        f"--max-count={limit}",
        f"--format=tformat:{_FORMAT}",
        "--date=raw",
        "--name-status",
        "--no-renames",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-show-signature",
        "--no-notes",
        "--encoding=UTF-8",
        head,
    ]
    if base is not None:
        # No commit above its own child. Without a base git would walk all of history for that.
        arguments[1:1] = ["--date-order"]
        arguments.append("^" + base)
    arguments.extend(("--", *(f":(literal){path}" for path in paths)))
    fields: list[bytes] = []
    raw: _Raw | None = None
    status: bytes | None = None
    for token in checkout.stream(arguments):
        if fields or raw is None:
            fields.append(token)
        elif status is not None:
            raw.changes.append((status, token))
            status = None
            continue
        else:
            word = token.lstrip(b"\n")
            if 0 < len(word) < 5:
                status = word
                continue
            if not word:
                continue
            yield raw
            raw, fields = None, [word]
        if len(fields) == _FIELDS:
            raw, fields = _Raw(fields, []), []
    if raw is not None:
        yield raw


def _offset(zone: str) -> int:
    """Return `+0530` in minutes."""
    digits = zone[1:]
    if len(digits) != 4 or not digits.isdecimal():
        return 0
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    if minutes >= 24 * 60:
        return 0
    return -minutes if zone[0] == "-" else minutes


def _decoded(raw: bytes) -> str:
    """Return a commit's text; git has converted what names its encoding in the commit."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _path(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")
