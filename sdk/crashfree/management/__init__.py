"""Releases, their commits, deploys and files, from Python: what `crashfree releases` is made of.

    with ReleaseApi(organization="acme", token=token, projects=["web"]) as api:
        api.create_release("shop@1.2.0")
        associate(api, "shop@1.2.0", Wish(auto=True))    # or api.set_commits(name, commits)
        api.finalize("shop@1.2.0")
        api.create_deploy("shop@1.2.0", "production")

`ReleaseApi.from_settings()` takes server, token, organization and projects from where
the command line takes them.

Everything raises normally; see `crashfree.errors`. Threads: any. Source: releases.md section 4.
"""

from __future__ import annotations

from crashfree.management.api import ReleaseApi, default_http
from crashfree.management.association import Plan, Wish, associate
from crashfree.management.bundles import Bundle, BundleFile, collect
from crashfree.management.commits import Log, read_log, selected
from crashfree.management.git import Checkout, GitError
from crashfree.management.models import (
    ArtifactBundle,
    Change,
    Commit,
    Deploy,
    Identity,
    Project,
    Ref,
    ReleaseFile,
    ReleaseInfo,
    Repository,
)
from crashfree.management.retries import RetryPolicy
from crashfree.management.settings import Settings, resolve
from crashfree.management.uploads import Assembly, upload_bundle

__all__ = (
    "ArtifactBundle",
    "Assembly",
    "Bundle",
    "BundleFile",
    "Change",
    "Checkout",
    "Commit",
    "Deploy",
    "GitError",
    "Identity",
    "Log",
    "Plan",
    "Project",
    "Ref",
    "ReleaseApi",
    "ReleaseFile",
    "ReleaseInfo",
    "Repository",
    "RetryPolicy",
    "Settings",
    "Wish",
    "associate",
    "collect",
    "default_http",
    "read_log",
    "resolve",
    "selected",
    "upload_bundle",
)
