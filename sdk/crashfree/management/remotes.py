"""From a git remote's URL to the name a server files the repository under.

Two URLs mean the same repository when host and path are equal after clean-up; the name is the
path, lower case, as `owner/name`. What a URL carries besides (user, password, port, query) reaches
neither name nor message.

Pure; threads: any. Source: releases.md section 5.5, vectors vcs_urls.json.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_WITH_SCHEME = re.compile(
    r"^(?:git\+)?(?:git|ssh|https?)://(?:[^/]*@)?([^/]+)/(.+)$", re.IGNORECASE
)
_SCP = re.compile(r"^(?:[^@/]+@)?(\[[^\]]+\]|[^:/\[\]]+):(?!//)(.+)$")
_PORT = re.compile(r":\d*$")
_BROKEN_PORT = re.compile(r":[^/\d][^/]*$")
_ALIASES = {
    "ssh.github.com": "github.com",
    "altssh.bitbucket.org": "bitbucket.org",
    "altssh.gitlab.com": "gitlab.com",
    "ssh.dev.azure.com": "dev.azure.com",
    "vs-ssh.visualstudio.com": "dev.azure.com",
}
_AZURE = "dev.azure.com"
_VISUAL_STUDIO = ".visualstudio.com"
_GOOGLE = "source.developers.google.com"


class Remote(NamedTuple):
    """Where a repository lives: `name` and `host` in lower case, `display` as it was written.

    `part` tells repositories of one Azure DevOps project apart; None where the URL does not say.
    """

    host: str
    name: str
    display: str
    part: str | None = None

    def same_as(self, other: Remote) -> bool:
        """Return whether both name the same repository."""
        if not self.host or self.host != other.host or self.name != other.name:
            return False
        return self.part is None or other.part is None or self.part == other.part


def parse(url: str) -> Remote:
    """Return the repository that a remote's URL names.

    A URL without a host (a path on this machine, a bare word) has an empty host and keeps its
    last path segment as the name.
    """
    host, path = _split(_without_tail(presentable(url.strip())))
    if not host:
        return _local(path)
    host = _ALIASES.get(host, host.removeprefix("www."))
    segments = [segment for segment in path.split("/") if segment]
    if not segments:
        return _local("")
    segments[-1] = _without_suffix(segments[-1])
    if not segments[-1]:
        segments.pop()
    return _hosted(host, segments)


def presentable(url: str) -> str:
    """Return a URL that may be shown: without user and password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    elif _BROKEN_PORT.search(authority) and "@" in path:
        # A password with a slash in it: what looks like a path holds the rest of the password.
        return f"{scheme}://{path.rpartition('@')[2]}"
    return f"{scheme}://{authority}{slash}{path}"


def _split(url: str) -> tuple[str, str]:
    found = _WITH_SCHEME.match(url)
    if found is None and "://" not in url and not re.match(r"^[A-Za-z]:[\\/]", url):
        found = _SCP.match(url)
    if found is None:
        return "", url
    return _PORT.sub("", found.group(1)).lower().rstrip("."), found.group(2)


def _without_tail(url: str) -> str:
    for mark in ("#", "?"):
        url = url.partition(mark)[0]
    return url.rstrip("/")


def _without_suffix(segment: str) -> str:
    while segment.lower().endswith(".git"):
        segment = segment[:-4]
    return segment


def _local(path: str) -> Remote:
    scheme, separator, rest = path.partition("://")
    if separator and "/" not in rest and "::" not in scheme:
        return Remote("", "", "")  # a host and nothing else
    segments = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    name = _without_suffix(segments[-1].rpartition("@")[2].strip(":")) if segments else ""
    return Remote("", name.lower(), name)


def _hosted(host: str, segments: list[str]) -> Remote:
    lowered = [segment.lower() for segment in segments]
    if host == _AZURE:
        return _azure(segments)
    if host.endswith(_VISUAL_STUDIO):
        return _visual_studio(host.removesuffix(_VISUAL_STUDIO), segments)
    if host == _GOOGLE and lowered[-1].startswith("github_"):
        owner, _, name = segments[-1][len("github_") :].partition("_")
        segments = [owner, name] if name else segments
    elif len(lowered) in (4, 5) and (lowered[0], lowered[2]) == ("projects", "repos"):
        segments = [segments[1], segments[3]]
    elif len(lowered) == 3 and lowered[0] == "scm":
        segments = segments[1:]
    return _remote(host, segments)


def _azure(segments: list[str]) -> Remote:
    """`v3/ORG/PROJECT/REPO` by ssh, `ORG/PROJECT/_git/REPO` by https."""
    if segments[0].lower() == "v3" and len(segments) >= 3:
        part = segments[3] if len(segments) > 3 else None
        return _remote(_AZURE, segments[1:3], part)
    if "_git" in segments:
        at = segments.index("_git")
        part = segments[at + 1] if len(segments) > at + 1 else None
        owner = segments[:at]
        if (
            len(owner) == 1 and part is not None
        ):  # ORG/_git/REPO: project and repository share a name
            owner = [*owner, part]
        return _remote(_AZURE, owner[:2], part)
    return _remote(_AZURE, segments)


def _visual_studio(account: str, segments: list[str]) -> Remote:
    """The older host of Azure DevOps: the organization is in the host name."""
    host = f"{account}{_VISUAL_STUDIO}"
    if "_git" not in segments:
        return _remote(host, segments)
    at = segments.index("_git")
    part = segments[at + 1] if len(segments) > at + 1 else None
    if at == 0:
        return _remote(host, [account, *segments[1:2]], part)
    return _remote(host, segments[:at], part)


def _remote(host: str, segments: list[str], part: str | None = None) -> Remote:
    display = "/".join(segments)
    return Remote(
        host, display.lower(), display, unquote(part).lower() if part is not None else None
    )
