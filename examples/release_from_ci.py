"""A release from a build, from Python: create it, set its commits, finalize, deploy.

Needs CRASHFREE_URL, CRASHFREE_AUTH_TOKEN, CRASHFREE_ORG and CRASHFREE_PROJECT (or their SENTRY_
names, or a `.sentryclirc`), and a checkout with history.

    python examples/release_from_ci.py VERSION [ENVIRONMENT]
"""

from __future__ import annotations

import sys
import time

from crashfree.errors import ApiError, ConfigurationError, Unreachable
from crashfree.management import ReleaseApi, Wish, associate


def main(version: str, environment: str = "production") -> None:
    with ReleaseApi.from_settings() as api:
        release = api.create_release(version)
        print(f"created {release.version} for {', '.join(p.slug for p in release.projects)}")

        # Linked repositories are read by the server; otherwise the checkout's commits are sent.
        plan = associate(api, version, Wish(auto=True))
        for sentence in (*plan.notes, *plan.warnings):
            print(f"  {sentence}")
        print(f"commits: {len(plan.commits) or 'fetched by the server'}")

        api.finalize(version)

        started = time.time()
        # Deploy here.
        deploy = api.create_deploy(version, environment, started=started)
        print(f"deployed to {deploy.environment}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:3])
    except ConfigurationError as error:
        sys.exit(f"cannot start: {error}")
    except (ApiError, Unreachable) as error:
        sys.exit(f"the server did not do it: {error}")
