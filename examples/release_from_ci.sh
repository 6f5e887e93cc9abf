#!/bin/sh
# A release from a build: name it, create it, set its commits, finalize it, tell of the deploy.
#
# Needs CRASHFREE_URL, CRASHFREE_AUTH_TOKEN, CRASHFREE_ORG and CRASHFREE_PROJECT (or their
# SENTRY_ names), and a checkout with history (actions/checkout: fetch-depth: 0).
#
#     sh examples/release_from_ci.sh [ENVIRONMENT]
set -eu

environment="${1:-production}"
crashfree="${CRASHFREE:-crashfree}"

# The same look-up as in crashfree.init, so that the program finds the same name by itself.
version="$($crashfree releases propose-version)"

$crashfree releases new "$version"
$crashfree releases set-commits --auto "$version"
$crashfree releases finalize "$version"

started="$(date +%s)"
echo "deploying $version to $environment ..."
# Deploy here, with CRASHFREE_RELEASE="$version" in the program's environment.

$crashfree deploys new --release "$version" --env "$environment" --started "$started"
$crashfree releases info "$version" --show-projects --show-commits
