"""`crashfree setup`: the four steps of a release on a fresh repository, guided.

It does them once, says what it did, and shows what to put into the build so that it is done every
time: create the release, set its commits, finalize it, tell of the deploy.

Source: releases.md section 7; DESIGN section 6.5.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from crashfree._cli import options, output
from crashfree._cli.failure import Failure, UsageFailure
from crashfree._cli.parser import Commands
from crashfree._cli.session import Session, release_name
from crashfree._ground import env
from crashfree._ground.clock import SYSTEM_CLOCK
from crashfree._resolve.proposal import propose
from crashfree.management.association import Plan, Wish, associate

_PLACES = {"github": ".github/workflows/release.yml", "gitlab": ".gitlab-ci.yml"}
_GITHUB = """\
name: release
on:
  push:
    branches: [main]
jobs:
  release:
    runs-on: ubuntu-latest
    env:
      CRASHFREE_URL: {url}
      CRASHFREE_ORG: {org}
      CRASHFREE_PROJECT: {projects}
      CRASHFREE_AUTH_TOKEN: ${{{{ secrets.CRASHFREE_AUTH_TOKEN }}}}
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - uses: actions/setup-python@v5
        with:
          python-version: "3.x"
      - run: pip install crashfree
      - run: |
          VERSION="$(crashfree releases propose-version)"
          crashfree releases new "$VERSION"
          crashfree releases set-commits --auto "$VERSION"
          crashfree releases finalize "$VERSION"
          # deploy here, with CRASHFREE_RELEASE="$VERSION" in the program's environment
          crashfree deploys new -r "$VERSION" -e {environment}
"""
_GITLAB = """\
release:
  image: python:3
  variables:
    GIT_DEPTH: "0"
    CRASHFREE_URL: {url}
    CRASHFREE_ORG: {org}
    CRASHFREE_PROJECT: {projects}
    # CRASHFREE_AUTH_TOKEN: a masked variable of the project's CI settings
  rules:
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  script:
    - pip install crashfree
    - VERSION="$(crashfree releases propose-version)"
    - crashfree releases new "$VERSION"
    - crashfree releases set-commits --auto "$VERSION"
    - crashfree releases finalize "$VERSION"
    # deploy here, with CRASHFREE_RELEASE="$VERSION" in the program's environment
    - crashfree deploys new -r "$VERSION" -e {environment}
"""


def add(commands: Commands) -> None:
    """Register `setup`."""
    parser = commands.add_parser(
        "setup",
        help="guide a repository through release, commits and deploy",
        description="Make the first release of a repository: create it, set its commits, finalize "
        "it, tell of a deploy. Then show what belongs into the build.",
        takes_dashed_names=True,
    )
    parser.set_defaults(run=_run)
    options.add_scope(parser)
    options.add_dry_run(parser)
    parser.add_argument(
        "-r", "--release", metavar="VERSION", help="default: what `propose-version` says"
    )
    parser.add_argument("-e", "--env", dest="environment", default="production", metavar="ENV")
    parser.add_argument("--no-deploy", action="store_true", help="leave out the last step")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask before writing")
    parser.add_argument(
        "--ci",
        choices=("github", "gitlab", "both", "none"),
        help="which build to show a file for (default: what is found here)",
    )
    parser.add_argument("--checkout", metavar="DIR", default=".", help="default: here")


def _run(args: argparse.Namespace) -> int:
    with Session(args) as session:
        connection = session.connection
        session.requires_projects()
        version, source = _version(args)
        _introduce(args, session, version, source)
        if not session.dry and not _confirmed(args):
            raise Failure("stopped before anything was changed", code="stopped")
        done = _steps(args, session, version)
        snippets = _snippets(args, session)
        if session.dry:
            session.finish_dry_run()
            return 0
    if args.json:
        output.emit({"version": version, "source": source, "steps": done, "ci": snippets})
        return 0
    output.say(f"\n{version} is released on {connection.url.text}.")
    for place, text in snippets.items():
        output.say(f"\nTo have it done by every build, put this into {place}:\n\n{text.rstrip()}")
    output.say(
        "\nGive the program the same name: it finds it by itself in CRASHFREE_RELEASE, in the\n"
        "build's variables and in git; `crashfree releases bake` writes it into the package."
    )
    return 0


def _version(args: argparse.Namespace) -> tuple[str, str]:
    if args.release is not None:
        return release_name(args, args.release), "--release"
    resolved = propose(env.environ(), directory=args.checkout).resolved
    if resolved.release is None:
        raise UsageFailure(
            "no release name could be found here",
            code="missing_release",
            remedy="give --release VERSION; `crashfree releases propose-version --explain` "
            "tells where it was looked for",
        )
    return resolved.release.raw, str(resolved.source)


def _introduce(args: argparse.Namespace, session: Session, version: str, source: str) -> None:
    url, token, _ = session.connection
    output.note(args, f"server:       {url.text}  ({url.origin.where})")
    output.note(args, f"token:        from {token.origin.where}")
    output.note(args, f"organization: {session.api.organization}")
    output.note(args, f"projects:     {', '.join(session.api.projects)}")
    output.note(args, f"release:      {version}  ({source})")
    output.note(args, f"environment:  {args.environment}")


def _confirmed(args: argparse.Namespace) -> bool:
    """Ask, where somebody can answer; a build has said yes by running this."""
    if args.yes or args.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write("Create this release? [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def _steps(args: argparse.Namespace, session: Session, version: str) -> list[str]:
    api = session.api
    now = SYSTEM_CLOCK.time()
    steps: list[tuple[str, Callable[[], object]]] = [
        ("release created", lambda: api.create_release(version, started=now)),
        ("", lambda: _commits(args, session, version)),
        ("release finalized", lambda: api.finalize(version)),
    ]
    if not args.no_deploy:
        steps.append(
            (
                f"deploy to {args.environment} recorded",
                lambda: api.create_deploy(version, args.environment),
            )
        )
    done: list[str] = []
    for number, (text, step) in enumerate(steps, 1):
        answer = step()
        sentence = text or str(answer)
        done.append(sentence)
        if not session.dry:
            output.note(args, f"[{number}/{len(steps)}] {sentence}")
    return done


def _commits(args: argparse.Namespace, session: Session, version: str) -> str:
    wish = Wish(auto=True, remote=session.settings.text("vcs_remote"), directory=args.checkout)
    plan = associate(session.api, version, wish)
    for sentence in plan.warnings:
        output.warn(sentence)
    return _told(plan)


def _told(plan: Plan) -> str:
    if plan.kind == "refs":
        names = ", ".join(ref.repository for ref in plan.refs)
        return f"commits: the server reads them from {names}"
    if plan.kind == "commits":
        return f"commits: {len(plan.commits)} sent from this checkout"
    return "commits: the release has them already"


def _snippets(args: argparse.Namespace, session: Session) -> dict[str, str]:
    chosen = args.ci or _found(args.checkout)
    names = ("github", "gitlab") if chosen == "both" else (chosen,)
    values = {
        "url": session.connection.url.text,
        "org": session.api.organization,
        "projects": " ".join(session.api.projects),
        "environment": args.environment,
    }
    texts = {"github": _GITHUB, "gitlab": _GITLAB}
    return {_PLACES[name]: texts[name].format(**values) for name in names if name in texts}


def _found(directory: str) -> str:
    if os.path.isfile(os.path.join(directory, ".gitlab-ci.yml")):
        return "gitlab"
    if os.path.isdir(os.path.join(directory, ".github")):
        return "github"
    return "both"
