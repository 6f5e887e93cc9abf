"""`Checkout`: what git knows here. The one place that starts processes.

Git is asked in its plumbing's machine formats, with the user's own settings for output, pagers,
signatures and renames out of the way, and without a way to ask for a password. A directory that
belongs to somebody else, as in many containers, is read all the same, but then with everything
off that its configuration could make git run.

Threads: any. Source: releases.md section 5.4 (git commands), 2.3.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from crashfree._ground import env
from crashfree.errors import ConfigurationError
from crashfree.management import remotes

_CHUNK = 1 << 18
_ANSWER_TIMEOUT = 60.0
_QUIET = (
    "--no-pager",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "log.showSignature=false",
    "-c",
    "log.showRoot=true",
    "-c",
    "log.follow=false",
    "-c",
    "diff.ignoreSubmodules=none",
)


class GitError(ConfigurationError):
    """A checkout that cannot be read, or a revision that is not in it; `remedy` says what helps."""

    code: str = "git"
    remedy: str

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Submodule:
    """A repository inside the checkout, at the commit that the checkout's HEAD names."""

    path: str
    url: str
    commit: str


class Checkout:
    """A git repository on this machine: a work tree, a linked work tree or a bare repository."""

    directory: str
    foreign: bool
    """Whether it belongs to another user; then its own configuration may run nothing."""

    def __init__(self, directory: str, *, foreign: bool = False) -> None:
        self.directory = directory
        self.foreign = foreign

    @classmethod
    def at(cls, directory: str = ".") -> Checkout:
        """Open the repository that holds `directory`; GitError when none does."""
        absolute = os.path.abspath(directory)
        if not os.path.isdir(absolute):
            raise GitError(f"there is no directory {directory!r}")
        found = cls(absolute)
        code, _, words = found._run(("rev-parse", "--git-dir"))
        if code == 0:
            return found
        if "dubious ownership" in words or "unsafe repository" in words:
            found = cls(absolute, foreign=True)
            code, _, words = found._run(("rev-parse", "--git-dir"))
            if code == 0:
                return found
        if "not a git repository" in words:
            raise GitError(
                f"{absolute} is in no git repository",
                remedy="run in a checkout, or name one with --checkout DIR",
            )
        if found.foreign:
            raise GitError(
                f"{absolute} belongs to another user, and this git cannot be told to read it",
                remedy=f"git config --global --add safe.directory {absolute}",
            )
        raise GitError(f"git cannot read {absolute}: {_last_line(words)}")

    @property
    def name(self) -> str:
        """The name of the repository's directory."""
        return os.path.basename(self.top or self.directory).removesuffix(".git")

    @property
    def top(self) -> str | None:
        """The directory of the work tree; None in a bare repository."""
        code, out, _ = self._run(("rev-parse", "--show-toplevel"))
        return _line(out) or None if code == 0 else None

    def head(self) -> str:
        """Return the id of the commit that is checked out; GitError before the first commit."""
        found = self.resolve("HEAD")
        if found is None:
            raise GitError("the repository has no commit yet")
        return found

    def resolve(self, revision: str) -> str | None:
        """Return the full id of the commit that a branch, tag or short id names; None without."""
        if not revision or revision.startswith("-") or "\0" in revision:
            return None
        code, out, _ = self._run(("rev-parse", "--verify", "--quiet", revision + "^{commit}"))
        return _line(out) if code == 0 and out else None

    def related(self, one: str, other: str) -> bool:
        """Return whether two commits have a common ancestor in this checkout."""
        return self._run(("merge-base", one, other))[0] == 0

    def is_shallow(self) -> bool:
        """Return whether history was cut off when it was cloned."""
        code, out, _ = self._run(("rev-parse", "--is-shallow-repository"))
        return code == 0 and _line(out) == "true"

    def boundary(self) -> frozenset[str]:
        """Return the commits whose parents a shallow clone left out."""
        code, out, _ = self._run(("rev-parse", "--git-path", "shallow"))
        if code != 0:
            return frozenset()
        try:
            with open(os.path.join(self.directory, _line(out)), encoding="ascii") as file:
                return frozenset(file.read().split())
        except (OSError, UnicodeDecodeError):
            return frozenset()

    def remotes(self) -> list[str]:
        """Return the names of the remotes."""
        code, out, _ = self._run(("remote",))
        return out.decode("utf-8", "replace").split() if code == 0 else []

    def remote_url(self, name: str) -> str | None:
        """Return the address of a remote, rewritten as git's `insteadOf` says; None without."""
        if name.startswith("-"):
            return None
        code, out, _ = self._run(("remote", "get-url", name))
        return _line(out) or None if code == 0 else None

    def submodules(self) -> list[Submodule]:
        """Return the submodules of HEAD that have an address."""
        settings = self._submodule_settings()
        found: list[Submodule] = []
        for setting in settings.values():
            path, url = setting.get("path"), setting.get("url")
            if path is None or url is None:
                continue
            commit = self._link(path)
            if commit is not None:
                found.append(Submodule(path, self._joined(url), commit))
        return found

    def inside(self, submodule: Submodule) -> Checkout | None:
        """Open a submodule; None when it is not checked out here.

        Its directory is then empty, and git would look into the repository around it instead.
        """
        path = os.path.join(self.top or self.directory, submodule.path)
        try:
            found = Checkout.at(path)
        except GitError:
            return None
        top = found.top
        return found if top is not None and os.path.samefile(top, path) else None

    def stream(self, arguments: Sequence[str]) -> Iterator[bytes]:
        """Run git and return what it prints as it prints it, cut at NUL characters.

        Raises GitError when git fails; nothing is left running when the caller stops early.
        """
        with tempfile.TemporaryFile() as complaints:
            process = self._start(arguments, complaints)
            assert process.stdout is not None
            try:
                rest = b""
                while chunk := process.stdout.read(_CHUNK):
                    pieces = (rest + chunk).split(b"\0")
                    rest = pieces.pop()
                    yield from pieces
                if rest:
                    yield rest
                code = process.wait()
            finally:
                process.stdout.close()
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if code != 0:
                complaints.seek(0)
                raise GitError(f"git {arguments[0]} failed: {_last_line(_text(complaints.read()))}")

    def _submodule_settings(self) -> dict[str, dict[str, str]]:
        code, out, _ = self._run(
            ("config", "-z", "--blob", "HEAD:.gitmodules", "--get-regexp", r"^submodule\.")
        )
        settings: dict[str, dict[str, str]] = {}
        if code != 0:
            return settings
        for entry in out.decode("utf-8", "replace").split("\0"):
            key, _, value = entry.partition("\n")
            name, _, field = key.removeprefix("submodule.").rpartition(".")
            settings.setdefault(name, {})[field] = value
        return settings

    def _link(self, path: str) -> str | None:
        """Return the commit that HEAD's tree holds for a submodule."""
        code, out, _ = self._run(("ls-tree", "-z", "HEAD", "--", path))
        words = out.split(b"\t")[0].split() if code == 0 else []
        return words[2].decode("ascii") if len(words) == 3 and words[1] == b"commit" else None

    def _joined(self, url: str) -> str:
        """Return a submodule's address; a relative one starts at the remote's."""
        if not url.startswith(("./", "../")):
            return url
        names = self.remotes()
        chosen = "origin" if "origin" in names or not names else names[0]
        base = (self.remote_url(chosen) or self.directory).rstrip("/")
        rest = url
        while True:
            if rest.startswith("./"):
                rest = rest[2:]
            elif rest.startswith("../"):
                rest = rest[3:]
                slash, colon = base.rfind("/"), base.rfind(":")
                base = base[: max(slash, colon)] if max(slash, colon) > 0 else base
            else:
                return f"{base}/{rest}"

    def _run(self, arguments: Sequence[str]) -> tuple[int, bytes, str]:
        """Run git to its end; return its exit code, its output and its complaints."""
        with tempfile.TemporaryFile() as complaints:
            process = self._start(arguments, complaints)
            try:
                out, _ = process.communicate(timeout=_ANSWER_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise GitError(f"git {arguments[0]} did not answer in time") from None
            complaints.seek(0)
            return process.returncode, out, _text(complaints.read())

    def _start(self, arguments: Sequence[str], complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        command = ["git", *_QUIET]
        variables = {
            **env.environ(),
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        variables.pop("GIT_EXTERNAL_DIFF", None)
        if self.foreign:
            # Only for reading, and with no transport: a partial clone would fetch through a
            # program that the stranger's configuration names.
            command.extend(("-c", "safe.directory=*", "-c", "protocol.allow=never"))
            variables["GIT_ALLOW_PROTOCOL"] = ""
            variables["GIT_NO_LAZY_FETCH"] = "1"
        try:
            return subprocess.Popen(
                [*command, *arguments],
                cwd=self.directory,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        except FileNotFoundError:
            raise GitError("git is not installed", remedy="install git, or use refs") from None
        except OSError as error:
            raise GitError(f"git cannot be started: {error}") from None


def _line(out: bytes) -> str:
    return out.decode("utf-8", "surrogateescape").rstrip("\n")


def _text(out: bytes) -> str:
    return out.decode("utf-8", "replace")


def _last_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return remotes.presentable(lines[-1]) if lines else "it did not say why"
