"""Which commits belong to a release: the decision behind `set-commits`.

Two ways. Where the server reads linked repositories itself, it is told references (`Ref`) and
fetches the commits. Everywhere else the commits are read from the checkout and sent. Which way,
and from which base, is decided here and told in words: `Plan.notes` says what was chosen and why,
`Plan.warnings` what the user should mend.

Threads: any. Source: releases.md section 5.4.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from crashfree.errors import ApiError, ConfigurationError
from crashfree.management import remotes
from crashfree.management.api import ReleaseApi
from crashfree.management.commits import (
    MAX_COMMITS,
    Log,
    fitting_repository,
    read_log,
    required,
    selected,
)
from crashfree.management.git import Checkout, GitError
from crashfree.management.merging import descending
from crashfree.management.models import Commit, Deploy, Ref, ReleaseInfo, Repository

INITIAL_DEPTH = 20
PROVIDERS = frozenset(
    (
        "git",
        "github",
        "bitbucket",
        "visualstudio",
        "google",
        "integrations:github",
        "integrations:github_enterprise",
        "integrations:gitlab",
        "integrations:bitbucket",
        "integrations:bitbucket_server",
        "integrations:vsts",
    )
)
_SPEC = re.compile(r"^([^@#]+)(?:#([^@]+))?(?:@(.+))?$")
_HEX = re.compile(r"^[0-9a-fA-F]{4,64}$")
_MAX_COMMIT = 64
_MOST_RELEASES = 100
_MOST_LISTED = 20


@dataclass(frozen=True)
class Wish:
    """What the user asked for. Without any choice the commits of the checkout are sent."""

    auto: bool = False
    local: bool = False
    clear: bool = False
    specs: Sequence[str] = ()
    """`REPO@COMMIT`, `REPO@FROM..TO` or `REPO`; with `local` also `COMMIT` and `FROM..TO`."""
    base: str | None = None
    since_deploy: str | None = None
    paths: Sequence[str] = ()
    initial_depth: int = INITIAL_DEPTH
    max_commits: int = MAX_COMMITS
    ignore_missing: bool = False
    strict: bool = False
    append: bool = False
    remote: str | None = None
    """The name or the address of a remote; None: `origin`, else the only one."""
    repository: str | None = None
    """The name to file commits under; None: from the remote's address."""
    directory: str = "."


@dataclass
class Plan:
    """What will be sent, and what is to be said about it."""

    kind: Literal["refs", "commits", "clear", "nothing"] = "nothing"
    refs: list[Ref] = field(default_factory=list[Ref])
    commits: list[Commit] = field(default_factory=list[Commit])
    append: bool = False
    notes: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])


class UnknownRepository(ConfigurationError):
    """A repository that the server does not know; `remedy` names those it does, nearest first."""

    code: str = "unknown_repository"
    remedy: str

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown repository {name!r}")
        if known:
            near = difflib.get_close_matches(name, known, n=len(known), cutoff=0.0)
            listed = ", ".join(near[:10]) + (", ..." if len(near) > 10 else "")
            self.remedy = f"the server knows: {listed}"
        else:
            self.remedy = (
                "no repository is linked on the server; link one there, or add --local to send "
                "these commits from this checkout"
            )


def associate(
    api: ReleaseApi,
    version: str,
    wish: Wish,
    *,
    on_plan: Callable[[Plan], None] | None = None,
    on_read: Callable[[int], None] | None = None,
) -> Plan:
    """Decide, tell `on_plan`, and do it: create the release if projects are known, set commits.

    Repeating it converges: commits the release has are not sent again. `on_read` is told how many
    commits of the checkout have been read, now and then.
    """
    plan = _Planner(api, version, wish, on_read).plan()
    if on_plan is not None:
        on_plan(plan)
    if plan.kind == "refs":
        api.set_refs(version, plan.refs)
    elif plan.kind == "clear":
        api.clear_commits(version)
    elif plan.kind == "commits":
        api.set_commits(version, plan.commits, append=plan.append)
    return plan


