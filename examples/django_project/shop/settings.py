"""Settings of the shop; crashfree starts here, for servers and management commands alike."""

from __future__ import annotations

import crashfree

crashfree.init(release="shop@1.0.0")

SECRET_KEY = "an example has no secrets"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS: list[str] = []
MIDDLEWARE = ["shop.middleware.remember_user"]
USE_TZ = True
