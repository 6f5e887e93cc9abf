"""Releases, their commits, deploys and files, from Python: what `crashfree releases` is made of.

    api = ReleaseApi(organization="acme", token=token, projects=["web"])
    api.create_release("shop@1.2.0")
    checkout = Checkout.at(".")
    api.set_commits("shop@1.2.0", checkout.log(base="v1.1.0").commits)
    api.finalize("shop@1.2.0")
    api.create_deploy("shop@1.2.0", "production")

Everything raises normally; see `crashfree.errors`. Threads: any. Source: releases.md section 4.
"""
