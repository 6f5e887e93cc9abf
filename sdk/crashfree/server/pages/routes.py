"""All addresses of the page."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute

from crashfree.server.pages import (
    assets,
    counts_page,
    issue_page,
    issues_page,
    live,
    release_page,
    releases_page,
    settings_page,
    setup_page,
    site,
)

ROUTES: Final[list[BaseRoute]] = [
    *assets.ROUTES,
    *site.ROUTES,
    *releases_page.ROUTES,
    *release_page.ROUTES,
    *counts_page.ROUTES,
    *issues_page.ROUTES,
    *issue_page.ROUTES,
    *live.ROUTES,
    *setup_page.ROUTES,
    *settings_page.ROUTES,
    site.NOWHERE,
]