class _Planner:
    """Makes the plan for one release. Writes nothing but the release itself, when it is new."""

    def __init__(
        self,
        api: ReleaseApi,
        version: str,
        wish: Wish,
        on_read: Callable[[int], None] | None,
    ) -> None:
        self._on_read = on_read
        self._api = api
        self._version = version
        self._wish = wish
        self._plan = Plan()
        self._checkout: Checkout | None = None
        self._repositories: list[Repository] = []

    def plan(self) -> Plan:
        wish = self._wish
        plan = self._plan
        self._repositories = self._known_repositories()
        if wish.clear and not wish.auto:
            self._create()
            plan.kind = "clear"
        elif wish.specs and not wish.local:
            plan.refs = self._named_refs()
            plan.kind = "refs"
            self._create()
        elif wish.auto and self._matched_refs():
            plan.kind = "refs"
            self._create()
        else:
            if wish.auto:
                self._explain_no_match()
            self._from_checkout()
        return plan

    # --- what the server knows --------------------------------------------------------------

    def _known_repositories(self) -> list[Repository]:
        try:
            return list(self._api.repositories())
        except ApiError as error:
            # A token that may write releases need not be allowed to read repositories, and the
            # checkout's own commits can be sent without.
            if error.status == 403 and not self._wish.auto and not self._wish.specs:
                self._plan.warnings.append(
                    f"the repositories cannot be listed ({error.detail}); "
                    "going on with the checkout alone"
                )
                return []
            raise

    def _create(self) -> None:
        if self._api.projects:
            self._api.create_release(self._version)

    # --- references -------------------------------------------------------------------------

    def _named_refs(self) -> list[Ref]:
        known = {repository.name.lower(): repository for repository in self._repositories}
        parsed = [_parsed(spec) for spec in self._wish.specs]
        for name, _, _ in parsed:
            if name.lower() not in known:
                raise UnknownRepository(name, [entry.name for entry in self._repositories])
        return [
            self._named_ref(known[name.lower()], path, revision) for name, path, revision in parsed
        ]

    def _named_ref(self, repository: Repository, path: str | None, revision: str) -> Ref:
        base, dots, head = revision.rpartition("..")
        checkout = self._checkout_of(repository, path)
        commit = self._full(checkout, head or "HEAD", repository)
        previous = self._full(checkout, base, repository) if dots and base else None
        for text, what in ((commit, "commit"), (previous, "previous commit")):
            if text is not None and len(text) > _MAX_COMMIT:
                raise ConfigurationError(
                    f"the {what} {text!r} of {repository.name} has {len(text)} characters, "
                    f"at most {_MAX_COMMIT} are taken"
                )
        return Ref(repository.name, commit, previous)

    def _full(self, checkout: Checkout | None, revision: str, repository: Repository) -> str:
        found = checkout.resolve(revision) if checkout is not None else None
        if found is not None:
            return found
        if not (_HEX.match(revision) and len(revision) >= 40):
            here = "this checkout does not have it" if checkout else "its checkout is not here"
            self._plan.warnings.append(f"{repository.name}: {revision!r} is sent as it is, {here}")
        return revision

    def _checkout_of(self, repository: Repository, path: str | None) -> Checkout | None:
        """Return the checkout of that repository, if it is here: given, this one, a submodule."""
        try:
            if path is not None:
                return Checkout.at(path)
            checkout = self._opened()
        except GitError:
            return None
        remote = self._remote()
        if remote is not None and _is(repository, remote):
            return checkout
        for submodule in checkout.submodules():
            if _is(repository, remotes.parse(submodule.url)):
                return checkout.inside(submodule)
        return None

    def _matched_refs(self) -> list[Ref]:
        """Compare what the server reads itself with this checkout and its submodules."""
        checkout = self._opened()
        linked: list[Repository] = []
        for repository in self._repositories:
            if repository.provider not in PROVIDERS:
                continue
            if repository.url is None:
                self._plan.warnings.append(
                    f"{repository.name} is skipped: the server has no address for it"
                )
                continue
            linked.append(repository)
        if not linked:
            return []
        head = checkout.head()
        remote = self._remote()
        places = [(remote, head)] if remote is not None else []
        places.extend(
            (remotes.parse(submodule.url), submodule.commit) for submodule in checkout.submodules()
        )
        previous = self._deployed_commit() if self._wish.since_deploy else None
        refs: list[Ref] = []
        for repository in linked:
            url = remotes.parse(repository.url or "")
            for place, commit in places:
                if url.same_as(place):
                    base = previous if commit == head else None
                    ref = Ref(repository.name, commit, base)
                    if ref not in refs:
                        refs.append(ref)
                    break
        self._plan.refs = refs
        return refs

    def _explain_no_match(self) -> None:
        remote = self._remote()
        shown = f"{remote.host}/{remote.display}" if remote is not None else "no remote"
        names = ", ".join(entry.name for entry in self._repositories if entry.provider in PROVIDERS)
        self._plan.notes.append(
            "no linked repository is the one of this checkout "
            f"(here: {shown}; linked: {names or 'none'}); sending the checkout's own commits"
        )

    # --- the checkout -----------------------------------------------------------------------

    def _from_checkout(self) -> None:
        wish = self._wish
        checkout = self._opened()
        head = checkout.head()
        repository = self._repository_name()
        if wish.specs:
            log = self._selected(checkout, repository)
            self._create()
            self._take(log)
            self._plan.append = wish.append
            return
        given = required(checkout, wish.base) if wish.base is not None else None
        self._create()
        base = given
        if base is not None:
            self._plan.notes.append(f"base: {wish.base} (given)")
        elif wish.since_deploy is not None:
            base = self._base(checkout, head, self._deployed_commit(), "deploy")
        else:
            base = self._base_of_previous(checkout, head)
        if base == head:
            return
        self._plan.append = self._plan.append or wish.append
        self._take(
            read_log(
                checkout,
                head=head,
                base=base,
                depth=None if base is not None else wish.initial_depth,
                repository=repository,
                paths=wish.paths,
                max_commits=wish.max_commits,
                on_read=self._on_read,
            )
        )

    def _selected(self, checkout: Checkout, repository: str) -> Log:
        answer = Log()
        for spec in self._wish.specs:
            name, at, revision = spec.rpartition("@")
            part = selected(
                checkout,
                [revision if at else spec],
                repository=fitting_repository(name) if at else repository,
            )
            answer.commits.extend(part.commits)
            answer.warnings.extend(part.warnings)
            answer.files += part.files
        answer.commits = descending(answer.commits)
        return answer

    def _take(self, log: Log) -> None:
        plan = self._plan
        plan.warnings.extend(log.warnings)
        plan.commits = log.commits
        if log.commits:
            plan.kind = "commits"
        else:
            plan.notes.append("the range holds no commit")

    def _base_of_previous(self, checkout: Checkout, head: str) -> str | None:
        previous = self._api.previous_release(self._version)
        commit = previous.last_commit.id if previous and previous.last_commit else None
        if previous is not None and previous.version == self._version and commit is not None:
            if checkout.resolve(commit) == head:
                self._plan.notes.append(
                    f"{self._version} already has {_commits(previous.commit_count)} "
                    f"up to {head[:12]}"
                )
                return head
            if checkout.resolve(commit) is not None:
                self._plan.append = True
                self._plan.notes.append(
                    f"base: {commit[:12]}, the last commit that {self._version} has; "
                    "newer ones are added"
                )
                return checkout.resolve(commit)
        what = f"release {previous.version}" if previous is not None else ""
        return self._base(checkout, head, commit, what)

    def _base(self, checkout: Checkout, head: str, commit: str | None, what: str) -> str | None:
        """Return the commit to start behind; None: the newest commits, as many as asked for."""
        wish, plan = self._wish, self._plan
        depth = wish.initial_depth
        if commit is None or not _HEX.match(commit):
            plan.notes.append(
                f"no earlier {'deploy' if what == 'deploy' else 'release'} with commits is known; "
                f"starting with the newest {_commits(depth)} (--initial-depth)"
            )
            return None
        found = checkout.resolve(commit)
        if found == head:
            plan.notes.append(f"the checked out commit {head[:12]} is the last one of {what}")
            return head
        if found is not None and checkout.related(found, head):
            plan.notes.append(f"base: {found[:12]}, the last commit of {what}")
            return found
        reason = _missing_reason(checkout, commit, found is not None)
        if wish.strict:
            raise GitError(
                f"the base {commit[:12]} ({what}) cannot be used: {reason}",
                remedy="fetch full history, name a base with --from, or leave out --strict",
            )
        said = plan.notes if wish.ignore_missing else plan.warnings
        said.append(
            f"the base {commit[:12]} ({what}) cannot be used: {reason}; "
            f"sending the newest {_commits(depth)} instead"
        )
        return None

    def _deployed_commit(self) -> str | None:
        """Return the last commit of the release that was deployed last to the environment."""
        environment = self._wish.since_deploy or ""
        best: tuple[float, ReleaseInfo] | None = None
        asked = 0
        project = self._api.projects[0] if self._api.projects else None
        for release in self._api.list_releases(project=project, limit=_MOST_RELEASES):
            if release.version == self._version or release.last_deploy is None:
                continue
            deploys: Iterable[Deploy] = (release.last_deploy,)
            if release.last_deploy.environment != environment:
                if release.deploy_count < 2 or asked >= _MOST_LISTED:
                    continue
                asked += 1
                deploys = self._api.list_deploys(release.version)
            for deploy in deploys:
                when = deploy.finished.timestamp() if deploy.finished is not None else 0.0
                if deploy.environment == environment and (best is None or when > best[0]):
                    best = (when, release)
        if best is None:
            self._plan.notes.append(f"no release was deployed to {environment!r} before")
            return None
        release = best[1]
        self._plan.notes.append(f"last deployed to {environment!r}: {release.version}")
        return release.last_commit.id if release.last_commit is not None else None

    # --- names ------------------------------------------------------------------------------

    def _opened(self) -> Checkout:
        if self._checkout is None:
            self._checkout = Checkout.at(self._wish.directory)
            if self._checkout.foreign:
                self._plan.notes.append(
                    f"{self._checkout.directory} belongs to another user; it is only read"
                )
        return self._checkout

    def _remote(self) -> remotes.Remote | None:
        """Return the repository that the checkout was cloned from; None when it says nothing."""
        checkout = self._opened()
        wanted = self._wish.remote
        if wanted is not None and ("/" in wanted or ":" in wanted):
            return remotes.parse(wanted)
        names = checkout.remotes()
        if wanted is not None and wanted not in names:
            self._warn_once(
                f"there is no remote {wanted!r} here (remotes: {', '.join(names) or 'none'})"
            )
        for name in (wanted, "origin", names[0] if len(names) == 1 else None):
            url = checkout.remote_url(name) if name is not None else None
            if url is not None:
                remote = remotes.parse(url)
                return remote if remote.name else None
        return None

    def _repository_name(self) -> str:
        if self._wish.repository is not None:
            return self._wish.repository
        remote = self._remote()
        if remote is None:
            name = self._opened().name
            self._warn_once(
                f"the checkout has no remote; its commits are filed under {name!r} "
                "(--repo changes it)"
            )
            return name
        for repository in self._repositories:
            if _is(repository, remote):
                return repository.name
        return remote.name

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._plan.warnings:
            self._plan.warnings.append(sentence)


