"""The variables in which hosts and build services say which commit this is.

Two kinds: those a platform sets for the running program, and those of build services, which count
only where a release is made (`propose-version`, `bake`), not where it runs.

Threads: any; pure. Source: releases.md sections 2.2 and 2.4.
"""

from __future__ import annotations

from collections.abc import Mapping

from crashfree._ground import env
from crashfree._ground.typed import NamedTuple

HOST_VARIABLES = (
    "HEROKU_BUILD_COMMIT",
    "HEROKU_SLUG_COMMIT",
    "SOURCE_VERSION",
    "CODEBUILD_RESOLVED_SOURCE_VERSION",
    "CIRCLE_SHA1",
    "GAE_DEPLOYMENT_ID",
    "K_REVISION",
)
"""In the order that programs of other makers follow, too."""

FURTHER_HOST_VARIABLES = (
    "VERCEL_GIT_COMMIT_SHA",
    "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA",
)
"""Set at run time by hosts that the usual order does not know."""

RUNTIME_VARIABLES = HOST_VARIABLES + FURTHER_HOST_VARIABLES


class Service(NamedTuple):
    """A build service and the variables that hold the commit it builds, best first."""

    name: str
    variables: tuple[str, ...]


SERVICES = (
    Service("Heroku", ("SOURCE_VERSION", "HEROKU_TEST_RUN_COMMIT_VERSION")),
    Service("AWS CodeBuild", ("CODEBUILD_RESOLVED_SOURCE_VERSION",)),
    Service("AWS Amplify", ("AWS_COMMIT_ID",)),
    Service("CircleCI", ("CIRCLE_SHA1",)),
    Service("Cloudflare Pages", ("CF_PAGES_COMMIT_SHA",)),
    Service("GitHub Actions", ("GITHUB_SHA",)),
    Service("GitLab CI", ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "CI_COMMIT_SHA", "CI_BUILD_REF")),
    Service("Bitbucket Pipelines", ("BITBUCKET_COMMIT",)),
    Service("Azure Pipelines", ("BUILD_SOURCEVERSION",)),
    Service(
        "Vercel",
        (
            "VERCEL_GITHUB_COMMIT_SHA",
            "VERCEL_GITLAB_COMMIT_SHA",
            "VERCEL_BITBUCKET_COMMIT_SHA",
            "ZEIT_GITHUB_COMMIT_SHA",
            "ZEIT_GITLAB_COMMIT_SHA",
            "ZEIT_BITBUCKET_COMMIT_SHA",
        ),
    ),
    Service("Netlify", ("COMMIT_REF", "NETLIFY_COMMIT_SHA")),
    Service("Travis CI", ("TRAVIS_PULL_REQUEST_SHA", "TRAVIS_COMMIT")),
    Service("AppVeyor", ("APPVEYOR_PULL_REQUEST_HEAD_COMMIT", "APPVEYOR_REPO_COMMIT")),
    Service("Buildkite", ("BUILDKITE_COMMIT",)),
    Service("Drone", ("DRONE_COMMIT_SHA",)),
    Service("Semaphore", ("SEMAPHORE_GIT_SHA",)),
    Service("Bitrise", ("GIT_CLONE_COMMIT_HASH",)),
    Service("Buddy", ("BUDDY_EXECUTION_REVISION",)),
    Service("Cirrus CI", ("CIRRUS_CHANGE_IN_REPO",)),
    Service("Codefresh", ("CF_REVISION",)),
    Service("Codemagic", ("CM_COMMIT",)),
    Service("Flightcontrol", ("FC_GIT_COMMIT_SHA",)),
    Service("CodeShip", ("CI_COMMIT_ID",)),
    Service("Coolify", ("SOURCE_COMMIT",)),
    Service("Jenkins", ("GIT_COMMIT",)),
    Service("TeamCity", ("BUILD_VCS_NUMBER",)),
    Service("Woodpecker", ("CI_COMMIT_SHA",)),
)

PULL_REQUEST_EVENT = "GITHUB_EVENT_PATH"
"""Names the file with the event; on pull requests `GITHUB_SHA` is a merge nobody else has."""


def build_variables() -> tuple[str, ...]:
    """Return every variable of the build services once, in the order to read them."""
    names: dict[str, None] = {}
    for service in SERVICES:
        names.update(dict.fromkeys(service.variables))
    return tuple(names)


def build_service(environ: Mapping[str, str]) -> str | None:
    """Return the variable that tells that this is a build, not a run; None for a run."""
    for name in build_variables():
        if env.variable(environ, name) is not None:
            return name
    # Nearly every service sets it, and people set it to `false` to switch it off.
    switch = env.variable(environ, "CI")
    return "CI" if switch is not None and env.boolean(switch.value) is not False else None