def _parsed(spec: str) -> tuple[str, str | None, str]:
    """Return repository, path and revision of `REPO#PATH@FROM..TO`."""
    found = _SPEC.match(spec.strip())
    if found is None or not found.group(1).strip():
        raise ConfigurationError(
            f"{spec!r} names no repository; write REPO@COMMIT or REPO@FROM..TO "
            "(REPO as the server knows it)"
        )
    revision = (found.group(3) or "HEAD").strip()
    if "..." in revision or revision.startswith("..") or revision.endswith(".."):
        raise ConfigurationError(f"{revision!r} is no range; write FROM..TO with two dots")
    return found.group(1).strip(), found.group(2), revision


def _is(repository: Repository, remote: remotes.Remote) -> bool:
    """Return whether a repository of the server is the one that a remote names."""
    if repository.url is not None and remote.host:
        return remotes.parse(repository.url).same_as(remote)
    return repository.name.lower() == remote.name


def _missing_reason(checkout: Checkout, commit: str, present: bool) -> str:
    if present:
        return "it has no history in common with what is checked out"
    if checkout.is_shallow():
        return (
            "it is not in this shallow clone; clone with full history "
            "(actions/checkout: fetch-depth: 0, GitLab: GIT_DEPTH: 0)"
        )
    return "it is not in this checkout; was it squashed, amended or never fetched?"


def _commits(count: int) -> str:
    return "1 commit" if count == 1 else f"{count} commits"
